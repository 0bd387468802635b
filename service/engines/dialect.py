"""Writes a compiled statement in an engine's dialect.

Statements are trees in DuckDB's words. sqlglot translates nearly all of them; the few that it leaves alone or
translates into something else are spelled here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sqlglot import exp

Dialect = Literal["duckdb", "spark"]


def render(statement: exp.Expr, dialect: Dialect, *, pretty: bool = False) -> str:
    """The statement as text of the dialect."""
    spelled = statement if dialect == "duckdb" else statement.transform(_for_spark)
    return spelled.sql(dialect, pretty=pretty)


def _for_spark(node: exp.Expr) -> exp.Expr:
    for matches, spelling in SPARK:
        if matches(node):
            return spelling(node)
    return node


def _function(name: str) -> Callable[[exp.Expr], bool]:
    return lambda node: isinstance(node, exp.Anonymous) and node.name.upper() == name


def _finite(node: exp.Expr) -> exp.Expr:
    """Spark orders NaN above infinity, so one comparison refuses both."""
    infinity = exp.cast(exp.Literal.string("Infinity"), exp.DataType.Type.DOUBLE)
    return exp.LT(this=exp.Abs(this=node.expressions[0]), expression=infinity)


SPARK: tuple[tuple[Callable[[exp.Expr], bool], Callable[[exp.Expr], exp.Expr]], ...] = (
    (_function("EPOCH_US"), lambda node: exp.func("UNIX_MICROS", node.expressions[0])),
    (_function("ISFINITE"), _finite),
    (
        lambda node: isinstance(node, exp.PercentileCont),  # sqlglot keeps its name, which Spark refuses
        lambda node: exp.Anonymous(this="PERCENTILE", expressions=[node.this, node.expression]),
    ),
    (
        lambda node: isinstance(node, exp.DayOfWeekIso),  # sqlglot's formula is a day off and starts at 0
        lambda node: exp.paren(exp.Anonymous(this="WEEKDAY", expressions=[node.this]) + 1),
    ),
    (
        lambda node: isinstance(node, exp.DataType) and node.is_type(exp.DataType.Type.INT128),
        lambda _: exp.DataType.build("DECIMAL(38, 0)"),
    ),
)
"""What Spark spells otherwise: which node, and what to write for it."""
