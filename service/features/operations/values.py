"""Values of one row: the column itself, arithmetic between columns, flags."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from service.features.operations.expression import Columns, Expression, Part, Rows
from service.features.operations.operation import RowOperation
from service.features.operations.parameters import AnyColumn, NumberColumn, NumberColumns, PublishedColumn, Where

ARITHMETIC = "elementary arithmetic"


class ValueOperation(RowOperation, frozen=True):
    """Base of what one row alone decides."""

    sees = "row"
    fits = "nothing"
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


class ValueWhere(ValueOperation, frozen=True, tag="value_where"):
    """A number where conditions hold (a rate where there are at least five rows), and elsewhere another or none."""

    column: NumberColumn
    where: Annotated[Where, Meta(min_length=1)]
    otherwise: Annotated[float, Meta(ge=-1e15, le=1e15)] | None = None

    gives = "number"
    publishes_values = True
    nulls = "where the column is null, or a condition does not hold and there is no other number"
    formula = "x where all conditions hold, else the other number"
    source = "SQL's CASE"
    example = '{"column": "amount", "where": [{"column": "items", "comparison": "ge", "values": [2]}]}'

    def compile(self, rows: Rows) -> Expression:
        """Choose by the conditions."""
        parts = {"met": rows.condition(self.where), "x": rows.number(self.column)}
        if self.otherwise is None:
            return rows.sql("CASE WHEN :met THEN :x END", **parts)
        return rows.sql("CASE WHEN :met THEN :x ELSE :otherwise END", otherwise=float(self.otherwise), **parts)


class FirstKnown(ValueOperation, frozen=True, tag="first_known"):
    """The first of several numbers that is known, or a number in place of none."""

    columns: NumberColumns
    otherwise: Annotated[float, Meta(ge=-1e15, le=1e15)] | None = None

    gives = "number"
    publishes_values = True
    nulls = "where all columns are null and there is no other number"
    formula = "the first of x, y … that is not null, else the other number"
    source = "SQL's COALESCE"
    example = '{"columns": ["amount", "items"], "otherwise": 0}'

    def compile(self, rows: Rows) -> Expression:
        """Take the first that is known."""
        parts: dict[str, Part] = {f"x{place}": rows.number(name) for place, name in enumerate(self.columns)}
        if self.otherwise is not None:
            parts["otherwise"] = float(self.otherwise)
        return rows.sql(f"COALESCE({', '.join(f':{name}' for name in parts)})", **parts)


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


class SquareRoot(ValueOperation, frozen=True, tag="square_root"):
    """The square root of a numeric column; null below 0."""

    column: NumberColumn

    gives = "number"
    nulls = "where the column is null or negative"
    formula = "the number whose square is x"
    source = "the variance-stabilising transformation of counts (Bartlett 1936)"
    example = '{"column": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Take the root."""
        return rows.sql("CASE WHEN :x >= 0 THEN SQRT(:x) END", x=rows.number(self.column))


class Clip(ValueOperation, frozen=True, tag="clip"):
    """A numeric column held between two bounds."""

    column: NumberColumn
    lower: float | None = None
    upper: float | None = None

    gives = "number"
    nulls = "where the column is null or no finite number"
    formula = "min(max(x, lower), upper), without the bound that is left open"
    source = "NumPy's `clip`"
    example = '{"column": "amount", "lower": 0, "upper": 100}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """No bound, or bounds in the wrong order."""
        if self.lower is None and self.upper is None:
            yield "lower", "give a lower or an upper bound"
        elif self.lower is not None and self.upper is not None and self.lower > self.upper:
            yield "upper", "the upper bound is below the lower"

    def compile(self, rows: Rows) -> Expression:
        """Replace what lies beyond a bound by the bound."""
        value = rows.finite(self.column)
        for bound, beyond in ((self.lower, "<"), (self.upper, ">")):
            if bound is not None:
                value = rows.sql(f"CASE WHEN :x {beyond} :bound THEN :bound ELSE :x END", x=value, bound=bound)
        return value


class BinByEdges(ValueOperation, frozen=True, tag="bin_by_edges"):
    """Number of the bin of given edges that holds the value: 0 below the first edge, n from the last one on."""

    column: NumberColumn
    edges: Annotated[tuple[float, ...], Meta(min_length=1, max_length=50)]

    gives = "integer"
    nulls = "where the column is null or no finite number"
    formula = "number of edges that are at most x"
    source = "NumPy's `digitize`"
    example = '{"column": "amount", "edges": [10, 50, 100]}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """Edges that do not grow."""
        if any(after <= before for before, after in pairwise(self.edges)):
            yield "edges", "each edge must be greater than the one before"

    def compile(self, rows: Rows) -> Expression:
        """Count the edges up to the value."""
        bounds: dict[str, Part] = {f"edge{place}": edge for place, edge in enumerate(self.edges)}
        cases = [f"WHEN :x < :edge{place} THEN {place}" for place in range(len(self.edges))]
        text = f"CASE WHEN NOT :x IS NULL THEN CAST(CASE {' '.join(cases)} ELSE {len(self.edges)} END AS BIGINT) END"
        return rows.sql(text, x=rows.finite(self.column), **bounds)


class IsRound(ValueOperation, frozen=True, tag="is_round"):
    """1 where the value is a whole multiple of a step (a round price, a full hour), else 0."""

    column: NumberColumn
    step: Annotated[float, Meta(gt=0)]

    gives = "integer"
    nulls = "where the column is null, or the quotient is no finite number"
    formula = "1 if x / step is whole, to one part in 10⁹, else 0"
    source = ARITHMETIC
    example = '{"column": "amount", "step": 10}'

    def compile(self, rows: Rows) -> Expression:
        """Compare the quotient with the nearest whole number."""
        quotient = rows.sql(":x / :step", x=rows.number(self.column), step=self.step)
        near = rows.sql("ABS(:q - ROUND(:q)) <= 0.000000001 * GREATEST(ABS(:q), 1)", q=quotient)
        return rows.sql("CASE WHEN IS_FINITE(:q) THEN :flag END", q=quotient, flag=flag(rows, near))
