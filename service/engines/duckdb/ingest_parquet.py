"""Reading a Parquet upload: its own types are kept, as far as features have a use for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import duckdb
from sqlglot import exp

from service.engines.duckdb.detect import read_head, signature
from service.engines.duckdb.ingest_columns import ColumnRequest, Reading
from service.engines.duckdb.ingest_source import Source, SourceColumn, no_rows, require_width, unique_names
from service.engines.duckdb.ingest_sql import (
    CellExpressions,
    aggregated,
    call,
    case,
    cast,
    parquet,
    reference,
    run,
    string,
    try_cast,
    write_parquet,
)
from service.engines.duckdb.ingest_times import whole_readings
from service.engines.duckdb.parquet_footer import damaged, read_footer
from service.engines.duckdb.sandbox import Row, Sandbox
from service.engines.limits import Limits, require_expansion
from service.features.errors import DatasetUnreadable

MAGIC = b"PAR1"
"""Stands at both ends of every Parquet file (format specification)."""

UNUSABLE = ("BLOB", "BIT", "GEOMETRY")
"""Types whose values are opaque bytes."""

WIDE_INTEGERS = ("UBIGINT", "HUGEINT", "UHUGEINT")
PLAIN_TYPES: dict[str, str] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"), "BIGINT"),
    **dict.fromkeys(WIDE_INTEGERS, "BIGINT"),
    **dict.fromkeys(("FLOAT", "DOUBLE", "DECIMAL"), "DOUBLE"),
    "BOOLEAN": "BOOLEAN",
    **dict.fromkeys(("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), "TIMESTAMP"),
    **dict.fromkeys(("ENUM", "UUID", "TIME", "TIME_NS", "TIME WITH TIME ZONE", "INTERVAL", '"NULL"'), "VARCHAR"),
}
"""What the types without parts become; the rest are times with a zone, and nested values."""

ROW_NUMBER_OPTION = "file_row_number"


async def read_parquet(box: Sandbox, path: Path, limits: Limits) -> Source:
    """The upload itself, with the columns that can be used.

    Raises DatasetUnreadable for anything that is not a whole, sound Parquet file with rows, or would grow out of all
    proportion; DatasetTooLarge.
    """
    await asyncio.to_thread(_require_declared, path, limits)
    try:
        described = await box.execute(describe(path).sql(dialect="duckdb"))
        [(rows,)] = await box.execute(exp.select("count(*)").from_(parquet(path, 0)).sql(dialect="duckdb"))
        [(uncompressed,)] = await box.execute(_uncompressed(path).sql(dialect="duckdb"))
    except duckdb.Error as error:
        raise damaged() from error
    require_width(len(described))
    if rows == 0:
        raise no_rows("columns")
    limits.require_size(rows, len(described))
    size = (await asyncio.to_thread(path.stat)).st_size
    require_expansion(size, rows, len(described), int(uncompressed or 0))
    path = await _without_reserved_name(box, path, described)
    return _source(path, described)


def _require_declared(path: Path, limits: Limits) -> None:
    """Hold what the file says of itself against the limits, before the engine reads it."""
    _require_parquet(path)
    footer = read_footer(path)
    require_width(footer.columns)
    limits.require_size(footer.rows, footer.columns)


def _require_parquet(path: Path) -> None:
    head = read_head(path, 64)
    if not head.startswith(MAGIC):
        found = signature(head)
        looks = f", but it looks like {found}" if found else ", but it does not begin as one"
        raise DatasetUnreadable(f"The file was sent as Parquet{looks}. Send a Parquet file, or name its true type.")
    with path.open("rb") as file:
        file.seek(-min(len(MAGIC), path.stat().st_size), 2)
        if file.read() != MAGIC or path.stat().st_size < 3 * len(MAGIC):
            raise DatasetUnreadable("The Parquet file is cut off: its end is missing. Send the whole file again.")


def _uncompressed(path: Path) -> exp.Select:
    """The bytes of all column chunks, as the footer declares them."""
    metadata = exp.Table(this=call("parquet_metadata", string(str(path))))
    return exp.select(call("sum", exp.column("total_uncompressed_size"))).from_(metadata)


def describe(path: Path) -> exp.Expr:
    """Name and type of each column of a Parquet file."""
    return exp.Describe(this=exp.select("*").from_(parquet(path, 0)))


async def _without_reserved_name(box: Sandbox, path: Path, described: list[Row]) -> Path:
    """The file, rewritten with other names where one of its own would hide the engine's row numbers."""
    if all(row[0].casefold() != ROW_NUMBER_OPTION for row in described):
        return path
    target, width = box.folder / "renamed.parquet", len(described)
    try:
        await run(box, lambda: write_parquet(exp.select("*").from_(parquet(path, width), copy=False), target, width))
    except duckdb.Error as error:
        raise damaged() from error
    return target


def _source(path: Path, described: list[Row]) -> Source:
    usable = [(position, row[0], row[1]) for position, row in enumerate(described) if not row[1].startswith(UNUSABLE)]
    if not usable:
        raise DatasetUnreadable("No column of the Parquet file holds values that features can be computed from.")
    left_out = [f"column {row[0]!r} of type {row[1]}: left out" for row in described if row[1].startswith(UNUSABLE)]
    names, renamed = unique_names([name for _, name, _ in usable])
    columns = tuple(SourceColumn(name, position, kind) for name, (position, _, kind) in zip(names, usable, strict=True))
    return Source(path, len(described), columns, notes=(*left_out, *renamed), typed=True)


async def typed_readings(box: Sandbox, source: Source, requests: Sequence[ColumnRequest]) -> dict[int, Reading]:
    """The reading of each column whose type the file gives, by position; text columns are read as all text is."""
    overflowing = await _overflowing(box, source, [one.column for one in requests if one.column.type in WIDE_INTEGERS])
    readings = {
        request.position: _reading(request, overflowing=request.position in overflowing) for request in requests
    }
    numbers = [one for one in requests if readings[one.position].physical in {"BIGINT", "DOUBLE"}]
    readings |= await whole_readings(box, source, numbers)
    return readings


async def _overflowing(box: Sandbox, source: Source, wide: list[SourceColumn]) -> set[int]:
    """Positions of the columns with integers over 64 bits."""

    def lost(value: exp.Expr) -> list[exp.Expr]:
        return [call("count", case((try_cast(value, "BIGINT").is_(exp.null()), exp.true())))]

    cells: CellExpressions = [(column.position, cast(reference(column.position), "VARCHAR")) for column in wide]
    counted = await aggregated(box, source.scan, cells, lost)
    return {position for position, (count,) in counted.items() if count}


def _reading(request: ColumnRequest, *, overflowing: bool) -> Reading:
    value = reference(request.position)
    kind = "LIST" if request.column.type.endswith("]") else request.column.type.partition("(")[0]
    physical = "DOUBLE" if overflowing else PLAIN_TYPES.get(kind)
    if physical is not None:
        notes = ("integers over 64 bits, kept as DOUBLE",) if overflowing else ()
        return Reading(physical, request.present(try_cast(value, physical)), notes)
    if kind.startswith("TIMESTAMP"):
        moment = request.present(exp.AtTimeZone(this=value, zone=string("UTC")))
        return Reading("TIMESTAMP", moment, ("times in UTC",), instants=True)
    return Reading(
        "VARCHAR", request.present(cast(call("to_json", value), "VARCHAR")), ("nested values, as JSON text",)
    )
