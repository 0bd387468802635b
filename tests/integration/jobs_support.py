"""A job queue on a real database, with extractions whose work waits for the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
from msgspec.structs import replace
from opentelemetry.sdk.trace import TracerProvider
from psycopg.rows import dict_row

from service.extractions.run import RunExtraction
from service.features.model import (
    Extraction,
    ExtractionRequest,
    ExtractionResult,
    ModelUsage,
    QualitySummary,
    Stage,
)
from service.jobs.queue import ProcrastinateQueue
from service.jobs.worker import JobWorker
from service.store.database import Database, open_database
from tests.doubles import Recorder

TIMEOUT_SECONDS = 60.0
"""Seconds after which what does not come is taken for missing; nothing is measured by it."""
QUALITY = QualitySummary("low", 1.0, {})
RESULT = ExtractionResult((), (), (), QUALITY, ModelUsage("builtin:planner"), 0, "row", None, None, "key", "SELECT")


class Clock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)


class NoArtifacts:
    """Nothing is published here."""

    async def delete(self, key: str) -> None:
        """Nothing to remove."""

    async def size(self, key: str) -> int:
        """Nothing takes room."""
        return 0


class JobRecorder(Recorder):
    """An observer that also lists how attempts ended."""

    def outcomes(self) -> list[str]:
        """How the attempts ended, in order."""
        return [event.outcome for event in self.events if hasattr(event, "outcome")]


@dataclass
class Work:
    """Replace the pipeline: count its runs, and hold or fail those of the datasets that a test names."""

    runs: list[str] = field(default_factory=list)
    """Extractions in the order in which they were begun."""
    held: set[str] = field(default_factory=set)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    failures: dict[str, list[Exception]] = field(default_factory=dict)

    async def __call__(self, extraction: Extraction, enter: Callable[[Stage, float], None]) -> ExtractionResult:
        """Run one extraction."""
        self.runs.append(extraction.id)
        dataset = extraction.request.dataset_id
        if dataset in self.held:
            await self.gate.wait()
        if self.failures.get(dataset):
            raise self.failures[dataset].pop(0)
        return RESULT


class Room:
    """A database with a queue, and workers on it."""

    def __init__(self, url: str, tracer_provider: TracerProvider | None = None) -> None:
        self.url = url
        self.plain_url = url.replace("+psycopg", "")
        self.database: Database = open_database(url, pool_size=8, max_overflow=8, pool_timeout=TIMEOUT_SECONDS)
        self.tracer_provider = tracer_provider or TracerProvider()
        self.queue = ProcrastinateQueue(self.tracer_provider)
        self.recorder = JobRecorder()
        self.work = Work()

    def run(self) -> RunExtraction:
        """The use case on this room's work."""
        store, clock, artifacts = self.database.store, Clock(), NoArtifacts()
        return RunExtraction(
            self.work, store=store, queue=self.queue, artifacts=artifacts, observer=self.recorder, clock=clock
        )

    def worker(self, run: Callable[[str], Awaitable[Any]] | None = None, **options: Any) -> JobWorker:
        """A worker of this room, to be entered."""
        return JobWorker(
            run or self.run(),
            database_url=self.url,
            observer=self.recorder,
            tracer_provider=self.tracer_provider,
            **{"grace_seconds": TIMEOUT_SECONDS, **options},
        )

    def extraction(self, owner: str = "ada", dataset: str = "events", **fields: Any) -> Extraction:
        """A new extraction that is stored nowhere yet."""
        request = ExtractionRequest(dataset, "Clicks of each user")
        return replace(Extraction(uuid4().hex, owner, request, "queued", datetime.now(UTC)), **fields)

    async def accept(self, owner: str = "ada", dataset: str = "events", delay: float = 0.0, **fields: Any) -> str:
        """Store an extraction with its job, and give its id."""
        extraction = self.extraction(owner, dataset, **fields)
        async with self.database.store.begin() as unit:
            await unit.extractions.add(extraction)
            await self.queue.enqueue(unit, extraction, delay=delay)
        return extraction.id

    async def find(self, extraction_id: str) -> Extraction:
        """The row."""
        async with self.database.store.begin() as unit:
            found = await unit.extractions.find(extraction_id)
        assert found is not None
        return found

    async def until(self, extraction_id: str, *status: str) -> Extraction:
        """Wait for the row to have one of those statuses."""
        async for _ in poll():
            found = await self.find(extraction_id)
            if found.status in status:
                return found
        raise AssertionError(f"{extraction_id} is {found.status}, not one of {status}")

    async def empty(self) -> None:
        """Wait until there is no job at all."""
        async for _ in poll():
            if not await self.jobs():
                return
        raise AssertionError(f"jobs are left: {await self.jobs()}")

    async def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first."""
        return await self.sql("SELECT * FROM procrastinate_jobs ORDER BY id")

    async def sql(self, statement: Any, *values: Any) -> list[dict[str, Any]]:
        """Ask the database directly."""
        connecting = psycopg.AsyncConnection.connect(self.plain_url, autocommit=True, row_factory=dict_row)
        async with await connecting as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def listeners(self, but: Iterable[int] = ()) -> set[int]:
        """The connections on which a worker's two lanes listen, once there are two beside those."""
        statement = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%%'"
        async for _ in poll():
            found = {row["pid"] for row in await self.sql(statement)} - set(but)
            if len(found) == 2:
                return found
        raise AssertionError("nobody listens")

    async def leave_behind(self, extraction_id: str, *, silent_seconds: float = 3600.0) -> int:
        """Have the job fetched by a worker that has died since; gives the worker's id."""
        [worker] = await self.sql(
            "INSERT INTO procrastinate_workers (last_heartbeat) SELECT now() - make_interval(secs => %s) RETURNING id",
            silent_seconds,
        )
        await self.sql(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE lock = %s AND status = 'todo'",
            worker["id"],
            extraction_id,
        )
        return int(worker["id"])


async def poll() -> Any:
    """Repeat a loop that polls for something, until the timeout."""
    last = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < last:
        yield
        await asyncio.sleep(0.02)
