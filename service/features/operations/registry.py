"""What each operation is and which columns it takes; read by validation, the compiler and planners."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from service.features.model import FeatureType, Grain, LogicalType
from service.features.operations import types as op
from service.features.operations.types import AnyOperation, Operation, Predicate

Accepted = frozenset[LogicalType]

ANY: Accepted = frozenset({"numeric", "integer", "boolean", "categorical", "datetime", "text", "identifier"})
NUMBER: Accepted = frozenset({"numeric", "integer", "boolean"})
"""Boolean counts as 0 and 1, so that a mean is a share."""
TIME: Accepted = frozenset({"datetime"})
TEXT: Accepted = frozenset({"text", "categorical", "identifier"})
CATEGORY: Accepted = frozenset({"categorical", "boolean", "integer", "text", "identifier"})
ENTITY: Accepted = frozenset({"identifier", "categorical", "integer", "text"})
PUBLISHED: Accepted = frozenset({"numeric", "integer", "boolean", "categorical"})
"""Columns whose own values make a feature; free text and identifiers do not."""

VALUE_KINDS: frozenset[str] = frozenset({"value", "previous_value", "most_frequent", "first_value", "last_value"})
"""Operations that publish the column's own values; never of a personal column."""


class OperationSpec(Struct, frozen=True):
    """One operation: its tag on the wire, grain, column fields and what it gives."""

    kind: str
    type: type[Operation]
    grain: Grain
    columns: dict[str, Accepted]
    """Field name → logical types the named column may have."""
    dtype: FeatureType | None
    """None when the feature has the column's own type."""
    summary: str
    """One sentence, from the operation's docstring."""


def _spec(
    operation: type[Operation], grain: Grain, dtype: FeatureType | None, /, **columns: Accepted
) -> tuple[str, OperationSpec]:
    kind = str(operation.__struct_config__.tag)
    summary = " ".join((operation.__doc__ or "").split())
    return kind, OperationSpec(kind, operation, grain, columns, dtype, summary)


