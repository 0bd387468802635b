"""Types of the parameters that operations take: columns with the logical types they accept, predicates and windows.

An operation carries column *names* and literal values only, never an expression. Days are fractional numbers of
24 hours. "As of" a dataset is the latest value of its time column.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

LogicalType = Literal["numeric", "integer", "boolean", "categorical", "datetime", "text", "identifier"]
FeatureType = Literal["number", "integer", "boolean", "string"]
Scalar = str | int | float | bool
"""A literal in a predicate; compared after conversion to the column's own type."""

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


class Accepts(Struct, frozen=True):
    """Marks a field that holds a column's name, with the logical types that the column may have."""

    types: Accepted


class FreeText(Struct, frozen=True):
    """Marks a field that holds text which is no column's name."""


class IsTarget(Struct, frozen=True):
    """Marks a field that may name the column to be predicted, which no other field may."""


Column = Annotated[str, Meta(min_length=1, max_length=256)]
AnyColumn = Annotated[Column, Accepts(ANY)]
NumberColumn = Annotated[Column, Accepts(NUMBER)]
TimeColumn = Annotated[Column, Accepts(TIME)]
TextColumn = Annotated[Column, Accepts(TEXT)]
CategoryColumn = Annotated[Column, Accepts(CATEGORY)]
EntityColumn = Annotated[Column, Accepts(ENTITY)]
PublishedColumn = Annotated[Column, Accepts(PUBLISHED)]
TargetColumn = Annotated[Column, Accepts(NUMBER), IsTarget()]

NumberColumns = Annotated[tuple[NumberColumn, ...], Meta(min_length=2, max_length=50)]
CategoryColumns = Annotated[tuple[CategoryColumn, ...], Meta(min_length=2, max_length=10)]
AnyColumns = Annotated[tuple[AnyColumn, ...], Meta(min_length=2, max_length=50)]

Term = Annotated[str, Meta(min_length=1, max_length=100), FreeText()]
Days = Annotated[float, Meta(gt=0, le=36_525)]
Comparison = Literal["eq", "ne", "in", "not_in", "lt", "le", "gt", "ge", "is_null", "not_null"]
AggregateFunction = Literal[
    "sum", "mean", "minimum", "maximum", "standard_deviation", "median", "count", "count_distinct", "range", "variance"
]
DatePart = Literal[
    "hour", "day_of_week", "day_of_month", "day_of_year", "week", "month", "quarter", "year", "minute", "week_of_month",
    "half_year",
]  # fmt: skip
Dates = Annotated[tuple[date, ...], Meta(min_length=1, max_length=366)]


class Predicate(Struct, frozen=True, forbid_unknown_fields=True):
    """One condition on one column; a tuple of them is a conjunction."""

    column: Column
    comparison: Comparison
    values: Annotated[tuple[Scalar, ...], Meta(max_length=100)] = ()
    """None for `is_null`/`not_null`, one for the ordered comparisons and `eq`/`ne`, one or more for `in`/`not_in`."""


Where = Annotated[tuple[Predicate, ...], Meta(max_length=8)]
