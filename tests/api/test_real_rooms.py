"""The HTTP edge over the real rooms: PostgreSQL, the artifact store, DuckDB and the built-in planner."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import LiveService

CSV = b"user_id,event,at\n" + b"".join(
    f"{n % 7},{'click' if n % 3 else 'impression'},2026-01-{n % 28 + 1:02}\n".encode() for n in range(300)
)


@pytest.fixture
async def client(live: LiveService) -> AsyncGenerator[httpx.AsyncClient]:
    """A caller with the development key."""
    headers = {"Authorization": f"Bearer {live.key}"}
    async with httpx.AsyncClient(base_url=live.url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


async def test_a_form_is_read_asked_and_downloaded(client: httpx.AsyncClient) -> None:
    """From a browser's form to a table in three forms."""
    uploaded = await client.post(
        "/api/v1/datasets?dataset_id=form", files={"file": ("events.csv", CSV, "application/vnd.ms-excel")}
    )
    extracted = await client.post(
        "/api/v1/extract-features", json={"dataset_id": "form", "feature_description": "Click counts for each user"}
    )
    path = extracted.json()["data"]["links"]["features"]
    tables = {form: await client.get(path, params={"format": form}) for form in ("parquet", "csv", "ndjson")}

    assert uploaded.status_code == 201, uploaded.text
    assert uploaded.json()["data"]["row_count"] == 300
    assert extracted.status_code == 200, extracted.text
    assert tables["parquet"].content.startswith(b"PAR1")
    assert len(tables["csv"].text.splitlines()) == extracted.json()["data"]["row_count"] + 1
    assert len(tables["ndjson"].text.splitlines()) == extracted.json()["data"]["row_count"]


async def test_a_dataset_of_too_many_rows_is_too_large(client: httpx.AsyncClient) -> None:
    """A small Parquet file that declares more rows than a dataset may have is answered as 413, and leaves nothing."""
    sink = io.BytesIO()
    column = pa.array([0] * 30_000_000, pa.int8())
    with pq.ParquetWriter(sink, pa.schema([("a", pa.int8())]), compression="zstd") as writer:
        for _ in range(4):
            writer.write_table(pa.table({"a": column}), row_group_size=30_000_000)

    answer = await client.post(
        "/api/v1/datasets?dataset_id=rows",
        content=sink.getvalue(),
        headers={"Content-Type": "application/vnd.apache.parquet"},
    )

    assert (answer.status_code, answer.json()["error_code"]) == (413, "dataset_too_large"), answer.text
    assert "at most 100,000,000" in answer.json()["detail"]
    assert (await client.get("/api/v1/datasets/rows")).status_code == 404


async def test_a_torn_form_is_malformed_and_leaves_nothing(client: httpx.AsyncClient) -> None:
    """An error of the stream comes through the artifact store unchanged."""
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n\r\n' + CSV

    answer = await client.post(
        "/api/v1/datasets?dataset_id=torn", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )

    assert answer.status_code == 400, answer.text
    assert (await client.get("/api/v1/datasets/torn")).status_code == 404


async def test_an_endless_stream_is_cut(client: httpx.AsyncClient) -> None:
    """The store's limit is answered as 413 while the client still sends."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"1,2\n" * 5_000
            await asyncio.sleep(0)

    answer = await client.post(
        "/api/v1/datasets?dataset_id=endless", content=endless(), headers={"Content-Type": "text/csv"}
    )

    assert answer.status_code == 413, answer.text
    assert (await client.get("/api/v1/datasets/endless")).status_code == 404


async def test_the_databases_cursors_lead_through_the_list(client: httpx.AsyncClient) -> None:
    """Every cursor that is given out is taken back, until all has been seen once."""
    for number in range(5):
        await client.post(
            f"/api/v1/datasets?dataset_id=cursor-{number}", content=CSV, headers={"Content-Type": "text/csv"}
        )
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        answer = await client.get("/api/v1/datasets", params=query)
        assert answer.status_code == 200, answer.text
        seen += [item["dataset_id"] for item in answer.json()["data"]["items"]]
        if (cursor := answer.json()["data"]["next_cursor"]) is None:
            break
        query["cursor"] = cursor

    assert [name for name in seen if name.startswith("cursor-")] == [f"cursor-{number}" for number in (4, 3, 2, 1, 0)]
    assert len(seen) == len(set(seen))


async def test_the_request_id_joins_header_answer_and_problem(client: httpx.AsyncClient) -> None:
    """The caller's id comes back in the header, the envelope and the problem document."""
    sent = {"X-Request-ID": "my-request.1"}

    answers = [await client.get(path, headers=sent) for path in ("/api/v1/datasets", "/api/v1/datasets/none", "/nope")]

    for answer in answers:
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == "my-request.1"
        assert float(answer.headers["x-process-time"]) >= 0
        assert answer.headers["x-trace-id"]
    assert answers[1].json()["support_reference"] == "FA-my-request.1"


async def test_text_that_the_database_cannot_hold_is_refused(client: httpx.AsyncClient) -> None:
    """Null characters and broken Unicode in any field are a client's fault."""
    uploaded = await client.post("/api/v1/datasets?dataset_id=null", content=CSV, headers={"Content-Type": "text/csv"})
    assert uploaded.status_code == 201
    for body in (
        b'{"dataset_id": "form", "feature_description": "null \\u0000 inside"}',
        b'{"dataset_id": "form", "feature_description": "half \\ud83d of it"}',
        b'{"dataset_id": "a\\u0000", "feature_description": "fine so far"}',
        b'{"dataset_id": "null", "feature_description": "fine so far", "options": {"entity": "\\u0000"}}',
    ):
        answer = await client.post(
            "/api/v1/extract-features", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in {400, 422}, answer.text


async def test_fifty_equal_requests_make_one_extraction(client: httpx.AsyncClient) -> None:
    """On the real database too: one row, one run, and the same bytes for all."""
    await client.post("/api/v1/datasets?dataset_id=fifty", content=CSV, headers={"Content-Type": "text/csv"})
    body = {"dataset_id": "fifty", "feature_description": "Click counts for each user"}

    answers = await asyncio.gather(
        *(client.post("/api/v1/extract-features", json=body, headers={"Idempotency-Key": "fifty"}) for _ in range(50))
    )
    listed = await client.get("/api/v1/extractions", params={"dataset_id": "fifty"})
    again = await client.post("/api/v1/extract-features", json=body, headers={"Idempotency-Key": "fifty"})

    assert {answer.status_code for answer in answers} == {200}, answers[0].text
    assert {answer.content for answer in answers} == {again.content}
    assert again.headers["idempotency-replayed"] == "true"
    assert len(listed.json()["data"]["items"]) == 1


async def test_an_extraction_is_followed_and_deleted(client: httpx.AsyncClient) -> None:
    """Its events come from the database's notices, up to the end; then it is deleted with its table."""
    await client.post("/api/v1/datasets?dataset_id=followed", content=CSV, headers={"Content-Type": "text/csv"})
    accepted = await client.post(
        "/api/v1/extract-features",
        json={"dataset_id": "followed", "feature_description": "Click counts for each user"},
        headers={"Prefer": "respond-async"},
    )
    path = accepted.headers["location"]

    events = (await client.get(f"{path}/events")).text
    table = await client.get(f"{path}/features")
    deleted = await client.delete(path)
    gone = [await client.get(path), await client.get(f"{path}/features"), await client.get(f"{path}/events")]

    assert accepted.status_code == 202
    assert events.startswith("retry: ")
    assert events.count("event: end\n") == 1
    assert '"status":"completed"' in events.rpartition("event: end\n")[2]
    assert (table.status_code, deleted.status_code) == (200, 204)
    assert [answer.status_code for answer in gone] == [404, 404, 404]


async def test_a_completion_date_at_the_end_of_time_is_one(client: httpx.AsyncClient) -> None:
    """The last days of the calendar are accepted, and stored."""
    await client.post("/api/v1/datasets?dataset_id=late", content=CSV, headers={"Content-Type": "text/csv"})
    for day in ("9999-12-30", "9999-12-31"):
        answer = await client.post(
            "/api/v1/extract-features",
            json={"dataset_id": "late", "feature_description": "Click counts for each user", "completion_date": day},
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["completion_date"] == day
