"""How each column of an upload is to be read: what the client says, and the classes that its values are of."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from msgspec import Struct, field
from sqlglot import exp

from service.engines.duckdb.detect_dialect import NULL_TOKENS
from service.engines.duckdb.ingest_dates import TIMES_OF_DAY, is_iso, may_be_date, shape_of, shapes
from service.engines.duckdb.ingest_numbers import (
    DECIMAL,
    DOTTED_THOUSAND,
    INFINITE_WORDS,
    INTEGER,
    PUNCTUATED,
    class_of,
)
from service.engines.duckdb.ingest_source import Source, SourceColumn
from service.engines.duckdb.ingest_sql import (
    CellExpressions,
    batches,
    call,
    case,
    cast,
    holds,
    long_form,
    matches,
    named,
    one_of,
    reference,
    run,
    string,
    try_cast,
)
from service.engines.duckdb.ingest_words import ALL_FALSE, ALL_TRUE, is_missing
from service.engines.duckdb.sandbox import Sandbox
from service.features.model import ColumnOverride, LogicalType, ReadOptions

SHAPE = "@"
"""Begins the class of a value that has a date's or a time's shape."""
MISSING = "missing "
"""Begins the class of a word for a missing value; the word follows."""
EMPTY = "empty"
NESTED_TYPES = ("STRUCT", "MAP", "UNION", "LIST", "JSON", "VARIANT")
_DIGIT = re.compile("[0-9]")


class Reading(Struct, frozen=True):
    """How a column is read from its source."""

    physical: str
    """BIGINT, DOUBLE, BOOLEAN, TIMESTAMP or VARCHAR."""
    value: exp.Expr
    notes: tuple[str, ...] = ()
    """What a reader of the profile should know of the choice."""
    logical: LogicalType | None = None
    """The logical type that the client gives the column."""
    is_value: bool = False
    """The client says that it is no key."""
    instants: bool = False
    """Its times are instants, which no zone concerns."""


class ColumnRequest(Struct, frozen=True):
    """A column of the upload, and how the client wants it to be read."""

    column: SourceColumn
    typed: bool
    """The file says its columns' types, so that it has no words for missing values."""
    override: ColumnOverride = ColumnOverride()
    zone: str | None = None
    """Of local times; None for UTC."""

    @property
    def position(self) -> int:
        """The column's position in the file."""
        return self.column.position

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name

    @property
    def missing_words(self) -> tuple[str, ...]:
        """The words that stand for a missing value."""
        if self.override.null_words is not None:
            return tuple(dict.fromkeys(self.override.null_words if self.typed else ("", *self.override.null_words)))
        return () if self.typed else NULL_TOKENS

    @property
    def nan_is_missing(self) -> bool:
        """Whether NaN among anything but numbers is a missing value."""
        return not self.typed and self.override.null_words is None

    @property
    def text(self) -> exp.Expr:
        """The SQL for the column's cells as text, spaces around them kept."""
        value = reference(self.position)
        if self.column.type == "VARCHAR":
            return value
        if self.column.type.startswith(NESTED_TYPES) or self.column.type.endswith("]"):
            return cast(call("to_json", value), "VARCHAR")
        return cast(value, "VARCHAR")

    def is_missing(self) -> exp.Expr:
        """The SQL for whether the column's cell is a word for a missing value; there is one at least.

        A number is one however the file writes it, with or without a point.
        """
        missing = is_missing(call("trim", self.text), self.missing_words, nan=self.nan_is_missing)
        numbers = _finite_numbers(self.missing_words)
        if self.column.type == "VARCHAR" or not numbers:
            return missing
        number = try_cast(self.text, "DOUBLE")
        return exp.or_(missing, exp.In(this=number, expressions=[exp.Literal.number(repr(one)) for one in numbers]))

    def present(self, value: exp.Expr) -> exp.Expr:
        """The value, or null where the column's cell is one of the client's own words for a missing value.

        The usual words are neither numbers, dates nor flags, so that those come out null by themselves.
        """
        if not self.override.null_words:
            return value
        return case((self.is_missing(), exp.null()), otherwise=value.copy())


def _finite_numbers(words: Sequence[str]) -> list[float]:
    found: list[float] = []
    for word in words:
        with suppress(ValueError):
            found.append(float(word))
    return [number for number in found if math.isfinite(number)]


