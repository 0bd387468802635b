"""Reading uploads with the real engine: what is in the typed file and the profile, or what the refusal says."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import math
import threading
import time as time_module
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.engines.duckdb.detect import CHUNK_BYTES, Stopped
from service.engines.duckdb.ingest import _in_thread
from service.engines.duckdb.ingest_source import MAX_NOTES
from service.engines.duckdb.statistics import _significant
from service.engines.limits import Limits
from service.features.errors import ComputeOutOfMemory
from service.features.model import ColumnProfile, MediaType, Profile, ValueCount
from tests.integration.ingest_room import (
    CSV,
    NDJSON,
    PARQUET,
    ROW_ID,
    Ingested,
    Room,
    at,
    columns_as_csv,
    lines,
    parquet,
    parquet_of,
    short,
)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An engine in a folder of its own."""
    return Room(tmp_path)


# --------------------------------------------------------------------------------------------------- types of CSV cells

DAY1, DAY2 = at(2024, 1, 31), at(2024, 2, 1)
DATES: dict[str, tuple[list[str], list[datetime] | None]] = {
    "ISO": (["2024-01-31", "2024-02-01"], [DAY1, DAY2]),
    "ISO without zeros": (["2024-1-31", "2024-2-1"], [DAY1, DAY2]),
    "ISO with slashes": (["2024/01/31", "2024/2/1"], [DAY1, DAY2]),
    "ISO, some with a time": (["2024-01-31", "2024-02-01 10:30"], [DAY1, at(2024, 2, 1, 10, 30)]),
    "ISO T": (["2024-01-31T23:59:59"], [at(2024, 1, 31, 23, 59, 59)]),
    "ISO fractions": (
        ["2024-01-31 00:00:00.5", "2024-02-01 00:00:00.123456"],
        [at(2024, 1, 31, 0, 0, 0, 500_000), at(2024, 2, 1, 0, 0, 0, 123_456)],
    ),
    "ISO nanoseconds": (["2024-01-31 00:00:00.123456789"], [at(2024, 1, 31, 0, 0, 0, 123_456)]),
    "ISO comma fraction": (["2024-01-31 00:00:00,250"], [at(2024, 1, 31, 0, 0, 0, 250_000)]),
    "ISO zones": (
        ["2024-01-31T01:30:00Z", "2024-01-31T01:30:00+02:00", "2024-01-31T01:30:00-0530", "2024-01-31T01:30:00+05"],
        [at(2024, 1, 31, 1, 30), at(2024, 1, 30, 23, 30), at(2024, 1, 31, 7, 0), at(2024, 1, 30, 20, 30)],
    ),
    "ISO named zone": (["2024-01-31 10:00:00 UTC", "2024-02-01 10:00 GMT"], [at(2024, 1, 31, 10), at(2024, 2, 1, 10)]),
    "ISO basic": (["20240131T103000", "20240201T000000"], [at(2024, 1, 31, 10, 30), DAY2]),
    "ISO basic Z": (["20240131T103000Z"], [at(2024, 1, 31, 10, 30)]),
    "ISO basic minutes": (["20240131T1030"], [at(2024, 1, 31, 10, 30)]),
    "ISO month": (["2024-01", "2024-02"], [at(2024, 1, 1), DAY2]),
    "a day that is not": (["2024-02-30", "2024-02-29"], None),
    "a month that is not": (["2024-13", "2024-12"], None),
    "month first": (["01/31/2024", "2/1/2024"], [DAY1, DAY2]),
    "day first": (["31/01/2024", "1/2/2024"], [DAY1, DAY2]),
    "could be either": (["01/02/2024", "03/04/2024"], [at(2024, 1, 2), at(2024, 3, 4)]),
    "neither for all": (["31/01/2024", "01/31/2024"], None),
    "two-digit years": (["01/31/24", "02/01/99", "02/01/68", "02/01/69"],
                        [DAY1, at(1999, 2, 1), at(2068, 2, 1), at(1969, 2, 1)]),
    "hyphens month first": (["01-31-2024", "02-01-2024"], [DAY1, DAY2]),
    "hyphens day first": (["31-01-2024", "01-02-2024"], [DAY1, DAY2]),
    "dots": (["31.01.2024", "1.2.2024"], [DAY1, DAY2]),
    "dots, could be either": (["01.02.2024", "03.04.2024"], [DAY2, at(2024, 4, 3)]),
    "dots with a time": (["31.01.2024 10:30", "1.2.2024 23:59"], [at(2024, 1, 31, 10, 30), at(2024, 2, 1, 23, 59)]),
    "slashes with a time": (["31/01/2024 10:30:15", "01/02/2024 00:00:00"], [at(2024, 1, 31, 10, 30, 15), DAY2]),
    "slashes with a fraction": (["31/01/2024 00:00:00.125"], [at(2024, 1, 31, 0, 0, 0, 125_000)]),
    "slashes with a zone": (["31/01/2024 01:30:00 +02:00", "01/02/2024 10:00:00 -0330"],
                            [at(2024, 1, 30, 23, 30), at(2024, 2, 1, 13, 30)]),
    "twelve hours": (["01/31/2024 12:00 AM", "01/31/2024 12:30 PM", "01/31/2024 1:05 pm"],
                     [DAY1, at(2024, 1, 31, 12, 30), at(2024, 1, 31, 13, 5)]),
    "twelve hours glued": (["01/31/2024 11:59PM"], [at(2024, 1, 31, 23, 59)]),
    "twelve hours, seconds": (["1/31/2024 1:02:03 PM"], [at(2024, 1, 31, 13, 2, 3)]),
    "Jan 31 2024": (["Jan 31 2024", "February 1 2024"], [DAY1, DAY2]),
    "January 31, 2024": (["January 31, 2024", "Feb 1, 2024"], [DAY1, DAY2]),
    "31 Jan 2024": (["31 Jan 2024", "1 February 2024"], [DAY1, DAY2]),
    "31. January 2024": (["31. January 2024", "1. Feb 2024"], [DAY1, DAY2]),
    "31-Jan-2024": (["31-Jan-2024", "01-FEB-2024"], [DAY1, DAY2]),
    "31-Jan-24": (["31-Jan-24", "01-Feb-99"], [DAY1, at(1999, 2, 1)]),
    "31/Jan/2024": (["31/Jan/2024", "01/Feb/2024"], [DAY1, DAY2]),
    "Jan 2024": (["Jan 2024", "February 2024"], [at(2024, 1, 1), DAY2]),
    "Jan-2024": (["Jan-2024", "Feb-2024"], [at(2024, 1, 1), DAY2]),
    "RFC 2822": (["Wed, 31 Jan 2024 10:00:00 +0000", "Thu, 1 Feb 2024 10:00:00 -0500"],
                 [at(2024, 1, 31, 10), at(2024, 2, 1, 15)]),
    "HTTP": (["Wed, 31 Jan 2024 10:00:00 GMT"], [at(2024, 1, 31, 10)]),
    "ctime": (["Wed Jan 31 10:00:00 2024", "Thu Feb  1 11:00:00 2024"], [at(2024, 1, 31, 10), at(2024, 2, 1, 11)]),
    "ctime with a zone": (["Wed Jan 31 10:00:00 +0100 2024"], [at(2024, 1, 31, 9)]),
    "web server log": (["31/Jan/2024:10:00:00 +0100"], [at(2024, 1, 31, 9)]),
    "two formats": (["2024-01-31", "31/01/2024", "Feb 1, 2024"], [DAY1, DAY1, DAY2]),
    "two orders": (["31.01.2024", "01/31/2024"], None),
    "blanks around": ([" 2024-01-31", "2024-02-01 "], [DAY1, DAY2]),
    "leap second": (["2016-12-31T23:59:60Z"], None),
    "sixty minutes": (["2024-01-01 10:60"], None),
    "another language": (["31 Januar 2024", "1 Mai 2024"], None),
    "dots, two-digit years": (["29.02.24", "01.12.68", "02.02.69"], [at(2024, 2, 29), at(2068, 12, 1), at(1969, 2, 2)]),
    "dots, few digits": (["1.2.3", "2.10.11"], None),
    "month and year": (["05/2024", "12/2024"], [at(2024, 5, 1), at(2024, 12, 1)]),
    "year and month with a slash": (["2024/05", "2024/12"], [at(2024, 5, 1), at(2024, 12, 1)]),
    "no such month": (["13/2024", "12/2024"], None),
    "mm/yy": (["05/24", "12/24"], None),
    "quarter": (["2024-Q1", "2024-Q2"], None),
    "almost all": (["2024-01-31", "soon"], None),
    "oldest and latest": (["0001-01-01", "9999-12-31"], [at(1, 1, 1), at(9999, 12, 31)]),
}  # fmt: skip
"""For each way to write dates, cells and what they mean; None where they remain text."""

