"""What a process tells of itself: the event loop's lag, garbage, memory, dependencies, the database pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Literal, Self, TypeVar

import structlog

from service.telemetry.garbage import GarbageWatch
from service.telemetry.memory import memory_limit_bytes
from service.telemetry.metrics import Metrics

Check = Callable[[], Awaitable[object]]
"""Raises, or gives False, when the dependency is away."""
Measure = Callable[[], Awaitable[float]]
"""Gives a gauge's value; may raise when that cannot be told now."""
PoolConnections = Callable[[], Mapping[Literal["in_use", "idle"], int]]

Name = TypeVar("Name", bound=str)

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class RuntimeMonitor:
    """Measures for as long as its `async with` block lasts.

    `checks` are the dependencies that are configured, by their names in the catalog. Each is asked every
    `refresh_seconds` and has `check_seconds` to answer. The lag is measured every `lag_seconds`; twice a second gives
    a 5 min window 600 measurements for some microseconds of work each. `seldom` are gauges by name that change by the
    day; each is measured every `seldom_seconds`, and keeps its value while that fails.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        checks: Mapping[Name, Check],
        pool: PoolConnections | None = None,
        seldom: Mapping[str, Measure] = MappingProxyType({}),
        refresh_seconds: float = 10.0,
        check_seconds: float = 2.0,
        lag_seconds: float = 0.5,
        seldom_seconds: float = 30.0,
    ) -> None:
        self._garbage = GarbageWatch(metrics)
        self._lag = metrics.histogram("event_loop_lag_seconds").child()
        self._up = metrics.gauge("dependency_up")
        self._connections = metrics.gauge("db_pool_connections")
        self._checks: dict[str, Check] = {**checks}
        self._pool = pool
        self._seldom = {metrics.gauge(name).child(): measure for name, measure in seldom.items()}
        self._seldom_seconds = seldom_seconds
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
            asyncio.create_task(self._keep_measuring_seldom(), name="seldom-metrics"),
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
        """Ask every dependency and the pool now, and tell which dependencies are up. Never raises."""
        answers = await asyncio.gather(*(self._is_up(check) for check in self._checks.values()))
        states = dict(zip(self._checks, answers, strict=True))
        for name, up in states.items():
            self._up.child(name).set(up)
            if self._known.get(name, True) != up:
                _LOGGER.warning("dependency is back" if up else "dependency is away", dependency=name)
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

    async def _keep_measuring_seldom(self) -> None:
        while True:
            for gauge, measure in self._seldom.items():
                with suppress(Exception):
                    gauge.set(await measure())
            await asyncio.sleep(self._seldom_seconds)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._lag_seconds
            await asyncio.sleep(self._lag_seconds)
            self._lag.observe(max(0.0, loop.time() - due))
            self._garbage.tell()
