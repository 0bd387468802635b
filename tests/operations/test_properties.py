"""Properties that hold of every operation by what its class declares, tried on the example that each class gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.features.model import ColumnProfile, ExtractionOptions, Grain, LogicalType, Profile
from service.features.operations import REGISTRY, Operation, OperationSpec
from service.features.operations.operation import Sees, example_of
from service.features.plan import MAX_SORTED_CELLS, validate
from tests.operations.engines import fetch, plan, table
from tools.operations_document import EXAMPLE_COLUMNS

COLUMNS = {name: physical for name, (_, physical) in EXAMPLE_COLUMNS.items()}
PHYSICAL = {"number": "DOUBLE", "integer": "BIGINT", "boolean": "BOOLEAN", "string": "VARCHAR"}
START = datetime(2024, 2, 28, 12, tzinfo=UTC)
Row = tuple[Any, ...]

SPECS = pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.kind)


def profile(rows: int = 100, *, personal: Sequence[str] = ()) -> Profile:
    """The profile of the table of orders."""
    columns = [
        ColumnProfile(name, place, logical, physical, 0.0, 10, personal=name in personal)
        for place, (name, (logical, physical)) in enumerate(EXAMPLE_COLUMNS.items())
    ]
    return Profile(rows, tuple(columns), "fingerprint")


@cache
def examples(grain: Grain, *sees: Sees) -> str:
    """The statement of the examples of the grain's operations that depend on these rows, as features f0, f1 ….

    Without those that draw folds, which depend on the rows' ids.
    """
    specs = [spec for spec in REGISTRY.values() if spec.grain == grain and spec.sees in sees and spec.fits != "folds"]
    compiled = compile_plan(plan([example_of(spec) for spec in specs], grain), profile())
    return render(compiled.statement(), "duckdb")


def features(statement: str, rows: Sequence[Row]) -> tuple[list[Any], list[Row]]:
    """The statement's first key, and its features row by row."""
    with table(rows, COLUMNS) as connection:
        found = fetch(statement, connection)
    columns = [rounded(values) for name, values in found.items() if re.fullmatch(r"f\d+", name)]
    return next(iter(found.values())), list(zip(*columns, strict=True))


def by_row(statement: str, rows: Sequence[Row]) -> list[Row]:
    """The features of each row, in the rows' order."""
    return features(statement, rows)[1]


def rounded(values: Sequence[Any]) -> list[Any]:
    """Sums of floating-point numbers depend on the rows' order in the last digits."""
    return [round(value, 6) if isinstance(value, float) else value for value in values]


def instants(minutes: st.SearchStrategy[int]) -> st.SearchStrategy[datetime | None]:
    """Times of two months, over a leap day; some are missing."""
    return st.one_of(st.none(), minutes.map(lambda minute: START + timedelta(minutes=minute)))


ROW = st.tuples(
    st.sampled_from(["a", "b", None]),
    instants(st.integers(0, 80_000)),
    st.one_of(st.none(), st.integers(-40, 40).map(lambda quarter: quarter / 4)),
    st.one_of(st.none(), st.integers(-3, 3)),
    st.sampled_from(["NL", "DE", None]),
    st.sampled_from([True, False, None]),
    st.sampled_from(["a gift for you", "", "Ünï 12!", None]),
    instants(st.integers(0, 80_000)),
)
ROWS = st.lists(ROW, max_size=12)


@SPECS
def test_the_example_is_a_plan_that_may_run(spec: OperationSpec) -> None:
    """What the documentation shows is decoded and accepted."""
    assert validate(plan([example_of(spec)], spec.grain), profile(), ExtractionOptions()) == ()


@SPECS
def test_columns_of_other_types_are_refused(spec: OperationSpec) -> None:
    """Each field takes the logical types that it declares, and a column that exists."""
    for field, accepted in spec.columns.items():
        wrong = [name for name, (logical, _) in EXAMPLE_COLUMNS.items() if logical not in accepted]
        for name in [*wrong, "nowhere"]:
            reason = "unknown_column" if name == "nowhere" else "type_mismatch"
            assert (reason, f"features[0].operation.{field}") in faults(replace(example_of(spec), **{field: name}))


def faults(operation: Operation, known: Profile | None = None) -> list[tuple[str, str]]:
    """What is found against a plan of the one operation."""
    found = validate(plan([operation], operation.grain), known or profile(), ExtractionOptions())
    return [(fault.reason, fault.field) for fault in found]


