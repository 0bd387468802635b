"""Numbers, flags, keys and spaces of uploads as people write them: what becomes of each cell, and what is noted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from service.engines.duckdb.ingest_words import BOOLEAN_WORDS
from service.engines.duckdb.statistics import CHECKED_COLUMNS
from tests.integration.ingest_room import NDJSON, PARQUET, Room, columns_as_csv, lines, parquet

FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An engine in a folder of its own."""
    return Room(tmp_path)


def continental(text: str) -> str:
    """An English number with dots and commas changed for each other."""
    return text.translate(str.maketrans(",.", ".,"))


WAYS: dict[str, Callable[[Decimal], str]] = {
    "$12.50": lambda n: f"{'-' if n < 0 else ''}${abs(n):,.2f}",
    "$-12.50": lambda n: f"${n:,.2f}",
    "12,50 €": lambda n: continental(f"{n:,.2f}") + " €",
    "12,50 € with a thin space": lambda n: continental(f"{n:,.2f}") + "\u00a0€",
    "USD 12.50": lambda n: f"USD {n:.2f}",
    "R$ 12,50": lambda n: f"{'-' if n < 0 else ''}R$ {continental(f'{abs(n):,.2f}')}",
    "12.50 %": lambda n: f"{n} %",
    "12.50%": lambda n: f"{n}%",
    "(12.50)": lambda n: f"({abs(n):.2f})" if n < 0 else f"{n:.2f}",
    "($12.50)": lambda n: f"(${abs(n):,.2f})" if n < 0 else f"${n:,.2f}",
    "minus sign": lambda n: f"{n:.2f}".replace("-", "\u2212"),
    "1,234.50": lambda n: f"{n:,.2f}",
    "1.234,50": lambda n: continental(f"{n:,.2f}"),
    "1 234,50": lambda n: f"{n:,.2f}".replace(",", " ").replace(".", ","),
    "1\u202f234.50": lambda n: f"{n:,.2f}".replace(",", "\u202f"),
    "1'234.50": lambda n: f"{n:,.2f}".replace(",", "'"),
}


@pytest.mark.parametrize("way", WAYS)
@FEW
@given(numbers=st.lists(st.decimals(-10_000_000, 10_000_000, places=2), min_size=1, max_size=20))
def test_numbers_are_read_in_every_way_they_are_written(tmp_path: Path, way: str, numbers: list[Decimal]) -> None:
    """Each is the number that decimal has, whatever signs and separators stand around its digits."""
    numbers = [*(n or Decimal("0.00") for n in numbers), Decimal("-1234567.25"), Decimal("0.50")]
    found = asyncio.run(Room(tmp_path).ingest(columns_as_csv({"amount": [WAYS[way](n) for n in numbers], "k": ["x"]})))
    physical, values = found["amount"]
    assert physical == "DOUBLE"
    assert values == [float(n) for n in numbers]
    assert any(note.startswith("'amount': ") for note in found.profile.notes)


@pytest.mark.parametrize(
    "cells",
    [
        ["$1.50", "€2.00"],  # two currencies
        ["$1.50", "2.00"],  # a sign here and there
        ["12 %", "0.12"],
        ["1.5", "1,5"],  # two meanings of a comma
        ["(5", "6"],
        ["(-5)", "6"],
        ["612 345 678", "91 234 567"],  # telephone numbers
        ["+49 170 123", "+1 555 123"],
        ["110 001", "560 034"],  # codes of one length
        ["007 %", "12 %"],
        ["1,23,456", "2,34,567"],
        ["192.168.0.1", "10.0.0.1"],
        ["12 kg", "13 kg"],
    ],
    ids=repr,
)
async def test_what_may_be_no_number_stays_text(room: Room, cells: list[str]) -> None:
    """Cells are kept as they are wherever a number could be another one, or a code."""
    assert (await room.ingest(columns_as_csv({"x": cells, "k": ["u", "v"]})))["x"] == ("VARCHAR", cells)


async def test_telephone_numbers_stay_text_by_name(room: Room) -> None:
    """A column that is personal by its name is not read as numbers with separators."""
    cells = ["1 234", "12 345", "123 456"]
    found = await room.ingest(columns_as_csv({"phone": cells, "people": cells}))
    assert found["phone"] == ("VARCHAR", cells)
    assert found["people"] == ("DOUBLE", [1234.0, 12345.0, 123456.0])


