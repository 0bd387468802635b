"""The few shapes of SQL that reading and measuring a dataset needs, as syntax trees.

Inside, columns are named by position (`c0`, `c1` …): what a dataset calls them appears only in the typed file's own
column names. Statistics over many columns run in *long form*, one row for each cell, so that a statement stays small
however wide the table is: `k` is the column's position, `v` the cell.

A tree here is built for one statement and rendered once, so nodes go into it as they are: copies of trees over
thousands of columns would take longer than the statements. A node that is needed twice is copied where that is so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sqlglot import exp

from service.engines.duckdb.sandbox import Row, Sandbox

BATCH_COLUMNS = 1000
"""Columns in one long-form statement: a vector of 2048 rows of them takes some 32 MB."""

ROW_GROUP_CELLS = 20_000_000
VECTOR_ROWS = 2048
MAX_ROW_GROUP_ROWS = 122_880

CellExpressions = Sequence[tuple[int, exp.Expr]]
"""Position and expression of each column in a long form; the expressions are of one type."""


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    """A function call, written as it is: sqlglot's own spelling of some functions is for older engines."""
    return exp.Anonymous(this=name, expressions=list(arguments))


def string(value: str) -> exp.Expr:
    """A string literal."""
    return exp.Literal.string(value)


def number(value: int) -> exp.Expr:
    """A non-negative number literal."""
    return exp.Literal.number(value)


def reference(position: int) -> exp.Expr:
    """The source column at a position."""
    return exp.column(f"c{position}")


def option(name: str, value: exp.Expr) -> exp.Expr:
    """A named argument of a table function."""
    return exp.EQ(this=exp.var(name), expression=value)


def cast(value: exp.Expr, kind: str) -> exp.Expr:
    """CAST to a type without parameters."""
    return exp.Cast(this=value, to=_type(kind))


def try_cast(value: exp.Expr, kind: str) -> exp.Expr:
    """CAST that gives null where the value is not one of the type's."""
    return exp.TryCast(this=value, to=_type(kind))


def _type(kind: str) -> exp.DataType:
    return exp.DataType(this=exp.DataType.Type[kind])


def named(value: exp.Expr, name: str, *, quoted: bool = False) -> exp.Expr:
    """The value under a name; `quoted` for a name that a client chose."""
    return exp.Alias(this=value, alias=exp.to_identifier(name, quoted=quoted))


def listed(values: Iterable[exp.Expr]) -> exp.Expr:
    """A list of the values."""
    return exp.Array(expressions=list(values))


def case(*branches: tuple[exp.Expr, exp.Expr], otherwise: exp.Expr | None = None) -> exp.Expr:
    """CASE WHEN condition THEN value … ELSE otherwise END."""
    tree = exp.Case()
    for condition, value in branches:
        tree = tree.when(condition, value, copy=False)
    return tree if otherwise is None else tree.else_(otherwise, copy=False)


def matches(value: exp.Expr, pattern: re.Pattern[str]) -> exp.Expr:
    """Whether the whole text matches; RE2 on the engine's side, so no pattern may look around or back."""
    return call("regexp_full_match", value, string(_re2(pattern)))


def holds(value: exp.Expr, pattern: re.Pattern[str]) -> exp.Expr:
    """Whether the text holds a match."""
    return call("regexp_matches", value, string(_re2(pattern)))


def _re2(pattern: re.Pattern[str]) -> str:
    return f"(?i){pattern.pattern}" if pattern.flags & re.IGNORECASE else pattern.pattern


def one_of(value: exp.Expr, words: Iterable[str]) -> exp.Expr:
    """Whether the text is one of the words."""
    return exp.In(this=value, expressions=[string(word) for word in words])


def parquet(path: Path, width: int, *, row_number: bool = False) -> exp.Table:
    """A Parquet file whose first `width` columns are called by position; `row_number` adds `r`, 0-based."""
    columns = [exp.to_identifier(f"c{position}") for position in range(width)]
    options = [option("file_row_number", exp.true())] if row_number else []
    if row_number:
        columns.append(exp.to_identifier("r"))
    alias = exp.TableAlias(this=exp.to_identifier("t"), columns=columns)
    return exp.Table(this=call("read_parquet", string(str(path)), *options), alias=alias)


def long_form(source: exp.Expr, cells: CellExpressions, *others: exp.Expr, where: exp.Expr | None = None) -> exp.Expr:
    """Subquery with a row for each non-null cell: `k` position, `v` value, and the `others` beside them.

    The cells' expressions become part of it: they serve for this one statement.
    """
    positions = listed(number(position) for position, _ in cells)
    values = listed(value for _, value in cells)
    cross = exp.select(named(call("unnest", positions), "k"), named(call("unnest", values), "v"), *others)
    cross = cross.from_(source, copy=False)
    if where is not None:
        cross = cross.where(where, copy=False)
    return (
        exp.select("*")
        .from_(cross.subquery(copy=False), copy=False)
        .where(exp.column("v").is_(exp.null()).not_(), copy=False)
        .subquery(copy=False)
    )


def batches(cells: CellExpressions, size: int = BATCH_COLUMNS) -> list[CellExpressions]:
    """The cells, at most `size` columns at a time."""
    return [cells[start : start + size] for start in range(0, len(cells), size)]


def write_parquet(query: exp.Query, path: Path, width: int) -> exp.Expr:
    """COPY a query to a compressed file, in row groups whose cells fit in memory however many columns there are."""
    rows = max(min(ROW_GROUP_CELLS // max(width, 1), MAX_ROW_GROUP_ROWS) // VECTOR_ROWS, 1) * VECTOR_ROWS
    parameters = {"FORMAT": exp.var("parquet"), "COMPRESSION": exp.var("zstd"), "ROW_GROUP_SIZE": number(rows)}
    return exp.Copy(
        this=query.subquery(copy=False),
        kind=False,
        files=[string(str(path))],
        params=[exp.CopyParameter(this=exp.var(name), expression=value) for name, value in parameters.items()],
    )


async def aggregated(
    box: Sandbox, source: exp.Table, cells: CellExpressions, aggregates: Callable[[exp.Expr], Sequence[exp.Expr]]
) -> dict[int, Row]:
    """Aggregates over each column's non-null cells, by position; `aggregates` are built over a cell.

    A column without any has none.
    """
    found: dict[int, Row] = {}
    for batch in batches(cells):

        def query(batch: CellExpressions = batch) -> exp.Expr:
            rows = long_form(source, batch)
            return exp.select("k", *aggregates(exp.column("v"))).from_(rows, copy=False).group_by("k", copy=False)

        found |= {position: tuple(rest) for position, *rest in await run(box, query)}
    return found


async def run(box: Sandbox, build: Callable[[], exp.Expr]) -> list[Row]:
    """Build a statement and run it, both off the event loop: a tree over thousands of columns takes a while."""
    statement = await asyncio.to_thread(lambda: build().sql(dialect="duckdb", copy=False))
    return await box.execute(statement)
