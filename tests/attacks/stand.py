"""A real service on the embedded defaults, with three principals: an attacker, another tenant, and an operator."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ADDRESS = re.compile(r'"address": ?"(http://[^"]+)"')
START_SECONDS = 90.0
STOP_SECONDS = 45.0
"""Longer than open requests may take to end (30 s) and a worker's jobs (25 s)."""
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Stand:
    """A running service."""

    url: str
    pid: int
    attacker: str
    """The API key of who attacks."""
    tenant: str
    """The API key of somebody else."""

    @property
    def host(self) -> str:
        """Its host."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Its port."""
        return urlsplit(self.url).port or 0

    def resident_mib(self) -> float:
        """Resident memory of the service's own process."""
        return _resident(self.pid)

    def engine_mib(self) -> float:
        """Resident memory of the processes in which it has files read and features computed."""
        return sum(_resident(pid) for pid in _descendants(self.pid))

    def descriptors(self) -> int:
        """Open file descriptors of the service."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


@contextmanager
def open_stand(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Stand]:
    """Start the service by its command line and stop it by SIGTERM; its log is in the folder."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ENVIRONMENT": "test",
        "DATA_DIR": str(folder / "data"),
        "PORT": "0",
        "PROMETHEUS_PORT": "0",
        "RATE_LIMIT_PER_MINUTE": "0",
        **(settings or {}),
    }
    log = folder / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve"], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        url = _address(process, log)
        yield Stand(url, process.pid, _key("attacker", environment), _key("tenant", environment))
    finally:
        stop(process.pid)
        process.wait()


def stop(pid: int) -> float:
    """Send SIGTERM and wait; give the seconds until its end, infinite when it had to be killed."""
    began = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() - began < STOP_SECONDS:
            if not _runs(pid):
                return time.monotonic() - began
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        return math.inf
    return time.monotonic() - began


def _runs(pid: int) -> bool:
    """Whether the process has not ended; one that its parent has not waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        found = ADDRESS.search(log.read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"the service did not start: {log.read_text()[-2000:]}")


def _key(name: str, environment: Mapping[str, str]) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "service", "keys", "create", "--name", name, "--json"],
        env=dict(environment),
        capture_output=True,
        check=True,
        text=True,
    )
    return str(json.loads(made.stdout)["key"])


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20
    except (OSError, IndexError):
        return 0.0  # it has ended


def _descendants(pid: int) -> list[int]:
    """Python processes below; not the embedded PostgreSQL, which is no part of the service's memory."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            if _is_python(child):
                found += [child, *_descendants(child)]
    return found


def _is_python(pid: int) -> bool:
    try:
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
