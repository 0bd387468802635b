"""Implement the engine's ports with child processes, so that every work can be killed.

Each process carries out one request at a time, or one extraction's computing, measuring and publishing. The engine's
library and its memory stay out of the service. Artifacts are fetched and published here: a process knows paths only.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace
from opentelemetry.trace import Tracer, TracerProvider, get_tracer

from service.concurrency.deadline import deadline, seconds_left
from service.engines.dataset_file import dataset_file
from service.engines.limits import REHEARSAL_SECONDS
from service.engines.selection import SelectedEngine
from service.engines.spans import engine_span
from service.engines.subprocess.child import EngineProcess
from service.engines.subprocess.messages import (
    Compute,
    Computed,
    Done,
    Export,
    Ingest,
    Ingested,
    Measure,
    Measured,
    Ping,
    Publish,
    Rehearse,
    Rehearsed,
    Release,
    Setup,
)
from service.engines.subprocess.pool import IDLE_SECONDS, EnginePool
from service.engines.turns import Turns
from service.features.context import CURRENT
from service.features.errors import ComputeFailed, DeadlineExceeded, FeatureAgentError
from service.features.extract import lane_of
from service.features.model import (
    NO_OVERRIDES,
    FeatureEvidence,
    FeaturePlan,
    Lane,
    MediaType,
    Profile,
    ReadOptions,
    TableForm,
)
from service.features.ports import Files, Observer, RehearsedFeature
from service.features.tables import Tables

LARGE_FILE_BYTES = 4 * 2**20
"""From this size reading a file is large work, some seconds."""
RELEASE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SubprocessTable:
    """Implement `ports.FeatureTable` for a table that a process holds."""

    row_count: int
    sql: str
    process: EngineProcess
    features: int
    engine: SubprocessEngine

    async def publish(self, names: Sequence[str], key: str) -> None:
        """Write the key columns and the named features as Parquet to the artifact `key`, atomically."""
        await self.engine.publish(self, tuple(names), key)


class SubprocessEngine:
    """See `ports` for the promises; `close` it in the end. For one event loop.

    Cancellation kills the process of the request at once; a process that does not reply within GRACE_SECONDS after its
    deadline is killed, too. The request ends when its process has.
    """

    def __init__(
        self,
        artifacts: Files,
        selected: SelectedEngine,
        scratch: Path,
        *,
        observer: Observer,
        tracer_provider: TracerProvider | None = None,
        idle_seconds: float = IDLE_SECONDS,
        keep_warm: bool = False,
    ) -> None:
        """Read and write `artifacts`, with as many processes at work as are `selected`."""
        self._artifacts = artifacts
        self._limits = limits = selected.limits
        self._scratch = scratch
        self._system = selected.system
        self._tracer: Tracer = get_tracer("service.engines.subprocess", tracer_provider=tracer_provider)
        self._turns = Turns(selected.concurrency, limits.seconds, observer)
        setup = Setup(selected.system, limits, str(scratch))
        self._pool = EnginePool(
            setup, observer, on_lost=self._turns.set_lost, idle_seconds=idle_seconds, keep_warm=keep_warm
        )

    @property
    def alive(self) -> bool:
        """Whether any work can still be done: False when every place is lost to a process that does not end."""
        return not self._turns.all_lost

    def start(self) -> None:
        """Start a process in the background, so that the first request need not wait for it."""
        self._pool.start()

    async def close(self) -> None:
        """Kill all processes, and wait until they have ended."""
        await self._pool.close()

    async def ping(self) -> None:
        """Raises ComputeFailed when no sandbox can be opened and used."""
        async with self._turns.taken(_caller(), "small"), self._pool.process() as process:
            await process.ask(Ping(self._seconds()), Done)

    async def ingest(
        self, source_key: str, media_type: MediaType, target_key: str, *, overrides: ReadOptions = NO_OVERRIDES
    ) -> Profile:
        """Read an upload, write it as typed Parquet, and profile it."""
        async with self._turns.taken(_caller(), await self._lane(source_key)):
            with engine_span(self._tracer, "ingest", system=self._system):
                async with self._artifacts.local(source_key) as upload, self._new_file() as typed:
                    async with self._pool.process() as process:
                        request = Ingest(self._seconds(), str(upload), media_type, str(typed), overrides)
                        profile = (await process.ask(request, Ingested)).profile
                    await self._artifacts.put_file(target_key, typed)
                    return profile

    async def export(self, key: str, form: TableForm) -> Path:
        """Render a published Parquet table into a temporary file that the caller removes."""
        async with self._turns.taken(_caller(), await self._lane(key)):
            with engine_span(self._tracer, "export", system=self._system):
                async with self._artifacts.local(key) as source, self._pool.process() as process:
                    rendered = await asyncio.to_thread(_make_file, self._scratch)
                    try:
                        await process.ask(Export(self._seconds(), str(source), form, str(rendered)), Done)
                    except BaseException:
                        rendered.unlink(missing_ok=True)
                        raise
                    return rendered

    async def rehearse(self, tables: Tables, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
        """Try the plan on a sample; waiting for a turn takes of its few seconds, too."""
        with deadline(seconds_left(REHEARSAL_SECONDS)):
            async with self._turns.taken(tables.main.owner, "small"):
                with engine_span(self._tracer, "rehearse", system=self._system, features=len(plan.features)):
                    return await self._rehearse(tables, plan)

    @asynccontextmanager
    async def compute(
        self, tables: Tables, plan: FeaturePlan, *, progress: Callable[[float], None] = lambda _: None
    ) -> AsyncGenerator[SubprocessTable]:
        """Run the plan into a table that a process holds until the block ends."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._turns.taken(tables.main.owner, lane_of(tables)))
            opened = [dataset_file(self._artifacts, dataset) for dataset in tables.all]
            paths = [await stack.enter_async_context(each) for each in opened]
            process = await stack.enter_async_context(self._pool.process())
            found = await self._compute(process, _at(tables, paths), plan, progress)
            try:
                yield SubprocessTable(found.row_count, found.sql, process, len(plan.features), self)
            except asyncio.CancelledError:
                raise  # the process is killed, which is quicker
            except BaseException:
                await _release(process)
                raise
            await _release(process)

    async def measure(
        self, table: SubprocessTable, *, target: str | None, progress: Callable[[float], None] = lambda _: None
    ) -> tuple[FeatureEvidence, ...]:
        """Measure the table in the process that holds it."""
        with engine_span(self._tracer, "measure", system=self._system, features=table.features):
            return (await table.process.ask(Measure(self._seconds(), target), Measured, progress)).evidence

    async def publish(self, table: SubprocessTable, names: tuple[str, ...], key: str) -> None:
        """Write the table's keys and the named features as Parquet to the artifact `key`, atomically."""
        async with self._new_file() as written:
            await table.process.ask(Publish(self._seconds(), names, str(written)), Done)
            await self._artifacts.put_file(key, written)

    async def _compute(
        self, process: EngineProcess, tables: Tables, plan: FeaturePlan, progress: Callable[[float], None]
    ) -> Computed:
        with engine_span(self._tracer, "compute", system=self._system, features=len(plan.features)) as span:
            found = await process.ask(Compute(self._seconds(), tables, plan), Computed, progress)
            span.set_attribute("feature_agent.rows", found.row_count)
            return found

    async def _rehearse(self, tables: Tables, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
        try:
            async with asyncio.timeout(self._seconds()) as fetching, AsyncExitStack() as stack:
                opened = [self._artifacts.local(dataset.artifact_key) for dataset in tables.all]
                paths = [await stack.enter_async_context(each) for each in opened]
                process = await stack.enter_async_context(self._pool.process())
                fetching.reschedule(None)  # the process keeps its own time from here on
                request = Rehearse(self._seconds(), _at(tables, paths), plan)
                return (await process.ask(request, Rehearsed)).features
        except TimeoutError:
            raise DeadlineExceeded("A trial of the plan on a sample did not end within its time.") from None
        except OSError as error:
            raise ComputeFailed(f"The engine could not try the plan ({type(error).__name__}).") from None

    async def _lane(self, key: str) -> Lane:
        return "large" if await self._artifacts.size(key) >= LARGE_FILE_BYTES else "small"

    def _seconds(self) -> float:
        return seconds_left(self._limits.seconds)

    @asynccontextmanager
    async def _new_file(self) -> AsyncGenerator[Path]:
        """Give an empty file in the scratch folder, removed when the block ends."""
        path = await asyncio.to_thread(_make_file, self._scratch)
        try:
            yield path
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)


def _at(tables: Tables, paths: Sequence[Path]) -> Tables:
    """Return the tables with the paths of their files, in the order of `Tables.all`, as their artifacts."""
    main, *others = (replace(one, artifact_key=str(path)) for one, path in zip(tables.all, paths, strict=True))
    related = tuple(others[: len(tables.related)])
    return replace(tables, main=main, related=related, observed=None if tables.observed is None else others[-1])


def _caller() -> str:
    """Return the principal on whose behalf this runs; empty for the service itself."""
    context = CURRENT.get()
    return context.user_id if context else ""


async def _release(process: EngineProcess) -> None:
    """Have the process drop its table; one that does not is killed by the pool."""
    if process.usable:
        with suppress(FeatureAgentError):
            await process.ask(Release(RELEASE_SECONDS), Done)


def _make_file(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="file-", delete=False) as file:
        return Path(file.name)
