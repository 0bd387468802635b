"""`make dev` starts the service again when a file changes, and keeps the embedded database meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.testbed.processes import ROOT

pytestmark = pytest.mark.timeout(300)

TIMEOUT_SECONDS = 100.0


def wait_for(condition: Callable[[], object], log: Path) -> None:
    """Wait for something that another process brings about."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def listening(log: Path) -> list[dict[str, Any]]:
    """Return the log lines of services that began to listen."""
    found = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return [line for line in found if line["message"] == "listening"]


def test_change_of_a_file_restarts_the_service_on_the_same_database(tmp_path: Path) -> None:
    """The service listens again after a change, PostgreSQL is the same process, and all of it ends with SIGTERM."""
    watched, log = tmp_path / "watched", tmp_path / "log"
    watched.mkdir()
    (watched / "module.py").write_text("")
    postmaster = tmp_path / "data/postgresql/data/postmaster.pid"
    environment = {
        **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
        "PYTHONPATH": str(ROOT), "ENVIRONMENT": "development", "DATA_DIR": str(tmp_path / "data"), "PORT": "0",
        "PROMETHEUS_PORT": "0", "LOG_FORMAT": "json",
    }  # fmt: skip
    command = [sys.executable, "-m", "tools.dev", "--watch", str(watched)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        wait_for(lambda: len(listening(log)) == 1, log)
        first = postmaster.read_text().splitlines()[0]
        # The reloader notes the files when it first looks at them, and then looks for later times.
        time.sleep(1.0)
        os.utime(watched / "module.py", (time.time() + 5, time.time() + 5))
        wait_for(lambda: len(listening(log)) == 2, log)
        assert postmaster.read_text().splitlines()[0] == first
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_SECONDS)
    assert process.returncode == 0
    assert not postmaster.exists()


def test_settings_that_cannot_be_used_end_it_with_one_line(tmp_path: Path) -> None:
    """A wrong setting is bad input here too: exit status 2 and one line."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PORT": "many", "DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tools.dev"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("dev: ")
    assert done.stderr.count("\n") == 1
