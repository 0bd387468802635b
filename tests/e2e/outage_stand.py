"""Two service processes on one database and one Redis, a model provider, and somebody who keeps asking how they are."""

from __future__ import annotations

import http.client
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.e2e.outage_clients import Outcome, Storm
from tools.testbed.api_client import Client

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
AWAY_SECONDS = 5.0
"""Around a moment, far longer than a process waits for Redis."""
PROBE_PAUSE_SECONDS = 0.05
"""Between two questions of the prober: twenty a second."""


class ServiceProcess:
    """`feature-agent serve` as production runs it."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        kept = {"PATH", "HOME", "LANG"}
        inherited = {name: value for name, value in os.environ.items() if name in kept}
        self._environment = {**inherited, "PYTHONPATH": str(ROOT), **environment}
        self._log = log
        self.address = ""

    def __enter__(self) -> Self:
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve", "--json"],
                env=self._environment,
                cwd=self._log.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        _await(self._listens, "the service")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        finally:
            self._process.kill()
            self._process.wait()

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text()

    def without_redis(self, instants: Sequence[float]) -> bool:
        """Whether Redis was away, or came back, within AWAY_SECONDS of these; in seconds since the epoch."""
        lines = (json.loads(line) for line in self.log.splitlines() if '"Redis is ' in line)
        moments = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
        first, last = min(instants) - AWAY_SECONDS, max(instants) + AWAY_SECONDS
        return any(first <= moment <= last for moment in moments)

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the service ended with {self._process.returncode}: {self.log[-2000:]}")
        for line in self.log.splitlines():
            if '"listening"' in line:
                self.address = json.loads(line)["address"]
        return bool(self.address)


def _await(done: object, what: str) -> None:
    assert callable(done)
    deadline = time.monotonic() + START_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.02)


@dataclass
class Prober:
    """Asks one service for `/health/live` over and over, from a thread of this process, which does little else."""

    port: int
    seconds: list[float] = field(default_factory=list[float])
    """How long each answer took."""
    failures: list[str] = field(default_factory=list[str])

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(PROBE_PAUSE_SECONDS):
            started = time.perf_counter()
            try:
                self._ask()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            self.seconds.append(time.perf_counter() - started)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/health/live")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                self.failures.append(str(answer.status))
        finally:
            connection.close()


def run_storm(storm: Storm) -> list[Outcome]:
    """Let a process of clients loose; gives every answer they got."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.e2e.outage_clients"],
        input=json.dumps(asdict(storm)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=storm.seconds + 200,
        check=True,
    )
    return [Outcome(**outcome) for outcome in json.loads(finished.stdout)]


def upload(client: Client, dataset_id: str) -> None:
    """Store a small event log."""
    rows = (f"u{row % 40:03d},{row * 7 % 97}.5,{('click', 'view')[row % 2]}\n" for row in range(400))
    answer = client.upload(dataset_id, ("user_id,price,event\n" + "".join(rows)).encode())
    assert answer.status == 201, answer.body


def percentile(values: list[float], percent: float) -> float:
    """The least value that at least so many percent do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
