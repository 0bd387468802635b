"""Whether an operation is of a pattern: what is stated must hold, what is not stated may be anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from evals.suite import Pattern
from service.features.operations import AnyOperation, Predicate, Scalar, spec_of

Condition = tuple[str, str, frozenset[Scalar]]
"""Column, comparison and values; `eq` and `in` are one, `ne` and `not_in` too."""

DAYS = frozenset({"days", "last_days"})
TOLERANCE = 0.05
"""Windows are equal when they differ by no more than this share: a month is 30 or 31 days."""
_SAME = {"eq": "in", "ne": "not_in", "not": "not_in"}


def fits(pattern: Pattern, operation: AnyOperation) -> bool:
    """Whether the operation is of the pattern.

    `kind` is the operation's tag. Any other key is a field: a window in days within TOLERANCE; predicates as
    `{column: value}`, `{column: [values]}` or `{column: {comparison: value}}`, all of them and no other; anything else
    equal, or one of a list.
    """
    wanted = dict(pattern)
    if wanted.pop("kind") != spec_of(operation).kind:
        return False
    return all(_holds(field, value, getattr(operation, field)) for field, value in wanted.items())


def _holds(field: str, wanted: Any, actual: object) -> bool:
    if field in DAYS:
        return wanted is actual is None or (wanted is not None and actual is not None and near(wanted, actual))
    if isinstance(wanted, Mapping):
        return stated(cast("Mapping[str, object]", wanted)) == conditions(cast("tuple[Predicate, ...]", actual))
    return actual in wanted if isinstance(wanted, list) else bool(actual == wanted)


def near(wanted: float, actual: object) -> bool:
    """Whether two windows are the same for a person."""
    return isinstance(actual, int | float) and math.isclose(wanted, actual, rel_tol=TOLERANCE)


def conditions(predicates: Iterable[Predicate]) -> frozenset[Condition]:
    """Predicates as a set that does not depend on how they are written."""
    return frozenset(
        (each.column, _SAME.get(each.comparison, each.comparison), frozenset(each.values)) for each in predicates
    )


def stated(where: Mapping[str, object]) -> frozenset[Condition]:
    """A pattern's predicates in the form of `conditions`."""
    return frozenset(_stated(column, wanted) for column, wanted in where.items())


def _stated(column: str, wanted: object) -> Condition:
    comparison, values = "in", wanted
    if isinstance(wanted, Mapping):
        comparison, values = next(iter(cast("Mapping[str, object]", wanted).items()))
    if comparison in {"is_null", "not_null"}:
        return column, comparison, frozenset()
    many = cast("Iterable[Scalar]", values) if isinstance(values, list | tuple) else (cast("Scalar", values),)
    return column, _SAME.get(comparison, comparison), frozenset(many)
