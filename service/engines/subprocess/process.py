"""Run an engine process: `python -m service.engines.subprocess.process`, started by the service.

It reads requests from standard input, carries them out one at a time, and writes replies to standard output. It knows
file paths and no secret: neither the service's environment, nor its database, nor its keys. It exits when standard
input closes, even in the middle of a request, so it never outlives the service.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from service.concurrency.deadline import deadline
from service.engines.selection import Engine, open_local_engine
from service.engines.subprocess.messages import (
    REQUEST,
    SETUP,
    Compute,
    Computed,
    Crashed,
    Done,
    Export,
    Failed,
    Ingest,
    Ingested,
    Measure,
    Measured,
    Ping,
    Progress,
    Publish,
    Rehearse,
    Rehearsed,
    Release,
    Reply,
    Request,
    encode,
    receive,
)
from service.features.errors import FeatureAgentError
from service.features.ports import FeatureTable

MAX_OOM_SCORE = "1000"
"""The highest `oom_score_adj`: when memory runs out, the kernel kills this process before the service."""
NICENESS = 5
"""Lowers the priority: as many busy engine threads as there are cores leave the service's event loop its turns."""
Send = Callable[[bytes], object]


class LocalFiles:
    """Implement `ports.Files` for keys that are paths of local files."""

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """Give the file itself."""
        yield Path(key)

    async def size(self, key: str) -> int:
        """Return the file's size in bytes."""
        return (await asyncio.to_thread(Path(key).stat)).st_size

    async def put_file(self, key: str, path: Path) -> None:
        """Move the file to its place."""
        await asyncio.to_thread(shutil.move, path, key)


async def serve(requests: asyncio.StreamReader, send: Send) -> None:
    """Carry out requests, one after another, until the input closes."""
    setup = await receive(requests, SETUP)
    if setup is None:
        return
    async with AsyncExitStack() as held:
        engine = open_local_engine(setup.system, LocalFiles(), setup.limits, Path(setup.scratch))
        session = _Session(engine, held, send)
        while (request := await receive(requests, REQUEST)) is not None:
            send(encode(await session.reply_to(request)))


class _Session:
    """Carry out requests; a computed table is held between them."""

    def __init__(self, engine: Engine, held: AsyncExitStack, send: Send) -> None:
        self._engine = engine
        self._held = held
        self._send = send
        self._table: FeatureTable | None = None

    async def reply_to(self, request: Request) -> Reply:
        """Carry out the request; every exception becomes a reply."""
        try:
            with deadline(request.seconds):
                return await self._carry_out(request)
        except FeatureAgentError as error:
            return Failed(error.failure())
        except Exception as error:  # noqa: BLE001 -- the service reports every error; this process goes on
            return Crashed(type(error).__qualname__, "".join(traceback.format_tb(error.__traceback__)))

    async def _carry_out(self, request: Request) -> Reply:
        engine = self._engine
        match request:
            case Ping():
                await engine.ping()
            case Ingest():
                reading = engine.ingest(request.source, request.media_type, request.target, overrides=request.overrides)
                return Ingested(await reading)
            case Export():
                rendered = await engine.export(request.source, request.form)
                await asyncio.to_thread(shutil.move, rendered, request.target)
            case Rehearse():
                return Rehearsed(await engine.rehearse(request.tables, request.plan))
            case _:
                return await self._compute(request)
        return Done()

    async def _compute(self, request: Compute | Measure | Publish | Release) -> Reply:
        match request:
            case Compute():
                computing = self._engine.compute(request.tables, request.plan, progress=self._reporter())
                self._table = table = await self._held.enter_async_context(computing)
                return Computed(table.row_count, table.sql)
            case Measure():
                report = self._reporter()
                return Measured(await self._engine.measure(self._table, target=request.target, progress=report))
            case Publish():
                assert self._table is not None  # noqa: S101 -- the service publishes what it has computed
                await self._table.publish(request.names, request.target)
            case Release():
                self._table = None
                await self._held.aclose()
        return Done()

    def _reporter(self) -> Callable[[float], None]:
        """Return what reports progress from any thread; each report is sent before the request's reply."""
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(self._send, encode(Progress(share)))

        return report


class _ExitAtEnd(asyncio.StreamReaderProtocol):
    """Exit when the input closes, without waiting for a request that is being carried out."""

    def eof_received(self) -> NoReturn:
        """Exit at once; the service removes this process's files."""
        os._exit(0)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: _ExitAtEnd(reader), sys.stdin)
    return reader


def _isolate() -> BinaryIO:
    """Detach the process from signals and from what libraries print; return the stream that takes the replies."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the service, which ends this process when it ends
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(MAX_OOM_SCORE)
    _lower_priority()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return replies


def _lower_priority() -> None:
    """Yield the processor to the service: with a low weight, and without preempting it."""
    with suppress(OSError, AttributeError):  # not Linux, or not allowed
        os.nice(NICENESS)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _main(replies: BinaryIO) -> None:
    def send(message: bytes) -> None:
        with suppress(BrokenPipeError):  # the service has ended; the input closes, too
            replies.write(message)
            replies.flush()

    await serve(await _standard_input(), send)


if __name__ == "__main__":
    asyncio.run(_main(_isolate()))
