"""Measure the process itself: event loop lag, garbage collection, memory, dependencies, the database pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Literal, Self, TypeVar

import structlog

from service.telemetry.gc_pauses import GcPauseMonitor
from service.telemetry.memory import memory_limit_bytes
from service.telemetry.metrics import Metrics

Check = Callable[[], Awaitable[object]]
"""Raises, or returns False, when the dependency is unreachable."""
Measure = Callable[[], Awaitable[float]]
"""Returns a gauge's value; may raise when it is not known at the moment."""
PoolConnections = Callable[[], Mapping[Literal["in_use", "idle"], int]]

Name = TypeVar("Name", bound=str)

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class RuntimeMonitor:
    """Measure for as long as the `async with` block lasts.

    `checks` are the configured dependencies by their catalog names. Each is called every `refresh_seconds` with a
    timeout of `check_seconds`. The lag is measured every `lag_seconds`: twice a second gives 600 measurements in a 5
    min window for some microseconds of work each. `slow_gauges` are slowly changing gauges by name; each is measured
    every `slow_gauge_seconds`, and keeps its value when that fails.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        checks: Mapping[Name, Check],
        pool: PoolConnections | None = None,
        slow_gauges: Mapping[str, Measure] = MappingProxyType({}),
        refresh_seconds: float = 10.0,
        check_seconds: float = 2.0,
        lag_seconds: float = 0.5,
        slow_gauge_seconds: float = 30.0,
    ) -> None:
        self._garbage = GcPauseMonitor(metrics)
        self._lag = metrics.histogram("event_loop_lag_seconds").child()
        self._up = metrics.gauge("dependency_up")
        self._connections = metrics.gauge("db_pool_connections")
        self._checks: dict[str, Check] = {**checks}
        self._pool = pool
        self._slow_gauges = {metrics.gauge(name).child(): measure for name, measure in slow_gauges.items()}
        self._slow_gauge_seconds = slow_gauge_seconds
        metrics.gauge("memory_limit_bytes").child().set(memory_limit_bytes())
        self._refresh_seconds = refresh_seconds
        self._check_seconds = check_seconds
        self._lag_seconds = lag_seconds
        self._known: dict[str, bool] = {}
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        self._garbage.start()
        self._tasks = (
            asyncio.create_task(self._measure_lag(), name="event-loop-lag"),
            asyncio.create_task(self._keep_fresh(), name="runtime-metrics"),
            asyncio.create_task(self._keep_measuring_slow_gauges(), name="slow-gauges"),
        )
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._garbage.stop()

    async def refresh(self) -> Mapping[str, bool]:
        """Check every dependency and the pool now; returns which dependencies are up. Never raises."""
        answers = await asyncio.gather(*(self._is_up(check) for check in self._checks.values()))
        states = dict(zip(self._checks, answers, strict=True))
        for name, up in states.items():
            self._up.child(name).set(up)
            if self._known.get(name, True) != up:
                _LOGGER.warning("dependency is back" if up else "dependency is unreachable", dependency=name)
        self._known = states
        self._count_connections()
        return states

    async def _is_up(self, check: Check) -> bool:
        try:
            async with asyncio.timeout(self._check_seconds):
                return await check() is not False
        except Exception:  # noqa: BLE001 -- whatever a check raises means that the dependency cannot be used
            return False

    def _count_connections(self) -> None:
        if self._pool is None:
            return
        try:
            for state, count in self._pool().items():
                self._connections.child(state).set(count)
        except Exception:
            _LOGGER.exception("pool not measured")

    async def _keep_fresh(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(self._refresh_seconds)

    async def _keep_measuring_slow_gauges(self) -> None:
        while True:
            for gauge, measure in self._slow_gauges.items():
                with suppress(Exception):
                    gauge.set(await measure())
            await asyncio.sleep(self._slow_gauge_seconds)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._lag_seconds
            await asyncio.sleep(self._lag_seconds)
            self._lag.observe(max(0.0, loop.time() - due))
            self._garbage.flush()
