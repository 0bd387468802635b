"""Hold one engine process: start it, send it requests, and kill it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from service.engines.subprocess.messages import (
    MAX_REPLY_BYTES,
    REPLY,
    Crashed,
    Failed,
    Progress,
    Reply,
    Request,
    Setup,
    encode,
    receive,
)
from service.features.errors import (
    ComputeFailed,
    ComputeOutOfMemory,
    DatasetNotFound,
    DatasetTooLarge,
    DatasetUnreadable,
    DeadlineExceeded,
    DependencyUnavailable,
    FeatureAgentError,
    InvalidRequest,
)
from service.features.model import Failure

COMMAND = ("-P", "-m", "service.engines.subprocess.process")
INHERITED_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")
"""The process's whole environment: what it needs to run, and no secret."""
GRACE_SECONDS = 4.0
"""For a process to reply after the deadline that it keeps itself; then it is killed, and its place is free again
within five seconds of the limit, whatever its library does."""
CLOSING_SECONDS = 1.0
"""For a process whose output has ended to end itself, as one that crashed does."""
END_TIMEOUT_SECONDS = 5.0
"""For a process to end after SIGKILL, which takes milliseconds unless the kernel waits for a device."""
RETRY_SECONDS = 1.0
R = TypeVar("R")
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)
_ERRORS: dict[str, type[FeatureAgentError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest, DatasetUnreadable, DatasetTooLarge, DatasetNotFound, ComputeFailed, ComputeOutOfMemory,
        DeadlineExceeded,
    )
}  # fmt: skip
"""The errors of an engine by their codes."""


class EngineBug(Exception):
    """An engine process raised or replied what it never should; names the error and where it was raised."""


def _silent(_share: float) -> None:
    """Report no progress."""


class EngineProcess:
    """One child process with a folder of its own; it carries out one request at a time."""

    def __init__(self, process: Process, folder: Path) -> None:
        assert process.stdin is not None  # noqa: S101 -- requested in `start`; tells the type checker
        assert process.stdout is not None  # noqa: S101 -- likewise
        self._process = process
        self._requests, self._replies = process.stdin, process.stdout
        self._folder = folder
        self._killed = False
        self.used = False
        """Whether it has carried out a request."""
        self.usable = True
        """False while a request is unanswered: a process that is left in that state must be ended."""
        self.crashed = False
        """Whether it was found to have ended by itself."""

    @classmethod
    async def start(cls, setup: Setup) -> EngineProcess:
        """Start a process whose temporary files lie in a new folder under the setup's scratch folder."""
        folder = await asyncio.to_thread(_make_folder, Path(setup.scratch))
        environment = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
            )
        except BaseException:
            folder.rmdir()
            raise
        started = cls(process, folder)
        started._requests.write(encode(msgspec.structs.replace(setup, scratch=str(folder))))
        return started

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended by itself; logged."""
        if self._process.returncode is None:
            return False
        self._note_crash(self._process.returncode)
        return True

    async def ask(self, request: Request, kind: type[R], progress: Callable[[float], None] = _silent) -> R:
        """Send a request and return its reply, which is of that kind.

        Raises the error that the engine raised, DependencyUnavailable when the process ends first, and
        DeadlineExceeded when it hangs; after the latter two, and after a cancellation, it is not `usable`.
        """
        self.usable, self.used = False, True
        try:
            async with asyncio.timeout(request.seconds + GRACE_SECONDS):
                reply = await self._exchange(request, progress)
        except TimeoutError:
            _LOGGER.error("engine process hangs", pid=self.pid)  # noqa: TRY400 -- the stack says nothing
            raise DeadlineExceeded("The work did not end within the time that the engine may take.") from None
        except msgspec.DecodeError as error:
            self.crashed = True
            raise EngineBug(f"an engine process sent what is no reply: {error}") from None
        if reply is None:
            await self._report_end()
            raise DependencyUnavailable(
                "The process that carried this out ended over its work. Send the request again; if it happens again, "
                "the dataset is the reason.",
                retry_after=RETRY_SECONDS,
            )
        self.usable = True
        return _result(reply, kind)

    async def end(self) -> bool:
        """Kill the process and remove its files; returns whether it has ended within END_TIMEOUT_SECONDS."""
        self._killed = True
        self._kill()
        try:
            async with asyncio.timeout(END_TIMEOUT_SECONDS):
                await self._process.wait()
        except TimeoutError:
            _LOGGER.critical("engine process does not end", pid=self.pid)
            return False
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        return True

    async def wait(self) -> None:
        """Wait until the process has ended, however long that takes."""
        await self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _exchange(self, request: Request, progress: Callable[[float], None]) -> Reply | None:
        with suppress(ConnectionError):  # the process has ended, so there is no reply either
            self._requests.write(encode(request))
            await self._requests.drain()
        while isinstance(reply := await receive(self._replies, REPLY, MAX_REPLY_BYTES), Progress):
            progress(reply.share)
        return reply

    async def _report_end(self) -> None:
        expected = self._killed
        try:
            # Killing looks first whether it has ended, and takes its exit code from who waits for that.
            async with asyncio.timeout(CLOSING_SECONDS):
                exit_code = await self._process.wait()
        except TimeoutError:
            self._kill()  # it has closed its output alone
            exit_code = await self._process.wait()
        if not expected:
            self._note_crash(exit_code)

    def _note_crash(self, exit_code: int) -> None:
        self.crashed = True
        _LOGGER.error("engine process ended", exit_code=exit_code)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


def _result(reply: Reply, kind: type[R]) -> R:
    """Return the reply. Raises the error that the process raised, and EngineBug for a reply of another kind."""
    if isinstance(reply, kind):
        return reply
    match reply:
        case Failed():
            raise _error(reply.failure)
        case Crashed():
            raise ComputeFailed(f"The engine failed ({reply.kind}).") from EngineBug(f"{reply.kind}\n{reply.stack}")
        case _:
            raise EngineBug(f"an engine process replied {type(reply).__name__} instead of {kind.__name__}")


def _error(failure: Failure) -> FeatureAgentError:
    """Rebuild the error that the process raised. Raises EngineBug for a code that an engine never raises."""
    if failure.code not in _ERRORS:
        raise EngineBug(f"an engine process failed with the code {failure.code}: {failure.message}")
    return _ERRORS[failure.code](failure.message, errors=failure.errors, retry_after=failure.retry_after)


def _make_folder(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="engine-", dir=scratch))
