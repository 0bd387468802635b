"""The main job over real HTTP on real data: upload, describe, extract, read the features."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_wine

from service.settings import Settings
from tests.support import LiveService
from tools.demo.sample import write_event_log
from tools.testbed.api_client import Client

pytestmark = pytest.mark.xdist_group("main-job")

RECOMMENDATION = "Extract click-through and conversion features for recommendation engine"


@pytest.fixture(scope="module")
def client(make_settings: Callable[..., Settings]) -> Iterator[Client]:
    """A caller of a live service."""
    with LiveService(make_settings()) as service:
        yield service.client


@pytest.fixture(scope="module")
def event_log(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The generated event log, uploaded."""
    path = tmp_path_factory.mktemp("sample") / "events.csv"
    write_event_log(path, rows=50_000)
    answer = client.upload("events", path.read_bytes())
    assert answer.status == 201, answer.body
    assert answer.data["row_count"] == 50_000
    return "events"


def vega(name: str) -> bytes:
    """A file of the vega-datasets package."""
    return files("vega_datasets").joinpath("_data", name).read_bytes()


def as_ndjson(array: bytes) -> bytes:
    """A JSON array as one object a line."""
    return "\n".join(json.dumps(row) for row in json.loads(array)).encode()


def penguins() -> bytes:
    """The raw penguins: names with spaces and brackets, nulls, free text."""
    return files("palmerpenguins").joinpath("data", "penguins-raw.csv").read_bytes()


def wine(tmp_path: Path) -> Path:
    """scikit-learn's wine as Parquet."""
    path = tmp_path / "wine.parquet"
    load_wine(as_frame=True).frame.to_parquet(path)
    return path


def names(data: dict[str, object]) -> list[str]:
    """Names of the accepted features."""
    features = data["features"]
    assert isinstance(features, list)
    return [feature["name"] for feature in features]


def test_the_sentence_of_the_readme_gives_click_through_and_conversion(client: Client, event_log: str) -> None:
    """Per user: clicks, impressions, click-through rate, conversion rate and recency, said in plain words."""
    answer = client.extract(event_log, RECOMMENDATION)

    assert answer.status == 200, answer.body
    data = answer.data
    assert data["status"] == "completed"
    assert data["grain"] == "entity"
    kinds = {feature["name"]: feature["operation"]["kind"] for feature in data["features"]}
    for word, kind in {"click": "count", "impression": "count", "through": "rate", "conversion": "rate"}.items():
        assert any(word in name and operation == kind for name, operation in kinds.items()), (word, kinds)
    assert "recency" in kinds.values()
    assert any("user_id" in step for step in data["feature_pipeline_steps"])
    assert answer.headers["x-trace-id"] == data["trace_id"]
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_rates_agree_with_a_count_by_hand(client: Client, event_log: str, tmp_path: Path) -> None:
    """The published click-through rate of every user equals clicks over impressions counted in plain Python."""
    data = client.extract(event_log, RECOMMENDATION).data
    rate = next(f for f in data["features"] if f["operation"]["kind"] == "rate" and "click_through" in f["name"])
    rows = client.get(f"/api/v1/extraction/{data['extraction_id']}/features?format=csv")
    published = {row["user_id"]: row[rate["name"]] for row in csv.DictReader(io.StringIO(rows.body.decode()))}
    path = tmp_path / "events.csv"
    write_event_log(path, rows=50_000)
    counts: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8") as source:
        for event in csv.DictReader(source):
            kind = counts.setdefault(event["user_id"], {"click": 0, "impression": 0})
            if event["event_type"] in kind:
                kind[event["event_type"]] += 1

    counts.pop("", None)
    assert published.keys() == counts.keys()
    for user, kind in counts.items():
        expected = kind["click"] / kind["impression"] if kind["impression"] else None
        assert (float(published[user]) if published[user] else None) == (
            pytest.approx(expected) if expected is not None else None
        )


