"""`GET /api/v1/extraction/{id}/features`: the table in each form."""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import World, extract
from tests.doubles import TABLE


@pytest.mark.parametrize(
    ("query", "accept", "media_type", "name"),
    [
        ("", None, "application/vnd.apache.parquet", "parquet"),
        ("", "*/*", "application/vnd.apache.parquet", "parquet"),
        ("", "text/csv", "text/csv; charset=utf-8", "csv"),
        ("", "application/x-ndjson;q=0.9, text/csv;q=0.5", "application/x-ndjson", "ndjson"),
        ("?format=parquet", "text/csv", "application/vnd.apache.parquet", "parquet"),
        ("?format=csv", "*/*", "text/csv; charset=utf-8", "csv"),
        ("?format=ndjson", None, "application/x-ndjson", "ndjson"),
    ],
)
async def test_the_table_comes_in_the_requested_format(
    client: httpx.AsyncClient,
    world: World,
    dataset: str,
    query: str,
    accept: str | None,
    media_type: str,
    name: str,
) -> None:
    """`?format=` wins over `Accept`; the answer is a file, and no rendered copy stays on disk."""
    identity = (await extract(client)).json()["data"]["extraction_id"]
    client.headers.pop("accept", None)

    answer = await client.get(
        f"/api/v1/extraction/{identity}/features{query}", headers={"Accept": accept} if accept else {}
    )

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == f'attachment; filename="{identity}.{name}"'
    assert answer.content == TABLE if name == "parquet" else answer.content.strip()
    assert not [path for path in world.engine.exported if path.exists()]


async def test_no_acceptable_format_is_a_406(client: httpx.AsyncClient, dataset: str) -> None:
    """An Accept header that admits none of the three formats gets their names."""
    path = (await extract(client)).json()["data"]["links"]["features"]

    answer = await client.get(path, headers={"Accept": "application/xml"})

    assert answer.status_code == 406
    assert "text/csv" in answer.json()["detail"]


async def test_an_unknown_format_is_a_422(client: httpx.AsyncClient, dataset: str) -> None:
    """`?format=` takes three values."""
    path = (await extract(client)).json()["data"]["links"]["features"]

    answer = await client.get(f"{path}?format=xlsx")

    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["format"]


async def test_an_unreadable_table_is_a_problem_document(client: httpx.AsyncClient, world: World, dataset: str) -> None:
    """A failure before the first byte is answered as a problem document."""
    data = (await extract(client)).json()["data"]
    world.artifacts.files.clear()

    answer = await client.get(data["links"]["features"])

    assert answer.status_code == 503
    assert answer.json()["error_code"] == "dependency_unavailable"


async def test_csv_for_spreadsheets_is_asked_for(client: httpx.AsyncClient, world: World, dataset: str) -> None:
    """`?safe=spreadsheet` has the engine guard the cells; nothing else of the answer differs."""
    identity = (await extract(client)).json()["data"]["extraction_id"]
    path = f"/api/v1/extraction/{identity}/features"

    answers = [
        await client.get(f"{path}?format=csv&safe=spreadsheet"),
        await client.get(f"{path}?safe=spreadsheet", headers={"Accept": "text/csv"}),
        await client.get(f"{path}?format=csv"),
    ]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert {answer.headers["content-type"] for answer in answers} == {"text/csv; charset=utf-8"}
    assert {answer.headers["content-disposition"] for answer in answers} == {f'attachment; filename="{identity}.csv"'}
    assert world.engine.forms[-3:] == ["text/csv;safe=spreadsheet"] * 2 + ["text/csv"]


@pytest.mark.parametrize(
    "query",
    ["safe=spreadsheet", "safe=spreadsheet&format=parquet", "safe=spreadsheet&format=ndjson", "safe=x&format=csv"],
)
async def test_only_csv_is_made_safe_for_spreadsheets(client: httpx.AsyncClient, dataset: str, query: str) -> None:
    """Any other format, and any other value, is a 422 that names the parameter."""
    path = (await extract(client)).json()["data"]["links"]["features"]

    answer = await client.get(f"{path}?{query}", headers={"Accept": "*/*"})

    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["safe"]
