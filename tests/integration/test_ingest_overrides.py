"""Uploads that are read as the client says: every type and unit, and every way in which that cannot be done."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from service.features.errors import DatasetUnreadable
from service.features.model import ColumnOverride, MediaType, ReadOptions
from tests.integration.ingest_room import CSV, NDJSON, PARQUET, Room, at, columns_as_csv, lines, parquet

O = ColumnOverride  # noqa: E741 - it stands in every row of the tables
NEW_YEAR = at(2024, 1, 1)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An engine in a folder of its own."""
    return Room(tmp_path)


def one(override: ColumnOverride) -> ReadOptions:
    """The override for the column `x`."""
    return ReadOptions(columns={"x": override})


CASES: dict[str, tuple[list[str], ColumnOverride, str, str, list[Any]]] = {
    "codes": (["1", "2"], O(type="text"), "text", "VARCHAR", ["1", "2"]),
    "categories": (["1", "2"], O(type="categorical"), "categorical", "VARCHAR", ["1", "2"]),
    "dates as text": (["2024-01-01", "soon"], O(type="text"), "text", "VARCHAR", ["2024-01-01", "soon"]),
    "numbers": (["1", "2"], O(type="numeric"), "numeric", "DOUBLE", [1.0, 2.0]),
    "money": (["$1,200.50", "$3"], O(type="numeric"), "numeric", "DOUBLE", [1200.5, 3.0]),
    "spaced numbers": (["110 001", "560 034"], O(type="numeric"), "numeric", "DOUBLE", [110_001.0, 560_034.0]),
    "integers": (["1.0", "2", "-3."], O(type="integer"), "integer", "BIGINT", [1, 2, -3]),
    "large integers": (["9223372036854775807"], O(type="integer"), "integer", "BIGINT", [2**63 - 1]),
    "thousands": (["1.234.567", "1.000"], O(type="integer"), "integer", "BIGINT", [1_234_567, 1000]),
    "flags of two languages": (["ja", "no", "1", "0"], O(type="boolean"), "boolean", "BOOLEAN", [True, False] * 2),
    "identifiers": (["007", "12"], O(type="identifier"), "identifier", "VARCHAR", ["007", "12"]),
    "identifiers as floats": (["7.0", "12"], O(role="identifier"), "identifier", "BIGINT", [7, 12]),
    "identifiers with a fraction": (["7.5", "12"], O(role="identifier"), "identifier", "VARCHAR", ["7.5", "12"]),
    "text keys": (["a", "b"], O(type="text", role="identifier"), "identifier", "VARCHAR", ["a", "b"]),
    "seconds": (["0", "-1", "1704067200.5"], O(unit="seconds"), "datetime", "TIMESTAMP",
                [at(1970, 1, 1), at(1969, 12, 31, 23, 59, 59), at(2024, 1, 1, 0, 0, 0, 500_000)]),
    "milliseconds": (["1704067200250"], O(unit="milliseconds", type="datetime"), "datetime", "TIMESTAMP",
                     [at(2024, 1, 1, 0, 0, 0, 250_000)]),
    "microseconds": (["1704067200000001"], O(unit="microseconds"), "datetime", "TIMESTAMP",
                     [at(2024, 1, 1, 0, 0, 0, 1)]),
    "days": (["20240101", "01.01.24", "2024-01-01"], O(unit="date"), "datetime", "TIMESTAMP", [NEW_YEAR] * 3),
    "years": (["2024", "2024.0"], O(unit="year"), "datetime", "TIMESTAMP", [NEW_YEAR] * 2),
    "months": (["202401", "2024-01", "01/2024", "Jan 2024"], O(unit="year_month"), "datetime", "TIMESTAMP",
               [NEW_YEAR] * 4),
    "clocks": (["14:05", "2:05 PM"], O(unit="time_of_day"), "integer", "BIGINT", [50_700, 50_700]),
    "clocks as measures": (["14:05"], O(unit="time_of_day", type="numeric"), "numeric", "DOUBLE", [50_700.0]),
    "instants without a telling name": (["1704067200"], O(type="datetime"), "datetime", "TIMESTAMP", [NEW_YEAR]),
    "days without a telling name": (["20240101"], O(type="datetime"), "datetime", "TIMESTAMP", [NEW_YEAR]),
    "dates": (["31.12.2023", "01.01.2024"], O(type="datetime"), "datetime", "TIMESTAMP", [at(2023, 12, 31), NEW_YEAR]),
    "a number for missing": (["-999", "5"], O(null_words=("-999",)), "integer", "BIGINT", [None, 5]),
    "words for missing": (["?", "a", "NA"], O(null_words=("?",)), "text", "VARCHAR", [None, "a", "NA"]),
    "no words for missing": (["NA", "DE"], O(null_words=()), "text", "VARCHAR", ["NA", "DE"]),
    "a flag for missing": (["yes", "no", "na"], O(null_words=("na",)), "boolean", "BOOLEAN", [True, False, None]),
    "missing in a forced column": (["n/k", "5"], O(type="integer", null_words=("n/k",)), "integer", "BIGINT",
                                   [None, 5]),
    "a missing number in a forced column": (["-1", "5"], O(type="numeric", null_words=("-1",)), "numeric", "DOUBLE",
                                            [None, 5.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_a_column_is_read_as_asked(room: Room, name: str) -> None:
    """The profile has the type, and the typed file the values."""
    cells, override, logical, physical, values = CASES[name]
    found = await room.ingest(columns_as_csv({"x": cells, "k": ["a", "b", "c"]}), overrides=one(override))
    assert found["x"][0] == physical
    assert found["x"][1][: len(values)] == values
    assert found.column("x").logical_type == logical


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        ("x\n-999\n5.0\n", CSV),
        (lines({"x": -999}, {"x": 5.0}), NDJSON),
        (parquet(x=[-999.0, 5.0]), PARQUET),
        (parquet(x=[-999, 5]), PARQUET),
        (parquet(x=["-999", "5"]), PARQUET),
    ],
    ids=["csv", "ndjson", "doubles", "integers", "texts"],
)
@pytest.mark.parametrize("type_", ["integer", "numeric"])
async def test_overrides_hold_for_every_format(
    room: Room, content: bytes | str, media_type: MediaType, type_: Any
) -> None:
    """What is missing is so however the file writes the number."""
    found = await room.ingest(content, media_type, one(O(type=type_, null_words=("-999",))))
    assert found["x"][1] == [None, 5]
    assert found.column("x").logical_type == type_


async def test_words_for_missing_hold_in_typed_columns(room: Room) -> None:
    """The file's type stays, and the numbers that say missing are null, written with a point or without."""
    found = await room.ingest(parquet(x=[-999.0, 5.0]), PARQUET, one(O(null_words=("-999",))))
    assert found["x"] == ("DOUBLE", [None, 5.0])


async def test_a_column_can_be_left_out(room: Room) -> None:
    """It is neither in the file nor in the profile, and a note says so."""
    found = await room.ingest("x,y\n1,2\n", overrides=one(O(role="ignored")))
    assert (found.names, [column.name for column in found.profile.columns]) == (["y"], ["y"])
    assert "'x': left out, as asked" in found.profile.notes


async def test_a_key_by_name_can_be_a_feature(room: Room) -> None:
    """The role decides over the name."""
    content = columns_as_csv({"x_id": ["1", "2", "3"]})
    assert (await room.ingest(content)).column("x_id").logical_type == "identifier"
    found = await room.ingest(content, overrides=ReadOptions(columns={"x_id": O(role="feature")}))
    assert found.column("x_id").logical_type == "integer"


FAULTS: dict[str, tuple[list[str], ColumnOverride, str, str]] = {
    "no integer": (["1", "one", "2.5"], O(type="integer"), "data row 2, column x", "is not an integer"),
    "a fraction": (["1", "2.5"], O(type="integer"), "data row 2, column x", "is not an integer"),
    "too large": (["9223372036854775808"], O(type="integer"), "data row 1, column x", "at most 64 bits"),
    "no number": (["1", "one"], O(type="numeric"), "data row 2, column x", "is not a number"),
    "two currencies": (["$1", "€2"], O(type="numeric"), "data row 1, column x", "2 values"),
    "no flag": (["yes", "2"], O(type="boolean"), "data row 2, column x", "true or false"),
    "no date": (["2024-01-01", "soon"], O(type="datetime"), "data row 2, column x", "is not a date or time"),
    "no day": (["2024-02-29", "2023-02-29"], O(type="datetime"), "data row 2, column x", "is not a date or time"),
    "a small number": (["5"], O(type="datetime"), "data row 1, column x", "is not a date or time"),
    "no second": (["1", "now"], O(unit="seconds"), "data row 2, column x", "is not a number of seconds"),
    "beyond the calendar": (["1", "999999999999"], O(unit="seconds"), "data row 2, column x", "before the year 10000"),
    "no day in digits": (["20240229", "20230229"], O(unit="date"), "data row 2, column x", "is not a day"),
    "no year": (["2024", "0"], O(unit="year"), "data row 2, column x", "is not a year"),
    "no month": (["202412", "202413"], O(unit="year_month"), "data row 2, column x", "is not a year and a month"),
    "no time of day": (["14:05", "25:00"], O(unit="time_of_day"), "data row 2, column x", "is not a time of day"),
    "no clock at all": (["noon"], O(unit="time_of_day"), "data row 1, column x", "is not a time of day"),
    "not missing": (["1", "NA"], O(type="integer", null_words=("?",)), "data row 2, column x", "is not an integer"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
async def test_values_that_do_not_convert_are_refused_with_their_place(room: Room, name: str) -> None:
    """The error names row, column and what was expected, never a value; nothing is kept."""
    cells, override, place, words = FAULTS[name]
    refused = await room.refusal(columns_as_csv({"x": cells, "k": ["a"]}), overrides=one(override))
    assert isinstance(refused, DatasetUnreadable)
    [fault] = refused.errors
    assert fault.field == place
    assert words in fault.message
    assert place in refused.message


async def test_no_value_is_quoted(room: Room) -> None:
    """A cell that does not convert may be anyone's."""
    content = columns_as_csv({"x": ["1", "erika@example.org"], "k": ["a"]})
    refused = await room.refusal(content, overrides=one(O(type="integer")))
    assert "erika" not in refused.message + str(refused.errors)


@pytest.mark.parametrize(
    ("overrides", "fields"),
    [
        (ReadOptions(columns={"y": O()}), ["columns.y"]),
        (ReadOptions(columns={f"y{n}": O() for n in range(9)}), [f"columns.y{n}" for n in range(5)]),
        (ReadOptions(zone="Mars/Olympus"), ["zone"]),
        (ReadOptions(zone="BST"), ["zone"]),
        (one(O(zone="Europe/Nowhere")), ["columns.x.zone"]),
        (one(O(zone="Europe/Berlin")), ["columns.x.zone"]),
        (one(O(zone="Europe/Berlin", type="integer")), ["columns.x.zone"]),
        (one(O(zone="Europe/Berlin", unit="seconds")), ["columns.x.zone"]),
        (one(O(unit="seconds", type="integer")), ["columns.x.unit"]),
        (one(O(unit="time_of_day", type="datetime")), ["columns.x.unit"]),
        (one(O(role="identifier", type="numeric")), ["columns.x.role"]),
        (one(O(role="feature", type="identifier")), ["columns.x.role"]),
        (ReadOptions(columns={"x": O(role="ignored"), "k": O(role="ignored")}), ["columns"]),
    ],
    ids=str,
)
async def test_overrides_that_do_not_fit_are_refused(room: Room, overrides: ReadOptions, fields: list[str]) -> None:
    """Unknown columns and zones, and what contradicts itself, each with the member at fault; nothing is kept."""
    refused = await room.refusal(columns_as_csv({"x": ["1", "2"], "k": ["a"]}), overrides=overrides)
    assert not isinstance(refused, DatasetUnreadable)
    assert refused.code == "request_invalid"
    assert [fault.field for fault in refused.errors] == fields


async def test_any_typed_column_can_be_text_or_dates(room: Room) -> None:
    """Typed values are taken by their text."""
    content = parquet(n=pa.array([20240101]), t=pa.array([NEW_YEAR], pa.timestamp("us")), b=pa.array([True]),
                      nested=pa.array([[1, 2]]))  # fmt: skip
    columns = {"n": O(unit="date"), "t": O(type="text"), "b": O(type="integer"), "nested": O(type="categorical")}
    with pytest.raises(DatasetUnreadable, match="data row 1, column b is not an integer"):
        await room.ingest(content, PARQUET, ReadOptions(columns=columns))
    found = await room.ingest(content, PARQUET, ReadOptions(columns=columns | {"b": O(type="boolean")}))
    assert [found[name][1] for name in "ntb"] == [[NEW_YEAR], ["2024-01-01 00:00:00"], [True]]
    assert found["nested"][1] == ["[1,2]"]
    assert isinstance(found["n"][1][0], datetime)
