"""Processes pinned to a core, and what they have used by the kernel's own account."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[3]
START_SECONDS = 300.0
STOP_SECONDS = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 2**20


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """One server under test on a core of its own, from `with` to its end."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, port: int, health: str, core: int, log: Path
    ) -> None:
        self._command = [sys.executable, *command]
        self._environment = {**os.environ, **environment}
        self.port = port
        self._health = health
        self._core = core
        self._log = log
        self.ready_seconds = 0.0
        """From the start of the process to its first 200."""

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            os.sched_setaffinity(self._process.pid, {self._core})  # its threads and children inherit it
        try:
            self._await_health(began)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    def _await_health(self, began: float) -> None:
        while not _healthy(self.port, self._health):
            if self._process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                words = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the server {self._command} did not start: {words}")
            time.sleep(0.01)
        self.ready_seconds = time.perf_counter() - began

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time of the server and of the processes that it started, so far."""
        return sum(_cpu_seconds(pid) for pid in _family(self.pid))

    def resident_mib(self) -> float:
        """Memory that the server and the processes that it started hold now."""
        return sum(_resident(pid) for pid in _family(self.pid)) / _MIB


def _healthy(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _cpu_seconds(pid: int) -> float:
    """Of all its threads, ended ones too; in ticks of 10 ms, so measure for seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
