"""Starting the service's processes: by its command line, or forked from one process that has the code loaded already.

A forked one is as much a process of its own and runs the same `main`; it only saves the seconds that the interpreter
takes to import everything, of which the fault tests would otherwise consist.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]
PRELOADED = ["pytest", "service.commands.serve", "service.commands.worker", "tests.e2e.processes", "tests.e2e.fleet"]


def leave_in_order_when_asked() -> None:
    """Have a driver that is told to stop end what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


class Running(Protocol):
    """A started process."""

    @property
    def pid(self) -> int | None:
        """Its id."""
        ...

    def poll(self) -> int | None:
        """Its exit status once it has ended; minus the signal's number when that ended it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises TimeoutExpired."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        ...


def spawned(arguments: Sequence[str], environment: Mapping[str, str], log: Path, stages: str) -> Running:
    """Started by the command line."""
    program = ["-m", "service"] if not stages else [str(ROOT / "tests/e2e/staged.py")]
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=log.parent,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


class Forked:
    """Started from the process that has the code loaded."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, stages: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(
            target=live, args=(list(arguments), dict(environment), str(log), stages), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int | None:
        """Its id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status once it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("feature-agent", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        assert self.pid is not None
        if self.poll() is None:
            os.kill(self.pid, sig)


def live(arguments: list[str], environment: dict[str, str], log: str, stages: str) -> None:
    """A forked process's life: `feature-agent` with that environment and log."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(Path(log).parent)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if stages:
        from tests.e2e import staged

        staged.install()
    from service.__main__ import main

    sys.exit(main(arguments))
