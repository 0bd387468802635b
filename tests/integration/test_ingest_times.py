"""Dates and times of uploads against datetime and zoneinfo: numbers that are instants, times of day, and zones."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.features.model import ColumnOverride, ReadOptions
from tests.integration.ingest_room import PARQUET, Room, at, columns_as_csv, parquet

FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EPOCH = at(1970, 1, 1)
UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An engine in a folder of its own."""
    return Room(tmp_path)


def instants_in(unit: str) -> st.SearchStrategy[list[datetime]]:
    """Instants from 1971 to 2100 that the unit can tell."""
    scale = UNITS[unit]
    first, last = 31_536_000_000_000 // scale, 4_133_980_799_999_999 // scale
    moment = st.integers(first, last).map(lambda n: EPOCH + timedelta(microseconds=n * scale))
    return st.lists(moment, min_size=1, max_size=20)


def counted(moment: datetime, unit: str) -> str:
    """The instant as a number of units since 1970."""
    return str((moment - EPOCH) // timedelta(microseconds=UNITS[unit]))


@pytest.mark.parametrize("unit", UNITS)
@FEW
@given(data=st.data())
def test_numbers_in_a_column_of_times_are_instants(tmp_path: Path, unit: str, data: st.DataObject) -> None:
    """Whatever the unit, each number is the instant that it counts; a column of another name keeps its numbers."""
    moments = data.draw(instants_in(unit))
    name = data.draw(st.sampled_from(["ts", "created_at", "event_time", "Timestamp", "updated", "order_date", "epoch"]))
    numbers = [counted(moment, unit) for moment in moments]
    content = columns_as_csv({name: numbers, "amount": numbers, "bytes_sent": numbers})
    found = asyncio.run(Room(tmp_path).ingest(content))
    assert found[name] == ("TIMESTAMP", moments)
    assert found["amount"] == found["bytes_sent"] == ("BIGINT", [int(number) for number in numbers])
    assert f"'{name}': instants in {unit} since 1970-01-01 UTC" in found.profile.notes


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()], ids=str)
async def test_numbers_of_a_typed_file_are_instants_too(room: Room, kind: pa.DataType) -> None:
    """Also as floating-point numbers, which nulls make of integers in pandas."""
    found = await room.ingest(parquet(created_at=pa.array([1_706_659_200, None], kind), x=pa.array([1, 2])), PARQUET)
    assert found["created_at"] == ("TIMESTAMP", [at(2024, 1, 31), None])


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("time", ["0", "172792"]),  # seconds from a start
        ("time_spent", ["1706659200"]),
        ("views_per_day", ["40000000"]),
        ("time_id", ["1706659200"]),
        ("created_at", ["1706659200", "1706659200000"]),  # two units
        ("created_at", ["31535999"]),  # 1970
        ("created_at", ["4133980800"]),  # 2101
        ("created_at", ["-1706659200"]),
        ("date_key", ["20240131"]),
        ("order_date", ["20240131", "20240230"]),
        ("amount", ["20240131"]),
    ],
)
async def test_numbers_that_need_not_be_times_stay_numbers(room: Room, name: str, cells: list[str]) -> None:
    """Name and range of all values must agree."""
    assert (await room.ingest(columns_as_csv({name: cells, "k": ["x"]})))[name][0] == "BIGINT"


@FEW
@given(days=st.lists(st.dates(date(1500, 1, 1), date(2999, 12, 31)), min_size=1, max_size=20))
def test_days_as_eight_digits(tmp_path: Path, days: list[date]) -> None:
    """YYYYMMDD under the name of a day or an instant is that day, leap days with it."""
    days = [*days, date(2024, 2, 29)]
    cells = [f"{day:%Y%m%d}".zfill(8) for day in days]
    found = asyncio.run(Room(tmp_path).ingest(columns_as_csv({"birth_date": cells, "day": cells, "n": cells})))
    expected = [datetime.combine(day, time()) for day in days]
    assert found["birth_date"] == found["day"] == ("TIMESTAMP", expected)
    assert found["n"][0] == "BIGINT"