Values = list[Any]
VALUES: dict[str, tuple[list[str], str, Values]] = {
    "integers": (["1", "-2", "+3", "0"], "BIGINT", [1, -2, 3, 0]),
    "64 bits": (["9223372036854775807", "-9223372036854775808"], "BIGINT", [2**63 - 1, -(2**63)]),
    "over 64 bits": (["9223372036854775808", "1"], "VARCHAR", ["9223372036854775808", "1"]),
    "over 64 bits among decimals": (["9223372036854775808", "0.5"], "DOUBLE", [2.0**63, 0.5]),
    "leading zeros": (["007", "123"], "VARCHAR", ["007", "123"]),
    "decimals": (["1.5", "-2", "3.", ".25", "1e3", "-1E-2"], "DOUBLE", [1.5, -2.0, 3.0, 0.25, 1000.0, -0.01]),
    "too large for a double": (["1e400", "1.5"], "DOUBLE", [math.inf, 1.5]),
    "decimal comma": (["1,5", "-2,25", "3"], "DOUBLE", [1.5, -2.25, 3.0]),
    "decimal comma, thousands": (["1.234,5", "12.345.678,25", "1.000"], "DOUBLE", [1234.5, 12345678.25, 1000.0]),
    "dots alone are decimal": (["1.234", "12.345"], "DOUBLE", [1.234, 12.345]),
    "dotted twice": (["1.234.567", "-12.345.678", "5"], "DOUBLE", [1234567.0, -12345678.0, 5.0]),
    "dotted once and twice": (["1.234.567", "1.234"], "DOUBLE", [1234567.0, 1234.0]),
    "dotted twice and decimal": (["1.234.567", "1.5"], "VARCHAR", ["1.234.567", "1.5"]),
    "comma and dot": (["1,234.5", "2,000.5"], "DOUBLE", [1234.5, 2000.5]),
    "currency": (["$1.50", "€2"], "VARCHAR", ["$1.50", "€2"]),
    "currency after": (["1.50 EUR", "2 EUR"], "DOUBLE", [1.5, 2.0]),
    "percent": (["5%", "7.5 %"], "DOUBLE", [5.0, 7.5]),
    "apostrophes": (["1'234", "2'345"], "DOUBLE", [1234.0, 2345.0]),
    "hexadecimal": (["0x1F", "1_000"], "VARCHAR", ["0x1F", "1_000"]),
    "accounting": (["(5)", "5-"], "VARCHAR", ["(5)", "5-"]),
    "NaN": (["NaN", "nan", "1.5"], "DOUBLE", [math.nan, math.nan, 1.5]),
    "infinity": (["inf", "-Infinity", "+INF", "1"], "DOUBLE", [math.inf, -math.inf, math.inf, 1.0]),
    "infinity alone": (["inf", "-inf"], "VARCHAR", ["inf", "-inf"]),
    "NaN alone": (["NaN", "nan"], "VARCHAR", [None, None]),
    "NaN among words": (["NaN", "x"], "VARCHAR", [None, "x"]),
    "epoch seconds": (["1706659200", "1706745600"], "TIMESTAMP", [DAY1, DAY2]),
    "epoch milliseconds": (["1706659200000"], "TIMESTAMP", [DAY1]),
    "yyyymmdd": (["20240131", "20240201"], "TIMESTAMP", [DAY1, DAY2]),
    "times of day": (["10:30", "23:59:59", "0:00"], "BIGINT", [37_800, 86_399, 0]),
    "years": (["2023", "2024"], "BIGINT", [2023, 2024]),
    "true": (["true", "False", "TRUE"], "BOOLEAN", [True, False, True]),
    "yes": (["yes", "No", "YES"], "BOOLEAN", [True, False, True]),
    "t": (["t", "F"], "BOOLEAN", [True, False]),
    "y": (["Y", "n"], "BOOLEAN", [True, False]),
    "true alone": (["true", ""], "BOOLEAN", [True, None]),
    "true and NaN": (["true", "NaN"], "BOOLEAN", [True, None]),
    "y alone": (["y", "y"], "VARCHAR", ["y", "y"]),
    "words of two pairs": (["true", "no"], "VARCHAR", ["true", "no"]),
    "blanks around a flag": ([" yes", "no "], "BOOLEAN", [True, False]),
    "on and off": (["on", "off"], "BOOLEAN", [True, False]),
    "0 and 1": (["0", "1"], "BIGINT", [0, 1]),
    "blanks around numbers": ([" 1", "2 "], "BIGINT", [1, 2]),
    "blanks around words": ([" a", "b ", " NA "], "VARCHAR", ["a", "b", None]),
    "nothing": (["", "", ""], "VARCHAR", [None, None, None]),
    "a category called none": (["none", "some", "missing"], "VARCHAR", ["none", "some", "missing"]),
    "words": (["a", "ä\n😀", '"quoted"'], "VARCHAR", ["a", "ä\n😀", '"quoted"']),
}
NULLS = ["", " ", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "Null", "None", "\\N", "-"]
NOT_NULLS = ["na", "none", "nil", "?", ".", "missing", "--", "undefined", "0"]


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Every column of the tables above, in one file with pipes between cells."""
    columns = {name: cells for name, (cells, _) in DATES.items()}
    columns |= {name: cells for name, (cells, *_) in VALUES.items()}
    columns |= {f"null {token!r}": ["1", token, "3"] for token in [*NULLS, *NOT_NULLS]}
    columns |= {f"null {token!r} of words": ["a", token, "c"] for token in [*NULLS, *NOT_NULLS]}
    columns |= {f"null {token!r} of dates": ["2024-01-31", token] for token in NULLS}
    # Names that differ in case alone are renamed by design, so each name here is made its own.
    marked = {f"{place}: {name}": cells for place, (name, cells) in enumerate(columns.items())}
    found = asyncio.run(Room(tmp_path_factory.mktemp("typed")).ingest(columns_as_csv(marked)))
    names = {name.partition(": ")[2]: column for name, column in zip(found.names, found.table.columns, strict=False)}
    profiles = [
        ColumnProfile(**{**column_fields(one), "name": one.name.partition(": ")[2]}) for one in found.profile.columns
    ]
    return Ingested(Profile(found.profile.row_count, tuple(profiles), "", found.profile.notes), pa.table(names))


def column_fields(column: ColumnProfile) -> dict[str, Any]:
    """The fields of a column's profile."""
    return {field: getattr(column, field) for field in column.__struct_fields__}


def same(left: object, right: object) -> bool:
    """Whether two cells are equal, NaN being equal to NaN, and of one type."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


def assert_column(found: Ingested, name: str, physical: str, values: Values) -> None:
    """The column has the type and begins with the values; only empty cells follow."""
    kind, cells = found[name]
    assert kind == physical
    assert len(values) <= len(cells)
    wanted = [*values, *[None] * (len(cells) - len(values))]
    assert all(same(cell, value) for cell, value in zip(cells, wanted, strict=True)), (cells, wanted)
    assert found.column(name).null_ratio == pytest.approx(wanted.count(None) / len(cells))


@pytest.mark.parametrize("way", DATES)
def test_dates_are_read_in_every_way_they_are_written(typed: Ingested, way: str) -> None:
    """The column is a UTC timestamp with the instants worked out by hand, or text as it was."""
    cells, instants = DATES[way]
    if instants is None:
        assert_column(typed, way, "VARCHAR", cells)
        assert typed.column(way).logical_type != "datetime"
    else:
        assert_column(typed, way, "TIMESTAMP", instants)
        assert typed.column(way).logical_type == "datetime"


@pytest.mark.parametrize("name", VALUES)
def test_cells_get_the_type_that_all_of_them_agree_on(typed: Ingested, name: str) -> None:
    """Numbers, flags and words: the type, and each value."""
    assert_column(typed, name, *VALUES[name][1:])


@pytest.mark.parametrize("token", NULLS)
def test_words_for_a_missing_value_are_nulls(typed: Ingested, token: str) -> None:
    """They are nulls among numbers, words and dates, and do not change the column's type."""
    assert_column(typed, f"null {token!r}", "BIGINT", [1, None, 3])
    assert_column(typed, f"null {token!r} of words", "VARCHAR", ["a", None, "c"])
    assert_column(typed, f"null {token!r} of dates", "TIMESTAMP", [DAY1])


@pytest.mark.parametrize("token", NOT_NULLS)
def test_words_that_may_be_a_category_are_values(typed: Ingested, token: str) -> None:
    """Nothing that could be meant is lost."""
    assert typed[f"null {token!r} of words"][1][:3] == ["a", token, "c"]


async def test_doubt_about_day_and_month_is_told(room: Room) -> None:
    """The profile says how dates were read, and when every one of them could be read otherwise."""
    content = columns_as_csv({"sure": ["31/01/2024", "01/02/2024"], "unsure": ["03/02/2024", "01/02/2024"]})
    notes = (await room.ingest(content)).profile.notes
    assert "'sure': dates as %d/%m/%Y" in notes
    assert "'unsure': dates as %m/%d/%Y, read month first: every value could also be read the other way" in notes


@pytest.mark.parametrize(("odd", "noted"), [(2, True), (3, False)])
async def test_a_column_that_nearly_is_numbers_is_noted(room: Room, odd: int, noted: bool) -> None:  # noqa: FBT001 - a table's column
    """With nine of ten values numbers, the text type is explained; with fewer, it is plain text."""
    cells = [*["x"] * odd, *(str(number) for number in range(20 - odd))]
    found = await room.ingest(columns_as_csv({"amount": cells, "k": ["1"] * 20}))
    note = f"'amount': text, because {odd} of 20 values are not a number"
    assert found["amount"][0] == "VARCHAR"
    assert (note in found.profile.notes) is noted


@pytest.mark.parametrize(
    ("delimiter", "cells", "expected"),
    [
        (",", ["1,234", "12,345,678.5", "5"], ("DOUBLE", [1234.0, 12345678.5, 5.0])),
        (",", ["1,5", "2,25"], ("VARCHAR", ["1,5", "2,25"])),
        (";", ["1,5", "1.234,25"], ("DOUBLE", [1.5, 1234.25])),
        ("\t", ["1,5", "2,25"], ("DOUBLE", [1.5, 2.25])),
    ],
)
async def test_the_delimiter_tells_what_commas_mean(
    room: Room, delimiter: str, cells: list[str], expected: tuple[str, Values]
) -> None:
    """In a file with commas between cells they part thousands; in any other they are decimal."""
    found = await room.ingest(columns_as_csv({"amount": cells, "city": ["x"] * len(cells)}, delimiter))
    assert found["amount"] == expected
    assert any(note.startswith("'amount': ") for note in found.profile.notes)


