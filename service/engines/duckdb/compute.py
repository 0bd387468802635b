"""Runs a validated plan in a sandbox and holds the result until it is published."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import duckdb
from msgspec import Struct
from opentelemetry.trace import Tracer
from sqlglot import exp

from service.engines.duckdb.evidence import measure
from service.engines.duckdb.progress import Progress
from service.engines.duckdb.sandbox import Sandbox, sandbox
from service.engines.duckdb.statements import Connection, template
from service.engines.limits import Limits
from service.engines.spans import engine_span
from service.engines.sql.compile import COMPUTED, CompiledPlan, compile_plan
from service.engines.sql.dialects import render
from service.features.errors import ComputeFailed, DatasetNotFound
from service.features.model import Dataset, FeatureEvidence, FeaturePlan
from service.features.ports import Files

OPEN_DATASET = "CREATE VIEW dataset AS SELECT * FROM READ_PARQUET(:path)"
WRITE_PARQUET = "COPY (SELECT 1) TO :path (FORMAT PARQUET, COMPRESSION ZSTD)"


COMPUTED_SHARE = 0.6
"""Of the work, when the features are computed and their evidence is still to be measured: about what it takes."""


class Request(Struct, frozen=True):
    """What is to be computed, and who is told how far it has come; from the sandbox's thread."""

    dataset: Dataset
    plan: FeaturePlan
    target: str | None
    progress: Callable[[float], None]
    tracer: Tracer


class DuckDBTable(Struct, frozen=True):
    """Features computed into a sandbox's table; implements `ports.FeatureTable`."""

    row_count: int
    evidence: tuple[FeatureEvidence, ...]
    sql: str
    box: Sandbox
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
    """Compute the plan's features and measure them.

    Raises ComputeFailed, ComputeOutOfMemory, DeadlineExceeded, DatasetNotFound.
    """
    async with (
        dataset_file(artifacts, request.dataset) as path,
        sandbox(limits, scratch=scratch, readable=[path]) as box,
    ):
        computed = await _traced(box, Order(path, request))
        yield DuckDBTable(computed.rows, computed.evidence, computed.sql, box, computed.compiled, artifacts)


@asynccontextmanager
async def dataset_file(artifacts: Files, dataset: Dataset) -> AsyncGenerator[Path]:
    """The dataset's file. Raises DatasetNotFound when the dataset was deleted meanwhile."""
    async with AsyncExitStack() as stack:
        try:
            path = await stack.enter_async_context(artifacts.local(dataset.artifact_key))
        except FileNotFoundError:
            raise deleted() from None
        yield path


def deleted() -> DatasetNotFound:
    """The error for a dataset that was there when its extraction began."""
    return DatasetNotFound("The dataset was deleted before its features were computed.")


class Order(Struct, frozen=True):
    """What is to be computed from which file."""

    path: Path
    request: Request


class Computed(Struct, frozen=True):
    """What has become of it."""

    compiled: CompiledPlan
    rows: int
    evidence: tuple[FeatureEvidence, ...]
    sql: str


async def _traced(box: Sandbox, order: Order) -> Computed:
    """One span around it; an error's message may quote a cell, so neither span nor caller gets it."""
    request = order.request
    with engine_span(request.tracer, "compute", features=len(request.plan.features)) as span:
        try:
            progress = Progress(request.progress)
            computed = await box.run(lambda execute: _compute(Connection(execute), order, progress), progress.within)
        except duckdb.Error as error:
            raise _failure(error, order.path) from None
        span.set_attribute("feature_agent.rows", computed.rows)
        return computed


def _compute(connection: Connection, order: Order, progress: Progress) -> Computed:
    request, profile = order.request, order.request.dataset.profile
    compiled = compile_plan(request.plan, profile)
    connection.query(template(OPEN_DATASET, path=exp.Literal.string(str(order.path))))
    progress.begin(COMPUTED_SHARE)
    connection.create(COMPUTED, compiled.computed)
    rows, evidence = measure(connection, compiled, request.plan, profile, request.target, _rest(progress))
    progress.end()
    return Computed(compiled, rows, evidence, render(compiled.statement(), "duckdb", pretty=True))


def _rest(progress: Progress) -> Callable[[float], None]:
    """Begins steps of what comes after the features are computed, told as shares of that."""
    return lambda until: progress.begin(COMPUTED_SHARE + (1 - COMPUTED_SHARE) * until)


def _write(connection: Connection, compiled: CompiledPlan, names: Sequence[str], path: Path) -> None:
    copy = template(WRITE_PARQUET, path=exp.Literal.string(str(path)))
    copy.set("this", compiled.published(names).subquery())
    connection.query(copy)


def _failure(error: duckdb.Error, source: Path | None = None) -> ComputeFailed | DatasetNotFound:
    """What the client is told; a file of a local folder can be deleted between two statements that read it."""
    if source is not None and not source.exists():
        return deleted()
    return ComputeFailed(f"The engine could not run the plan ({type(error).__name__}).")
