"""Run a reader process: `python -m service.engines.subprocess.process`, started by the service.

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
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from service.concurrency.deadline import deadline
from service.engines.selection import open_reader
from service.engines.subprocess.messages import (
    REQUEST,
    SETUP,
    Crashed,
    Export,
    Failed,
    Ingest,
    Ping,
    Reply,
    Request,
    Succeeded,
    encode,
    receive,
)
from service.features.errors import FeatureAgentError
from service.features.ports import Reader

MAX_OOM_SCORE = "1000"
"""The highest `oom_score_adj`: when memory runs out, the kernel kills this process before the service."""


class LocalFiles:
    """Implement `ports.Files` for keys that are paths of local files."""

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """Give the file itself."""
        yield Path(key)

    async def put_file(self, key: str, path: Path) -> None:
        """Move the file to its place."""
        await asyncio.to_thread(shutil.move, path, key)


async def serve(requests: asyncio.StreamReader, send: Callable[[bytes], object]) -> None:
    """Carry out requests, one after another, until the input closes."""
    setup = await receive(requests, SETUP)
    if setup is None:
        return
    reader = open_reader(LocalFiles(), setup.limits, Path(setup.scratch))
    while (request := await receive(requests, REQUEST)) is not None:
        send(encode(await _reply_to(request, reader)))


async def _reply_to(request: Request, reader: Reader) -> Reply:
    try:
        with deadline(request.seconds):
            return await _carry_out(request, reader)
    except FeatureAgentError as error:
        return Failed(error.failure())
    except Exception as error:  # noqa: BLE001 -- the service reports every error; this process goes on
        return Crashed(type(error).__qualname__, "".join(traceback.format_tb(error.__traceback__)))


async def _carry_out(request: Request, reader: Reader) -> Succeeded:
    match request:
        case Ping():
            await reader.ping()
            return Succeeded()
        case Ingest():
            return Succeeded(await reader.ingest(request.source, request.media_type, request.target))
        case Export():
            rendered = await reader.export(request.source, request.form)
            await asyncio.to_thread(shutil.move, rendered, request.target)
            return Succeeded()


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
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return replies


async def _main(replies: BinaryIO) -> None:
    def send(message: bytes) -> None:
        with suppress(BrokenPipeError):  # the service has ended; the input closes, too
            replies.write(message)
            replies.flush()

    await serve(await _standard_input(), send)


if __name__ == "__main__":
    asyncio.run(_main(_isolate()))
