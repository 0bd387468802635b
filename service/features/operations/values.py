"""Values of one row: the column itself, arithmetic between columns, flags."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from service.features.operations.expression import Columns, Expression, Rows
from service.features.operations.operation import RowOperation
from service.features.operations.parameters import AnyColumn, NumberColumn, PublishedColumn, Where

ARITHMETIC = "elementary arithmetic"


class ValueOperation(RowOperation, frozen=True):
    """Base of what one row alone decides."""

    sees = "row"
    cost = "scan"
    publishes_values = False
    follows_calendar = False


def flag(columns: Columns, condition: Expression) -> Expression:
    """1 where the condition holds, else 0."""
    return columns.sql("CASE WHEN :met THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END", met=condition)


class Value(ValueOperation, frozen=True, tag="value"):
    """The column itself (numeric, boolean or categorical)."""

    column: PublishedColumn

    gives = None
    publishes_values = True
    nulls = "where the column is null"
    formula = "x"
    source = "the dataset"
    example = '{"column": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Read the column."""
        return rows.raw(self.column)


class Logarithm(ValueOperation, frozen=True, tag="logarithm"):
    """Signed log1p: sign(x) · ln(1 + |x|); tames heavy tails and keeps the sign."""

    column: NumberColumn

    gives = "number"
    nulls = "where the column is null"
    formula = "sign(x) · ln(1 + |x|)"
    source = "the symmetric log transformation (Webber 2013), with base e and constant 1"
    example = '{"column": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Take the logarithm of the size, and the sign."""
        return rows.sql("SIGN(:x) * LN(1 + ABS(:x))", x=rows.number(self.column))


class AbsoluteValue(ValueOperation, frozen=True, tag="absolute_value"):
    """|x|."""

    column: NumberColumn

    gives = "number"
    nulls = "where the column is null"
    formula = "|x|"
    source = ARITHMETIC
    example = '{"column": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Drop the sign."""
        return rows.sql("ABS(:x)", x=rows.number(self.column))


class Difference(ValueOperation, frozen=True, tag="difference"):
    """left - right, row by row."""

    left: NumberColumn
    right: NumberColumn

    gives = "number"
    nulls = "where either column is null"
    formula = "left - right"
    source = ARITHMETIC
    example = '{"left": "amount", "right": "items"}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract."""
        return rows.sql(":x - :y", x=rows.number(self.left), y=rows.number(self.right))


class Product(ValueOperation, frozen=True, tag="product"):
    """left · right, row by row."""

    left: NumberColumn
    right: NumberColumn

    gives = "number"
    nulls = "where either column is null"
    formula = "left · right"
    source = ARITHMETIC
    example = '{"left": "amount", "right": "items"}'

    def compile(self, rows: Rows) -> Expression:
        """Multiply."""
        return rows.sql(":x * :y", x=rows.number(self.left), y=rows.number(self.right))


class Ratio(ValueOperation, frozen=True, tag="ratio"):
    """numerator / denominator, row by row; null where the denominator is 0."""

    numerator: NumberColumn
    denominator: NumberColumn

    gives = "number"
    nulls = "where either column is null, or the denominator is 0"
    formula = "numerator / denominator"
    source = ARITHMETIC
    example = '{"numerator": "amount", "denominator": "items"}'

    def compile(self, rows: Rows) -> Expression:
        """Divide."""
        return rows.sql(":x / NULLIF(:y, 0)", x=rows.number(self.numerator), y=rows.number(self.denominator))


class IsMissing(ValueOperation, frozen=True, tag="is_missing"):
    """1 where the column is null, else 0."""

    column: AnyColumn

    gives = "integer"
    nulls = "never"
    formula = "1 if x is null else 0"
    source = "the missing indicator of scikit-learn's `MissingIndicator`"
    example = '{"column": "note"}'

    def compile(self, rows: Rows) -> Expression:
        """Compare with null."""
        return flag(rows, rows.sql(":x IS NULL", x=rows.raw(self.column)))


class Flag(ValueOperation, frozen=True, tag="flag"):
    """1 where every predicate holds, else 0 (one-hot encoding is a flag with one `eq`)."""

    where: Annotated[Where, Meta(min_length=1)]

    gives = "integer"
    nulls = "never: a predicate on a null does not hold, but for `is_null`"
    formula = "1 if all predicates hold else 0"
    source = "the indicator function"
    example = '{"where": [{"column": "country", "comparison": "eq", "values": ["NL"]}]}'

    def compile(self, rows: Rows) -> Expression:
        """Test the predicates."""
        return flag(rows, rows.condition(self.where))
