"""Several columns of one row taken together: sums and means across them, the largest, how many are missing or equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.expression import Columns, Expression, Part, Rows
from service.features.operations.parameters import (
    AnyColumn,
    AnyColumns,
    CategoryColumns,
    FreeText,
    NumberColumn,
    NumberColumns,
)
from service.features.operations.values import ValueOperation, flag

KNOWN = "over the row's known values"
AcrossFunction = Literal["sum", "mean", "minimum", "maximum", "range", "standard_deviation"]


def total(columns: Columns, terms: Sequence[Expression]) -> Expression:
    """The sum of the expressions."""
    parts, text = numbered_parts(terms)
    return columns.sql(" + ".join(text), **parts)


def numbered_parts(terms: Sequence[Expression]) -> tuple[dict[str, Part], list[str]]:
    """The expressions under names of their own, and the names as they stand in a text."""
    parts: dict[str, Part] = {f"x{place}": term for place, term in enumerate(terms)}
    return parts, [f":{name}" for name in parts]


def known_count(columns: Columns, terms: Sequence[Expression]) -> Expression:
    """How many of the expressions are not null."""
    return total(columns, [columns.sql("CASE WHEN :x IS NULL THEN 0 ELSE 1 END", x=term) for term in terms])


def known_sum(columns: Columns, terms: Sequence[Expression]) -> Expression:
    """The sum of the expressions that are not null."""
    return total(columns, [columns.sql("COALESCE(:x, 0)", x=term) for term in terms])


class AcrossColumns(ValueOperation, frozen=True, tag="across_columns"):
    """A statistic of several numeric columns within one row."""

    columns: NumberColumns
    function: AcrossFunction

    gives = "number"
    nulls = "but for a sum, where all the columns are null (a deviation needs two known values)"
    formula = f"the statistic {KNOWN}; a sum over none is 0"
    source = "pandas' `DataFrame.agg(axis=1)`, which skips nulls; the standard deviation is the sample's (n - 1)"
    example = '{"columns": ["amount", "items"], "function": "sum"}'

    def compile(self, rows: Rows) -> Expression:
        """Compute the statistic of the row."""
        terms = [rows.number(name) for name in self.columns]
        parts, names = numbered_parts(terms)
        if self.function == "sum":
            return known_sum(rows, terms)
        if self.function in {"mean", "standard_deviation"}:
            return self._moment(rows, terms)
        ends = {"minimum": "LEAST({0})", "maximum": "GREATEST({0})", "range": "GREATEST({0}) - LEAST({0})"}
        return rows.sql(ends[self.function].format(", ".join(names)), **parts)

    def _moment(self, rows: Rows, terms: Sequence[Expression]) -> Expression:
        count = known_count(rows, terms)
        mean = rows.sql(":sum / NULLIF(:count, 0)", sum=known_sum(rows, terms), count=count)
        if self.function == "mean":
            return mean
        center = rows.derived(mean)
        squares = [rows.sql("(:x - :mean) * (:x - :mean)", x=term, mean=center) for term in terms]
        variance = rows.sql(":sum / NULLIF(:count - 1, 0)", sum=known_sum(rows, squares), count=count)
        return rows.sql("CASE WHEN :count > 1 THEN SQRT(:variance) END", count=count, variance=variance)


class ColumnOfMaximum(ValueOperation, frozen=True, tag="column_of_maximum"):
    """The name of the column that holds the row's largest value; the first of equals."""

    columns: NumberColumns

    gives = "string"
    nulls = "where no column holds a finite number"
    formula = "argmax over the row's finite values"
    source = "pandas' `DataFrame.idxmax(axis=1)`"
    example = '{"columns": ["amount", "items"]}'

    def compile(self, rows: Rows) -> Expression:
        """Compare each column with the largest value."""
        parts, names = numbered_parts([rows.finite(name) for name in self.columns])
        largest = rows.derived(rows.sql(f"GREATEST({', '.join(names)})", **parts))
        labels: dict[str, Part] = {f"label{place}": name for place, name in enumerate(self.columns)}
        cases = [f"WHEN {name} = :largest THEN :label{place}" for place, name in enumerate(names)]
        return rows.sql(f"CASE {' '.join(cases)} END", **parts, **labels, largest=largest)


class MissingCount(ValueOperation, frozen=True, tag="missing_count"):
    """How many of several columns are null in the row."""

    columns: AnyColumns

    gives = "integer"
    nulls = "never"
    formula = "number of nulls"
    source = "feature-engine's `MissingDataIndicator`, summed"
    example = '{"columns": ["amount", "note"]}'

    def compile(self, rows: Rows) -> Expression:
        """Count the nulls."""
        known = known_count(rows, [rows.raw(name) for name in self.columns])
        return rows.sql("CAST(:all - :known AS BIGINT)", all=len(self.columns), known=known)


