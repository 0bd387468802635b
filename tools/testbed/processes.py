"""Start the service's processes: by the command line, or forked from a process that has imported the code already.

A forked process is as much a process of its own and runs the same `main`. It saves the seconds in which the interpreter
imports everything, of which drills would otherwise mostly consist.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

ROOT = Path(__file__).parents[2]
SERVICE = "service.__main__"
"""The module that is started: it is run with `-m`, and has a function `main` that takes the arguments."""
PRELOADED = [
    "pytest",  # the main module of a test run, which forked processes import again
    "service.commands.serve",
    "service.commands.worker",
    "tools.testbed.processes",
    "tools.testbed.fleet",
]


def exit_on_sigterm() -> None:
    """Have SIGTERM raise SystemExit in this process, so that it stops what it started."""
    signal.signal(signal.SIGTERM, _exit)


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(1)


class Process(Protocol):
    """A started process."""

    @property
    def pid(self) -> int | None:
        """Return its id."""
        ...

    def poll(self) -> int | None:
        """Return its exit status, None while it runs; minus the signal's number when a signal ended it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit status. Raises TimeoutExpired."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        ...


def spawn(arguments: Sequence[str], environment: Mapping[str, str], log: Path, module: str = SERVICE) -> Process:
    """Start a process by the command line; it writes to `log` and works in that file's folder."""
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=log.parent,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


class ForkedProcess:
    """Start a process from the fork server, which has the code loaded."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, module: str = SERVICE
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(
            target=_run, args=(list(arguments), dict(environment), str(log), module), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int | None:
        """Return its id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit status. Raises TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("feature-agent", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        """Send it a signal, if it runs."""
        assert self.pid is not None
        if self.poll() is None:
            os.kill(self.pid, sig)


def _run(arguments: list[str], environment: dict[str, str], log: str, module: str) -> None:
    """Run the module's `main` in the forked process, with that environment and log."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(Path(log).parent)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(import_module(module).main(arguments))
