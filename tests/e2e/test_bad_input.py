"""What clients really send: each answered with what was wrong and where, and nothing lost."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.settings import Settings
from tests.support import LiveService
from tools.testbed.api_client import Client

pytestmark = pytest.mark.xdist_group("bad-input")

GOOD = "city,visits\n" + "".join(f"town-{i % 5},{i}\n" for i in range(100))
PARQUET = "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def client(make_settings: Callable[..., Settings]) -> Iterator[Client]:
    """A caller of a live service that takes at most 300 kB."""
    with LiveService(make_settings(max_upload_bytes=300_000)) as service:
        yield service.client


@pytest.fixture(scope="module")
def good(client: Client) -> str:
    """A dataset with nothing wrong."""
    assert client.upload("good", GOOD.encode()).status == 201
    return "good"


def parquet() -> bytes:
    """A small sound Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": list(range(500))}), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "media_type", "word"),
    [
        (b"", "text/csv", "empty"),
        (b"a,b,c\n", "text/csv", "row"),
        (b"a,b\n1,2\n3,4,5\n6,7\n", "text/csv", "row 3"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00", "text/csv", "PNG"),
        (parquet()[:-40], PARQUET, "Parquet"),
        (b'{"a": 1}\n{"a": \n', "application/x-ndjson", "2"),
    ],
    ids=["empty", "header only", "ragged", "png called csv", "truncated parquet", "broken ndjson"],
)
def test_what_cannot_be_read_is_a_422_that_says_where(
    client: Client, content: bytes, media_type: str, word: str
) -> None:
    """The problem names what it found and the row, and no dataset is left behind."""
    answer = client.upload("unreadable", content, media_type)

    assert answer.status == 422, answer.body
    assert answer.json()["error_code"] == "dataset_unreadable"
    assert word in json.dumps(answer.json(), ensure_ascii=False)
    assert client.get("/api/v1/datasets/unreadable").status == 404


NAMES = '"""; DROP TABLE datasets; --",😀,,größe,größe\n' + "".join(
    f"{i},{i % 3},{i % 7},{i * 2},{i % 11}\n" for i in range(300)
)
DATES = "iso,german,american,words\n" + "".join(
    f"2026-01-{i % 28 + 1:02d},{i % 28 + 1:02d}.03.2026,04/{i % 28 + 1:02d}/2026,May {i % 28 + 1} 2026\n"
    for i in range(300)
)
NOT_FINITE = "x,y\n" + "".join(f"{'NaN' if i % 10 == 0 else 'inf' if i % 10 == 1 else i},{i}\n" for i in range(300))


@pytest.mark.parametrize(
    ("dataset_id", "content", "rows"),
    [
        ("one-row", b"a,b\n1,x\n", 1),
        ("all-null", b"a,b\n" + b",1\n" * 50, 50),
        ("utf-16", GOOD.encode("utf-16"), 100),
        ("names", NAMES.encode(), 300),
        ("dates", DATES.encode(), 300),
        ("not-finite", NOT_FINITE.encode(), 300),
        ("wide", (",".join(f"c{i}" for i in range(5000)) + "\n" + ("1," * 4999 + "1\n") * 20).encode(), 20),
    ],
)
def test_what_is_odd_but_sound_is_taken(client: Client, dataset_id: str, content: bytes, rows: int) -> None:
    """Odd files become datasets with every row and column accounted for."""
    answer = client.upload(dataset_id, content)

    assert answer.status == 201, answer.body
    assert answer.data["row_count"] == rows
    assert len({column["name"] for column in answer.data["columns"]}) == len(answer.data["columns"])


def test_four_date_formats_are_all_dates(client: Client) -> None:
    """ISO, German, American and written dates are recognised column by column."""
    client.upload("dates-again", DATES.encode())

    columns = client.get("/api/v1/datasets/dates-again").data["columns"]

    assert {column["logical_type"] for column in columns} == {"datetime"}


def test_hostile_names_compute(client: Client) -> None:
    """A column named like an SQL injection, an emoji, an empty and a repeated name go through the whole job."""
    assert client.upload("hostile", NAMES.encode()).status == 201

    answer = client.extract("hostile", "Ratios and ranks of all numeric columns", quality_threshold="low")

    assert answer.status == 200, answer.body
    table = client.get(f"/api/v1/extraction/{answer.data['extraction_id']}/features?format=csv")
    assert table.status == 200
    assert table.body.count(b"\n") == 301
    assert client.get("/api/v1/datasets").status == 200


def test_infinite_values_never_reach_the_table(client: Client) -> None:
    """NaN and infinity become nulls, and the quality says so."""
    assert client.upload("infinite", NOT_FINITE.encode()).status == 201

    answer = client.extract("infinite", "Logarithm and scale of x and y", quality_threshold="low")
    rows = client.get(f"/api/v1/extraction/{answer.data['extraction_id']}/features?format=csv").body.lower()

    assert answer.status == 200
    assert b"inf" not in rows.split(b"\n", 1)[1]
    assert b"nan" not in rows.split(b"\n", 1)[1]


def test_an_unknown_dataset_is_a_404(client: Client) -> None:
    """The problem says that the caller has no such dataset."""
    answer = client.extract("nowhere", "Counts for each user")

    assert answer.status == 404
    assert answer.json()["error_code"] == "dataset_not_found"


def test_a_path_is_no_dataset_id(client: Client) -> None:
    """`../` is refused by name before anything is written."""
    answer = client.upload("..%2F..%2Fetc", GOOD.encode())

    assert answer.status == 422
    assert answer.json()["errors"][0]["field"] == "dataset_id"


def test_a_body_over_the_limit_is_a_413(client: Client) -> None:
    """A body over MAX_UPLOAD_BYTES is refused and leaves nothing."""
    answer = client.upload("large", b"a,b\n" + b"1,2\n" * 90_000)

    assert answer.status == 413
    assert client.get("/api/v1/datasets/large").status == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b'{"dataset_id": NaN}', 400, None),
        (b'{"dataset_id": "good"}', 422, "feature_description"),
        (b'{"dataset_id": "good", "feature_description": "tiny"}', 422, "feature_description"),
        (b'{"dataset_id": "good", "feature_description": "visits a day", "colour": "red"}', 422, "colour"),
        (
            b'{"dataset_id": "good", "feature_description": "visits a day", "completion_date": "2001-01-01"}',
            422,
            "completion_date",
        ),
        (
            b'{"dataset_id": "good", "feature_description": "visits a day", "options": {"entity": "ghost"}}',
            422,
            "options.entity",
        ),
    ],
)
def test_a_bad_request_names_its_fault(client: Client, good: str, body: bytes, status: int, field: str | None) -> None:
    """Malformed JSON is 400; a wrong field is 422 and named."""
    answer = client.call("POST", "/api/v1/extract-features", body=body, Content_Type="application/json")

    assert answer.status == status, (good, answer.body)
    assert answer.headers["content-type"].startswith("application/problem+json")
    if field is not None:
        assert field in [fault["field"] for fault in answer.json()["errors"]]
