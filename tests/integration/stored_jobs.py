"""A database with a job queue for tests that run the jobs themselves, without a worker."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import NoOpTracerProvider

from service.features.delivery import Delivery
from service.features.model import Extraction
from service.features.stores import UnitOfWork
from service.jobs.queue import ProcrastinateQueue
from service.store.database import open_database
from service.store.tables import extractions
from tests.doubles import FaultyStore


class CountingQueue(ProcrastinateQueue):
    """The real queue; keeps the delays with which jobs were enqueued, which the database stores as instants."""

    def __init__(self) -> None:
        super().__init__(NoOpTracerProvider())
        self.delays: dict[str, float] = {}

    async def enqueue(self, work: UnitOfWork, extraction: Extraction, *, delay: float = 0.0) -> None:
        """Enqueue the extraction."""
        self.delays[extraction.id] = delay
        await super().enqueue(work, extraction, delay=delay)

    async def enqueue_delivery(self, work: UnitOfWork, delivery: Delivery, *, delay: float = 0.0) -> None:
        """Enqueue the webhook."""
        self.delays[delivery.id] = delay
        await super().enqueue_delivery(work, delivery, delay=delay)


class StoredJobs:
    """Rows and jobs in a real database, and a store on it that can be made to fail."""

    def __init__(self, url: str) -> None:
        self._database = open_database(url, pool_size=8, max_overflow=8, pool_timeout=60.0)
        self.store = FaultyStore().around(self._database.store)
        self.queue = CountingQueue()

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def clear(self) -> None:
        """Delete every row and job."""
        for table in ("procrastinate_jobs", "webhook_deliveries", "idempotency_keys", "extractions", "datasets"):
            await self.sql(f"DELETE FROM {table}")  # noqa: S608 - the names are these

    async def sql(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Execute a statement and return its rows."""
        async with self._database.store.begin() as work:
            found = await work.connection.exec_driver_sql(statement, values or None)
            return [dict(row) for row in found.mappings()] if found.returns_rows else []

    async def extractions(self) -> dict[str, Extraction]:
        """Read all extractions by their ids."""
        async with self._database.store.begin() as work:
            return {row.id: row for row in await work.extractions.newest(1000)}

    async def deliveries(self) -> list[Delivery]:
        """Read all webhooks."""
        async with self._database.store.begin() as work:
            return list(await work.deliveries.newest(1000))

    async def add(self, *added: Extraction) -> None:
        """Store extractions."""
        async with self._database.store.begin() as work:
            for extraction in added:
                await work.extractions.add(extraction)

    async def change(self, extraction_id: str, **values: Any) -> None:
        """Change an extraction as another process does."""
        async with self._database.store.begin() as work:
            await work.extractions._change(extractions.c.id == extraction_id, **values)

    async def waiting(self) -> list[tuple[str, float]]:
        """Return what the waiting jobs are for, with their delays, in the order in which they were enqueued."""
        jobs = await self.sql("SELECT lock FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id")
        return [(job["lock"], self.queue.delays[job["lock"]]) for job in jobs]

    async def take_jobs(self) -> list[tuple[str, float]]:
        """Remove the waiting jobs, as a worker does that runs them, and return them."""
        waiting = await self.waiting()
        await self.sql("DELETE FROM procrastinate_jobs")
        return waiting