@SPECS
def test_personal_values_are_published_by_no_operation(spec: OperationSpec) -> None:
    """An operation that publishes values is refused a personal column; any other may read it."""
    operation = example_of(spec)
    column = getattr(operation, "column", None)
    refused = faults(operation, profile(personal=[] if column is None else [column]))
    assert (("other", "features[0].operation.column") in refused) == (spec.publishes_values and column is not None)


@SPECS
def test_sorting_operations_are_bounded(spec: OperationSpec) -> None:
    """An operation that sorts is refused on more rows than can be sorted."""
    operation = example_of(spec)
    assert (("cost", "features") in faults(operation, profile(MAX_SORTED_CELLS + 1))) == operation.sorts()


@SPECS
def test_the_types_given_are_those_declared(spec: OperationSpec) -> None:
    """The engine's column has the declared type, or the column's own; an empty table gives no rows."""
    wanted = plan([example_of(spec)], spec.grain)
    compiled = compile_plan(wanted, profile())
    with table([], COLUMNS) as connection:
        result = connection.execute(render(compiled.statement(), "duckdb"))
        assert str((result.description or ())[-1][1]) == PHYSICAL[compiled.features["f0"]]
        assert result.fetchall() == []
    assert spec.dtype in {None, compiled.features["f0"]}


def test_no_row_reads_later_rows() -> None:
    """Of the operations that look back, none is written with a window of following rows."""
    wanted = examples("row", "history")
    assert "FOLLOWING" not in wanted
    assert "LEAD(" not in wanted


@settings(max_examples=15, deadline=None)
@given(ROW, ROWS)
def test_a_row_alone_decides_its_values(row: Row, others: list[Row]) -> None:
    """An operation that reads its own row gives the same when there is no other."""
    wanted = examples("row", "row")
    assert by_row(wanted, [row, *others])[0] == by_row(wanted, [row])[0]


@settings(max_examples=15, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_value(rows: list[Row], chance: Any) -> None:
    """Statistics of the dataset and of groups do not depend on how the file is sorted."""
    wanted = examples("row", "row", "dataset")
    order = list(range(len(rows)))
    chance.shuffle(order)
    found = by_row(wanted, rows)
    assert by_row(wanted, [rows[place] for place in order]) == [found[place] for place in order]


@settings(max_examples=15, deadline=None)
@given(ROWS, st.integers(0, 80_000))
def test_no_row_sees_its_future(rows: list[Row], end: int) -> None:
    """Removing the rows after an instant changes nothing in those up to it."""
    wanted = examples("row", "history")
    kept = [row for row in rows if row[1] is None or row[1] <= START + timedelta(minutes=end)]
    whole = [found for row, found in zip(rows, by_row(wanted, rows), strict=True) if row in kept]
    assert whole == by_row(wanted, kept)


@settings(max_examples=15, deadline=None)
@given(ROWS)
def test_no_row_sees_another_entity(rows: list[Row]) -> None:
    """Removing the rows of one entity changes nothing in those of another."""
    wanted = examples("row", "history")
    kept = [row for row in rows if row[0] != "b"]
    whole = [found for row, found in zip(rows, by_row(wanted, rows), strict=True) if row in kept]
    assert whole == by_row(wanted, kept)


@settings(max_examples=15, deadline=None)
@given(st.lists(ROW, max_size=12, unique_by=lambda row: row[1]), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_entity(rows: list[Row], chance: Any) -> None:
    """With distinct times, an entity's values do not depend on how the file is sorted, nor on other entities' rows."""
    wanted = examples("entity", "entity")
    found = entities(wanted, rows)
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert entities(wanted, shuffled) == found
    latest = max((row[1] for row in rows if row[1] is not None), default=None)
    horizon = [(None, latest, *(None,) * 6)]
    alone = entities(wanted, [row for row in rows if row[0] != "b"] + horizon)
    assert alone == {entity: values for entity, values in found.items() if entity != "b"}


def entities(statement: str, rows: Sequence[Row]) -> dict[str, Row]:
    """The features by entity."""
    return dict(zip(*features(statement, rows), strict=True))


def test_every_logical_type_is_in_the_example_table() -> None:
    """Each type of column is tried by these properties."""
    assert {logical for logical, _ in EXAMPLE_COLUMNS.values()} == set(get_args(LogicalType))