REGISTRY: dict[str, OperationSpec] = dict((
    _spec(op.Value, "row", None, column=PUBLISHED),
    _spec(op.Logarithm, "row", "number", column=NUMBER),
    _spec(op.AbsoluteValue, "row", "number", column=NUMBER),
    _spec(op.Difference, "row", "number", left=NUMBER, right=NUMBER),
    _spec(op.Product, "row", "number", left=NUMBER, right=NUMBER),
    _spec(op.Ratio, "row", "number", numerator=NUMBER, denominator=NUMBER),
    _spec(op.IsMissing, "row", "integer", column=ANY),
    _spec(op.Flag, "row", "integer"),
    _spec(op.DatePartOf, "row", "integer", column=TIME),
    _spec(op.CyclicTime, "row", "number", column=TIME),
    _spec(op.IsWeekend, "row", "integer", column=TIME),
    _spec(op.ElapsedDays, "row", "number", start=TIME, end=TIME),
    _spec(op.TextLength, "row", "integer", column=TEXT),
    _spec(op.WordCount, "row", "integer", column=TEXT),
    _spec(op.TextContains, "row", "integer", column=TEXT),
    _spec(op.CharacterShare, "row", "number", column=TEXT),
    _spec(op.ZScore, "row", "number", column=NUMBER, group=CATEGORY),
    _spec(op.MinMaxScale, "row", "number", column=NUMBER),
    _spec(op.QuantileBin, "row", "integer", column=NUMBER),
    _spec(op.PercentRank, "row", "number", column=NUMBER, group=CATEGORY),
    _spec(op.FrequencyEncoding, "row", "number", column=CATEGORY),
    _spec(op.GroupStatistic, "row", "number", column=NUMBER, group=CATEGORY),
    _spec(op.GroupCount, "row", "integer", group=CATEGORY),
    _spec(op.PreviousValue, "row", None, column=PUBLISHED, entity=ENTITY, time=TIME),
    _spec(op.ChangeFromPrevious, "row", "number", column=NUMBER, entity=ENTITY, time=TIME),
    _spec(op.DaysSincePrevious, "row", "number", entity=ENTITY, time=TIME),
    _spec(op.RollingStatistic, "row", "number", column=NUMBER, entity=ENTITY, time=TIME),
    _spec(op.RollingCount, "row", "integer", entity=ENTITY, time=TIME),
    _spec(op.CumulativeCount, "row", "integer", entity=ENTITY, time=TIME),
    _spec(op.Count, "entity", "integer"),
    _spec(op.CountDistinct, "entity", "integer", column=ANY),
    _spec(op.Aggregate, "entity", "number", column=NUMBER),
    _spec(op.Quantile, "entity", "number", column=NUMBER),
    _spec(op.Rate, "entity", "number"),
    _spec(op.RatioOfSums, "entity", "number", numerator=NUMBER, denominator=NUMBER),
    _spec(op.MissingShare, "entity", "number", column=ANY),
    _spec(op.Recency, "entity", "number", time=TIME),
    _spec(op.Tenure, "entity", "number", time=TIME),
    _spec(op.ActiveSpan, "entity", "number", time=TIME),
    _spec(op.MeanGap, "entity", "number", time=TIME),
    _spec(op.EventsPerDay, "entity", "number", time=TIME),
    _spec(op.Trend, "entity", "number", column=NUMBER, time=TIME),
    _spec(op.RecentShare, "entity", "number", time=TIME),
    _spec(op.HourShare, "entity", "number", time=TIME),
    _spec(op.WeekendShare, "entity", "number", time=TIME),
    _spec(op.ActiveDays, "entity", "integer", time=TIME),
    _spec(op.MostFrequent, "entity", None, column=CATEGORY),
    _spec(op.TopShare, "entity", "number", column=CATEGORY),
    _spec(op.Entropy, "entity", "number", column=CATEGORY),
    _spec(op.LastValue, "entity", None, column=PUBLISHED, time=TIME),
    _spec(op.FirstValue, "entity", None, column=PUBLISHED, time=TIME),
))  # fmt: skip
"""Every operation by its kind."""


@cache
def operations_version() -> str:
    """Short hash of all that is said here and in `types.py` of the operations: other operations, other version.

    It takes some 10 ms the first time, which is why it is not made at import.
    """
    told = [(spec.kind, spec.grain, spec.dtype, spec.columns, spec.summary) for spec in REGISTRY.values()]
    schemas = msgspec.json.schema_components([spec.type for spec in REGISTRY.values()])
    return hashlib.sha256(msgspec.json.encode((told, schemas), order="deterministic")).hexdigest()[:16]


def spec_of(operation: AnyOperation) -> OperationSpec:
    """The operation's row of the registry."""
    return REGISTRY[str(operation.__struct_config__.tag)]


def named_columns(operation: AnyOperation) -> dict[str, str]:
    """The columns the operation names in fields of its own: field name → column name; open optional ones left out."""
    named = {field: getattr(operation, field) for field in spec_of(operation).columns}
    return {field: column for field, column in named.items() if column is not None}


def predicates(operation: AnyOperation) -> dict[str, Predicate]:
    """The operation's predicates by their place in it, such as `where[0]` or `numerator[1]`."""
    found: dict[str, Predicate] = {}
    for field in fields(type(operation)):
        content: Any = getattr(operation, field.name)
        if isinstance(content, tuple):
            conditions = cast("tuple[Predicate, ...]", content)
            found |= {f"{field.name}[{index}]": condition for index, condition in enumerate(conditions)}
    return found


def source_columns(operation: AnyOperation) -> tuple[str, ...]:
    """The columns the operation reads, predicates' too, each once, in the order it names them."""
    conditions = (predicate.column for predicate in predicates(operation).values())
    return tuple(dict.fromkeys((*named_columns(operation).values(), *conditions)))
