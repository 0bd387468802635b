"""Keep engine processes: started on demand, kept warm for a while, killed when they fail or are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Literal

import structlog

from service.concurrency.deadline import is_over
from service.concurrency.shielded import run_shielded
from service.engines.subprocess.child import EngineBug, EngineProcess
from service.engines.subprocess.messages import Done, Ping, Setup
from service.features.errors import FeatureAgentError
from service.features.events import EngineProcessesCounted, EngineProcessKilled
from service.features.ports import Observer

IDLE_SECONDS = 60.0
"""After its last request, until a process and its memory are given back; starting one takes half a second."""
WARM_UP_SECONDS = 30.0
Reason = Literal["deadline", "cancelled", "crashed"]
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class EnginePool:
    """Lend engine processes, one to each block; `close` it in the end. For one event loop.

    With `keep_warm`, one process is started in advance and always kept; it is replaced after a quiet time, so that the
    memory of its work is given back.
    """

    def __init__(
        self,
        setup: Setup,
        observer: Observer,
        *,
        on_lost: Callable[[int], None],
        idle_seconds: float = IDLE_SECONDS,
        keep_warm: bool = False,
    ) -> None:
        """Call `on_lost` with the number of processes that were killed and do not end, whenever it changes."""
        self._setup = setup
        self._observer = observer
        self._on_lost = on_lost
        self._idle_seconds = idle_seconds
        self._keep_warm = keep_warm
        self._processes: set[EngineProcess] = set()
        self._idle: dict[EngineProcess, asyncio.TimerHandle] = {}
        """Processes without a request, and what ends them; the last used comes last."""
        self._lost: set[EngineProcess] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self) -> None:
        """Start a process in the background, so that the first request need not wait for it."""
        _spawn(self._warm_up(), self._background)

    @asynccontextmanager
    async def process(self) -> AsyncGenerator[EngineProcess]:
        """Lend a process during the block.

        One whose request is unanswered when the block ends is killed, and so is any when the block is cancelled; then
        the block is left when the process has ended, or is lost.
        """
        process = await self._take()
        try:
            yield process
        except asyncio.CancelledError:
            await run_shielded(self._end(process, "deadline" if is_over() else "cancelled"))
            raise
        finally:
            if process.usable:
                self._keep(process)
            else:
                await run_shielded(self._end(process, "crashed" if process.crashed else "deadline"))

    async def close(self) -> None:
        """Kill all processes, and wait until they have ended, or are lost."""
        self._closed = True
        for task in self._background:
            task.cancel()
        await asyncio.gather(*(self._end(process) for process in list(self._processes)), *self._ending)

    async def _take(self) -> EngineProcess:
        """Return an idle process, or start one."""
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            if not process.ended:
                self._count()
                return process
            await self._end(process, "crashed")
        process = await EngineProcess.start(self._setup)
        self._processes.add(process)
        self._count()
        return process

    def _keep(self, process: EngineProcess) -> None:
        """Keep the process for the next request for `idle_seconds`; do nothing if it has ended already."""
        if process in self._processes:
            loop = asyncio.get_running_loop()
            self._idle[process] = loop.call_later(self._idle_seconds, self._expire, process, context=Context())
            self._count()

    def _expire(self, process: EngineProcess) -> None:
        if self._keep_warm and not process.used and len(self._processes) == 1:
            self._keep(process)
        else:
            del self._idle[process]
            _spawn(self._end(process), self._ending)

    async def _end(self, process: EngineProcess, reason: Reason | None = None) -> None:
        """End the process; a second call does nothing."""
        if process not in self._processes:
            return
        self._processes.discard(process)
        if timer := self._idle.pop(process, None):
            timer.cancel()
        if reason is not None:
            self._observer.record(EngineProcessKilled(reason))
        if not await process.end():
            self._lose(process)
        self._count()
        if self._keep_warm and process.used and not self._processes and not self._closed:
            self.start()

    def _lose(self, process: EngineProcess) -> None:
        self._lost.add(process)
        self._on_lost(len(self._lost))
        _spawn(self._await_lost(process), self._background)

    async def _await_lost(self, process: EngineProcess) -> None:
        await process.wait()
        self._lost.discard(process)
        self._on_lost(len(self._lost))
        self._count()

    async def _warm_up(self) -> None:
        try:
            async with self.process() as process:
                try:
                    await process.ask(Ping(WARM_UP_SECONDS), Done)
                finally:
                    process.used = False
        except (FeatureAgentError, EngineBug, OSError) as error:
            _LOGGER.warning("no engine process could be started in advance: %s", type(error).__name__)

    def _count(self) -> None:
        idle, lost = len(self._idle), len(self._lost)
        self._observer.record(EngineProcessesCounted(len(self._processes) - idle, idle, lost))


def _spawn(work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
    """Run the work in a task that belongs to no request."""
    task = asyncio.create_task(work, context=Context())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
