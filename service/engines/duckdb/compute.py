"""Runs a validated plan in a sandbox and holds the result until it is published."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import duckdb
from msgspec import Struct

from service.engines.dataset_file import dataset_file, deleted
from service.engines.duckdb.evidence import measure
from service.engines.duckdb.open_tables import check_joins, open_tables
from service.engines.duckdb.progress import Progress
from service.engines.duckdb.sandbox import Execute, Sandbox, sandbox
from service.engines.duckdb.statements import Connection, template
from service.engines.limits import Limits
from service.engines.sql.compile import COMPUTED, CompiledPlan
from service.engines.sql.compile_tables import compile_tables
from service.engines.sql.dialects import render
from service.features.errors import ComputeFailed, DatasetNotFound
from service.features.model import FeatureEvidence, FeaturePlan
from service.features.ports import Files
from service.features.tables import Tables

WRITE_PARQUET = "COPY (SELECT 1) TO :path (FORMAT PARQUET, COMPRESSION ZSTD)"

T = TypeVar("T")


class Request(Struct, frozen=True):
    """What is to be computed, and where progress is reported; the sandbox's thread calls it."""

    tables: Tables
    plan: FeaturePlan
    progress: Callable[[float], None]


class DuckDBTable(Struct, frozen=True):
    """Features computed into a sandbox's table; implements `ports.FeatureTable`."""

    row_count: int
    sql: str
    box: Sandbox
    paths: tuple[Path, ...]
    """The datasets' files."""
    request: Request
    compiled: CompiledPlan
    artifacts: Files

    async def publish(self, names: Sequence[str], key: str) -> None:
        """Write the keys and the named features, ordered by key, as Parquet to the artifact `key`, atomically."""
        path = self.box.folder / "features.parquet"
        try:
            await self.box.run(lambda execute: _write(Connection(execute), self.compiled, names, path))
        except duckdb.Error as error:
            raise _failure(error) from None
        await self.artifacts.put_file(key, path)


@asynccontextmanager
async def compute(artifacts: Files, limits: Limits, scratch: Path, request: Request) -> AsyncGenerator[DuckDBTable]:
    """Compute the plan's features into the sandbox's table `computed`, over views of the datasets' files.

    Raises ComputeFailed, ComputeOutOfMemory, DeadlineExceeded, DatasetNotFound; InvalidRequest for keys that are not
    unique where they must be.
    """
    async with AsyncExitStack() as stack:
        opened = [dataset_file(artifacts, dataset) for dataset in request.tables.all]
        paths = tuple([await stack.enter_async_context(each) for each in opened])
        box = await stack.enter_async_context(sandbox(limits, scratch=scratch, readable=paths))
        computed = await _compute_table(box, paths, request)
        yield DuckDBTable(computed.rows, computed.sql, box, paths, request, computed.compiled, artifacts)


class Computed(Struct, frozen=True):
    """What the sandbox's thread made of a request."""

    rows: int
    sql: str
    compiled: CompiledPlan


async def _compute_table(box: Sandbox, paths: tuple[Path, ...], request: Request) -> Computed:
    """Compile and compute in the sandbox's thread. Error messages are dropped: they may quote a cell."""
    progress = Progress(request.progress)

    def work(execute: Execute) -> Computed:
        connection = Connection(execute)
        compiled = compile_tables(request.plan, request.tables)
        open_tables(connection, request.tables, paths)
        check_joins(connection, request.tables)
        progress.begin(1.0)
        rows = connection.create(COMPUTED, compiled.computed)
        progress.end()
        return Computed(rows, render(compiled.statement(), "duckdb", pretty=True), compiled)

    return await _run(box, paths, work, progress)


async def measure_table(
    table: DuckDBTable, target: str | None, report: Callable[[float], None]
) -> tuple[FeatureEvidence, ...]:
    """Measure each feature of the table, where it was computed. Raises what `compute` raises."""
    progress, request = Progress(report), table.request

    def work(execute: Execute) -> tuple[FeatureEvidence, ...]:
        plan, tables = request.plan, request.tables
        evidence = measure(Connection(execute), table.compiled, plan, tables, target, progress.begin)
        progress.end()
        return evidence

    return await _run(table.box, table.paths, work, progress)


async def _run(box: Sandbox, paths: tuple[Path, ...], work: Callable[[Execute], T], progress: Progress) -> T:
    try:
        return await box.run(work, progress.within)
    except duckdb.Error as error:
        raise _failure(error, paths) from None


def _write(connection: Connection, compiled: CompiledPlan, names: Sequence[str], path: Path) -> None:
    copy = template(WRITE_PARQUET, path=str(path))
    copy.set("this", compiled.published(names).subquery())
    connection.query(copy)


def _failure(error: duckdb.Error, sources: Sequence[Path] = ()) -> ComputeFailed | DatasetNotFound:
    """The error for the client; a file of a local folder can be deleted between two statements that read it."""
    if not all(source.exists() for source in sources):
        return deleted()
    return ComputeFailed(f"The engine could not run the plan ({type(error).__name__}).")
