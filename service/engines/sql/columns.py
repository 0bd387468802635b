"""The dataset's columns as nodes of the statement, in the type that an operation needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from service.engines.sql.template import DATASET, ROW_ID, all_columns, column, literal, named, node_of, template
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

    def __init__(self, profile: Profile, table: str = DATASET) -> None:
        """`table` holds the rows: the profile's columns and `ROW_ID`."""
        self._profile = profile
        self._table = table
        self._derived: list[dict[exp.Expr, str]] = []
        """Derived columns by what they hold, level by level: each reads the dataset's columns and lower levels."""

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

    def finite(self, name: str) -> Expression:
        """The column as DOUBLE, null where it is NaN or infinite."""
        number = self.number(name)
        return self.sql("CASE WHEN IS_FINITE(:x) THEN :x END", x=number) if self.storage(name) == "number" else number

    def text(self, name: str) -> Expression:
        """The column as text."""
        return self.raw(name) if self.storage(name) == "string" else self.sql("CAST(:x AS VARCHAR)", x=self.raw(name))

    def instant(self, name: str) -> Expression:
        """The datetime as microseconds since 1970 (BIGINT): differences and window frames mean the same everywhere."""
        return self.sql("EPOCH_US(:t)", t=self.raw(name))

    def comparable(self, left: str, right: str) -> tuple[Expression, Expression]:
        """Two columns in one type: as numbers or as instants when both are, otherwise as text."""
        kinds = {self.storage(left), self.storage(right)}
        if kinds <= {"number", "integer", "boolean"}:
            return self.number(left), self.number(right)
        read = self.raw if kinds == {"datetime"} else self.text
        return read(left), read(right)

    def condition(self, where: Where) -> Expression:
        """The predicates' conjunction; a null fulfils `is_null` alone."""
        return Expression(exp.and_(*(self._predicate(predicate) for predicate in where)))

    def sql(self, text: str, **parts: Part) -> Expression:
        """The constant `text`, each `:name` in it replaced by the part of that name."""
        return Expression(template(text, **parts))

    def derived(self, value: Expression) -> Expression:
        """The value of each row as a column of the table `d` from which everything else is selected."""
        node = node_of(value)
        names = {one.name for one in node.find_all(exp.Column)}
        level = max((depth for depth, known in enumerate(self._derived, 1) if names & {*known.values()}), default=0)
        if level == len(self._derived):
            self._derived.append({})
        known = self._derived[level]
        return Expression(column(known.setdefault(node, self._free_name(f"derived_{level}_{len(known)}"))))

    def _level(self, level: int) -> str:
        """The table with the derived columns of so many levels."""
        return f"{self._table}_{level}" if level else self._table

    def _free_name(self, name: str) -> str:
        """The name, lengthened until no column of the dataset has it."""
        taken = {one.name.casefold() for one in self._profile.columns}
        while name in taken:
            name += "_"
        return name

    def _from_rows(self, query: exp.Select) -> exp.Select:
        """The query on the dataset's rows with all derived columns, as the table `d`."""
        return query.from_(f"{self._level(len(self._derived))} AS d")

    def _with_derived(self, query: exp.Select) -> exp.Select:
        """The query preceded by what its derived columns are selected from."""
        for level, known in enumerate(self._derived):
            columns = [named(node, name) for node, name in known.items()]
            rows = exp.select(all_columns(), *columns)
            query = query.with_(self._level(level + 1), as_=rows.from_(f"{self._level(level)} AS d"))
        return query

    def _windowed(
        self, text: str, windows: Mapping[str, str], partition: Sequence[Part], time: str, **parts: Part
    ) -> Expression:
        """`text` with the windows that it names; null where a partition key or the time is."""
        keys: dict[str, Part] = {f"key{place}": key for place, key in enumerate(partition)}
        by = f"PARTITION BY {', '.join(f':{key}' for key in keys)} " if keys else ""
        for name, window in windows.items():
            text = text.replace(name, f"OVER ({by}{window})")
        known = " AND ".join(f"NOT :{key} IS NULL" for key in (*keys, "instant"))
        order = {"instant": self.instant(time), "row": Expression(column(ROW_ID))}
        return self.sql(f"CASE WHEN {known} THEN {text} END", **keys, **order, **parts)

    def _predicate(self, predicate: Predicate) -> exp.Expr:
        profile, node = self.profile_of(predicate.column), column(predicate.column)
        values = [literal(convert(value, profile, predicate.comparison)) for value in predicate.values]
        if predicate.comparison == "in":
            return exp.In(this=node, expressions=values)
        if predicate.comparison == "not_in":
            return exp.Not(this=exp.In(this=node, expressions=values))
        operands = {"column": node} | ({"value": values[0]} if values else {})
        return template(COMPARISONS[predicate.comparison], **operands)
