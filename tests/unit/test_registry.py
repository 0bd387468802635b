"""The registry of operations."""

from __future__ import annotations

from typing import get_args

import pytest
from msgspec.structs import fields

from service.features.operations import types as op
from service.features.operations.registry import (
    REGISTRY,
    VALUE_KINDS,
    named_columns,
    predicates,
    source_columns,
    spec_of,
)

COLUMN_FIELDS = {"column", "left", "right", "start", "end", "group", "entity", "time"}
RATIO_FIELDS = {"numerator", "denominator"}


def test_every_operation_of_the_wire_has_a_row() -> None:
    """The registry and the two unions of operations name the same kinds, each with its grain."""
    unions = {"row": get_args(op.RowOperation), "entity": get_args(op.EntityOperation)}
    expected = {str(kind.__struct_config__.tag): (kind, grain) for grain, kinds in unions.items() for kind in kinds}
    assert {kind: (spec.type, spec.grain) for kind, spec in REGISTRY.items()} == expected


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_column_field_is_declared(kind: str) -> None:
    """A row lists exactly the fields of its operation that hold a column's name."""
    spec = REGISTRY[kind]
    named = {field.name for field in fields(spec.type)}
    columns = named & COLUMN_FIELDS | (named & RATIO_FIELDS if kind in {"ratio", "ratio_of_sums"} else set())
    assert set(spec.columns) == columns
    assert spec.summary.endswith(".")


def test_kinds_that_publish_values_exist() -> None:
    """Each kind that publishes a column's own values is an operation without a type of its own."""
    assert {kind for kind, spec in REGISTRY.items() if spec.dtype is None} == VALUE_KINDS


def test_source_columns_are_each_named_once_in_order() -> None:
    """Columns of fields come first, then those of predicates; none twice."""
    where = (op.Predicate("country", "eq", ("NL",)), op.Predicate("amount", "gt", (1,)))
    assert source_columns(op.Aggregate("amount", "sum", where)) == ("amount", "country")
    assert source_columns(op.RollingCount("user", "at", 7, where)) == ("user", "at", "country", "amount")


def test_an_open_group_is_no_column() -> None:
    """An optional column that is not given is not named."""
    assert named_columns(op.ZScore("amount")) == {"column": "amount"}
    assert named_columns(op.ZScore("amount", "country")) == {"column": "amount", "group": "country"}


def test_predicates_are_found_by_place() -> None:
    """Both conjunctions of a rate are found, each predicate under its place."""
    clicked, seen = op.Predicate("event", "eq", ("click",)), op.Predicate("event", "eq", ("view",))
    assert predicates(op.Rate((clicked,), (seen,))) == {"numerator[0]": clicked, "denominator[0]": seen}
    assert predicates(op.RatioOfSums("a", "b")) == {}


def test_spec_of_an_instance() -> None:
    """An operation leads to its row."""
    assert spec_of(op.Tenure("at")).kind == "tenure"