CLOCKS = {"%H:%M": 60, "%H:%M:%S": 1, "%I:%M %p": 60, "%I:%M:%S%p": 1}


@pytest.mark.parametrize("form", CLOCKS)
@FEW
@given(seconds=st.lists(st.integers(0, 86_399), min_size=1, max_size=20))
def test_times_of_day_are_seconds_since_midnight(tmp_path: Path, form: str, seconds: list[int]) -> None:
    """In twelve and twenty-four hours, with and without seconds."""
    seconds = [second - second % CLOCKS[form] for second in seconds]
    cells = [(EPOCH + timedelta(seconds=second)).strftime(form) for second in seconds]
    found = asyncio.run(Room(tmp_path).ingest(columns_as_csv({"opens": cells, "duration": cells})))
    assert found["opens"] == ("BIGINT", seconds)
    assert found["duration"] == ("VARCHAR", cells)
    assert "'opens': times of day, as seconds since midnight" in found.profile.notes


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["10:30:00.5", "0:00:01"], ("DOUBLE", [37_800.5, 1.0])),
        (["24:00", "10:30"], ("VARCHAR", ["24:00", "10:30"])),
        (["13:05 PM", "1:05 PM"], ("VARCHAR", ["13:05 PM", "1:05 PM"])),
        (["10:61", "10:30"], ("VARCHAR", ["10:61", "10:30"])),
    ],
)
async def test_what_is_no_time_of_day_stays_text(room: Room, cells: list[str], expected: tuple[str, list[Any]]) -> None:
    """Fractions of a second are kept; a column with one impossible time is text."""
    assert (await room.ingest(columns_as_csv({"opens": cells})))["opens"] == expected


async def test_days_that_do_not_exist_are_counted(room: Room) -> None:
    """The column stays text as it was, and the note says how many values stand in the way."""
    cells = [*(f"2023-03-{day:02d}" for day in range(1, 31)), "2023-02-30", "2023-02-29"]
    found = await room.ingest(columns_as_csv({"d": cells}))
    assert found["d"] == ("VARCHAR", cells)
    [note] = [one for one in found.profile.notes if one.startswith("'d'")]
    assert "text, because 2 of 32 values are no day or time that exists" in note
    read = await room.ingest(
        columns_as_csv({"d": cells}),
        overrides=ReadOptions(columns={"d": ColumnOverride(null_words=("2023-02-30", "2023-02-29"))}),
    )
    assert read["d"][1][-3:] == [at(2023, 3, 30), None, None]
    assert "'d': read as missing: 2023-02-29 (1), 2023-02-30 (1)" in read.profile.notes


# -------------------------------------------------------------------------------------------------------------- zones

CHANGES = {
    "Europe/Berlin": [at(2024, 3, 31, 2), at(2024, 10, 27, 2)],
    "America/New_York": [at(2024, 3, 10, 2), at(2007, 11, 4, 1)],
    "Australia/Lord_Howe": [at(2024, 10, 6, 2), at(2024, 4, 7, 1, 30)],
    "America/Sao_Paulo": [at(2018, 11, 4, 0), at(2018, 2, 17, 23)],
    "Asia/Kolkata": [at(2024, 3, 31, 2)],
    "Pacific/Apia": [at(2011, 12, 30, 12)],
}
"""Zones, and times near which their clocks change: by an hour, by half an hour, at midnight, never, by a day."""


