"""`feature-agent` that stops for good at one moment of a job's life, and says so, for somebody to kill it there.

STAGE names the moment; at it the file REACHED appears. With ONCE the process does not stay there for ever: it stops
itself with SIGSTOP, once, and goes on when it is continued.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from service.__main__ import main as service_main
from service.api import extract_routes
from service.engines.subprocess.engine import SubprocessEngine, SubprocessTable
from service.features.extract import AcceptExtraction
from service.jobs.queue import ProcrastinateQueue
from service.resources import computing, jobs


async def reach(stage: str) -> None:
    """Stay here for ever, if this is the moment; or sleep once, as a paused machine does."""
    if not _is_here(stage):
        return
    if os.environ.get("ONCE"):
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    await asyncio.Event().wait()


def _is_here(stage: str) -> bool:
    """Whether this is the moment; tells it."""
    reached = Path(os.environ["REACHED"])
    if stage != os.environ["STAGE"] or (os.environ.get("ONCE") and reached.exists()):
        return False
    reached.touch()
    return True


class StagedQueue(ProcrastinateQueue):
    """Row and job are written, the transaction is not committed."""

    async def enqueue(self, *arguments: Any, **options: Any) -> None:
        """Enqueue, and stop before the commit."""
        await super().enqueue(*arguments, **options)
        await reach("before_commit")


class StagedAccept(AcceptExtraction):
    """The extraction is accepted, and nobody has been told."""

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Accept, and stop after the commit."""
        accepted = await super().__call__(*arguments, **options)
        await reach("after_commit")
        return accepted


class StagedEngine(SubprocessEngine):
    """The plan is made, its features are not."""

    @asynccontextmanager
    async def compute(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any]:
        """Stop, or compute."""
        await reach("computing")
        async with super().compute(*arguments, **options) as table:
            yield table


def around(publish: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Stop before the table is published, and after: then the file is there, and no row names it."""

    async def staged(self: SubprocessTable, *arguments: Any) -> None:
        await reach("publishing")
        await publish(self, *arguments)
        await reach("published")

    return staged


def answering(store_answer: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Stop when the end and the answer are stored, before the answer is sent."""

    async def staged(*arguments: Any) -> Any:
        kept = await store_answer(*arguments)
        await reach("answering")
        return kept

    return staged


def install() -> None:
    """Put the stages into this process."""
    jobs.ProcrastinateQueue = StagedQueue  # type: ignore[misc]
    jobs.AcceptExtraction = StagedAccept  # type: ignore[misc]
    computing.SubprocessEngine = StagedEngine  # type: ignore[misc]
    SubprocessTable.publish = around(SubprocessTable.publish)  # type: ignore[method-assign]
    extract_routes.store_answer = answering(extract_routes.store_answer)


def main(arguments: list[str]) -> int:
    """Run the command line with the stages."""
    install()
    return service_main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