# --------------------------------------------------------------------------------------------------- how CSV is written


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        *((f"a{d}b\n1{d}x\n2{d}y\n", ["a", "b"], [(1, "x"), (2, "y")]) for d in ",;|\t"),
        ("a b\n1 2.5\n3 4.5\n", ["a", "b"], [(1, 2.5), (3, 4.5)]),
        ("a\n1\n2\n", ["a"], [(1,), (2,)]),
        ("comment\nhello, world\nbye\n", ["comment"], [("hello, world",), ("bye",)]),
        ("a,b\r\n1,x\r\n2,y\r\n", ["a", "b"], [(1, "x"), (2, "y")]),
        ("a,b\r1,x\r2,y\r", ["a", "b"], [(1, "x"), (2, "y")]),
        ("a,b\r\n1,x\n2,y", ["a", "b"], [(1, "x"), (2, "y")]),
        ("\n\na,b\n1,x\n\n2,y\n\n", ["a", "b"], [(1, "x"), (2, "y")]),
        ('a,b\n"x, y",1\n"say ""hi""",2\n', ["a", "b"], [("x, y", 1), ('say "hi"', 2)]),
        ('a,b\n"two\nlines",1\nz,2\n', ["a", "b"], [("two\nlines", 1), ("z", 2)]),
        ('a,b\n5",1\n6" long,2\n', ["a", "b"], [('5"', 1), ('6" long', 2)]),
        ('a, b\nx, "y, z"\nw, "v"\n', ["a", "b"], [("x", "y, z"), ("w", "v")]),
        ("a,b\n'x, y',1\n'z',2\n", ["a", "b"], [("x, y", 1), ("z", 2)]),
        ("a,b\n'it''s, well',1\n'z',2\n", ["a", "b"], [("it's, well", 1), ("z", 2)]),
        ("a,b\n'tis fine,1\nit's,2\n", ["a", "b"], [("'tis fine", 1), ("it's", 2)]),
        ("sep=;\na;b\n1,5;x\n2,5;y\n", ["a", "b"], [(1.5, "x"), (2.5, "y")]),
        ("sep=|\r\na|b,c\r\n1|2\r\n", ["a", "b,c"], [(1, 2)]),
        ('a,b\n"",1\n,2\n', ["a", "b"], [(None, 1), (None, 2)]),
        ("1,x\n2,x\n", ["column_1", "column_2"], [(1, "x"), (2, "x")]),
        ("2019,2020\n1,2\n", ["column_1", "column_2"], [(2019, 2020), (1, 2)]),
        ("country,2019,2020\nDE,1,2\n", ["country", "2019", "2020"], [("DE", 1, 2)]),
        ("1,2\n", ["column_1", "column_2"], [(1, 2)]),
        ("a,b\n1,x\n", ["a", "b"], [(1, "x")]),
        ("a,b,\n1,2,\n", ["a", "b", "column_3"], [(1, 2, None)]),
        ("a,,\n1,2,3\n", ["a", "column_2", "column_3"], [(1, 2, 3)]),
        ("a,a,A,a_2\n1,2,3,4\n", ["a", "a_2", "A_3", "a_2_2"], [(1, 2, 3, 4)]),
        ("__row_id,row_id,__ROW_ID\n1,2,3\n", ["row_id", "row_id_2", "row_id_3"], [(1, 2, 3)]),
        ('" a ","b\nc"\n1,2\n', ["a", "b c"], [(1, 2)]),
        ('"a""; DROP TABLE dataset; --","b\'c",😀\n1,2,3\n', ['a"; DROP TABLE dataset; --', "b'c", "😀"], [(1, 2, 3)]),
    ],
    ids=short,
)
async def test_a_table_is_read_however_it_is_written(
    room: Room, content: str, names: list[str], rows: list[tuple[Any, ...]]
) -> None:
    """Delimiters, quotes, line ends, blank lines, headers and names: every row and column is accounted for."""
    found = await room.ingest(content)
    assert found.names == names
    assert found.rows == rows
    assert found.profile.row_count == len(rows)
    assert found.table[ROW_ID].to_pylist() == list(range(len(rows)))


TEXT = "größe,b\nä,2\nŸ€ö,4\n"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (TEXT.encode(), None),
        (TEXT.encode("utf-8-sig"), None),
        (TEXT.encode("utf-16"), "encoding: utf-16-le"),
        (TEXT.encode("utf-16-le"), "encoding: utf-16-le"),
        (TEXT.encode("utf-16-be"), "encoding: utf-16-be"),
        (TEXT.encode("utf-32"), "encoding: utf-32-le"),
        (b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"), "encoding: utf-32-be"),
        (TEXT.encode("windows-1252"), "encoding: windows-1252"),
    ],
    ids=short,
)
async def test_text_is_read_in_the_encoding_that_it_is_in(room: Room, content: bytes, note: str | None) -> None:
    """UTF-8, UTF-16 and UTF-32 with or without their mark, and Windows-1252, which is named in the notes."""
    found = await room.ingest(content)
    assert found.names == ["größe", "b"]
    assert found.rows == [("ä", 2), ("Ÿ€ö", 4)]
    assert [one for one in found.profile.notes if one.startswith("encoding")] == ([note] if note else [])


async def test_bytes_that_windows_1252_lacks_are_latin_1(room: Room) -> None:
    """Every byte has a meaning in Latin-1, so that nothing is lost."""
    found = await room.ingest(b"a,b\n\x81\xe4,2\nz,4\n")
    assert found.rows == [("\x81ä", 2), ("z", 4)]
    assert "encoding: latin-1" in found.profile.notes


@pytest.mark.parametrize(
    ("encoding", "tail", "last"),
    [("utf-8-sig", "ä,2\n", ("ä", 2)), ("utf-8-sig", "\r\ny,2\r\n", ("y", 2)), ("utf-8", "\r\ny,2\r\n", ("y", 2))],
    ids=short,
)
async def test_what_lies_across_two_chunks_is_read_whole(
    room: Room, encoding: str, tail: str, last: tuple[Any, ...]
) -> None:
    """A character or a line end of two bytes whose second begins the next 4 MiB is one like any other."""
    head = "a,b\n".encode(encoding)
    row = b"x" * 1020 + b",1\n"
    ending = b"" if "\r" in tail[:1] else b"\n"
    whole, rest = divmod(CHUNK_BYTES - 1 - len(head), len(row))
    filler = b"x" * (rest - 2 - len(ending)) + b",1" + ending
    content = head + row * whole + filler + tail.encode()
    assert content[CHUNK_BYTES - 1 : CHUNK_BYTES + 1] in {"ä".encode(), b"\r\n"}
    found = await room.ingest(content)
    assert found.profile.row_count == whole + 2
    assert found.rows[-1] == last


