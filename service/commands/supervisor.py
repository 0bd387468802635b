"""Several worker processes behind one address: started, watched, started again when they end, and stopped together.

Workers are new processes, never forks, so nothing that a thread or an event loop holds is copied. They share the
listening socket, so a connection that a dying worker had not accepted is another's, and their numbers through files
(`telemetry/mmap_metrics.py`), so the metrics port, which is the supervisor's, tells of all that was ever counted.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import msgspec
import structlog
from msgspec import Struct

from service.telemetry.workers import DeadWorkerTotals

READY = b"r"
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
"""Before a worker that ended is started again, doubling for one that does not last."""
LASTING_SECONDS = 60.0
_POLL_SECONDS = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class Assignment(Struct, frozen=True):
    """What a worker process is told on its command line."""

    worker: str
    """From 1 to WORKERS; whoever takes its place has its name."""
    listener: int
    """Descriptor of the listening socket."""
    leash: int
    """Descriptor of a socket to the supervisor: the worker says there that it is ready, and ends when it closes."""
    folder: str
    """Where the numbers are kept."""
    announce: bool
    """Whether it tells the address, as the first of all does."""


@dataclass(slots=True)
class _Worker:
    name: str
    failures: int = 0
    due: float = 0.0
    """When it is to be started, by `time.monotonic()`."""
    started: float = 0.0
    ready: bool = False
    process: subprocess.Popen[bytes] | None = None
    leash: socket.socket | None = None


@dataclass(slots=True)
class Supervisor:
    """Keeps `count` workers until SIGTERM or SIGINT; a second signal ends them at once.

    The first one starts alone: it migrates the database and makes what is made once, and when it cannot start, neither
    can the others. `grace_seconds` is how long workers may take to end.
    """

    count: int
    listener: socket.socket
    folder: Path
    arguments: tuple[str, ...] = ()
    """Of `serve`, handed on."""
    grace_seconds: float = 60.0
    _workers: list[_Worker] = field(default_factory=list[_Worker], init=False)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector, init=False)
    _asked: list[int] = field(default_factory=list[int], init=False)
    """Signals to stop that came."""
    _proven: bool = field(default=False, init=False)
    """Whether a worker has ever been ready."""

    def run(self) -> int:
        """Serve, and give the exit status: 0 after a signal, or that of a first worker that could not start."""
        retired = DeadWorkerTotals(self.folder)
        waking, woken = socket.socketpair()
        waking.settimeout(0)
        woken.settimeout(0)
        self._selector.register(woken, selectors.EVENT_READ)
        handlers = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        self._workers = [_Worker(str(number + 1)) for number in range(self.count)]
        try:
            return self._supervise(retired, woken)
        finally:
            self._end_all()
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for end in (waking, woken, self._selector):
                end.close()

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._asked.append(number)

    def _supervise(self, retired: DeadWorkerTotals, woken: socket.socket) -> int:
        while not self._asked:
            self._start_due()
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is woken:
                    with suppress(BlockingIOError):
                        woken.recv(64)
                elif (status := self._heard(key.data, retired)) is not None:
                    return status
        return 0

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers if self._proven else self._workers[:1]:
            if worker.process is None and worker.due <= now:
                self._start(worker)

    def _patience(self) -> float | None:
        """Seconds until the next start; None when none is due."""
        waiting = [worker.due for worker in self._workers if worker.process is None and self._proven]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _start(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair()
        assignment = Assignment(
            worker.name, self.listener.fileno(), theirs.fileno(), str(self.folder), announce=not self._proven
        )
        command = [sys.executable, "-m", "service", "serve", *self.arguments]
        worker.process = subprocess.Popen(  # noqa: S603 -- ourselves
            [*command, "--assignment", msgspec.json.encode(assignment).decode()],
            pass_fds=(self.listener.fileno(), theirs.fileno()),
            start_new_session=True,  # a terminal's Ctrl-C is the supervisor's to pass on
        )
        theirs.close()
        worker.leash, worker.ready, worker.started = ours, False, time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, worker)
        _LOGGER.info("worker started", worker=worker.name, pid=worker.process.pid)

    def _heard(self, worker: _Worker, retired: DeadWorkerTotals) -> int | None:
        """A worker became ready, or ended; gives an exit status when the first one could not start."""
        if worker.leash is None or worker.process is None:
            return None
        with suppress(ConnectionError):
            if worker.leash.recv(1) == READY:
                worker.ready = self._proven = True
                _LOGGER.info("worker ready", worker=worker.name, pid=worker.process.pid)
                return None
        code, pid = self._reap(worker), worker.process.pid
        worker.process = None
        retired.absorb(worker.name, pid)
        if not self._proven:
            return code or 1
        lasted = time.monotonic() - worker.started > LASTING_SECONDS
        worker.failures = 0 if lasted or code == 0 else worker.failures + 1
        pause = min(FIRST_PAUSE_SECONDS * 2**worker.failures, LONGEST_PAUSE_SECONDS)
        worker.due = time.monotonic() + pause
        _LOGGER.warning("worker ended and is started again", worker=worker.name, pid=pid, exit_code=code)
        return None

    def _reap(self, worker: _Worker) -> int:
        """Wait for a worker that closed its leash; one that hangs in its end is killed."""
        if worker.leash is not None:
            self._selector.unregister(worker.leash)
            worker.leash.close()
            worker.leash = None
        assert worker.process is not None  # noqa: S101 -- only called for a started one
        try:
            return worker.process.wait(self.grace_seconds)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            return worker.process.wait()

    def _end_all(self) -> None:
        """Ask every worker to end and wait for it; kill what does not in time, or at a second signal."""
        running = [worker for worker in self._workers if worker.process is not None]
        for worker in running:
            if worker.process is not None:
                worker.process.send_signal(self._asked[0] if self._asked else signal.SIGTERM)
        deadline = time.monotonic() + self.grace_seconds
        for worker in running:
            while worker.process is not None and worker.process.poll() is None:
                if time.monotonic() > deadline or len(self._asked) > 1:
                    worker.process.kill()
                time.sleep(_POLL_SECONDS)
            self._reap(worker)


def own(descriptor: int) -> None:
    """Keep an inherited descriptor from what this process starts, which would hold it open."""
    os.set_inheritable(descriptor, False)  # noqa: FBT003 -- the function's only form


class Leash:
    """A worker's end of the line to its supervisor."""

    def __init__(self, descriptor: int) -> None:
        own(descriptor)
        self._socket = socket.socket(fileno=descriptor)

    def ready(self) -> None:
        """Tell that requests are being served."""
        with suppress(OSError):
            self._socket.sendall(READY)

    def when_cut(self, end: Callable[[], object]) -> None:
        """Call `end`, in a thread of its own, when the supervisor is gone."""

        def wait() -> None:
            with suppress(OSError):
                self._socket.recv(1)
            end()

        threading.Thread(target=wait, name="leash", daemon=True).start()
