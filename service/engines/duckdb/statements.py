"""DuckDB's statements, built as trees and run in a sandbox's thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.sandbox import Execute, Row
from service.engines.sql.dialects import render
from service.engines.sql.template import Node, fill, parsed

STATEMENTS_AT_ONCE = 20
AGGREGATES_AT_ONCE = 120
"""Each aggregate and each sort holds buffers of its own, whatever the rows: many at once would need much memory."""


def template(text: str, **nodes: Node) -> exp.Expr:
    """The constant `text` in DuckDB's SQL, each `:name` within it replaced by the node or literal of that name."""
    return fill(_parsed(text), nodes)


@cache
def _parsed(text: str) -> exp.Expr:
    return parsed(text, "duckdb")


class Connection(Struct, frozen=True):
    """Executes syntax trees; every method raises what `Sandbox.run` raises."""

    execute: Execute

    def query(self, statement: exp.Expr) -> list[Row]:
        """All rows of the statement."""
        return self.execute(render(statement, "duckdb"))

    def query_each(self, statements: Sequence[exp.Select]) -> list[Row]:
        """The rows of statements of one shape, asked for together, in no order."""
        rows: list[Row] = []
        for start in range(0, len(statements), STATEMENTS_AT_ONCE):
            first, *others = statements[start : start + STATEMENTS_AT_ONCE]
            rows += self.query(exp.union(first, *others, distinct=False, copy=False) if others else first)
        return rows

    def aggregate(self, table: str, aggregates: Sequence[exp.Expr]) -> list[Any]:
        """The aggregates over a table, in their order; the table's alias is the letter its columns are named by."""
        values: list[Any] = []
        for start in range(0, len(aggregates), AGGREGATES_AT_ONCE):
            part = aggregates[start : start + AGGREGATES_AT_ONCE]
            values += self.query(exp.select(*part).from_(table, copy=False))[0]
        return values

    def create(self, name: str, rows: exp.Select) -> int:
        """Keep the rows as a table of the sandbox; gives their number."""
        return int(self.query(exp.Create(this=exp.to_table(name), kind="TABLE", expression=rows))[0][0])

    def name(self, name: str, rows: exp.Select) -> None:
        """Give the query a name, as a view."""
        self.query(exp.Create(this=exp.to_table(name), kind="VIEW", expression=rows))