@pytest.mark.parametrize(
    ("content", "words", "fields"),
    [
        ("", "empty", []),
        ("\n \n\n", "only blank lines", []),
        ("\ufeff", "only blank lines", []),
        ("a,b,c\n", "a header but no rows", []),
        ("sep=;\n", "a header but no rows", []),
        ("hello", "a header but no rows", []),
        ("a,b\n1,2\n3,4,5\n6,7\n", "row 3 has 3 fields where the header has 2", ["row 3"]),
        ("a,b,c\n1,2,3\n4,5\n", "row 3 has 2 fields where the header has 3", ["row 3"]),
        ("1,2\n3\n4,5\n6,7\n", "row 2 has 1 field where the first row has 2", ["row 2"]),
        ('a,b\n"x\ny",2\n3,4,5\n', "row 4 has 3 fields", ["row 4"]),
        ("sep=;\na;b\n1;2\n1;2;3\n", "row 4 has 3 fields", ["row 4"]),
        ("a,b\n" + "1,2\n" * 9 + "3,4,5\n" * 9, "row 11 has", [f"row {row}" for row in range(11, 16)]),
        ('a,b\n"x,1\nz,2\n', "row 2, column a has a quote that is not closed", ["row 2, column a"]),
        ('a,b\n"x"y,1\nz,2\n', "row 2, column a has a quote", ["row 2, column a"]),
        ('a,b\nz,2\n"say \\"hi\\"",1\n', "row 3, column a has a quote", ["row 3, column a"]),
        ("a,b\nz,2\n" + "x" * (8 * 2**20) + ",1\n", "row 3 is longer than 8 MiB", ["row 3"]),
        ("x" * (128 * 2**10 + 1) + ",1\nz,2\n", "first row cannot be read", []),
        ("a,b\n1,\0" + "2\n", "binary data", []),
        ("a,b\n" + "1,2\n" * 2**20 + "\0,1\n", "binary data", []),
        ("a,b\n" + "x\x01y,1\n" * 50, "binary data", []),
        (b"a,b\n" + "ä,2\n".encode() * 9 + b"\xff,3\n", "UTF-8 but for a few bytes, the first of them on line 11", []),
        (b"a,b\n" + "ä,2\n".encode() * 9 + b"x,\xc3", "UTF-8 but for a few bytes, the first of them on line 11", []),
        (b"\xff\xfe" + "a,b\n1,2\n".encode("utf-16-le") + b"\x00\xd8x", "begins as utf-16-le text and is not", []),
        (b"\xff\xfea\0,\0b\0\n\0\0\0", "binary data", []),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip", []),
        (b"PK\x03\x04" + b"x" * 40, "Excel", []),
        (b"PAR1xxxxxxxxPAR1", "Parquet", []),
        ("<!DOCTYPE html><html></html>", "HTML", []),
        ('{"a": 1}\n{"a": 2}\n', "looks like JSON", []),
        ('[{"a": 1}]', "looks like JSON", []),
        (",".join(f"c{i}" for i in range(10_001)) + "\n" + ",".join("1" * 10_001) + "\n", "10001 columns", []),
    ],
    ids=short,
)
async def test_what_is_no_csv_table_is_refused_with_the_place(
    room: Room, content: bytes | str, words: str, fields: list[str]
) -> None:
    """The message says what is wrong and on which line; no more than five places are named, and no cell is quoted."""
    refused = await room.refusal(content)
    assert words in refused.message
    assert [error.field for error in refused.errors] == fields


async def test_a_field_may_be_long(room: Room) -> None:
    """Cells of over 100 kB are read whole, also behind the rows that the format is judged by, and are not shown."""
    found = await room.ingest("a,b\n" + "x" * 100_000 + ",1\nz,2\n" + "y" * 5_000_000 + ",3\n")
    assert [len(cell) for cell in found["a"][1]] == [100_000, 1, 5_000_000]
    assert found.column("a").examples == ("z",)


async def test_names_are_cut_and_numbered(room: Room) -> None:
    """A name of over 256 characters is cut, two such are told apart, and each change is noted."""
    found = await room.ingest("x" * 300 + "," + "x" * 257 + "," + "x" * 256 + "\n1,2,3\n")
    assert [len(name) for name in found.names] == [256, 256, 256]
    assert found.names[0] == "x" * 256
    assert found.names[1] == "x" * 254 + "_2"
    assert found.names[2] == "x" * 254 + "_3"
    assert sum("over 256 characters" in note for note in found.profile.notes) == 2
    assert sum("name of an earlier column" in note for note in found.profile.notes) == 1


async def test_notes_are_few(room: Room) -> None:
    """However many columns had to be renamed, the profile lists 40 notes at most and says how many more there were."""
    notes = (await room.ingest(",".join(["a"] * 100) + "\n" + ",".join(["1"] * 100) + "\n")).profile.notes
    assert len(notes) == MAX_NOTES
    assert notes[-1] == "and 61 more notes like these"  # 1 on the delimiter and 99 on names, 39 of them listed


# -------------------------------------------------------------------------------------------------------------- NDJSON


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (lines({"a": 1}, {"b": 2}, {"a": 3, "b": 4}), {"a": ("BIGINT", [1, None, 3]), "b": ("BIGINT", [None, 2, 4])}),
        (lines({"a": None}, {"a": 3}), {"a": ("BIGINT", [None, 3])}),
        (lines({"a": 1}, {"a": "x"}, {"a": True}, {"a": 1.5}), {"a": ("VARCHAR", ["1", "x", "true", "1.5"])}),
        (lines({"a": 1}, {"a": "2"}), {"a": ("BIGINT", [1, 2])}),
        (lines({"a": 1}, {"a": 2.5}), {"a": ("DOUBLE", [1.0, 2.5])}),
        (lines({"a": True}, {"a": False}, {"a": None}), {"a": ("BOOLEAN", [True, False, None])}),
        (lines({"a": "00123"}, {"a": "90210"}), {"a": ("VARCHAR", ["00123", "90210"])}),
        (lines({"a": ""}, {"a": "x"}), {"a": ("VARCHAR", [None, "x"])}),
        (lines({"a": "2024-01-31T10:00:00+02:00"}), {"a": ("TIMESTAMP", [at(2024, 1, 31, 8)])}),
        ('{"a": 1, "a": 2}\n{"a": 3}\n', {"a": ("BIGINT", [1, 3])}),
        (lines({"a": 1, "A": 2}), {"a": ("BIGINT", [1]), "A_2": ("BIGINT", [2])}),
        (lines({"a": 2**63 - 1}, {"a": -(2**63)}), {"a": ("BIGINT", [2**63 - 1, -(2**63)])}),
        (lines({"a": 2**63}, {"a": 1}), {"a": ("VARCHAR", [str(2**63), "1"])}),
        ('{"a": NaN}\n{"a": -Infinity}\n{"a": 1}\n', {"a": ("DOUBLE", [math.nan, -math.inf, 1.0])}),
        ('{"a": 1e400}\n{"a": 0.5}\n', {"a": ("DOUBLE", [math.inf, 0.5])}),
        (
            lines({"a": {"x": 1, "y": "q"}, "b": 1}, {"a": None, "b": 2}, {"b": 3}, {"a": {"x": 4}}),
            {
                "a_x": ("BIGINT", [1, None, None, 4]),
                "a_y": ("VARCHAR", ["q", None, None, None]),
                "b": ("BIGINT", [1, 2, 3, None]),
            },
        ),
        (lines({"a": {"x": {"z": 1}}}), {"a_x": ("VARCHAR", ['{"z":1}'])}),
        (lines({"a": {"x": 1}}, {"a": 5}), {"a": ("VARCHAR", ['{"x":1}', "5"])}),
        (lines({"a": {}}, {"a": {}}), {"a": ("VARCHAR", ["{}", "{}"])}),
        (lines({"a": {"b": 1}, "a_b": 2}), {"a_b": ("BIGINT", [1]), "a_b_2": ("BIGINT", [2])}),
        (lines({"a": [1, 2]}, {"a": []}), {"a": ("VARCHAR", ["[1,2]", "[]"])}),
        (
            lines({"a/b": 1, "c~d": 2, "e.f": 3, "": 4, 'q"r': 5, "*": 6, "größe": 7}),
            {"a/b": ("BIGINT", [1]), "c~d": ("BIGINT", [2]), "e.f": ("BIGINT", [3]), "column_4": ("BIGINT", [4]),
             'q"r': ("BIGINT", [5]), "*": ("BIGINT", [6]), "größe": ("BIGINT", [7])},
        ),
        (lines({"a": "x\ny\t😀\u2028\0"}), {"a": ("VARCHAR", ["x\ny\t😀\u2028\0"])}),
        ("\r\n" + lines({"a": 1}) + "\n  \n" + '{"a": 2}', {"a": ("BIGINT", [1, 2])}),
        (lines({"a": 1}).encode("utf-8-sig"), {"a": ("BIGINT", [1])}),
        (lines({"a": "ä"}).replace("\\u00e4", "ä").encode("utf-16"), {"a": ("VARCHAR", ["ä"])}),
    ],
    ids=short,
)  # fmt: skip
async def test_objects_become_rows(room: Room, content: bytes | str, columns: dict[str, tuple[str, Values]]) -> None:
    """Keys are columns in the order of their first appearance; objects are flattened one level; the rest is text."""
    found = await room.ingest(content, NDJSON)
    assert found.names == list(columns)
    for name, (physical, values) in columns.items():
        assert_column(found, name, physical, values)


@pytest.mark.parametrize(
    ("content", "words", "fields"),
    [
        ("", "empty", []),
        ("\n \n", "only blank lines", []),
        ("{}\n{}\n", "no rows", []),
        (lines({"a": 1}, '{"a":', {"a": 2}), "row 2 is not one valid JSON value", ["row 2"]),
        (lines({"a": 1}, "", "5"), "row 3 is a single JSON value, not an object", ["row 3"]),
        (lines({"a": 1}, [1]), "row 2 is a JSON array", ["row 2"]),
        (lines('{"a": 1} {"a": 2}'), "row 1 is not one valid", ["row 1"]),
        (lines('{"a": 1},', '{"a": 2}'), "row 1 is not one valid", ["row 1"]),
        (lines('{"a": "x\ty"}'), "row 1 is not one valid", ["row 1"]),
        ("a,b\n1,2\n", "row 1 is not one valid", ["row 1", "row 2"]),
        ('[{"a": 1}]\n', "one JSON array", []),
        (lines({"a\0": 1}), "NUL", []),
        (lines({"a": "x" * (8 * 2**20)}), "longer than 8 MiB", []),
        (lines({f"k{i}": 1 for i in range(10_001)}), "10001 columns", []),
        (lines({"a": {f"k{i}": 1 for i in range(10_001)}}), "10001 columns", []),
        (gzip.compress(b'{"a": 1}\n', mtime=0), "gzip", []),
    ],
    ids=short,
)
async def test_what_is_no_ndjson_is_refused_with_the_line(
    room: Room, content: bytes | str, words: str, fields: list[str]
) -> None:
    """The message names the line and what is wrong with it."""
    refused = await room.refusal(content, NDJSON)
    assert words in refused.message
    assert [error.field for error in refused.errors] == fields


# ------------------------------------------------------------------------------------------------------------- Parquet

NOON = datetime(2024, 1, 31, 12, 0, 0, 123_456)  # noqa: DTZ001 - the file holds no zone


