"""Measure the queue, in every process that serves the API or runs jobs."""

from __future__ import annotations

import asyncio
from typing import Self

import structlog
from opentelemetry.instrumentation.utils import suppress_instrumentation

from service.features.errors import DependencyUnavailable
from service.features.events import QueueMeasured
from service.features.ports import Observer
from service.jobs.rescue import DEAD_SECONDS
from service.jobs.statements import MEASURE
from service.store.failures import database_errors
from service.store.unit_of_work import SqlStore

INTERVAL_SECONDS = 5.0

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class QueueMonitor:
    """Measure every few seconds for as long as the `async with` block lasts; holds no connection in between."""

    def __init__(self, store: SqlStore, observer: Observer, *, seconds: float = INTERVAL_SECONDS) -> None:
        self._store = store
        self._observer = observer
        self._seconds = seconds
        self._measuring: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._measuring = asyncio.create_task(self._keep_measuring(), name="queue-metrics")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.wait({self._measuring})

    async def measure(self) -> QueueMeasured:
        """Measure the queue and record it with the observer. Raises DependencyUnavailable."""
        with suppress_instrumentation(), database_errors():  # a trace of each measurement would be noise
            async with self._store.begin() as work:
                found = await work.connection.exec_driver_sql(MEASURE, {"dead_seconds": DEAD_SECONDS})
        queued, scheduled, running, oldest, workers, crashes = found.one()
        measured = QueueMeasured(queued, scheduled, running, max(oldest, 0.0), workers, crashes)
        self._observer.record(measured)
        return measured

    async def _keep_measuring(self) -> None:
        while True:
            try:
                await self.measure()
            except DependencyUnavailable:
                pass  # the last numbers stay; `dependency_up` shows why
            except Exception:
                _LOGGER.exception("the queue was not measured")
            await asyncio.sleep(self._seconds)