class MissingPattern(ValueOperation, frozen=True, tag="missing_pattern"):
    """Which of several columns are null in the row, as a text of one digit each: 1 for a null."""

    columns: AnyColumns

    gives = "string"
    nulls = "never"
    formula = "for each column, in order, 1 if null else 0"
    source = "the missing-data patterns of Little and Rubin (2002)"
    example = '{"columns": ["amount", "note"]}'

    def compile(self, rows: Rows) -> Expression:
        """Write one digit for each column."""
        digits = [rows.sql("CASE WHEN :x IS NULL THEN '1' ELSE '0' END", x=rows.raw(name)) for name in self.columns]
        parts, names = numbered_parts(digits)
        return rows.sql(" || ".join(names), **parts)


class EqualCount(ValueOperation, frozen=True, tag="equal_count"):
    """How many of several categorical columns hold a value in the row."""

    columns: CategoryColumns
    value: Annotated[str, Meta(min_length=1, max_length=256), FreeText()]

    gives = "integer"
    nulls = "never: a null is not equal"
    formula = "number of columns whose value, as text, is the one given"
    source = "counting"
    example = '{"columns": ["country", "note"], "value": "NL"}'

    def compile(self, rows: Rows) -> Expression:
        """Count the columns with the value."""
        text = "CASE WHEN :x = :value THEN 1 ELSE 0 END"
        terms = [rows.sql(text, x=rows.text(name), value=self.value) for name in self.columns]
        return rows.sql("CAST(:sum AS BIGINT)", sum=total(rows, terms))


class CompareColumns(ValueOperation, frozen=True, tag="compare_columns"):
    """1 where one column is less than, equal to, or more than another, else 0."""

    left: AnyColumn
    comparison: Literal["lt", "le", "eq", "ne", "ge", "gt"]
    right: AnyColumn

    gives = "integer"
    nulls = "where either column is null"
    formula = "1 if left ⋈ right else 0; numbers by size, instants by time, the rest as text by code points"
    source = "SQL's comparison of two values"
    example = '{"left": "at", "comparison": "lt", "right": "delivered_at"}'

    def compile(self, rows: Rows) -> Expression:
        """Compare the two as numbers, as instants, or as text."""
        left, right = rows.comparable(self.left, self.right)
        symbol = {"lt": "<", "le": "<=", "eq": "=", "ne": "<>", "ge": ">=", "gt": ">"}[self.comparison]
        known = rows.sql(f":left {symbol} :right", left=left, right=right)
        text = "CASE WHEN NOT :left IS NULL AND NOT :right IS NULL THEN :flag END"
        return rows.sql(text, left=left, right=right, flag=flag(rows, known))


class CombinedCategory(ValueOperation, frozen=True, tag="combined_category"):
    """The values of several categorical columns as one category, joined by a bar."""

    columns: CategoryColumns

    gives = "string"
    publishes_values = True
    nulls = "where any of the columns is null"
    formula = "v₁|v₂|…; a bar or backslash within a value follows a backslash"
    source = "feature crossing of categories (TensorFlow's `crossed_column`), without hashing"
    example = '{"columns": ["country", "items"]}'

    def compile(self, rows: Rows) -> Expression:
        """Join the values."""
        text = r"REPLACE(REPLACE(:x, '\', '\\'), '|', '\|')"
        parts, names = numbered_parts([rows.sql(text, x=rows.text(name)) for name in self.columns])
        return rows.sql(" || '|' || ".join(names), **parts)


class LargestShare(ValueOperation, frozen=True, tag="largest_share"):
    """Share of the row's sum over several columns that the largest of them has."""

    columns: NumberColumns

    gives = "number"
    nulls = "where all the columns are null, any is negative, or the sum is 0"
    formula = f"max / Σ {KNOWN}"
    source = "the Berger-Parker index (1970)"
    example = '{"columns": ["amount", "items"]}'

    def compile(self, rows: Rows) -> Expression:
        """Divide the largest by the sum."""
        terms = [rows.number(name) for name in self.columns]
        parts, names = numbered_parts(terms)
        all_names = ", ".join(names)
        text = f"CASE WHEN LEAST({all_names}) >= 0 THEN GREATEST({all_names}) / NULLIF(:sum, 0) END"
        return rows.sql(text, **parts, sum=known_sum(rows, terms))


class DistanceFromColumns(ValueOperation, frozen=True, tag="distance_from_columns"):
    """How far a column lies from the mean of several others, within one row."""

    column: NumberColumn
    columns: NumberColumns

    gives = "number"
    nulls = "where the column is null, or all the others are"
    formula = "x - mean of the others' known values"
    source = "elementary arithmetic"
    example = '{"column": "amount", "columns": ["items", "returned"]}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the mean of the others."""
        terms = [rows.number(name) for name in self.columns]
        text = ":x - :sum / NULLIF(:count, 0)"
        count = known_count(rows, terms)
        return rows.sql(text, x=rows.number(self.column), sum=known_sum(rows, terms), count=count)

    def faults(self) -> Iterator[tuple[str, str]]:
        """A column that is compared with itself."""
        if self.column in self.columns:
            yield "columns", "name the column itself among the others"
