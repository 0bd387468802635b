"""Reading a CSV upload: every row held against the first, every cell kept as text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import duckdb
from sqlglot import exp

from service.engines.duckdb.detect import PreparedText, line_at
from service.engines.duckdb.detect_dialect import Dialect, detect_dialect, first_rows
from service.engines.duckdb.ingest_source import (
    MAX_FAULTS,
    Source,
    SourceColumn,
    no_rows,
    require_width,
    unique_names,
    unreadable,
)
from service.engines.duckdb.ingest_sql import call, number, option, run, string, write_parquet
from service.engines.duckdb.sandbox import Row, Sandbox
from service.engines.limits import Limits
from service.features.errors import DatasetUnreadable
from service.features.model import FieldError

MAX_LINE_BYTES = 8 * 1024 * 1024
"""A row may be this long."""
BUFFER_BYTES = 2 * MAX_LINE_BYTES

MAX_REJECTS = 50
"""One row at fault can be set aside several times, once for each field too many."""
RECOUNTED_CHARACTERS = 1024 * 1024
"""How much of a faulty row is read again, to count its fields."""

JSON_STARTS = ('{"', "{\n", "[{", "[\n", "{}")


async def read_csv(box: Sandbox, text: PreparedText, limits: Limits) -> Source:
    """The upload's cells as a Parquet file of text columns.

    Raises DatasetUnreadable, naming lines, for rows of another width than the first and for faulty quotes;
    DatasetTooLarge, before anything is read where the lines tell it.
    """
    if text.head.lstrip().startswith(JSON_STARTS):
        raise DatasetUnreadable(
            "The file was sent as CSV, but it looks like JSON. Send one object a line as application/x-ndjson."
        )
    dialect = await asyncio.to_thread(detect_dialect, text.head, complete=text.complete)
    require_width(dialect.width)
    limits.require_size(text.min_rows - dialect.lines_before - 1, dialect.width)
    names, renamed = _names(dialect)
    path = box.folder / "cells.parquet"
    rows = await _copy(box, text, dialect, path)
    faults = await _faults(box, text, dialect, names)
    if faults:
        raise unreadable("The file is not a table that can be read", faults)
    if rows == 0:
        raise no_rows("a header")
    limits.require_size(rows, dialect.width)
    columns = tuple(SourceColumn(name, position, "VARCHAR") for position, name in enumerate(names))
    return Source(
        path,
        dialect.width,
        columns,
        notes=(*text.notes, *dialect.notes, *renamed),
        decimal_comma=dialect.delimiter != ",",
        padded_cells=True,
    )


def scan(path: Path, delimiter: str, quote: str, width: int, *, header: bool, skip: int = 0) -> exp.Select:
    """All rows of a delimited file as text, with nothing left to DuckDB's own guessing; faulty rows are set aside."""
    types = [exp.PropertyEQ(this=exp.to_identifier(f"c{i}"), expression=string("VARCHAR")) for i in range(width)]
    reader = call(
        "read_csv",
        string(str(path)),
        option("auto_detect", exp.false()),
        option("header", exp.true() if header else exp.false()),
        option("skip", number(skip)),
        option("delim", string(delimiter)),
        option("quote", string(quote)),
        option("escape", string(quote)),
        option("columns", exp.Struct(expressions=types)),
        option("strict_mode", exp.true()),
        option("null_padding", exp.false()),
        option("max_line_size", number(MAX_LINE_BYTES)),
        option("buffer_size", number(BUFFER_BYTES)),
        option("store_rejects", exp.true()),
        option("rejects_limit", number(MAX_REJECTS)),
    )
    return exp.select("*").from_(exp.Table(this=reader))


async def rejects(box: Sandbox) -> list[Row]:
    """The first rows that scans set aside: byte offset from 1, column from 1, kind of fault."""
    fields = [call("min", exp.column("column_idx")), call("min", exp.column("error_type"))]
    query = exp.select("line_byte_position", *fields).from_("reject_errors").group_by("line_byte_position")
    return await box.execute(query.order_by("line_byte_position").limit(MAX_FAULTS).sql(dialect="duckdb"))


def _names(dialect: Dialect) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if dialect.header is not None:
        return unique_names(dialect.header)
    return tuple(f"column_{position}" for position in range(1, dialect.width + 1)), ()


async def _copy(box: Sandbox, text: PreparedText, dialect: Dialect, target: Path) -> int:
    """Write the cells as Parquet; gives the number of rows."""

    def statement() -> exp.Expr:
        query = scan(
            text.path,
            dialect.delimiter,
            dialect.quote,
            dialect.width,
            header=dialect.header is not None,
            skip=dialect.lines_before,
        )
        return write_parquet(query, target, dialect.width)

    try:
        return (await run(box, statement))[0][0]
    except duckdb.Error as error:
        raise DatasetUnreadable(
            "The file cannot be read as CSV: its quotes or line ends are not those of a CSV file. Export it again."
        ) from error


async def _faults(box: Sandbox, text: PreparedText, dialect: Dialect, names: tuple[str, ...]) -> list[FieldError]:
    rows = await rejects(box)
    return await asyncio.to_thread(lambda: [_fault(text.path, dialect, names, row) for row in rows])


def _fault(path: Path, dialect: Dialect, names: tuple[str, ...], row: Row) -> FieldError:
    """The fault in words: the line in the file, the column where that helps, never a value."""
    offset, column, kind = row
    place = f"row {line_at(path, offset - 1)}"
    if kind in {"MISSING COLUMNS", "TOO MANY COLUMNS"}:
        count = _count_fields(path, offset - 1, dialect)
        first = "the header" if dialect.header is not None else "the first row"
        return FieldError(place, f"has {count} field{'' if count == 1 else 's'} where {first} has {dialect.width}")
    if kind == "LINE SIZE OVER MAXIMUM":
        return FieldError(place, f"is longer than {MAX_LINE_BYTES // (1024 * 1024)} MiB")
    named = f", column {names[column - 1]}" if column is not None and 1 <= column <= len(names) else ""
    return FieldError(place + named, "has a quote that is not closed, or text after a closing quote")


def _count_fields(path: Path, offset: int, dialect: Dialect) -> int:
    """Fields of the row that begins at a byte: the engine tells only which of them was the first too many."""
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read(RECOUNTED_CHARACTERS).decode("utf-8", "ignore")
    return len(first_rows(text, dialect.delimiter, dialect.quote, 1)[0])