NOTES: list[tuple[list[str], list[Any], list[str]]] = [
    (["$12.50", "$1,000", "($3)"], [12.5, 1000.0, -3.0],
     ["the sign $ left out", "commas between thousands", "1 in parentheses, read as negative"]),
    (["12 %", "5%"], [12.0, 5.0], ["percent signs left out, 12 % is 12"]),
    (["12,50 €", "1.200,00 €"], [12.5, 1200.0], ["the sign € left out", "decimal comma"]),
    (["1.234 €", "2.500 €"], [1.234, 2.5],
     ["the sign € left out", "dots read as decimal points, which could also part thousands"]),
    (["\u22125", "3"], [-5.0, 3.0], ["1 with the minus sign U+2212"]),
    ([" 1", "2", "3 "], [1, 2, 3], ["spaces around 2 values left out"]),
    (["a", " b", "c "], ["a", " b", "c "], ["spaces around 2 values kept"]),
    ([" a", " b", " c"], ["a", "b", "c"], ["spaces around 3 values left out"]),
    (["1", "-", "NA", "NA", "", "2"], [1, None, None, None, None, 2], ["read as missing: - (1), NA (2)"]),
    (["a", " ", "NaN"], ["a", None, None], ["read as missing: blank (1), NaN (1)"]),
    (["oui", "NON"], [True, False], ["oui and non as true and false"]),
    (["true", "false"], [True, False], []),
    (["1", "2"], [1, 2], []),
    (["a", "b"], ["a", "b"], []),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "values", "notes"), NOTES, ids=lambda value: repr(value)[:30])
async def test_what_is_changed_is_noted_with_its_number(
    room: Room, cells: list[str], values: list[Any], notes: list[str]
) -> None:
    """Cells that are more than their type's plain text have a note each; others have none."""
    found = await room.ingest(columns_as_csv({"x": cells, "k": ["u", "v"]}))
    assert found["x"][1] == values
    assert [note for note in found.profile.notes if note.startswith("'x'")] == [f"'x': {note}" for note in notes]


async def test_an_equal_remark_on_several_columns_is_one_note(room: Room) -> None:
    """However many columns there are, the profile says it once."""
    columns = {f"c{n}": ["on", "off"] for n in range(12)}
    notes = (await room.ingest(columns_as_csv(columns))).profile.notes
    listed = ", ".join(f"'c{n}'" for n in range(10))
    assert f"{listed} and 2 more columns: on and off as true and false" in notes


@FEW
@given(texts=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8), min_size=2))
def test_texts_keep_their_spaces(tmp_path: Path, texts: list[str]) -> None:
    """A text comes through as it is, and the note says around how many spaces are kept."""
    cells = ["w", *(f"{text}w" for text in texts), "w "]
    found = asyncio.run(Room(tmp_path).ingest(columns_as_csv({"x": cells})))
    assert found["x"] == ("VARCHAR", cells)
    padded = sum(cell != cell.strip(" ") for cell in cells)
    assert f"'x': spaces around {padded} values kept" in found.profile.notes


async def test_spaces_in_ndjson_and_parquet_are_kept(room: Room) -> None:
    """They stand in the values, even when they stand around all of them."""
    assert (await room.ingest(lines({"a": " x"}, {"a": " y"}), NDJSON))["a"][1] == [" x", " y"]
    assert (await room.ingest(parquet(a=[" x", "y "]), PARQUET))["a"][1] == [" x", "y "]


@pytest.mark.parametrize(("true", "false"), BOOLEAN_WORDS, ids="/".join)
async def test_flags_in_the_common_languages(room: Room, true: tuple[str, ...], false: tuple[str, ...]) -> None:
    """Both words of a pair, in any case, with every spelling, make a flag."""
    cells = [*true, *false, true[0].upper(), false[0].title()]
    values = [*[True] * len(true), *[False] * len(false), True, False]
    assert (await room.ingest(columns_as_csv({"x": cells})))["x"] == ("BOOLEAN", values)