@pytest.mark.parametrize(
    ("dataset_id", "content", "media_type", "sentence"),
    [
        ("penguins", penguins, "text/csv", "Features to tell species apart from culmen size and body mass"),
        (
            "weather",
            lambda: vega("seattle-weather.csv"),
            "text/csv",
            "Seasonality and rolling rain features for each day",
        ),
        ("stocks", lambda: vega("stocks.csv"), "text/csv", "Price level, trend and volatility per symbol"),
        ("riots", lambda: vega("la-riots.csv"), "text/csv", "Age and location features of each record"),
        ("cars", lambda: as_ndjson(vega("cars.json")), "application/x-ndjson", "Power to weight ratios and efficiency"),
    ],
)
def test_public_datasets_give_features(
    client: Client, dataset_id: str, content: Callable[[], bytes], media_type: str, sentence: str
) -> None:
    """Mixed types, nulls, dates as text and odd names are profiled, planned and computed."""
    uploaded = client.upload(dataset_id, content(), media_type)
    assert uploaded.status == 201, uploaded.body

    answer = client.extract(dataset_id, sentence)

    assert answer.status == 200, answer.body
    data = answer.data
    assert len(names(data)) >= 3
    assert len(set(names(data))) == len(names(data))
    assert 0 < data["quality"]["score"] <= 1
    assert all(0 <= feature["quality_score"] <= 1 for feature in data["features"])


def test_parquet_in_and_parquet_out(client: Client, tmp_path: Path) -> None:
    """A Parquet upload without times or entities gives a row a row, readable by another library."""
    assert client.upload("wine", wine(tmp_path).read_bytes(), "application/vnd.apache.parquet").status == 201

    data = client.extract("wine", "Useful features to predict the class", options={"target": "target"}).data
    table = pq.read_table(
        io.BytesIO(
            client.get(
                f"/api/v1/extraction/{data['extraction_id']}/features", Accept="application/vnd.apache.parquet"
            ).body
        )
    )

    assert data["grain"] == "row"
    assert table.num_rows == data["row_count"] == 178
    assert set(names(data)) <= set(table.column_names)
    assert all("target" not in feature["source_columns"] for feature in data["features"])


def test_personal_values_never_leave_the_engine(client: Client) -> None:
    """Names of people are profiled without a single value of theirs."""
    client.upload("people", vega("la-riots.csv"))

    profile = client.get("/api/v1/datasets/people")

    assert b"Aguilar" not in profile.body
    columns = {column["name"]: column for column in profile.data["columns"]}
    assert columns["last_name"]["personal"] is True


def test_the_same_request_gives_the_same_features(client: Client, event_log: str) -> None:
    """Planning and computing are deterministic: two runs publish equal tables."""
    bodies = []
    for _ in range(2):
        data = client.extract(event_log, RECOMMENDATION).data
        bodies.append(client.get(f"/api/v1/extraction/{data['extraction_id']}/features?format=ndjson").body)

    assert bodies[0] == bodies[1]


def test_status_and_result_agree(client: Client, event_log: str) -> None:
    """A completed extraction reads the same through its routes."""
    data = client.extract(event_log, RECOMMENDATION).data
    identity = data["extraction_id"]

    status = client.get(f"/api/v1/extraction/{identity}/status").data
    whole = client.get(f"/api/v1/extraction/{identity}").data

    assert status["status"] == "completed"
    assert status["progress"] == 100
    assert status["error_message"] is None
    assert whole["features"] == data["features"]


def test_an_impossible_sentence_says_what_columns_there_are(client: Client, event_log: str) -> None:
    """Asking for what the data cannot give is a 422 that names the columns, and the failed extraction is kept."""
    answer = client.extract(event_log, "Average blood pressure per hospital ward")

    problem = answer.json()
    assert answer.status == 422
    assert problem["error_code"] == "request_impossible"
    assert "user_id" in json.dumps(problem)
    failed = client.get("/api/v1/extractions?status=failed").data["items"]
    assert any(item["error_message"] for item in failed)


def test_no_feature_good_enough_is_a_quality_problem(client: Client) -> None:
    """When every feature is rejected the answer is 422 with the reason for each."""
    mostly = "visits,spend\n" + "".join(f"{0 if i % 30 else i},{0 if i % 31 else i * 2}\n" for i in range(3000))
    client.upload("mostly", mostly.encode())

    answer = client.extract("mostly", "Visits and spend as they are", quality_threshold="high")

    problem = answer.json()
    assert answer.status == 422
    assert problem["error_code"] == "quality_too_low"
    assert problem["error_category"] == "quality"
    assert problem["errors"]