@pytest.mark.parametrize(
    ("array", "physical", "values"),
    [
        *((pa.array([1, None], kind), "BIGINT", [1, None]) for kind in
          (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
        (pa.array([-(2**63), 2**63 - 1]), "BIGINT", [-(2**63), 2**63 - 1]),
        (pa.array([2**64 - 1, 1], pa.uint64()), "DOUBLE", [2.0**64, 1.0]),
        (pa.array([1.5, math.nan], pa.float32()), "DOUBLE", [1.5, math.nan]),
        (pa.array([math.inf, None]), "DOUBLE", [math.inf, None]),
        (pa.array([Decimal("1.25"), None], pa.decimal128(10, 2)), "DOUBLE", [1.25, None]),
        (pa.array([Decimal(10**37), Decimal(1)], pa.decimal128(38, 0)), "DOUBLE", [1e37, 1.0]),
        (pa.array([True, None]), "BOOLEAN", [True, None]),
        (pa.array([date(2024, 1, 31), None]), "TIMESTAMP", [DAY1, None]),
        (pa.array([NOON, None], pa.timestamp("us")), "TIMESTAMP", [NOON, None]),
        (pa.array([NOON, None], pa.timestamp("ns")), "TIMESTAMP", [NOON, None]),
        (pa.array([1_706_659_200_250], pa.timestamp("ms")), "TIMESTAMP", [at(2024, 1, 31, 0, 0, 0, 250_000)]),
        (pa.array([NOON.replace(tzinfo=UTC), None], pa.timestamp("us", "Europe/Berlin")), "TIMESTAMP", [NOON, None]),
        (pa.array([time(10, 30, 1), None]), "BIGINT", [37_801, None]),
        (pa.array([timedelta(seconds=5), None]), "BIGINT", [5_000_000, None]),
        (pa.array(["x", None]), "VARCHAR", ["x", None]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), "VARCHAR", ["x", "y", "x"]),
        (pa.array([UUID(int=5).bytes], pa.uuid()), "VARCHAR", ["00000000-0000-0000-0000-000000000005"]),
        (pa.array([[1, 2], None]), "VARCHAR", ["[1,2]", None]),
        (pa.array([{"x": 1, "y": "q"}, None]), "VARCHAR", ['{"x":1,"y":"q"}', None]),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), "VARCHAR", ['{"k":1}', None]),
        (pa.nulls(2), "VARCHAR", [None, None]),
        (pa.array(["2024-01-31", None]), "TIMESTAMP", [DAY1, None]),
        (pa.array(["1", "2"]), "VARCHAR", ["1", "2"]),
        (pa.array(["", "NA", "null"]), "VARCHAR", ["", "NA", "null"]),
        (pa.array(["true", "false"]), "VARCHAR", ["true", "false"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)  # fmt: skip
async def test_parquet_keeps_its_types(room: Room, array: pa.Array, physical: str, values: Values) -> None:
    """Each type becomes the one that features have a use for; text stays text, but for dates."""
    found = await room.ingest(parquet(a=array), PARQUET)
    assert_column(found, "a", physical, values)


async def test_opaque_columns_are_left_out_and_noted(room: Room) -> None:
    """Bytes cannot be computed on; a file of nothing else is refused."""
    found = await room.ingest(parquet(a=[b"x", b"y"], b=[1, 2]), PARQUET)
    assert found.names == ["b"]
    assert "column 'a' of type BLOB: left out" in found.profile.notes


async def test_a_file_of_opaque_columns_alone_is_refused(room: Room) -> None:
    """There would be nothing to compute on."""
    assert "No column" in (await room.refusal(parquet(a=[b"x"]), PARQUET)).message


async def test_parquet_names_are_made_unique(room: Room) -> None:
    """Repeated names, one for the row's position and one that the engine uses itself all come through."""
    arrays = [pa.array([number]) for number in range(1, 6)]
    names = ["a", "a", "A", "__row_id", "File_Row_Number"]
    found = await room.ingest(parquet_of(pa.Table.from_arrays(arrays, names=names)), PARQUET)
    assert len({name.casefold() for name in found.names}) == 5
    assert found.names[3:] == ["row_id", "File_Row_Number"]
    assert found.rows == [(1, 2, 3, 4, 5)]


SOUND = parquet(a=list(range(1000)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"a,b\n1,2\n", "does not begin as one"),
        (gzip.compress(SOUND, mtime=0), "gzip"),
        (SOUND[:-10], "cut off"),
        (b"PAR1", "cut off"),
        (b"PAR1PAR1", "cut off"),
        (b"PAR1xxxxPAR1", "damaged"),
        (SOUND[:40] + b"\0" * 400 + SOUND[440:], "damaged"),
        (SOUND[:-8] + b"\xff\xff\xff\x7fPAR1", "damaged"),
        (parquet(a=pa.array([], pa.int64())), "no rows"),
    ],
    ids=short,
)
async def test_what_is_no_sound_parquet_is_refused(room: Room, content: bytes, words: str) -> None:
    """Other formats, files cut off or damaged, and tables without rows are told apart."""
    assert words in (await room.refusal(content, PARQUET)).message


# ---------------------------------------------------------------------------------------------------------- statistics


async def test_the_statistics_are_those_of_the_column(room: Room) -> None:
    """Counts, extremes, mean, deviation and quantiles of 1 … 100 and a null, worked out by hand."""
    found = await room.ingest(
        "n,word\n" + "".join(f"{n},{'even' if n % 2 == 0 else 'odd'}\n" for n in range(1, 101)) + ",\n"
    )
    number, word = found.column("n"), found.column("word")
    assert (number.minimum, number.maximum, number.distinct_count) == (1, 100, 100)
    assert number.mean == 50.5
    assert number.standard_deviation == 29.01149198  # square root of 100 * 101 / 12
    assert number.quantiles == pytest.approx({"p05": 5.95, "p25": 25.75, "p50": 50.5, "p75": 75.25, "p95": 95.05})
    assert number.null_ratio == pytest.approx(1 / 101)
    assert number.examples == ("1", "2", "3", "4", "5")
    assert word.top_values == (ValueCount("even", 50), ValueCount("odd", 50))
    assert (word.distinct_count, word.mean_length, word.logical_type) == (2, 3.5, "categorical")
    assert word.examples == ("odd", "even")


async def test_values_that_are_not_finite_are_counted_and_left_out(room: Room) -> None:
    """NaN and infinity count as values, and neither extremes nor means know them."""
    found = await room.ingest("x,k\n1.5,a\nNaN,b\ninf,c\n2.5,d\n,e\n")
    column = found.column("x")
    assert (column.null_ratio, column.non_finite_ratio) == pytest.approx((0.2, 0.5))
    assert (column.minimum, column.maximum, column.mean) == (1.5, 2.5, 2.0)
    assert column.distinct_count == 2


async def test_a_column_of_nothing_finite_has_no_statistics(room: Room) -> None:
    """It has values, and nothing is known of them."""
    column = (await room.ingest(parquet(a=[math.nan, math.inf]), PARQUET)).column("a")
    assert (column.null_ratio, column.non_finite_ratio) == (0.0, 1.0)
    assert (column.minimum, column.mean, column.quantiles, column.distinct_count) == (None, None, {}, 0)


async def test_the_largest_numbers_do_not_overflow(room: Room) -> None:
    """The smallest integer has no absolute value, and the square of 1e200 no double: means do without them."""
    found = await room.ingest(columns_as_csv({"i": [str(-(2**63)), "1"], "x": ["1e200", "1.0"]}))
    whole, real = found.column("i"), found.column("x")
    assert (whole.minimum, whole.maximum) == (-(2**63), 1)
    assert whole.mean == pytest.approx(-(2.0**62))
    assert (real.minimum, real.maximum, real.mean) == (1.0, 1e200, 1.0)


async def test_personal_values_are_not_in_the_profile(room: Room) -> None:
    """Emails under a plain name, and one telephone number in a free text, are in no part of the profile."""
    rows = (
        "".join(f"person{n}@example.org,all was fine {n}\n" for n in range(49)) + "x@example.org,call +49 170 1234567\n"
    )
    found = await room.ingest("contact,comment\n" + rows)
    assert found.column("contact").personal
    assert found.column("comment").personal
    assert "@" not in str(found.profile)
    assert "1234567" not in str(found.profile)


async def test_equal_files_have_equal_fingerprints(room: Room) -> None:
    """The same table twice, and sent as NDJSON, has one fingerprint; one cell changed gives another."""
    rows = [{"city": f"town-{n % 7}", "price": n / 8} for n in range(500)]
    as_csv = "city,price\n" + "".join(f"{row['city']},{row['price']}\n" for row in rows)
    first = (await room.ingest(as_csv)).profile.fingerprint
    assert (await room.ingest(as_csv)).profile.fingerprint == first
    assert (await room.ingest(lines(*rows), NDJSON)).profile.fingerprint == first
    assert (await room.ingest(as_csv.replace("62.25", "62.5"))).profile.fingerprint != first


@pytest.mark.parametrize("value", [-0.0013674205, 2.0000000005, 1234567.8905, 0.5, 1e100 / 3])
def test_a_mean_does_not_depend_on_the_order_of_adding(value: float) -> None:
    """A decimal that ends between two roundings gives the same digits on whichever side of it the sum came out."""
    below, above, scale = math.nextafter(value, -math.inf), math.nextafter(value, math.inf), max(1.0, value)
    assert _significant(below, scale) == _significant(value, scale) == _significant(above, scale)


@pytest.mark.parametrize(
    ("value", "scale", "rounded"),
    [(12.3456789012345, 12.3, 12.3456789), (1e-20, 1.0, 0.0), (5e-324, 5e-324, 5e-324), (0.0, 0.0, 0.0),
     (1.23456789012345e140, 1e140, 1.23456789e140), (-2.5, 3.0, -2.5)],
)  # fmt: skip
def test_ten_digits_of_the_scale_are_kept(value: float, scale: float, rounded: float) -> None:
    """Neither the largest nor the smallest doubles break the rounding."""
    assert _significant(value, scale) == pytest.approx(rounded, rel=1e-15)


async def test_a_large_table_is_sampled_and_counted_alike_each_time(room: Room) -> None:
    """Beyond 50 000 rows distinct counts are estimates, but exact for keys; few values are all counted."""
    rows = 60_000
    content = "key,city,noise\n" + "".join(f"k{n},town-{n % 7},{n * 7919 % 30_011}\n" for n in range(rows))
    found = await room.ingest(content)
    assert found.column("key").distinct_count == rows
    assert found.column("key").logical_type == "identifier"
    assert found.column("city").distinct_count == 7
    assert found.column("city").top_values[0] == ValueCount("town-0", rows // 7 + 1)
    assert found.column("noise").distinct_count == pytest.approx(30_011, rel=0.1)
    assert (await room.ingest(content)).profile == found.profile


async def test_quantiles_of_a_large_table_are_those_of_a_fair_sample(room: Room) -> None:
    """Of over 250 000 rows some are taken by a hash of their position: close to the true quantiles."""
    rows = 260_000
    found = (await room.ingest("n\n" + "".join(f"{n}\n" for n in range(rows)))).column("n")
    shares = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
    assert found.quantiles == pytest.approx({name: share * rows for name, share in shares.items()}, abs=0.01 * rows)
    assert (found.minimum, found.maximum, found.mean) == (0, rows - 1, (rows - 1) / 2)


async def test_columns_beyond_one_statement_are_all_typed(tmp_path: Path) -> None:
    """Of 1 100 columns, read in several statements, each has its own type and statistics."""
    room = Room(tmp_path, Limits(memory_bytes=2**30, threads=2, scratch_bytes=64 * 2**20, seconds=60.0))
    width = 1_100
    cells = [[str(n), f"{n}.5", f"2024-01-{n % 28 + 1:02d}", "true", f"w{n}"][n % 5] for n in range(width)]
    found = await room.ingest(",".join(f"c{n % 7}-{n}" for n in range(width)) + "\n" + (",".join(cells) + "\n") * 2)
    types = ["BIGINT", "DOUBLE", "TIMESTAMP", "BOOLEAN", "VARCHAR"]
    assert [column.physical_type for column in found.profile.columns] == [types[n % 5] for n in range(width)]
    assert [column.minimum for column in found.profile.columns if column.physical_type == "BIGINT"] == list(
        range(0, width, 5)
    )
    assert all(column.examples for column in found.profile.columns)


async def test_too_little_memory_is_said_to_be_that(tmp_path: Path) -> None:
    """What the engine cannot hold is refused with advice, not with an internal error."""
    small = Room(tmp_path, Limits(memory_bytes=24 * 2**20, threads=1, scratch_bytes=2**20, seconds=60.0))
    content = ",".join(f"c{n}" for n in range(1500)) + "\n" + (",".join("x" * 40 for _ in range(1500)) + "\n") * 40
    with pytest.raises(ComputeOutOfMemory, match="fewer columns or shorter cells"):
        await small.ingest(content)


async def test_a_reader_that_is_cancelled_has_ended(room: Room) -> None:
    """Cancelling waits until the thread that works on the files has heard of it and is done with them."""
    started, ended = threading.Event(), threading.Event()

    def work(stopped: Stopped) -> None:
        started.set()
        while not stopped():
            time_module.sleep(0.001)
        ended.set()

    task = asyncio.create_task(_in_thread(work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


# ---------------------------------------------------------------------------------------------------------- round trips

NAMES = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz_ äß", min_size=1, max_size=8).filter(lambda name: name.strip() == name),
    min_size=1,
    max_size=4,
    unique_by=str.casefold,
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12).map(str.strip)
CELLS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "BIGINT": ("integer", st.integers(-(2**63), 2**63 - 1)),
    "DOUBLE": ("real", st.floats(allow_nan=False, allow_infinity=False, width=64)),
    "BOOLEAN": ("flag", st.booleans()),
    "TIMESTAMP": ("moment", st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))),  # noqa: DTZ001 - files hold no zone
    "VARCHAR": ("word", WORDS.map(lambda word: f"w{word}w")),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    """Columns with their types, and rows whose cells are of them or missing; no column is all missing."""
    names = draw(NAMES)
    kinds = {name: draw(st.sampled_from(sorted(CELLS))) for name in names}
    first = draw(st.tuples(*(CELLS[kind][1] for kind in kinds.values())))
    rest = draw(st.lists(st.tuples(*(st.none() | CELLS[kind][1] for kind in kinds.values())), min_size=1, max_size=8))
    return kinds, [first, *rest]


def told(value: object) -> object:
    """The cell as an independent writer would put it into a text."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else value


def in_csv(kinds: dict[str, str], rows: list[tuple[Any, ...]]) -> bytes:
    """Written by the csv module, with every text quoted."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(kinds)
    writer.writerows([["" if cell is None else told(cell) for cell in row] for row in rows])
    return sink.getvalue().encode()


def in_ndjson(kinds: dict[str, str], rows: list[tuple[Any, ...]]) -> bytes:
    """Written by the json module."""
    objects = [
        {name: cell if isinstance(cell, bool) else told(cell) for name, cell in zip(kinds, row, strict=True)}
        for row in rows
    ]
    return "".join(json.dumps(one) + "\n" for one in objects).encode()


def in_parquet(kinds: dict[str, str], rows: list[tuple[Any, ...]]) -> bytes:
    """Written by pyarrow."""
    arrow = {
        "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_(), "TIMESTAMP": pa.timestamp("us"),
        "VARCHAR": pa.string(),
    }  # fmt: skip
    arrays = [pa.array(cells, arrow[kind]) for cells, kind in zip(zip(*rows, strict=True), kinds.values(), strict=True)]
    return parquet_of(pa.Table.from_arrays(arrays, names=list(kinds)))


@pytest.mark.parametrize(
    ("write", "media_type"), [(in_csv, CSV), (in_ndjson, NDJSON), (in_parquet, PARQUET)], ids=["csv", "json", "pyarrow"]
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables())
def test_what_another_program_wrote_is_read_back(
    tmp_path: Path,
    write: Callable[[dict[str, str], list[tuple[Any, ...]]], bytes],
    media_type: MediaType,
    table: tuple[dict[str, str], list[tuple[Any, ...]]],
) -> None:
    """Every cell is equal and every column has its type, whichever independent writer made the file."""
    kinds, rows = table
    found = asyncio.run(Room(tmp_path).ingest(write(kinds, rows), media_type))
    assert found.names == list(kinds)
    assert [column.physical_type for column in found.profile.columns] == list(kinds.values())
    assert found.rows == rows


# ---------------------------------------------------------------------------------------------------- words of texts


async def test_words_that_many_rows_hold_are_told(room: Room) -> None:
    """Not of personal columns; each row once, letter case aside, ties in order of the words."""
    notes = [f"Great view, great garden {place:x}" for place in range(30)]
    notes[:6] = [f"Quiet ROOM by the küche {place}" for place in range(6)]
    content = columns_as_csv(
        {
            "note": notes,
            "town": ["New York", "San Jose", "Las Vegas"] * 10,
            "email": [f"mail us at person{place}@x.org please" for place in range(30)],
        }
    )
    found = (await room.ingest(content, CSV)).profile
    terms = {column.name: column.frequent_terms for column in found.columns}
    assert terms["note"] == (
        *(ValueCount(word, 24) for word in ("garden", "great", "view")),
        *(ValueCount(word, 6) for word in ("küche", "quiet", "room", "the")),
    )
    assert terms["email"] == ()
    assert [term.value for term in terms["town"]] == ["jose", "las", "new", "san", "vegas", "york"]


async def test_words_of_few_rows_are_not_told(room: Room) -> None:
    """Four rows share no word; nor does a number count as one."""
    notes = [*["rare words 1234 here"] * 4, *[f"common 1234 thing{place:x}z" for place in range(30)]]
    found = (await room.ingest(columns_as_csv({"note": notes}), CSV)).profile
    assert [term.value for term in found.columns[0].frequent_terms] == ["common"]