@pytest.mark.parametrize(
    "cells", [["oui", "no"], ["ja"], ["on"], ["si"], ["y"], ["true", "no"], ["yes", "non"]], ids=repr
)
async def test_words_of_no_pair_are_no_flags(room: Room, cells: list[str]) -> None:
    """One word of a pair alone may be anything, but for true, false, yes and no."""
    assert (await room.ingest(columns_as_csv({"x": cells, "k": ["a", "b"]})))["x"][0] == "VARCHAR"


@FEW
@given(ids=st.lists(st.none() | st.integers(-(2**53), 2**53), min_size=2, max_size=10))
def test_keys_that_arrive_as_floating_point_numbers_are_integers(tmp_path: Path, ids: list[int | None]) -> None:
    """As pandas writes integers with a missing one among them, to CSV, NDJSON and Parquet."""
    assume(any(one is not None for one in ids))
    room = Room(tmp_path)
    cells = ["" if one is None else f"{one}.0" for one in ids]
    csv = asyncio.run(room.ingest(columns_as_csv({"user_id": cells, "k": ["x"]})))
    objects = [{"user_id": None if one is None else f"{one}.0", "k": "x"} for one in ids]
    ndjson = asyncio.run(room.ingest(lines(*objects), NDJSON))
    floats = pa.array([None if one is None else float(one) for one in ids], pa.float64())
    typed = asyncio.run(room.ingest(parquet(user_id=floats), PARQUET))
    known = sum(one is not None for one in ids)
    for found in (csv, ndjson, typed):
        assert found["user_id"] == ("BIGINT", ids)
        assert found.column("user_id").logical_type in {"identifier", "boolean"}
        note = f"'user_id': integers, although {known} of {known} values are written with a point"
        assert note in found.profile.notes


@pytest.mark.parametrize(
    ("name", "cells"),
    [("user_id", ["1.0", "2.5"]), ("price", ["1.0", "2.0"]), ("user_id", ["1.0", "inf"])],
)
async def test_other_floating_point_numbers_stay_so(room: Room, name: str, cells: list[str]) -> None:
    """A fraction among keys, and measures that happen to be whole."""
    assert (await room.ingest(columns_as_csv({name: cells})))[name][0] == "DOUBLE"


async def test_nan_among_keys_of_a_typed_file_is_missing(room: Room) -> None:
    """Integers have none."""
    found = await room.ingest(parquet(user_id=pa.array([1.0, math.nan, 3.0])), PARQUET)
    assert found["user_id"] == ("BIGINT", [1, None, 3])


# ---------------------------------------------------------------------------------------------- distinct values, keys


async def test_estimates_are_said_to_be_estimates(room: Room) -> None:
    """In a large table many distinct values are counted in so many columns, then estimated; a few always counted."""
    rows, wide = 60_000, CHECKED_COLUMNS + 1
    numbers = pa.array([n * 7919 % 30_011 for n in range(rows)])
    noise = {f"noise{n}": numbers for n in range(wide)}
    keys = pa.array(range(rows))
    found = await room.ingest(parquet(key=keys, **noise, city=pa.array([n % 7 for n in range(rows)])), PARQUET)
    approximate = [column.name for column in found.profile.columns if column.distinct_is_approximate]
    assert approximate == [f"noise{wide - 2}", f"noise{wide - 1}"]
    exact = [found.column(name).distinct_count for name in ("key", "noise0", "city")]
    assert exact == [rows, 30_011, 7]
    assert found.profile.candidate_keys == (("key",),)


@FEW
@given(cells=st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=12))
def test_candidate_keys_tell_every_row_apart(tmp_path: Path, cells: list[int | None]) -> None:
    """A column is one when no value is missing and none comes twice; measures and flags never are."""
    assume(any(cell is not None for cell in cells))
    texts = ["" if cell is None else f"k{cell}" for cell in cells]
    measures = [f"{n}.5" for n in range(len(cells))]
    found = asyncio.run(Room(tmp_path).ingest(columns_as_csv({"a": texts, "m": measures})))
    unique = None not in cells and len(set(cells)) == len(cells)
    assert found.profile.candidate_keys == ((("a",),) if unique else ())
