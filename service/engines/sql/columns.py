"""The dataset's columns as nodes of the statement, in the type that an operation needs."""

from __future__ import annotations

from sqlglot import exp

from service.engines.sql.template import column, literal, template
from service.features.model import ColumnProfile, Profile
from service.features.operations import Predicate, Where
from service.features.operations.expression import Expression, Part
from service.features.operations.literals import Storage, convert, storage_of

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


class SqlColumns:
    """Columns of the type an operation needs; see `expression.Columns` for the promises."""

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

    def raw(self, name: str) -> Expression:
        """The column as it is."""
        return Expression(column(name))

    def number(self, name: str) -> Expression:
        """The column as DOUBLE, so that sums of integers cannot overflow."""
        return self.raw(name) if self.storage(name) == "number" else self.sql("CAST(:x AS DOUBLE)", x=self.raw(name))

    def text(self, name: str) -> Expression:
        """The column as text."""
        return self.raw(name) if self.storage(name) == "string" else self.sql("CAST(:x AS VARCHAR)", x=self.raw(name))

    def instant(self, name: str) -> Expression:
        """The datetime as microseconds since 1970 (BIGINT): differences and window frames mean the same everywhere."""
        return self.sql("EPOCH_US(:t)", t=self.raw(name))

    def condition(self, where: Where) -> Expression:
        """The predicates' conjunction; a null fulfils `is_null` alone."""
        return Expression(exp.and_(*(self._predicate(predicate) for predicate in where)))

    def sql(self, text: str, **parts: Part) -> Expression:
        """The constant `text`, each `:name` in it replaced by the part of that name."""
        return Expression(template(text, **parts))

    def _predicate(self, predicate: Predicate) -> exp.Expr:
        profile, node = self.profile_of(predicate.column), column(predicate.column)
        values = [literal(convert(value, profile, predicate.comparison)) for value in predicate.values]
        if predicate.comparison == "in":
            return exp.In(this=node, expressions=values)
        if predicate.comparison == "not_in":
            return exp.Not(this=exp.In(this=node, expressions=values))
        operands = {"column": node} | ({"value": values[0]} if values else {})
        return template(COMPARISONS[predicate.comparison], **operands)
