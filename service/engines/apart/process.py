"""The reader process: `python -m service.engines.apart.process`, which the service starts and speaks to over pipes.

It has the paths that it is given and no secret: neither the service's environment, nor its database, nor its keys. It
ends when the service does, whatever ended that, for then its input is closed.
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
from typing import BinaryIO

import msgspec

from service.concurrency.deadline import deadline
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
from service.engines.duckdb.engine import DuckDBEngine
from service.engines.scratch import Scratch
from service.features.errors import FeatureAgentError

MOST_EXPENDABLE = "1000"
"""What the kernel takes first when memory ends, rather than the service: its highest `oom_score_adj`."""


class Paths:
    """`ports.Files` whose keys are the paths of local files."""

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """The file itself."""
        yield Path(key)

    async def put_file(self, key: str, path: Path) -> None:
        """Move the file to its place."""
        await asyncio.to_thread(shutil.move, path, key)


async def serve(orders: asyncio.StreamReader, reply: Callable[[bytes], object]) -> None:
    """Carry orders out, several at once, until there are no more; what still runs then is cancelled."""
    setup = await receive(orders, msgspec.msgpack.Decoder(Setup))
    if setup is None:
        return
    scratch = Scratch(Path(setup.scratch))
    try:
        await _carry_out(
            orders, reply, DuckDBEngine(Paths(), setup.limits, scratch.folder, concurrency=setup.concurrency)
        )
    finally:
        scratch.close()


async def _carry_out(orders: asyncio.StreamReader, reply: Callable[[bytes], object], engine: DuckDBEngine) -> None:
    decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
    running: dict[int, asyncio.Task[None]] = {}
    while (order := await receive(orders, decoder)) is not None:
        if isinstance(order, Cancel):
            if task := running.get(order.number):
                task.cancel()
            continue
        task = running[order.number] = asyncio.create_task(_answer(engine, order, reply))
        task.add_done_callback(lambda _, number=order.number: running.pop(number))
    left = list(running.values())
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _answer(engine: DuckDBEngine, order: Ping | Ingest | Export, reply: Callable[[bytes], object]) -> None:
    reply(packed(await _outcome(engine, order)))


async def _outcome(engine: DuckDBEngine, order: Ping | Ingest | Export) -> Reply:
    try:
        with deadline(order.seconds):
            return await _carried_out(engine, order)
    except FeatureAgentError as error:
        return Failed(order.number, error.failure())
    except Exception as error:  # noqa: BLE001 -- whatever it is, the service is told and the process goes on
        return Broken(order.number, type(error).__qualname__, "".join(traceback.format_tb(error.__traceback__)))


async def _carried_out(engine: DuckDBEngine, order: Ping | Ingest | Export) -> Done:
    match order:
        case Ping():
            await engine.ping()
            return Done(order.number)
        case Ingest():
            return Done(order.number, profile=await engine.ingest(order.source, order.media_type, order.target))
        case Export():
            rendered = await engine.export(order.source, order.media_type)
            await asyncio.to_thread(shutil.move, rendered, order.target)
            return Done(order.number)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _alone() -> BinaryIO:
    """Make the process what it is to be, and give what its replies are written to."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the service, which ends this process when it ends
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(MOST_EXPENDABLE)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what a library prints is no reply
    return replies


async def _main(replies: BinaryIO) -> None:
    def reply(message: bytes) -> None:
        with suppress(BrokenPipeError):  # nobody is there any more, and the orders end, too
            replies.write(message)
            replies.flush()

    await serve(await _standard_input(), reply)


if __name__ == "__main__":
    asyncio.run(_main(_alone()))
