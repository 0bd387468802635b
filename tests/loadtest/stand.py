"""What the tests of the load test stand on: a service with a fault, a small load, and the command that judges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from loadtest.limits import UNLIMITED
from loadtest.local import free_port
from loadtest.measure.indicators import SLO_FILE
from loadtest.measure.watch import fetch

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
START_SECONDS = 90.0
STOP_SECONDS = 30.0
GATE_SECONDS = 200.0
OF_THE_MACHINE = frozenset({"machine", "generator"})
OF_A_BUSY_MACHINE = frozenset(
    {"slo:api-availability", "slo:api-latency-read", "slo:api-latency-extract", "achieved_rate", "clients"}
)
"""Gates that a sound service may miss when other tests take its CPU: it is late, and refuses what it could not plan."""
BUSY_SHARE = 0.3
"""Of the cores, used by other programs."""

SCENARIO = """
rate: 20
mix: {poll_status: 40, read_result: 12, download_table: 8, list_extractions: 8, extract_and_wait: 6,
      extract_and_poll: 14, follow_events: 2, upload: 3, bad_client: 7}
data: {datasets: 1, rows: 100}
"""


@dataclass
class Standing:
    """A service in a process of its own."""

    environment: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def host(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.environment['PORT']}"

    @property
    def key(self) -> str:
        """Its development key."""
        return (self.folder / "data" / "development.key").read_text().strip()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "faulty_service.py"), "serve", "--json"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        last = time.monotonic() + START_SECONDS
        while time.monotonic() < last and self.process.poll() is None:
            try:
                fetch(f"{self.host}/health/ready")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError((self.folder / "service.log").read_text()[-2000:])

    def kill(self) -> None:
        """End it as the kernel would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End it in order."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def service(folder: Path, database_url: str, fault: str = "", **environment: str) -> Iterator[Standing]:
    """Start the service with that fault."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    own = {
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": database_url,
        "ENVIRONMENT": "development",
        "FAULT": fault,
        "LOG_LEVEL": "WARNING",
        "PORT": str(free_port()),
        "PROMETHEUS_PORT": str(free_port()),
        "PYTHONPATH": str(ROOT),
        **UNLIMITED,
    }
    standing = Standing({**kept, **own, **environment}, folder)
    try:
        standing.start()
        yield standing
    finally:
        standing.stop()


def slo_file(folder: Path) -> Path:
    """Write the service's objectives, with those of extractions at 95 %, which 10 extractions can decide."""
    document = yaml.safe_load(SLO_FILE.read_text())
    for slo in document["slos"]:
        if slo["name"].startswith("extraction-"):
            slo["objective"] = 95
    path = folder / "slo.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@dataclass(frozen=True)
class Judged:
    """What a gate said."""

    status: int
    out: Path
    stderr: str

    @property
    def verdict(self) -> Any:
        """verdict.json."""
        return json.loads((self.out / "verdict.json").read_text())

    @property
    def run(self) -> Any:
        """run.json."""
        return json.loads((self.out / "run.json").read_text())

    @property
    def reasons(self) -> dict[str, str]:
        """Gate -> the first sentence why."""
        found: dict[str, str] = {}
        for reason in self.verdict["reasons"]:
            found.setdefault(reason["gate"], reason["sentence"])
        return found

    @property
    def busy(self) -> bool:
        """Whether other programs used the machine."""
        machine = self.run["machine"]
        return machine["foreign_cores"] > BUSY_SHARE * machine["cores"]


def loadtest(
    *arguments: str, cwd: Path = ROOT, really: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command; `really` as it is, else without its demands on the machine."""
    program = ["-m", "loadtest"] if really else [str(HERE / "on_a_busy_machine.py")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEATURE_AGENT", "LOCUST"))}
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=GATE_SECONDS,
    )


def gate(
    standing: Standing, folder: Path, *more: str, seconds: float = 10, scenario: str = SCENARIO, really: bool = False
) -> Judged:
    """Judge a service by a small load."""
    (folder / "scenario.yaml").write_text(scenario)
    out = folder / "out"
    arguments = [
        *("gate", "--host", standing.host, "--out", str(out), "--scenario", str(folder / "scenario.yaml")),
        *("--slo", str(slo_file(folder)), "--stage-seconds", str(seconds), "--warm-up-seconds", "2", *more),
    ]
    done = loadtest(*arguments, really=really, FEATURE_AGENT_KEY=standing.key)
    if not (out / "verdict.json").exists():
        raise AssertionError(done.stdout + done.stderr)
    return Judged(done.returncode, out, done.stderr)