class Classes(Struct):
    """How many values of a column are of each class."""

    counted: Counter[str] = field(default_factory=Counter[str])
    padded: int = 0
    """Values with spaces around them, words for missing values left out."""

    @property
    def shown(self) -> dict[str, int]:
        """The classes of the values that are not missing."""
        return {label: n for label, n in self.counted.items() if label != EMPTY and not label.startswith(MISSING)}

    @property
    def missing(self) -> dict[str, int]:
        """The words for missing values, and how often each stands in a cell."""
        found = {label.removeprefix(MISSING): n for label, n in self.counted.items() if label.startswith(MISSING)}
        return dict(sorted(found.items()))


def column_requests(source: Source, overrides: ReadOptions) -> list[ColumnRequest]:
    """The columns of the upload, each with what the client says of it."""
    return [
        ColumnRequest(column, source.typed, said := overrides.columns.get(column.name, ColumnOverride()),
                      said.zone or overrides.zone)
        for column in source.columns
    ]  # fmt: skip


async def count_classes(box: Sandbox, source: Source, requests: Sequence[ColumnRequest]) -> dict[int, Classes]:
    """The classes of each column's values, by position; columns with the same words for missing values together."""
    found: dict[int, Classes] = defaultdict(Classes)
    alike: dict[tuple[str, ...], list[ColumnRequest]] = defaultdict(list)
    for request in requests:
        alike[request.missing_words].append(request)
    for words, members in alike.items():
        for batch in batches([(request.position, request.text) for request in members]):
            for position, label, count, padded in await run(
                box, lambda words=words, batch=batch: _class_query(source, batch, words)
            ):
                found[position].counted[label] += count
                found[position].padded += 0 if label == EMPTY or label.startswith(MISSING) else padded
    return found


def _class_query(source: Source, cells: CellExpressions, words: Sequence[str]) -> exp.Expr:
    value = call("trim", exp.column("v"))
    label = named(_class(value, words, decimal_comma=source.decimal_comma), "class")
    padded = call("count", case((exp.NEQ(this=exp.column("v"), expression=value.copy()), exp.true())))
    return (
        exp.select("k", label, call("count", exp.Star()), padded)
        .from_(long_form(source.scan, cells), copy=False)
        .group_by("k", "class", copy=False)
    )


def _class(value: exp.Expr, words: Sequence[str], *, decimal_comma: bool) -> exp.Expr:
    """The class of a value, as SQL: the first branch that holds."""
    lower = call("lower", value)
    shape = shape_of(value)
    fits = case((try_cast(value, "BIGINT").is_(exp.null()), string("big")),
                otherwise=string("integer"))  # fmt: skip
    dotted = ((matches(value, DOTTED_THOUSAND), string("grouped")),) if decimal_comma else ()
    missing = exp.DPipe(this=string(MISSING), expression=value)
    of_number = exp.Coalesce(
        this=class_of(value),
        expressions=[case((one_of(shape, known := (*shapes(), *TIMES_OF_DAY)), _shaped(shape))), string("text")],
    )
    word = case(
        (lower.eq("nan"), string("nan")),
        (one_of(lower, INFINITE_WORDS), string("infinite")),
        (one_of(lower, (*ALL_TRUE, *ALL_FALSE)), lower),
        otherwise=string("text"),
    )
    tree = case(
        (exp.column("v").eq(string("")), string(EMPTY)) if "" in words else (exp.false(), string(EMPTY)),
        (one_of(value, words), missing) if words else (exp.false(), string(EMPTY)),
        (matches(value, INTEGER), fits),
        *dotted,
        (matches(value, DECIMAL), string("decimal")),
        (exp.Not(this=exp.paren(holds(value, _DIGIT))), word),
        (is_iso(value), string("iso")),
        (matches(value, PUNCTUATED), of_number),
        (exp.Not(this=exp.paren(may_be_date(value))), string("text")),
        (one_of(shape, known), _shaped(shape)),
        otherwise=string("text"),
    )
    return tree.copy()  # the branches share nodes, and a tree's node has one parent


def _shaped(shape: exp.Expr) -> exp.Expr:
    return call("concat", string(SHAPE), shape)


def shapes_among(labels: Mapping[str, int]) -> frozenset[str]:
    """The shapes of dates and times among the classes."""
    return frozenset(label.removeprefix(SHAPE) for label in labels if label.startswith(SHAPE))
