"""Implement `ports.Reader` with child processes, started on demand and ended when they are idle.

For a process that serves the API while workers compute: the engine and its memory stay out of it, and a file that
crashes or hangs its reader fails one upload. Each process carries out one request at a time and can be killed at any
moment.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any

import structlog
from opentelemetry.trace import TracerProvider, get_tracer

from service.concurrency.deadline import seconds_left
from service.engines.limits import Limits, Turns
from service.engines.selection import READER_SYSTEM
from service.engines.spans import engine_span
from service.engines.subprocess.messages import (
    REPLY,
    Crashed,
    Export,
    Failed,
    Ingest,
    Ping,
    Reply,
    Request,
    Setup,
    Succeeded,
    encode,
    receive,
)
from service.features.errors import (
    ComputeFailed,
    ComputeOutOfMemory,
    DatasetUnreadable,
    DeadlineExceeded,
    DependencyUnavailable,
    FeatureAgentError,
)
from service.features.model import Failure, MediaType, Profile, TableForm
from service.features.ports import Files

COMMAND = ("-P", "-m", "service.engines.subprocess.process")
INHERITED_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")
"""The process's whole environment: what it needs to run, and no secret."""
IDLE_SECONDS = 60.0
"""After its last request, until a process and its memory are given back; starting one takes half a second."""
GRACE_SECONDS = 4.0
"""For a process to reply after the deadline that it keeps itself; then it is killed, and its place is free again
within five seconds of the limit, whatever its library does."""
RETRY_SECONDS = 1.0
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)
_ERRORS: dict[str, type[FeatureAgentError]] = {
    kind.code: kind for kind in (DatasetUnreadable, ComputeFailed, ComputeOutOfMemory, DeadlineExceeded)
}
"""The errors of `ports.Reader` by their codes."""


class ReaderBug(Exception):
    """A reader process raised or replied what it never should; names the error and where it was raised."""


class _ReaderProcess:
    """One child process with a folder of its own."""

    def __init__(self, process: Process, folder: Path) -> None:
        assert process.stdin is not None  # noqa: S101 -- requested in `start`; tells the type checker
        assert process.stdout is not None  # noqa: S101 -- likewise
        self._process = process
        self._requests, self._replies = process.stdin, process.stdout
        self._folder = folder
        self._killed = False

    @classmethod
    async def start(cls, limits: Limits, scratch: Path) -> _ReaderProcess:
        """Start a process whose temporary files lie in a new folder under `scratch`."""
        folder = await asyncio.to_thread(_make_folder, scratch)
        environment = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
            )
        except BaseException:
            folder.rmdir()
            raise
        started = cls(process, folder)
        started._requests.write(encode(Setup(limits, str(folder))))
        return started

    @property
    def ended(self) -> bool:
        """Whether the process has ended by itself; logged."""
        if self._process.returncode is None:
            return False
        _LOGGER.error("reader process ended", exit_code=self._process.returncode)
        return True

    async def ask(self, request: Request) -> Reply:
        """Send a request and return its reply.

        Raises DependencyUnavailable when the process ends first, DeadlineExceeded when it hangs; after any exception
        the process must be ended.
        """
        try:
            async with asyncio.timeout(request.seconds + GRACE_SECONDS):
                reply = await self._exchange(request)
        except TimeoutError:
            _LOGGER.error("reader process hangs", pid=self._process.pid)  # noqa: TRY400 -- the stack says nothing
            raise DeadlineExceeded("The file was not read within the time that the engine may take.") from None
        if reply is None:
            await self._report_end()
            raise DependencyUnavailable(
                "The process that reads files ended over its work. Send the request again; if it happens again, the "
                "file is the reason.",
                retry_after=RETRY_SECONDS,
            )
        return reply

    async def end(self) -> None:
        """Kill the process and remove its files."""
        self._killed = True
        self._kill()
        await self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _exchange(self, request: Request) -> Reply | None:
        with suppress(ConnectionError):  # the process has ended, so there is no reply either
            self._requests.write(encode(request))
            await self._requests.drain()
        return await receive(self._replies, REPLY)

    async def _report_end(self) -> None:
        expected = self._killed
        self._kill()  # it may have closed its output alone
        exit_code = await self._process.wait()
        if not expected:
            _LOGGER.error("reader process ended", exit_code=exit_code)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


