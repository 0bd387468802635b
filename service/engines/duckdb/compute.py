"""Runs a validated plan in a sandbox and holds the result until it is published."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import duckdb
from msgspec import Struct

from service.engines.dataset_file import dataset_file, deleted
from service.engines.duckdb.evidence import measure
from service.engines.duckdb.progress import Progress
from service.engines.duckdb.sandbox import Execute, Sandbox, sandbox
from service.engines.duckdb.statements import Connection, template
from service.engines.limits import Limits
from service.engines.sql.compile import COMPUTED, CompiledPlan, compile_plan
from service.engines.sql.dialects import render
from service.features.errors import ComputeFailed, DatasetNotFound
from service.features.model import Dataset, FeatureEvidence, FeaturePlan
from service.features.ports import Files

OPEN_DATASET = "CREATE VIEW dataset AS SELECT * FROM READ_PARQUET(:path)"
WRITE_PARQUET = "COPY (SELECT 1) TO :path (FORMAT PARQUET, COMPRESSION ZSTD)"

T = TypeVar("T")


class Request(Struct, frozen=True):
    """What is to be computed, and where progress is reported; the sandbox's thread calls it."""

    dataset: Dataset
    plan: FeaturePlan
    progress: Callable[[float], None]


class DuckDBTable(Struct, frozen=True):
    """Features computed into a sandbox's table; implements `ports.FeatureTable`."""

    row_count: int
    sql: str
    box: Sandbox
    path: Path
    """The dataset's file."""
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
    """Compute the plan's features into the sandbox's table `computed`, over a view `dataset` of the dataset's file.

    Raises ComputeFailed, ComputeOutOfMemory, DeadlineExceeded, DatasetNotFound.
    """
    async with (
        dataset_file(artifacts, request.dataset) as path,
        sandbox(limits, scratch=scratch, readable=[path]) as box,
    ):
        computed = await _compute_table(box, path, request)
        yield DuckDBTable(computed.rows, computed.sql, box, path, request, computed.compiled, artifacts)


class Computed(Struct, frozen=True):
    """What the sandbox's thread made of a request."""

    rows: int
    sql: str
    compiled: CompiledPlan


async def _compute_table(box: Sandbox, path: Path, request: Request) -> Computed:
    """Compile and compute in the sandbox's thread. Error messages are dropped: they may quote a cell."""
    progress = Progress(request.progress)

    def work(execute: Execute) -> Computed:
        connection = Connection(execute)
        compiled = compile_plan(request.plan, request.dataset.profile)
        connection.query(template(OPEN_DATASET, path=str(path)))
        progress.begin(1.0)
        rows = connection.create(COMPUTED, compiled.computed)
        progress.end()
        return Computed(rows, render(compiled.statement(), "duckdb", pretty=True), compiled)

    return await _run(box, path, work, progress)


async def measure_table(
    table: DuckDBTable, target: str | None, report: Callable[[float], None]
) -> tuple[FeatureEvidence, ...]:
    """Measure each feature of the table, where it was computed. Raises what `compute` raises."""
    progress, request = Progress(report), table.request

    def work(execute: Execute) -> tuple[FeatureEvidence, ...]:
        plan, profile = request.plan, request.dataset.profile
        evidence = measure(Connection(execute), table.compiled, plan, profile, target, progress.begin)
        progress.end()
        return evidence

    return await _run(table.box, table.path, work, progress)


async def _run(box: Sandbox, path: Path, work: Callable[[Execute], T], progress: Progress) -> T:
    try:
        return await box.run(work, progress.within)
    except duckdb.Error as error:
        raise _failure(error, path) from None


def _write(connection: Connection, compiled: CompiledPlan, names: Sequence[str], path: Path) -> None:
    copy = template(WRITE_PARQUET, path=str(path))
    copy.set("this", compiled.published(names).subquery())
    connection.query(copy)


def _failure(error: duckdb.Error, source: Path | None = None) -> ComputeFailed | DatasetNotFound:
    """The error for the client; a file of a local folder can be deleted between two statements that read it."""
    if source is not None and not source.exists():
        return deleted()
    return ComputeFailed(f"The engine could not run the plan ({type(error).__name__}).")
