from __future__ import annotations

import csv
import runpy
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tools.demo.sample import CATEGORIES, COLUMNS, COUNTRIES, DAYS, DEVICES, FIRST_DAY, write_event_log

FUNNEL = ("impression", "click", "add_to_cart", "purchase")


def read(path: Path) -> list[dict[str, str]]:
    """The log's events by column name."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The log as the demonstration writes it."""
    path = tmp_path_factory.mktemp("sample") / "log.csv"
    write_event_log(path)
    return read(path)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """The same seed and size give the same bytes; another seed gives others."""
    files = [tmp_path / name for name in ("one", "two", "three")]
    for path, seed in zip(files, (3, 3, 4), strict=True):
        write_event_log(path, rows=500, seed=seed)
    first, second, third = (path.read_bytes() for path in files)
    assert first == second
    assert first != third


@pytest.mark.parametrize("rows", [1, 2, 19, 777])
def test_exact_number_of_rows(tmp_path: Path, rows: int) -> None:
    """The log has exactly as many events as asked for, below one header line."""
    write_event_log(tmp_path / "log.csv", rows=rows)
    assert len(read(tmp_path / "log.csv")) == rows


@pytest.mark.parametrize("rows", [0, -5])
def test_no_rows_are_refused(tmp_path: Path, rows: int) -> None:
    """A log without events is refused, and no file is left."""
    with pytest.raises(ValueError, match="at least one row"):
        write_event_log(tmp_path / "log.csv", rows=rows)
    assert not (tmp_path / "log.csv").exists()


def test_columns_and_vocabulary(events: list[dict[str, str]]) -> None:
    """Every column is there, and every category, device, country and event type occurs, with a few values missing."""
    assert tuple(events[0]) == COLUMNS
    assert {event["category"] for event in events} == {category.name for category in CATEGORIES}
    assert {event["device"] for event in events} == {device.name for device in DEVICES} | {""}
    assert {event["country"] for event in events} == {name for name, _ in COUNTRIES} | {""}
    assert {event["event_type"] for event in events} == set(FUNNEL)


def test_size_and_users(events: list[dict[str, str]]) -> None:
    """Sixty thousand events come from fifteen hundred users, a tenth of whom makes over a quarter of the events."""
    users = Counter(event["user_id"] for event in events)
    assert len(events) == 60_000
    assert len(users) == 1_500
    assert sum(count for _, count in users.most_common(150)) > 0.25 * len(events)


def test_in_order_of_time_over_sixty_days(events: list[dict[str, str]]) -> None:
    """Events are in order of time, and fill sixty days (a last visit may run past midnight)."""
    times = [event["event_time"] for event in events]
    assert times == sorted(times)
    assert datetime.fromisoformat(times[0]) >= FIRST_DAY
    assert datetime.fromisoformat(times[-1]) < FIRST_DAY + timedelta(days=DAYS, hours=2)
    assert len({time[:10] for time in times}) >= DAYS


def test_daily_and_weekly_rhythm(events: list[dict[str, str]]) -> None:
    """Evenings are busier than nights, weekend days busier than the days of the week."""
    moments = [datetime.fromisoformat(event["event_time"]) for event in events]
    hours = Counter(moment.hour for moment in moments)
    days = Counter(moment.isoweekday() for moment in moments)
    assert min(hours[hour] for hour in (19, 20, 21)) > 5 * max(hours[hour] for hour in (2, 3, 4))
    assert min(days[6], days[7]) > max(days[day] for day in range(1, 6))


def test_funnel(events: list[dict[str, str]]) -> None:
    """Each step of the funnel is rarer than the one before, and none is too rare to make features from."""
    counts = [Counter(event["event_type"] for event in events)[step] for step in FUNNEL]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 1_000


def test_clicks_depend_on_position_and_device(events: list[dict[str, str]]) -> None:
    """What is shown first is clicked more than what is shown last, and more on desktops than on phones."""

    def rate(column: str, value: str) -> float:
        kinds = Counter(event["event_type"] for event in events if event[column] == value)
        return kinds["click"] / kinds["impression"]

    assert rate("position", "1") > 2 * rate("position", "10")
    assert rate("device", "desktop") > rate("device", "mobile")


def test_conversion_depends_on_category(events: list[dict[str, str]]) -> None:
    """Books are bought after a click more often than electronics."""
    kinds = Counter((event["category"], event["event_type"]) for event in events)
    books = kinds["books", "purchase"] / kinds["books", "click"]
    electronics = kinds["electronics", "purchase"] / kinds["electronics", "click"]
    assert books > 1.5 * electronics


def test_price_only_where_money_was_meant(events: list[dict[str, str]]) -> None:
    """A price is there exactly on carts and purchases, is positive, and has the heavy tail of a lognormal."""
    priced = [event for event in events if event["price"]]
    assert {event["event_type"] for event in priced} == {"add_to_cart", "purchase"}
    assert len(priced) == sum(event["event_type"] in {"add_to_cart", "purchase"} for event in events)
    prices = sorted(float(event["price"]) for event in priced)
    assert prices[0] > 0
    assert sum(prices) / len(prices) > 1.3 * prices[len(prices) // 2]


def test_place_and_dwell_only_where_measured(events: list[dict[str, str]]) -> None:
    """A position is there on impressions and clicks, a dwell time on clicks, of which a few lost theirs."""
    clicks = [event for event in events if event["event_type"] == "click"]
    assert {event["event_type"] for event in events if event["position"]} == {"impression", "click"}
    assert {event["event_type"] for event in events if event["dwell_seconds"]} == {"click"}
    assert 0 < sum(not event["dwell_seconds"] for event in clicks) < 0.1 * len(clicks)
    assert all(0 < float(event["dwell_seconds"]) <= 900 for event in clicks if event["dwell_seconds"])


def test_runs_as_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m tools.demo.sample FILE` writes the same log to that file."""
    monkeypatch.setattr(sys, "argv", ["sample", str(tmp_path / "log.csv")])
    monkeypatch.delitem(sys.modules, "tools.demo.sample")
    runpy.run_module("tools.demo.sample", run_name="__main__")
    write_event_log(tmp_path / "again.csv")
    assert (tmp_path / "log.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
