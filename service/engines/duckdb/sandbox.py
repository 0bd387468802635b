"""One locked-down, in-memory DuckDB for one job.

The connection reads the files it was given and its own folder, writes to that folder alone, and reaches neither
network, extensions nor settings. What is left to guard is the statement's text: it must come from an SQL syntax tree.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from service.concurrency.deadline import seconds_left
from service.engines.limits import Limits
from service.features.errors import ComputeOutOfMemory, DeadlineExceeded

Row = tuple[Any, ...]
T = TypeVar("T")
Execute = Callable[[str], list[Row]]
"""Runs one statement, written from a syntax tree, and gives all its rows (none for a command)."""

INTERRUPT_INTERVAL = 0.02
"""Seconds between interrupts: one that arrives before the statement has begun is lost, so it is repeated."""
WATCH_SECONDS = 0.25
"""Between two looks at how far a statement has come."""


class Sandbox:
    """Runs statements, one after another, in its own thread; made by `sandbox`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, seconds: float) -> None:
        self.folder = folder
        """Private folder: the only place that statements may write to; removed with the sandbox."""
        self._connection = connection
        self._seconds_left = seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="duckdb")

    async def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement, written from a syntax tree, and give all its rows (none for a command).

        Cancellation, time and errors are as in `run`.
        """
        return await self.run(lambda _: self._execute(statement, parameters))

    async def run(self, work: Callable[[Execute], T], watch: Callable[[float], None] | None = None) -> T:
        """Run `work` in the sandbox's thread, with the means to execute statements.

        `watch` is called now and then with the progress of the running statement in percent, less than 0 for none.

        When the calling task is cancelled or the time is used up, the statement that runs is interrupted, which ends
        the work, and it has ended before this returns. Raises ComputeOutOfMemory, DeadlineExceeded, and any other
        `duckdb.Error` as it is.
        """
        started = time.monotonic()
        running = asyncio.get_running_loop().run_in_executor(self._thread, work, self._execute)
        try:
            await self._wait(running, watch)
            in_time = running.done()
        finally:
            # Shielded, so that a second cancellation does not leave the statement running.
            await asyncio.shield(self._interrupt(running))
            self._seconds_left -= time.monotonic() - started
        if not in_time:
            raise DeadlineExceeded("The computation did not end within the time that the engine may take.")
        return running.result()

    async def close(self) -> None:
        """Close the connection, after the statement that is being interrupted, if any."""
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)
        await asyncio.wait({closing})

    def _execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        try:
            return self._connection.execute(statement, list(parameters) or None).fetchall()
        except duckdb.OutOfMemoryException as error:
            raise ComputeOutOfMemory(
                "The computation needs more memory and scratch space than the engine may use. "
                "Ask for fewer features at a time, or bring a smaller dataset."
            ) from error

    async def _wait(self, running: asyncio.Future[Any], watch: Callable[[float], None] | None) -> None:
        """Until it has ended or the time is over."""
        left = self._seconds_left
        while watch is not None and left > WATCH_SECONDS:
            await asyncio.wait({running}, timeout=WATCH_SECONDS)
            if running.done():
                return
            watch(self._connection.query_progress())
            left -= WATCH_SECONDS
        await asyncio.wait({running}, timeout=max(left, 0.0))

    async def _interrupt(self, running: asyncio.Future[Any]) -> None:
        while not running.done():
            self._connection.interrupt()
            await asyncio.wait({running}, timeout=INTERRUPT_INTERVAL)
        running.exception()  # seen here, so that asyncio does not report it as never retrieved


@asynccontextmanager
async def sandbox(limits: Limits, *, scratch: Path, readable: Sequence[Path]) -> AsyncGenerator[Sandbox]:
    """Open a sandbox that may read the `readable` files and owns a new folder under `scratch`, removed on exit.

    Raises DeadlineExceeded when there is no time left.
    """
    seconds = seconds_left(limits.seconds)
    folder = await asyncio.to_thread(_make_folder, scratch)
    try:
        connection = await asyncio.to_thread(_open, limits, folder, readable)
        box = Sandbox(connection, folder, seconds)
        try:
            yield box
        finally:
            await box.close()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _make_folder(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="job-", dir=scratch)).resolve()


def _open(limits: Limits, folder: Path, readable: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{limits.memory_bytes}B",
            "threads": limits.threads,
            "temp_directory": str(folder / "spill"),
            "max_temp_directory_size": f"{limits.scratch_bytes}B",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "python_enable_replacements": False,  # a table name must never find a Python variable
        },
    )
    files = sorted({str(spelling) for path in readable for spelling in (path, path.resolve())})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = true")  # what `query_progress` reads …
    connection.execute("SET enable_progress_bar_print = false")  # … and nothing is drawn among the log's lines
    connection.execute("SET progress_bar_time = 0")
    connection.execute("SET allowed_paths = ?", [files])
    connection.execute("SET allowed_directories = ?", [[str(folder)]])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection
