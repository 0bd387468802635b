"""`ports.Reader` in a process of its own, started when there is something to read and ended when there long was not.

For a process that serves the API while workers compute: neither DuckDB nor what it takes of memory is ever in it, and
a file that crashes its reader fails one upload.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any

import msgspec
import structlog
from opentelemetry.trace import TracerProvider, get_tracer

from service.concurrency.deadline import seconds_left
from service.engines.apart.messages import (
    Broken,
    Cancel,
    Done,
    Export,
    Failed,
    Ingest,
    Order,
    Ping,
    Reply,
    Setup,
    packed,
    receive,
)
from service.engines.duckdb.options import SCHEME
from service.engines.limits import Limits, Turns
from service.engines.spans import engine_span
from service.features.errors import (
    ComputeFailed,
    ComputeOutOfMemory,
    DatasetUnreadable,
    DeadlineExceeded,
    DependencyUnavailable,
    FeatureAgentError,
)
from service.features.model import Failure, MediaType, Profile
from service.features.ports import Files

COMMAND = ("-P", "-m", "service.engines.apart.process")
PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")
"""All of the environment that the process gets: what it needs to run, and no secret."""
IDLE_SECONDS = 60.0
"""After the last order, until the process and its memory are given back; starting it takes half a second."""
GRACE_SECONDS = 10.0
"""For a process to answer after the deadline that it keeps itself, and to end when it is asked to; then it is
killed."""
RETRY_SECONDS = 1.0
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)
_TOLD: dict[str, type[FeatureAgentError]] = {
    kind.code: kind for kind in (DatasetUnreadable, ComputeFailed, ComputeOutOfMemory, DeadlineExceeded)
}
"""The errors of `ports.Reader` by their codes."""


class ReaderBroke(Exception):
    """What nobody expected went wrong in the reader process; says which error it was, and where it was raised."""


class _Child:
    """One process, and who waits for its replies."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        # Not in the context of the request that happens to need it first: the log would say that it was that one's.
        self._listening = asyncio.create_task(self._listen(), name="reader-process", context=Context())
        self.gone = False

    @property
    def busy(self) -> bool:
        """Whether anybody waits for a reply."""
        return bool(self._waiting)

    async def ask(self, order: Ping | Ingest | Export) -> Reply:
        """Its reply. Raises DependencyUnavailable when the process ends first, DeadlineExceeded when it hangs."""
        reply = self._waiting[order.number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(order)
            async with asyncio.timeout(order.seconds + GRACE_SECONDS):
                return await reply
        except TimeoutError:
            self._give_up()
            raise DeadlineExceeded("The file was not read within the time that the engine may take.") from None
        except asyncio.CancelledError:
            with suppress(ConnectionError):
                await self._send(Cancel(order.number))
            raise
        finally:
            del self._waiting[order.number]

    async def end(self) -> None:
        """Give it no more orders, and let it cancel what still runs; killed if that takes long."""
        self.gone = True
        self._pipe().close()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await asyncio.shield(self._listening)
        except TimeoutError:
            self._give_up()
            await self._listening

    def _give_up(self) -> None:
        """Kill it, whatever it does."""
        _LOGGER.error("reader process hangs", pid=self._process.pid)
        self.gone = True
        with suppress(ProcessLookupError):
            self._process.kill()

    def _pipe(self) -> asyncio.StreamWriter:
        assert self._process.stdin is not None  # noqa: S101 -- it was asked for; tells the type checker
        return self._process.stdin

    async def _send(self, order: Order) -> None:
        with suppress(ConnectionError):  # the listener tells who waits
            self._pipe().write(packed(order))
            await self._pipe().drain()

    async def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 -- likewise
        decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
        while (reply := await receive(self._process.stdout, decoder)) is not None:
            waiting = self._waiting.get(reply.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)
        expected, self.gone = self.gone, True
        exit_code = await self._process.wait()
        if not expected:
            _LOGGER.error("reader process ended", exit_code=exit_code)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(
                    DependencyUnavailable(
                        "The process that reads files ended over its work. Send the request again; if it happens "
                        "again, the file is the reason.",
                        retry_after=RETRY_SECONDS,
                    )
                )


class ReaderProcess:
    """See `ports.Reader` for the promises; `close` it in the end. For one event loop."""

    def __init__(
        self,
        artifacts: Files,
        limits: Limits,
        scratch: Path,
        *,
        concurrency: int = 4,
        tracer_provider: TracerProvider | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Read and write `artifacts`; at most `concurrency` files are read at once, each within `limits`."""
        self._artifacts = artifacts
        self._scratch = scratch
        self._setup = Setup(limits, str(scratch), concurrency)
        self._tracer = get_tracer("service.engines.apart", tracer_provider=tracer_provider)
        self._turns = Turns(concurrency, limits.seconds)
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._child: _Child | None = None
        self._idle_seconds = idle_seconds
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def ping(self) -> None:
        """Raises ComputeFailed when no sandbox can be opened and used."""
        await self._ask(Ping)

    async def ingest(self, source_key: str, media_type: MediaType, target_key: str) -> Profile:
        """Read an upload, write it as typed Parquet, and profile it."""
        async with self._turns.taken():
            with engine_span(self._tracer, "ingest", system=SCHEME):
                async with self._artifacts.local(source_key) as upload:
                    return await self._ingest(upload, media_type, target_key)

    async def export(self, key: str, media_type: MediaType) -> Path:
        """Render a published Parquet table into a temporary file that the caller removes."""
        async with self._turns.taken():
            with engine_span(self._tracer, "export", system=SCHEME):
                async with self._artifacts.local(key) as source:
                    return await self._export(source, media_type)

    async def close(self) -> None:
        """End the process, if there is one; what it still does is cancelled."""
        self._retire()
        await asyncio.gather(*self._ending)

    async def _ingest(self, upload: Path, media_type: MediaType, target_key: str) -> Profile:
        typed = await asyncio.to_thread(_temporary, self._scratch)
        try:
            done = await self._ask(Ingest, source=str(upload), media_type=media_type, target=str(typed))
            if done.profile is None:
                raise ReaderBroke("an upload was read and has no profile")
            await self._artifacts.put_file(target_key, typed)
        finally:
            await asyncio.to_thread(typed.unlink, missing_ok=True)
        return done.profile

    async def _export(self, source: Path, media_type: MediaType) -> Path:
        rendered = await asyncio.to_thread(_temporary, self._scratch)
        try:
            await self._ask(Export, source=str(source), media_type=media_type, target=str(rendered))
        except BaseException:
            rendered.unlink(missing_ok=True)
            raise
        return rendered

    async def _ask(self, order: Callable[..., Ping | Ingest | Export], **told: Any) -> Done:
        child = await self._running()
        try:
            reply = await child.ask(
                order(number=next(self._numbers), seconds=seconds_left(self._setup.limits.seconds), **told)
            )
        finally:
            self._rest(child)
        match reply:
            case Done():
                return reply
            case Failed():
                raise _told(reply.failure)
            case Broken():
                raise ComputeFailed(f"The engine failed ({reply.kind}).") from ReaderBroke(
                    f"{reply.kind}\n{reply.stack}"
                )

    async def _running(self) -> _Child:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        async with self._starting:
            if self._child is None or self._child.gone:
                self._child = await self._start()
            return self._child

    async def _start(self) -> _Child:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
        )
        assert process.stdin is not None  # noqa: S101 -- it was asked for; tells the type checker
        process.stdin.write(packed(self._setup))
        return _Child(process)

    def _rest(self, child: _Child) -> None:
        """After an order: with no other, the process ends in a while."""
        if child is self._child and not child.busy and not child.gone:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._retire)

    def _retire(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        child, self._child = self._child, None
        if child is not None and not child.gone:
            ending = asyncio.create_task(child.end(), name="reader-process-end", context=Context())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)


def _told(failure: Failure) -> FeatureAgentError:
    """The error as it was raised in the process."""
    kind = _TOLD.get(failure.code, ComputeFailed)
    return kind(failure.message, errors=failure.errors, retry_after=failure.retry_after)


def _temporary(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="read-", delete=False) as file:
        return Path(file.name)