@st.composite
def local_times(draw: st.DrawFn) -> tuple[str, list[datetime]]:
    """A zone, and local times of which many are skipped or shown twice."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    near = st.tuples(st.sampled_from(CHANGES[zone]), st.integers(-150, 150)).map(
        lambda pair: pair[0] + timedelta(minutes=pair[1])
    )
    anywhere = st.datetimes(at(1990, 1, 1), at(2035, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
    return zone, draw(st.lists(near | anywhere, min_size=1, max_size=20))


def in_utc(local: datetime, zone: str) -> tuple[datetime, int]:
    """The instant by the stated rule, and how many instants show that time: 0 in a gap, 2 in an overlap."""
    first, second = (
        local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC).replace(tzinfo=None) for fold in (0, 1)
    )
    return max(first, second), 0 if first > second else 1 + (first < second)


@FEW
@given(case=local_times())
def test_local_times_become_the_instants_of_their_zone(tmp_path: Path, case: tuple[str, list[datetime]]) -> None:
    """As zoneinfo has them, with gaps moved forward and the later of two, each counted in the note."""
    zone, times = case
    cells = [moment.isoformat(" ") for moment in times]
    own = datetime(2024, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    content = columns_as_csv({"at": [*cells, own.isoformat()], "n": ["x"]})
    found = asyncio.run(
        Room(tmp_path).ingest(content, overrides=ReadOptions(columns={"at": ColumnOverride(zone=zone)}))
    )
    expected = [in_utc(moment, zone) for moment in times]
    assert found["at"] == ("TIMESTAMP", [*(instant for instant, _ in expected), at(2024, 7, 1, 10)])
    skipped, twice = (sum(shown == times for _, shown in expected) for times in (0, 2))
    [note] = [one for one in found.profile.notes if f"local times of {zone}, in UTC here" in one]
    assert "1 with an offset of their own" in note
    assert ("that the clocks skipped" in note) is bool(skipped)
    assert f"{skipped or ''} that the clocks skipped" in note or not skipped
    assert f"{twice or ''} that the clocks showed twice" in note or not twice
    assert ("showed twice" in note) is bool(twice)


async def test_a_zone_for_the_whole_file_leaves_days_and_instants_alone(room: Room) -> None:
    """Days have no zone; numbers that count from 1970 and times with an offset are instants already."""
    content = columns_as_csv({
        "local": ["2024-07-01 12:00"], "day": ["2024-07-01"], "ts": ["1706659200"], "sent": ["2024-07-01T12:00:00Z"],
        "server": ["31/Jan/2024:10:00:00 +0100"], "typed": ["31.07.24 14:00"],
    })  # fmt: skip
    found = await room.ingest(content, overrides=ReadOptions(zone="Europe/Berlin"))
    assert found["local"][1] == [at(2024, 7, 1, 10)]
    assert found["day"][1] == [at(2024, 7, 1)]
    assert found["ts"][1] == [at(2024, 1, 31)]
    assert found["sent"][1] == [at(2024, 7, 1, 12)]
    assert found["server"][1] == [at(2024, 1, 31, 9)]
    assert found["typed"][1] == [at(2024, 7, 31, 12)]


async def test_a_zone_that_changes_nothing_is_said_to(room: Room) -> None:
    """A column of days or of instants that is given a zone is left as it is, with a note."""
    zoned = ColumnOverride(zone="Europe/Berlin")
    content = columns_as_csv({"day": ["2024-07-01"], "ts": ["1706659200"]})
    found = await room.ingest(content, overrides=ReadOptions(columns={"day": zoned, "ts": zoned}))
    assert (found["day"][1], found["ts"][1]) == ([at(2024, 7, 1)], [at(2024, 1, 31)])
    assert "'day': the zone Europe/Berlin changes nothing: its values are days without a time" in found.profile.notes
    assert "'ts': the zone Europe/Berlin changes nothing: its values are instants already" in found.profile.notes


async def test_local_times_of_a_typed_file_are_of_their_zone(room: Room) -> None:
    """Times without a zone are local ones; those with one are instants."""
    noon = at(2024, 7, 1, 12)
    content = parquet(
        local=pa.array([noon], pa.timestamp("us")),
        instant=pa.array([noon.replace(tzinfo=UTC)], pa.timestamp("us", "Asia/Tokyo")),
        day=pa.array([noon.date()]),
    )
    found = await room.ingest(content, PARQUET, ReadOptions(zone="Europe/Berlin"))
    assert [found[name][1] for name in ("local", "instant", "day")] == [[at(2024, 7, 1, 10)], [noon], [at(2024, 7, 1)]]
