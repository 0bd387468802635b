"""The bricks of the compiler: templates, columns, conditions, as nodes of one SQL syntax tree.

Templates are constant text in DuckDB's dialect, parsed once; what varies enters as a node in place of a `:name`.
No name or value of a client, a dataset or a model is ever formatted into text here: quoting is the generator's.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache

from sqlglot import exp, parse_one

from service.features.model import ColumnProfile, Profile
from service.features.operations.literals import Storage, convert, storage_of
from service.features.operations.types import Predicate, Scalar, Where

DATASET = "dataset"
"""The table that statements read: the dataset's columns and `ROW_ID`."""
ROW_ID = "__row_id"
"""Column that ingest adds: the row's position in the source, from 0."""
MICROSECONDS_A_DAY = 86_400_000_000

COMPARISONS: dict[str, str] = {
    "eq": ":column = :value",
    "ne": ":column <> :value",
    "lt": ":column < :value",
    "le": ":column <= :value",
    "gt": ":column > :value",
    "ge": ":column >= :value",
    "is_null": ":column IS NULL",
    "not_null": ":column IS NOT NULL",
}


@cache
def _parsed(text: str) -> exp.Expr:
    return parse_one(text, read="duckdb")


def template(text: str, **nodes: exp.Expr) -> exp.Expr:
    """The constant `text`, each `:name` within it replaced by the node of that name."""
    filled = _parsed(text).copy()
    for placeholder in list(filled.find_all(exp.Placeholder)):
        placeholder.replace(_closed(nodes[placeholder.name]))
    return filled


def _closed(node: exp.Expr) -> exp.Expr:
    """A copy that keeps its meaning beside operators of any precedence."""
    loose = isinstance(node, exp.Binary | exp.Unary | exp.In | exp.Between) and not isinstance(node, exp.Paren)
    return exp.paren(node) if loose else node.copy()


def column(name: str, table: str = "d") -> exp.Column:
    """A column by its exact name, quoted; `d` is the dataset."""
    return exp.column(name, table=table, quoted=True)


def number(value: float) -> exp.Expr:
    """A number literal; whole days and counts are written without a fraction."""
    return exp.Literal.number(int(value) if float(value).is_integer() else value)


def microseconds(days: float) -> exp.Expr:
    """A span of days in whole microseconds, at least one."""
    return number(max(1, round(days * MICROSECONDS_A_DAY)))


def literal(value: Scalar | datetime) -> exp.Expr:
    """A converted literal of a predicate (see `literals.convert`)."""
    if isinstance(value, datetime):
        text = exp.Literal.string(value.isoformat(sep=" ", timespec="microseconds"))
        return exp.cast(text, exp.DataType.Type.TIMESTAMP)
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    if isinstance(value, str):
        return exp.Literal.string(value)
    return exp.Literal.number(value)


class Source:
    """The dataset's columns as expressions of the type an operation needs."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def profile_of(self, name: str) -> ColumnProfile:
        """The column's profile; a validated plan names none that is missing."""
        found = self._profile.column(name)
        if found is None:
            raise KeyError(name)
        return found

    def storage(self, name: str) -> Storage:
        """How the column is held."""
        return storage_of(self.profile_of(name))

    def raw(self, name: str) -> exp.Expr:
        """The column as it is."""
        return column(name)

    def number(self, name: str) -> exp.Expr:
        """The column as DOUBLE, so that sums of integers cannot overflow."""
        node = column(name)
        return node if self.storage(name) == "number" else template("CAST(:x AS DOUBLE)", x=node)

    def text(self, name: str) -> exp.Expr:
        """The column as text."""
        node = column(name)
        return node if self.storage(name) == "string" else template("CAST(:x AS VARCHAR)", x=node)

    def instant(self, name: str) -> exp.Expr:
        """The datetime as microseconds since 1970 (BIGINT): differences and window frames mean the same everywhere."""
        return template("EPOCH_US(:t)", t=column(name))

    def condition(self, where: Where) -> exp.Expr:
        """The predicates' conjunction; a null fulfils `is_null` alone."""
        return exp.and_(*(self._predicate(predicate) for predicate in where))

    def _predicate(self, predicate: Predicate) -> exp.Expr:
        profile, node = self.profile_of(predicate.column), column(predicate.column)
        values = [literal(convert(value, profile, predicate.comparison)) for value in predicate.values]
        if predicate.comparison == "in":
            return exp.In(this=node, expressions=values)
        if predicate.comparison == "not_in":
            return exp.Not(this=exp.In(this=node, expressions=values))
        operands = {"column": node} | ({"value": values[0]} if values else {})
        return template(COMPARISONS[predicate.comparison], **operands)


SUM = "COALESCE(SUM(:x), 0)"
"""A sum over no values is 0: nothing was spent."""

STATISTICS: dict[str, str] = {
    "sum": SUM,
    "mean": "AVG(:x)",
    "minimum": "MIN(:x)",
    "maximum": "MAX(:x)",
    "standard_deviation": "STDDEV_SAMP(:x)",
    "median": "MEDIAN(:x)",
}
"""Aggregates by the name operations give them; the standard deviation is the sample's (n - 1)."""

DAY = number(MICROSECONDS_A_DAY)
"""Divides a difference of instants into days."""
