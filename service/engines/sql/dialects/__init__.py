"""Spells statements in the dialects of engines. A dialect is one module, which spells the primitives and nothing else.

sqlglot translates standard SQL. The statements' calls of primitives are replaced while the text is written, so that the
tree is neither copied nor changed.
"""

from __future__ import annotations

from typing import Literal

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from service.engines.sql.dialects import duckdb, spark

DialectName = Literal["duckdb", "spark"]

DIALECTS: dict[DialectName, type[Dialect]] = {"duckdb": duckdb.DuckDBDialect, "spark": spark.SparkDialect}


def render(statement: exp.Expr, dialect: DialectName, *, pretty: bool = False) -> str:
    """The statement as text of the dialect."""
    return statement.sql(DIALECTS[dialect], pretty=pretty)
