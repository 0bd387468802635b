"""A service of this checkout, started for a load test on the embedded defaults and stopped with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from loadtest.errors import BadInput
from loadtest.limits import UNLIMITED
from loadtest.measure.watch import fetch
from loadtest.model_stub.process import running_stub

ROOT = Path(__file__).parents[1]
START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 60.0
LOOK_SECONDS = 0.2
BUILTIN = "builtin"


class LocalService(NamedTuple):
    """Where it is."""

    host: str
    key: str
    pid: int
    log: Path


def free_port() -> int:
    """Give a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def local_service(model: str = BUILTIN, environment: Mapping[str, str] | None = None) -> Generator[LocalService]:
    """Start `feature-agent serve` with a worker inside; its model is the built-in planner, or a stub of a provider.

    Raises BadInput, with the end of its log, when it does not start.
    """
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="loadtest-")))
        settings = {} if model == BUILTIN else cleanup.enter_context(running_stub(model))
        port = free_port()
        own = {
            "DATA_DIR": str(folder / "data"),
            "ENVIRONMENT": "development",
            "PORT": str(port),
            "PROMETHEUS_PORT": str(free_port()),
            **UNLIMITED,
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(ROOT),
        }
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        log = folder / "service.log"
        process = _start(log, folder, {**kept, **own, **settings, **(environment or {})})
        cleanup.callback(_stop, process)
        host = f"http://127.0.0.1:{port}"
        _await_ready(process, host, log)
        key = (folder / "data" / "development.key").read_text(encoding="utf-8").strip()
        yield LocalService(host, key, process.pid, log)


def _start(log: Path, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--json"],
            cwd=folder,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _await_ready(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    last = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < last and process.poll() is None:
        try:
            fetch(f"{host}/health/ready")
        except OSError:
            time.sleep(LOOK_SECONDS)
        else:
            return
    words = " ".join(log.read_text(encoding="utf-8", errors="replace")[-500:].split())
    raise BadInput(f"the service of this checkout did not start: {words}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
