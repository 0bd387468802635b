"""Supervise several worker processes that share one port: start, watch, restart and stop them.

Workers are new processes, never forks, so no state of threads or event loops is copied. They share the listening
socket, so a connection that a dying worker had not accepted goes to another. They keep their metrics in files
(`telemetry/mmap_metrics.py`), so the metrics port, which the supervisor serves, covers workers that have ended as well.
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
MIN_RESTART_SECONDS = 0.5
MAX_RESTART_SECONDS = 30.0
"""Before a worker that ended is started again; doubles while workers fail early."""
STABLE_SECONDS = 60.0
"""A worker that ran for longer did not fail early."""
_POLL_SECONDS = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class Assignment(Struct, frozen=True):
    """The argument with which the supervisor starts a worker."""

    worker: str
    """From "1" to WORKERS; its replacement has the same name."""
    listener: int
    """File descriptor of the listening socket."""
    pipe: int
    """File descriptor of a socket to the supervisor: the worker reports there that it is ready, and stops when the
    supervisor's end closes."""
    folder: str
    """Holds the metrics of all workers."""
    announce: bool
    """Whether to announce the address; only the first worker does."""


@dataclass(slots=True)
class _Worker:
    name: str
    failures: int = 0
    due: float = 0.0
    """When to start it, by `time.monotonic()`."""
    started: float = 0.0
    ready: bool = False
    process: subprocess.Popen[bytes] | None = None
    pipe: socket.socket | None = None


@dataclass(slots=True)
class Supervisor:
    """Keeps `count` workers running until SIGTERM or SIGINT; a second signal kills them.

    The first worker starts alone: it migrates the database and generates secrets, and if it cannot start, neither can
    the others. `grace_seconds` is how long workers may take to stop.
    """

    count: int
    listener: socket.socket
    folder: Path
    arguments: tuple[str, ...] = ()
    """Command-line arguments of `serve`, passed on to the workers."""
    grace_seconds: float = 60.0
    _workers: list[_Worker] = field(default_factory=list[_Worker], init=False)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector, init=False)
    _signals: list[int] = field(default_factory=list[int], init=False)
    """Stop signals received so far."""
    _was_ready: bool = field(default=False, init=False)
    """Whether any worker has been ready."""

    def run(self) -> int:
        """Run until a signal. Returns the exit status: 0, or that of the first worker when it could not start."""
        dead = DeadWorkerTotals(self.folder)
        waking, woken = socket.socketpair()
        waking.settimeout(0)
        woken.settimeout(0)
        self._selector.register(woken, selectors.EVENT_READ)
        handlers = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        self._workers = [_Worker(str(number + 1)) for number in range(self.count)]
        try:
            return self._supervise(dead, woken)
        finally:
            self._end_all()
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for end in (waking, woken, self._selector):
                end.close()

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _supervise(self, dead: DeadWorkerTotals, woken: socket.socket) -> int:
        while not self._signals:
            self._start_due()
            for key, _ in self._selector.select(self._seconds_to_next_start()):
                if key.fileobj is woken:
                    with suppress(BlockingIOError):
                        woken.recv(64)
                elif (status := self._handle(key.data, dead)) is not None:
                    return status
        return 0

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers if self._was_ready else self._workers[:1]:
            if worker.process is None and worker.due <= now:
                self._start(worker)

    def _seconds_to_next_start(self) -> float | None:
        """Return the seconds until the next worker is due; None when none is."""
        waiting = [worker.due for worker in self._workers if worker.process is None and self._was_ready]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _start(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair()
        assignment = Assignment(
            worker.name, self.listener.fileno(), theirs.fileno(), str(self.folder), announce=not self._was_ready
        )
        command = [sys.executable, "-m", "service", "serve", *self.arguments]
        worker.process = subprocess.Popen(  # noqa: S603 -- this program
            [*command, "--assignment", msgspec.json.encode(assignment).decode()],
            pass_fds=(self.listener.fileno(), theirs.fileno()),
            start_new_session=True,  # so that Ctrl-C at a terminal reaches the supervisor alone
        )
        theirs.close()
        worker.pipe, worker.ready, worker.started = ours, False, time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, worker)
        _LOGGER.info("worker started", worker=worker.name, pid=worker.process.pid)

    def _handle(self, worker: _Worker, dead: DeadWorkerTotals) -> int | None:
        """Handle a worker that became ready or ended; returns an exit status when the first one could not start."""
        if worker.pipe is None or worker.process is None:
            return None
        with suppress(ConnectionError):
            if worker.pipe.recv(1) == READY:
                worker.ready = self._was_ready = True
                _LOGGER.info("worker ready", worker=worker.name, pid=worker.process.pid)
                return None
        code, pid = self._reap(worker), worker.process.pid
        worker.process = None
        dead.absorb(worker.name, pid)
        if not self._was_ready:
            return code or 1
        stable = time.monotonic() - worker.started > STABLE_SECONDS
        worker.failures = 0 if stable or code == 0 else worker.failures + 1
        pause = min(MIN_RESTART_SECONDS * 2**worker.failures, MAX_RESTART_SECONDS)
        worker.due = time.monotonic() + pause
        _LOGGER.warning("worker ended and is started again", worker=worker.name, pid=pid, exit_code=code)
        return None

    def _reap(self, worker: _Worker) -> int:
        """Wait for a worker that closed its pipe; kill it when it does not exit in time."""
        if worker.pipe is not None:
            self._selector.unregister(worker.pipe)
            worker.pipe.close()
            worker.pipe = None
        assert worker.process is not None  # noqa: S101 -- the callers have started it
        try:
            return worker.process.wait(self.grace_seconds)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            return worker.process.wait()

    def _end_all(self) -> None:
        """Stop every worker and wait for it; kill those that take too long, and all of them at a second signal."""
        running = [worker for worker in self._workers if worker.process is not None]
        for worker in running:
            if worker.process is not None:
                worker.process.send_signal(self._signals[0] if self._signals else signal.SIGTERM)
        deadline = time.monotonic() + self.grace_seconds
        for worker in running:
            while worker.process is not None and worker.process.poll() is None:
                if time.monotonic() > deadline or len(self._signals) > 1:
                    worker.process.kill()
                time.sleep(_POLL_SECONDS)
            self._reap(worker)


def set_close_on_exec(descriptor: int) -> None:
    """Keep child processes from inheriting a file descriptor, which they would hold open."""
    os.set_inheritable(descriptor, False)  # noqa: FBT003 -- the function's only form


class SupervisorPipe:
    """A worker's end of the socket to its supervisor."""

    def __init__(self, descriptor: int) -> None:
        set_close_on_exec(descriptor)
        self._socket = socket.socket(fileno=descriptor)

    def report_ready(self) -> None:
        """Report that this worker serves requests."""
        with suppress(OSError):
            self._socket.sendall(READY)

    def on_close(self, stop: Callable[[], object]) -> None:
        """Call `stop`, in a thread of its own, when the supervisor has ended."""

        def wait() -> None:
            with suppress(OSError):
                self._socket.recv(1)
            stop()

        threading.Thread(target=wait, name="supervisor pipe", daemon=True).start()
