"""What must not change a value, whatever it is: the order of rows, names, the epoch, what others do, other features.

Which operations a change must leave alone follows from what they declare; where one is excepted, the test says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.features.model import Grain
from service.features.operations import REGISTRY, OperationSpec
from service.features.operations.operation import Sees, example_of
from tests.operations.engines import fetch, plan, table, values
from tests.operations.test_properties import COLUMNS, ROW, START, Row, profile, rounded

GRAINS = pytest.mark.parametrize("grain", get_args(Grain))
FEW = settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
GREGORIAN_CYCLE = timedelta(days=146_097)
"""400 years, after which the calendar repeats with its months, leap days and days of the week."""
HALF = START + timedelta(days=20)
FIXED: list[Row] = [
    ("a", START, 2.0, 1, "NL", True, "a gift for you", HALF),
    ("a", START + timedelta(days=1), 3.5, 2, "DE", False, "Gift gift", START),
    ("b", START + timedelta(hours=5), -1.0, 2, "NL", True, "", None),
    ("a", START + timedelta(days=30), None, 3, "NL", None, None, HALF),
    ("b", HALF, 8.0, -3, None, False, "Ünï 12!", HALF),
    (None, HALF + timedelta(1), 4.0, 0, "DE", True, "x@y.example", None),
    ("a", None, 9.0, 1, "NL", True, "gift", None),
    ("a", START + timedelta(days=40), 7.25, 2, "DE", True, "a", HALF),
]
"""Rows that give most operations a value."""
TABLES = st.lists(ROW, max_size=10, unique_by=lambda row: row[1])
Chosen = Callable[[OperationSpec], bool]


def everything(_: OperationSpec) -> bool:
    """Choose any operation."""
    return True


def of(*sees: Sees) -> Chosen:
    """Choose the operations whose values depend on these rows."""
    return lambda spec: spec.sees in sees


@cache
def chosen(grain: Grain, which: Chosen) -> tuple[list[str], str]:
    """The kinds of the grain's operations that are chosen, and the statement of their examples."""
    specs = [spec for spec in REGISTRY.values() if spec.grain == grain and which(spec)]
    compiled = compile_plan(plan([example_of(spec) for spec in specs], grain), profile())
    return [spec.kind for spec in specs], render(compiled.statement(), "duckdb")


def found(grain: Grain, rows: Sequence[Row], which: Chosen = everything) -> dict[str, dict[Any, Any]]:
    """By operation, its values by row id or by entity."""
    kinds, statement = chosen(grain, which)
    with table(rows, COLUMNS) as connection:
        result = fetch(statement, connection)
    keys = next(iter(result.values()))
    return {kind: dict(zip(keys, rounded(result[f"f{place}"]), strict=True)) for place, kind in enumerate(kinds)}


def unlike(left: dict[str, dict[Any, Any]], right: dict[str, dict[Any, Any]], keys: Iterable[Any]) -> dict[str, Any]:
    """Operations whose values differ, with both values by key."""
    pairs = {kind: {key: (left[kind].get(key), right[kind].get(key)) for key in keys} for kind in left}
    return {
        kind: differing
        for kind, both in pairs.items()
        if (differing := {key: pair for key, pair in both.items() if pair[0] != pair[1]})
    }


def owners(grain: Grain, rows: Sequence[Row]) -> Iterable[Any]:
    """The keys of the result."""
    return range(len(rows)) if grain == "row" else {row[0] for row in rows} - {None}


def foldless(spec: OperationSpec) -> bool:
    """Choose the operations that draw no folds: a row's fold follows from its place in the file."""
    return spec.fits != "folds"


@GRAINS
@FEW
@given(rows=TABLES, chance=st.randoms(use_true_random=False))
@example(rows=[row for row in FIXED if row[1] != HALF], chance=None)
def test_the_order_of_rows_changes_nothing(grain: Grain, rows: list[Row], chance: Any) -> None:
    """Where no two rows have one time, only folds depend on how the file is sorted."""
    order = list(range(len(rows)))
    order.reverse() if chance is None else chance.shuffle(order)
    moved = found(grain, [rows[place] for place in order], foldless)
    if grain == "row":
        moved = {kind: {order[key]: value for key, value in given.items()} for kind, given in moved.items()}
    assert unlike(found(grain, rows, foldless), moved, owners(grain, rows)) == {}


