"""From an upload to typed Parquet and a profile, in bounded memory whatever the file's size.

Text is read once into a compressed file of text cells; types are found over all of them; one statement writes the
typed file; its statistics become the profile. Python never holds the rows.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import duckdb
from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.detect import PreparedText, Stopped, prepare_text
from service.engines.duckdb.ingest_columns import Reading
from service.engines.duckdb.ingest_csv import read_csv
from service.engines.duckdb.ingest_ndjson import read_ndjson
from service.engines.duckdb.ingest_parquet import read_parquet
from service.engines.duckdb.ingest_reading import read_columns
from service.engines.duckdb.ingest_source import Source, SourceColumn, bounded, merged
from service.engines.duckdb.ingest_sql import cast, named, parquet, run, write_parquet
from service.engines.duckdb.parquet_footer import damaged
from service.engines.duckdb.sandbox import Sandbox, sandbox
from service.engines.duckdb.statistics import TypedColumn, TypedTable, measure
from service.engines.limits import Limits
from service.engines.sql.template import ROW_ID
from service.features.errors import ComputeOutOfMemory
from service.features.model import NO_OVERRIDES, MediaType, Profile, ReadOptions
from service.features.ports import Files
from service.features.profile import build_profile

T = TypeVar("T")


class Upload(Struct, frozen=True):
    """What is to be read, and how."""

    source_key: str
    media_type: MediaType
    target_key: str
    overrides: ReadOptions = NO_OVERRIDES


async def ingest(artifacts: Files, limits: Limits, scratch: Path, upload: Upload) -> Profile:
    """Read the upload under its `source_key`, write it as typed Parquet to its `target_key`, and profile it.

    The typed file has unique column names, the types BIGINT, DOUBLE, BOOLEAN, TIMESTAMP (UTC) and VARCHAR, and last
    the column `__row_id`. Raises DatasetUnreadable with line and column, ComputeOutOfMemory, DeadlineExceeded.
    """
    async with artifacts.local(upload.source_key) as path, sandbox(limits, scratch=scratch, readable=[path]) as box:
        try:
            source = await _read(box, path, upload.media_type, limits)
            table, notes = await _write_typed(box, source, upload.overrides)
            columns = await measure(box, table)
        except ComputeOutOfMemory as error:
            raise ComputeOutOfMemory(
                "The dataset needs more memory to read than the engine may use. Send fewer columns or shorter cells."
            ) from error
        profile = await asyncio.to_thread(build_profile, table.row_count, columns, bounded(notes))
        await artifacts.put_file(upload.target_key, table.path)
    return profile


async def _read(box: Sandbox, upload: Path, media_type: MediaType, limits: Limits) -> Source:
    if media_type == "application/vnd.apache.parquet":
        return await read_parquet(box, upload, limits)
    claimed, read = ("CSV", read_csv) if media_type == "text/csv" else ("NDJSON", read_ndjson)

    def prepare(stopped: Stopped) -> PreparedText:
        return prepare_text(upload, box.folder, claimed, stopped)

    return await read(box, await _in_thread(prepare), limits)


async def _in_thread(work: Callable[[Stopped], T]) -> T:
    """Run the work in a thread; when the task is cancelled, tell the thread, and leave only when it has ended."""
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop.is_set))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({running})
        running.exception()  # seen here, so that asyncio does not report it as never retrieved
        raise


async def _write_typed(box: Sandbox, source: Source, overrides: ReadOptions) -> tuple[TypedTable, tuple[str, ...]]:
    """Find the types and write the typed file; gives it with the notes on what was chosen."""
    path = box.folder / "typed.parquet"
    try:
        readings = await read_columns(box, source, overrides)
        kept = [column for column in source.columns if column.position in readings]
        rows = (await run(box, lambda: _typed_query(source, kept, readings, path)))[0][0]
    except duckdb.Error as error:
        if source.typed:
            raise damaged() from error
        raise
    columns = tuple(_typed_column(column, readings[column.position]) for column in kept)
    left_out = ((column.name, "left out, as asked") for column in source.columns if column.position not in readings)
    chosen = ((column.name, note) for column in kept for note in readings[column.position].notes)
    return TypedTable(path, rows, columns), (*source.notes, *merged((*left_out, *chosen)))


def _typed_column(column: SourceColumn, reading: Reading) -> TypedColumn:
    return TypedColumn(column.name, reading.physical, reading.logical, is_value=reading.is_value)


def _typed_query(
    source: Source, columns: Sequence[SourceColumn], readings: dict[int, Reading], target: Path
) -> exp.Expr:
    values = [named(readings[column.position].value, column.name, quoted=True) for column in columns]
    row_id = named(cast(exp.column("r"), "BIGINT"), ROW_ID, quoted=True)
    query = exp.select(*values, row_id).from_(parquet(source.path, source.width, row_number=True), copy=False)
    return write_parquet(query, target, len(values) + 1)