class SubprocessReader:
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
        """Read and write `artifacts`, with at most `concurrency` processes, each within `limits`."""
        self._artifacts = artifacts
        self._limits = limits
        self._scratch = scratch
        self._tracer = get_tracer("service.engines.subprocess", tracer_provider=tracer_provider)
        self._turns = Turns(concurrency, limits.seconds)
        self._idle_seconds = idle_seconds
        self._processes: set[_ReaderProcess] = set()
        self._idle: dict[_ReaderProcess, asyncio.TimerHandle] = {}
        """Processes without a request, and what ends them; the last used comes last."""
        self._ending: set[asyncio.Task[None]] = set()

    async def ping(self) -> None:
        """Raises ComputeFailed when no sandbox can be opened and used."""
        async with self._turns.taken():
            await self._ask(Ping)

    async def ingest(self, source_key: str, media_type: MediaType, target_key: str) -> Profile:
        """Read an upload, write it as typed Parquet, and profile it."""
        async with self._turns.taken():
            with engine_span(self._tracer, "ingest", system=READER_SYSTEM):
                async with self._artifacts.local(source_key) as upload:
                    return await self._ingest(upload, media_type, target_key)

    async def export(self, key: str, form: TableForm) -> Path:
        """Render a published Parquet table into a temporary file that the caller removes."""
        async with self._turns.taken():
            with engine_span(self._tracer, "export", system=READER_SYSTEM):
                async with self._artifacts.local(key) as source:
                    return await self._export(source, form)

    async def close(self) -> None:
        """Kill all processes, and wait until they have ended."""
        for process in list(self._processes):
            self._discard(process)
        await asyncio.gather(*self._ending)

    async def _ingest(self, upload: Path, media_type: MediaType, target_key: str) -> Profile:
        typed = await asyncio.to_thread(_make_file, self._scratch)
        try:
            done = await self._ask(Ingest, source=str(upload), media_type=media_type, target=str(typed))
            if done.profile is None:
                raise ReaderBug("an upload was read and has no profile")
            await self._artifacts.put_file(target_key, typed)
        finally:
            await asyncio.to_thread(typed.unlink, missing_ok=True)
        return done.profile

    async def _export(self, source: Path, form: TableForm) -> Path:
        rendered = await asyncio.to_thread(_make_file, self._scratch)
        try:
            await self._ask(Export, source=str(source), form=form, target=str(rendered))
        except BaseException:
            rendered.unlink(missing_ok=True)
            raise
        return rendered

    async def _ask(self, request: Callable[..., Request], **content: Any) -> Succeeded:
        process = await self._take()
        try:
            reply = await process.ask(request(seconds=seconds_left(self._limits.seconds), **content))
        except BaseException:
            self._discard(process)
            raise
        self._keep(process)
        return _result(reply)

    async def _take(self) -> _ReaderProcess:
        """Return an idle process, or start one."""
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            if not process.ended:
                return process
            self._discard(process)
        process = await _ReaderProcess.start(self._limits, self._scratch)
        self._processes.add(process)
        return process

    def _keep(self, process: _ReaderProcess) -> None:
        """Keep the process for the next request, for a while."""
        if process in self._processes:
            loop = asyncio.get_running_loop()
            self._idle[process] = loop.call_later(self._idle_seconds, self._discard, process, context=Context())

    def _discard(self, process: _ReaderProcess) -> None:
        """End the process; a second call does nothing."""
        if process not in self._processes:
            return
        self._processes.discard(process)
        if timer := self._idle.pop(process, None):
            timer.cancel()
        ending = asyncio.create_task(process.end(), name="reader-process-end", context=Context())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


def _result(reply: Reply) -> Succeeded:
    """Return what succeeded. Raises the error that the process raised."""
    match reply:
        case Succeeded():
            return reply
        case Failed():
            raise _error(reply.failure)
        case Crashed():
            raise ComputeFailed(f"The engine failed ({reply.kind}).") from ReaderBug(f"{reply.kind}\n{reply.stack}")


def _error(failure: Failure) -> FeatureAgentError:
    """Rebuild the error that the process raised. Raises ReaderBug for a code that a reader never raises."""
    if failure.code not in _ERRORS:
        raise ReaderBug(f"a reader process failed with the code {failure.code}: {failure.message}")
    return _ERRORS[failure.code](failure.message, errors=failure.errors, retry_after=failure.retry_after)


def _make_folder(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="reader-", dir=scratch))


def _make_file(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="read-", delete=False) as file:
        return Path(file.name)
