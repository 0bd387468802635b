"""`/api/v1/datasets`: uploads in every form, what is wrong with each, and the datasets afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.conftest import World, caller

CSV = b"user_id,amount\n1,0.5\n2,9\n"
LIMIT = 200_000


async def upload(client: httpx.AsyncClient, content: Any = CSV, media_type: str = "text/csv", **query: str) -> Any:
    """POST the content as it is."""
    return await client.post("/api/v1/datasets", params=query, content=content, headers={"Content-Type": media_type})


async def drip(size: int, chunk: int = 10_000) -> AsyncIterator[bytes]:
    """A body of unknown length."""
    for _ in range(size // chunk):
        yield b"x" * chunk
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("media_type", "known"),
    [
        ("text/csv", "text/csv"),
        ("text/csv; charset=utf-8; header=present", "text/csv"),
        ("Application/X-NDJSON", "application/x-ndjson"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
    ],
)
async def test_a_raw_body_is_taken_by_its_content_type(
    client: httpx.AsyncClient, world: World, media_type: str, known: str
) -> None:
    """Each format is stored as it came; parameters and case of the type do not matter."""
    answer = await upload(client, CSV, media_type)

    data = answer.json()["data"]
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/datasets/{data['dataset_id']}"
    assert data["media_type"] == known
    assert data["size_bytes"] == len(CSV)
    assert world.engine.ingested[-1] == (known, CSV)


async def test_the_profile_is_answered(client: httpx.AsyncClient) -> None:
    """A 201 carries the typed profile of every column."""
    answer = (await upload(client, dataset_id="profiled")).json()

    assert answer["status"] == "success"
    assert answer["processing_time"] > 0
    assert answer["data"]["row_count"] == 3
    assert [column["logical_type"] for column in answer["data"]["columns"]] == ["identifier", "numeric"]
    assert answer["data"]["columns"][1]["quantiles"] == {"p50": 2.0}
    assert answer["data"]["created_at"] == "2026-11-23T12:00:00Z"


@pytest.mark.parametrize(
    ("name", "part_type", "known"),
    [
        ("a.bin", "text/csv", "text/csv"),
        ("a.CSV", "application/vnd.ms-excel", "text/csv"),
        ("a.parquet", "application/octet-stream", "application/vnd.apache.parquet"),
        ("a.jsonl", "application/octet-stream", "application/x-ndjson"),
    ],
)
async def test_the_first_file_of_a_form_is_taken(
    client: httpx.AsyncClient, world: World, name: str, part_type: str, known: str
) -> None:
    """Fields before the file are skipped, files after it are ignored; type or name tell the format."""
    files = {"table": (name, CSV, part_type), "other": ("b.csv", b"never read", "text/csv")}

    answer = await client.post("/api/v1/datasets", data={"note": "hello"}, files=files)

    assert answer.status_code == 201, answer.text
    assert world.engine.ingested[-1] == (known, CSV)


async def test_a_form_file_may_do_without_a_name(client: httpx.AsyncClient, world: World) -> None:
    """A part of a known type is the file even when it has no file name."""
    body = b'--b\r\nContent-Disposition: form-data; name="f"\r\nContent-Type: text/csv\r\n\r\na\n1\n\r\n--b--\r\n'

    answer = await upload(client, body, "multipart/form-data; boundary=b")

    assert answer.status_code == 201, answer.text
    assert world.engine.ingested[-1] == ("text/csv", b"a\n1\n")


async def test_a_form_of_many_pieces_comes_out_whole(client: httpx.AsyncClient, world: World) -> None:
    """A file whose boundary falls across network chunks loses and gains no byte."""
    content = bytes(range(256)) * 400 + b"\r\n--almost"
    head = b'--edge\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n\r\n'
    body = head + content + b"\r\n--edge--\r\n"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 997):
            yield body[start : start + 997]

    answer = await upload(client, pieces(), "multipart/form-data; boundary=edge")

    assert answer.status_code == 201, answer.text
    assert world.engine.ingested[-1][1] == content


async def test_an_id_is_made_up_when_none_is_given(client: httpx.AsyncClient) -> None:
    """Two uploads without an id become two datasets."""
    first, second = [(await upload(client)).json()["data"]["dataset_id"] for _ in range(2)]

    assert first != second
    assert first.startswith("ds-")


@pytest.mark.parametrize("dataset_id", ["../x", "..", "", "-a", "a b", "a/b", "ä", "x" * 101, "a\0", "a\n", "."])
async def test_an_id_that_may_not_be_is_refused(client: httpx.AsyncClient, dataset_id: str) -> None:
    """Only 1 to 100 of A-Z a-z 0-9 . _ - make an id, and it begins with a letter or digit."""
    answer = await upload(client, dataset_id=dataset_id)

    assert answer.status_code == 422, answer.text
    assert answer.json()["error_code"] == "request_invalid"
    assert [fault["field"] for fault in answer.json()["errors"]] == ["dataset_id"]


async def test_the_longest_id_is_taken(client: httpx.AsyncClient) -> None:
    """100 characters are not too many."""
    answer = await upload(client, dataset_id="x" * 100)

    assert answer.status_code == 201


async def test_the_same_id_twice_is_a_conflict(client: httpx.AsyncClient) -> None:
    """The second upload of an id is a 409 and leaves the first alone."""
    await upload(client, dataset_id="twice")

    answer = await upload(client, b"other", dataset_id="twice")

    assert answer.status_code == 409
    assert answer.json()["error_code"] == "dataset_exists"
    assert "?replace=true" in answer.json()["detail"]
    kept = (await client.get("/api/v1/datasets/twice")).json()["data"]
    assert kept["size_bytes"] == len(CSV)


@pytest.mark.parametrize("content", [b"", b"broken"])
async def test_an_unreadable_table_is_told_where(client: httpx.AsyncClient, content: bytes) -> None:
    """The 422 names the row and column, and nothing is kept."""
    answer = await upload(client, content, dataset_id="unreadable")

    assert answer.status_code == 422
    assert answer.json()["error_code"] == "dataset_unreadable"
    assert answer.json()["errors"] == [{"field": "row 2, column amount", "message": "is not a number"}]
    assert (await client.get("/api/v1/datasets/unreadable")).status_code == 404


@pytest.mark.parametrize(
    "media_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "garbage", "a;b;c"]
)
async def test_an_unsupported_type_lists_the_supported(client: httpx.AsyncClient, media_type: str) -> None:
    """A 415 says what would have been read."""
    answer = await upload(client, CSV, media_type)

    assert answer.status_code == 415
    assert answer.json()["error_code"] == "media_type_unsupported"
    assert "application/vnd.apache.parquet" in answer.json()["detail"]


async def test_no_content_type_is_unsupported(client: httpx.AsyncClient) -> None:
    """The format is never guessed from a raw body."""
    answer = await client.post("/api/v1/datasets", content=CSV)

    assert answer.status_code == 415


async def test_a_form_file_of_unknown_type_is_unsupported(client: httpx.AsyncClient) -> None:
    """Neither type nor name tell the format."""
    answer = await client.post("/api/v1/datasets", files={"file": ("a.xlsx", CSV)})

    assert answer.status_code == 415
    assert ".parquet" in answer.json()["detail"]


async def test_a_compressed_body_is_unsupported(client: httpx.AsyncClient) -> None:
    """A Content-Encoding is refused, not stored as if it were the table."""
    headers = {"Content-Type": "text/csv", "Content-Encoding": "gzip"}

    answer = await client.post("/api/v1/datasets", content=CSV, headers=headers)

    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("multipart/form-data", CSV),
        ("multipart/form-data; boundary=b", b"no boundary at all"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; filename=a.csv\r\n\r\nx"),
        ("multipart/form-data; boundary=b", b"--b\r\nNonsense\r\n\r\nx\r\n--b--\r\n"),
    ],
)
async def test_a_malformed_form_is_a_400(client: httpx.AsyncClient, media_type: str, body: bytes) -> None:
    """No boundary, no file, a cut-off file, broken headers: the client hears of it and nothing is kept."""
    answer = await upload(client, body, media_type, dataset_id="malformed")

    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "request_malformed"
    assert (await client.get("/api/v1/datasets/malformed")).status_code == 404


async def test_an_announced_length_over_the_limit_is_refused_unread(client: httpx.AsyncClient, world: World) -> None:
    """Content-Length alone is enough for a 413."""
    world.artifacts.consumed = 0

    answer = await upload(client, b"x" * (LIMIT + 1))

    assert answer.status_code == 413
    assert answer.json()["error_code"] == "payload_too_large"
    assert str(LIMIT) in answer.json()["detail"]
    assert world.artifacts.consumed == 0


async def test_an_announced_form_over_the_limit_is_refused(client: httpx.AsyncClient, world: World) -> None:
    """A form may be a little longer than its file, not much."""
    world.artifacts.consumed = 0

    answer = await client.post("/api/v1/datasets", files={"file": ("a.csv", b"x" * (LIMIT + 100_000))})

    assert answer.status_code == 413
    assert world.artifacts.consumed == 0


async def test_a_stream_is_cut_at_the_limit(client: httpx.AsyncClient, world: World) -> None:
    """A body of unknown length is not read much further than the limit."""
    answer = await upload(client, drip(100 * LIMIT), dataset_id="streamed")

    assert answer.status_code == 413
    assert world.artifacts.consumed < 10 * LIMIT, "what the server had in its buffers may be read, no more"
    assert (await client.get("/api/v1/datasets/streamed")).status_code == 404


async def test_a_streamed_form_is_cut_at_the_limit(client: httpx.AsyncClient) -> None:
    """What surrounds the file in an endless form is bounded too."""

    async def form() -> AsyncIterator[bytes]:
        yield b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n"
        async for chunk in drip(3 * LIMIT):
            yield chunk

    answer = await upload(client, form(), "multipart/form-data; boundary=b")

    assert answer.status_code == 413


async def test_a_body_at_the_limit_is_taken(client: httpx.AsyncClient) -> None:
    """The limit itself is allowed."""
    answer = await upload(client, b"x" * LIMIT)

    assert answer.status_code == 201


async def test_a_client_that_goes_away_leaves_nothing(client: httpx.AsyncClient, world: World) -> None:
    """A body that ends early stores no dataset, and the service goes on serving."""
    key, before = client.headers["authorization"], len(world.artifacts.files)
    host = urlsplit(world.url)
    head = (
        f"POST /api/v1/datasets?dataset_id=torn HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: {key}\r\n"
        "Content-Type: text/csv\r\nContent-Length: 1000\r\n\r\nhalf of it"
    )
    _, writer = await asyncio.open_connection(host.hostname, host.port)
    writer.write(head.encode())
    await writer.drain()
    writer.transport.abort()

    assert (await client.get("/api/v1/datasets/torn")).status_code == 404
    assert len(world.artifacts.files) == before


async def test_datasets_are_listed_newest_first_page_by_page(client: httpx.AsyncClient) -> None:
    """Following `next_cursor` visits every dataset once."""
    for number in range(5):
        await upload(client, dataset_id=f"page-{number}")

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        data = (await client.get("/api/v1/datasets", params={"limit": "2", **cursor})).json()["data"]
        seen += [item["dataset_id"] for item in data["items"]]
        if data["next_cursor"] is None:
            break
        cursor = {"cursor": data["next_cursor"]}

    assert seen == [f"page-{number}" for number in (4, 3, 2, 1, 0)]


async def test_a_dataset_is_described_and_deleted(client: httpx.AsyncClient) -> None:
    """GET gives the profile; after DELETE it is gone, and deleting again is a 404."""
    created = (await upload(client, dataset_id="gone")).json()["data"]

    assert (await client.get("/api/v1/datasets/gone")).json()["data"] == created
    deleted = await client.delete("/api/v1/datasets/gone")
    assert deleted.status_code == 204
    assert deleted.content == b""
    assert (await client.get("/api/v1/datasets/gone")).json()["error_code"] == "dataset_not_found"
    assert (await client.delete("/api/v1/datasets/gone")).status_code == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("cursor=%00", "cursor"),
        ("cursor=nonsense", "cursor"),
        ("limit=1&limit=2", "limit"),
        ("limti=5", "limti"),
    ],
)
async def test_bad_query_parameters_are_named(client: httpx.AsyncClient, query: str, field: str) -> None:
    """Out of range, of the wrong type, unknown or given twice: a 422 that names the parameter."""
    answer = await client.get(f"/api/v1/datasets?{query}")

    assert answer.status_code == 422, answer.text
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("dataset_id", ["%00", "_a", "%2e%2e", "x" * 101, "%ff"])
async def test_what_cannot_be_an_id_does_not_exist(client: httpx.AsyncClient, dataset_id: str) -> None:
    """No path makes the look-up fail in any other way than 404."""
    for method in ("GET", "DELETE", "PATCH"):
        answer = await client.request(method, f"/api/v1/datasets/{dataset_id}", json={} if method == "PATCH" else None)
        assert answer.status_code == 404, answer.text
        assert answer.json()["error_code"] in {"dataset_not_found", "route_not_found"}


async def test_a_lost_database_is_a_503(serve: Callable[..., World]) -> None:
    """Every route says so, with when to come back."""
    world = serve()
    async with caller(world, await world.api_key()) as client:
        await client.get("/api/v1/datasets")
        world.store.away = True
        answers = [await client.get("/api/v1/datasets"), await upload(client)]

    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["error_code"] == "dependency_unavailable"
        assert int(answer.headers["retry-after"]) == answer.json()["retry_after"] > 0