@GRAINS
@FEW
@given(rows=TABLES)
@example(rows=FIXED)
def test_names_of_entities_change_nothing(grain: Grain, rows: list[Row]) -> None:
    """An entity's values are the same whatever it is called, also where the names sort the other way round."""
    names = {"a": "z", "b": "é 1", None: None}
    renamed = found(grain, [(names[row[0]], *row[1:]) for row in rows])
    if grain == "entity":
        back = {new: old for old, new in names.items()}
        renamed = {kind: {back[key]: value for key, value in given.items()} for kind, given in renamed.items()}
    assert unlike(found(grain, rows), renamed, owners(grain, rows)) == {}


def names_a_date(spec: OperationSpec) -> bool:
    """Whether the example holds a date: time passes towards it and away from it."""
    contents = [getattr(example_of(spec), field) for field in spec.type.__struct_fields__]
    parts = [part for content in contents for part in (content if isinstance(content, tuple) else (content,))]
    return any(isinstance(part, date) for part in parts)


def dateless(spec: OperationSpec) -> bool:
    """Choose the operations that name no date."""
    return not names_a_date(spec)


@GRAINS
@FEW
@given(rows=TABLES)
@example(rows=FIXED)
def test_four_hundred_years_change_nothing(grain: Grain, rows: list[Row]) -> None:
    """After a cycle of the calendar everything is as before, but for what counts the days to a given date."""

    def later(instant: datetime | None) -> datetime | None:
        return None if instant is None else instant + GREGORIAN_CYCLE

    moved = [(row[0], later(row[1]), *row[2:-1], later(row[-1])) for row in rows]
    assert unlike(found(grain, rows, dateless), found(grain, moved, dateless), owners(grain, rows)) == {}


def test_operations_that_name_a_date_are_few() -> None:
    """The exception above is no way out for others."""
    assert {spec.kind for spec in REGISTRY.values() if names_a_date(spec)} >= {"days_to_date"}
    assert all(not names_a_date(spec) for spec in REGISTRY.values() if spec.sees in {"history", "dataset"})


@GRAINS
@FEW
@given(rows=TABLES, others=TABLES)
@example(rows=FIXED, others=FIXED)
def test_other_entities_change_nothing(grain: Grain, rows: list[Row], others: list[Row]) -> None:
    """What reads one entity alone does not see others, nor rows without one; the dataset's latest time stays.

    Statistics of the dataset are excepted: they are of all rows.
    """
    seen: Chosen = ROW_ALONE if grain == "row" else ENTITY_ALONE
    latest = max((row[1] for row in rows if row[1] is not None), default=None)
    strangers = [
        ({"a": "c", "b": "d", None: None}[row[0]], row[1] if latest and row[1] and row[1] <= latest else None, *row[2:])
        for row in others
    ]
    assert unlike(found(grain, rows, seen), found(grain, [*rows, *strangers], seen), owners(grain, rows)) == {}


ROW_ALONE, ENTITY_ALONE = of("row", "history"), of("entity")


def by_group(spec: OperationSpec) -> bool:
    """Choose what fits figures by group."""
    return spec.fits == "groups" and spec.kind not in OF_ALL_ROWS


OF_ALL_ROWS = {"frequency_encoding"}
"""Figures of a group that are shares of all rows, whatever their group."""


@FEW
@given(rows=TABLES, others=TABLES)
@example(rows=FIXED, others=FIXED)
def test_other_groups_change_nothing(rows: list[Row], others: list[Row]) -> None:
    """A figure of a group is of its rows alone: rows of groups that did not exist, or of none, are not in it."""
    strangers = [
        ("c", row[1], row[2], None if row[3] is None else row[3] + 100, row[4] and f"{row[4]}2", None, *row[6:])
        for row in others
    ]
    left, right = found("row", rows, by_group), found("row", [*rows, *strangers], by_group)
    assert unlike(left, right, range(len(rows))) == {}


@pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.kind)
def test_other_features_change_nothing(spec: OperationSpec) -> None:
    """Computed alone, an operation gives what it gives among all others: shared parts are not mixed up."""
    alone = rounded(values(example_of(spec), FIXED, COLUMNS))
    assert alone == list(together(spec.grain)[spec.kind].values())


@cache
def together(grain: Grain) -> dict[str, dict[Any, Any]]:
    """All operations of a grain on the fixed rows, in one statement."""
    return found(grain, FIXED)
