"""Rolling restart: replace every process under load, one after another, and count the requests that fail.

`python -m tools.rolling` starts everything it needs and prints what it measured as JSON, and writes it to a file with
`--out`. Its clients send requests only to processes that are ready, and wait when they are asked to. Exit status 1 when
one of their requests failed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tools.testbed.audit import Audit
from tools.testbed.drill import open_isolated_fleet, print_report
from tools.testbed.fleet import Fleet
from tools.testbed.pod import BROKEN
from tools.testbed.processes import exit_on_sigterm
from tools.testbed.retrying_client import EXTRACT, RESPOND_ASYNC, RetryingClient, extraction_of

APIS = 2
WORKERS = 2
DISTINCT_SENTENCES = 50
"""So that some requests repeat an earlier one."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a rolling restart."""

    rounds: int = 3
    """How often every process is replaced."""
    clients: int = 8
    drain_seconds: float = 5.0
    pause_seconds: float = 0.02
    """Between a client's requests; its connections stay open meanwhile."""


@dataclass
class Load:
    """What the clients saw."""

    statuses: dict[str, int] = field(default_factory=dict[str, int])
    failed: list[str] = field(default_factory=list[str])
    accepted: list[str] = field(default_factory=list[str])
    closing: int = 0
    """Answers with `Connection: close`."""

    def count(self, answer: httpx2.Response) -> None:
        """Count an answer."""
        status = str(answer.status_code)
        if answer.status_code >= 400:
            status += f" {answer.json()['error_code']}"
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.closing += answer.headers.get("Connection") == "close"


@dataclass
class Report:
    """What was measured."""

    plan: Plan
    seconds: float
    replaced: int
    slowest_stop_seconds: float
    load: Load
    audit: Audit

    def figures(self) -> dict[str, Any]:
        """Return the report for people and files."""
        return {
            "processes": f"{APIS} APIs, {WORKERS} workers",
            "replaced": self.replaced,
            "seconds": round(self.seconds, 1),
            "slowest_stop_seconds": round(self.slowest_stop_seconds, 1),
            "drain_seconds": self.plan.drain_seconds,
            "requests": sum(self.load.statuses.values()),
            "answers_by_status": dict(sorted(self.load.statuses.items())),
            "answers_that_closed_their_connection": self.load.closing,
            "failed_requests": len(self.load.failed),
            "failures": self.load.failed[:10],
            "extractions": self.audit.by_status,
            "lost": len(self.audit.lost),
            "published_twice": len(self.audit.duplicates),
        }


class Rolling:
    """Run a rolling restart on a fleet."""

    def __init__(self, fleet: Fleet, plan: Plan) -> None:
        self._fleet = fleet
        self._plan = plan
        self._load = Load()
        self._over = asyncio.Event()
        self._numbers = itertools.count()
        self._stop_seconds: list[float] = []

    async def run(self) -> Report:
        """Replace every process, round after round, under load."""
        fleet = self._fleet
        for _ in range(APIS):
            fleet.start("serve")
        for _ in range(WORKERS):
            fleet.start("worker")
        await asyncio.gather(*(pod.ready() for pod in fleet.pods))
        async with fleet.client() as client:
            await RetryingClient(fleet, client).upload("clicks")
        begun = time.monotonic()
        clients = [asyncio.create_task(self._run_client()) for _ in range(self._plan.clients)]
        for _ in range(self._plan.rounds):
            await self._replace_all()
        self._over.set()
        await asyncio.gather(*clients)
        seconds = time.monotonic() - begun
        await fleet.wait_until_all_ended()
        audit = await fleet.audit(self._load.accepted)
        replaced, slowest = len(self._stop_seconds), max(self._stop_seconds)
        return Report(self._plan, seconds, replaced, slowest, self._load, audit)

    async def _replace_all(self) -> None:
        """For each process, start another, wait until it is ready, and stop the old one."""
        for old in [pod for pod in self._fleet.pods if pod.process.poll() is None]:
            await self._fleet.start(old.role).ready()
            begun = time.monotonic()
            old.signal(signal.SIGTERM)
            assert await old.exit_status() == 0, old.tail()
            self._stop_seconds.append(time.monotonic() - begun)

    async def _run_client(self) -> None:
        async with self._fleet.client() as connections:
            client = RetryingClient(self._fleet, connections)
            while not self._over.is_set():
                await self._extract(client)
                await asyncio.sleep(self._plan.pause_seconds)

    async def _extract(self, client: RetryingClient) -> None:
        """Request an extraction, two of three asynchronously, and read its status and result."""
        number = next(self._numbers)
        body = {
            "dataset_id": "clicks",
            "feature_description": f"Average clicks for each user, number {number % DISTINCT_SENTENCES}",
            "quality_threshold": "low",
        }
        headers = {"Idempotency-Key": f"rolling-{number}", **(RESPOND_ASYNC if number % 3 else {})}
        answer = await self._request(client, "POST", EXTRACT, json=body, headers=headers)
        if answer is None:
            return
        extraction_id = extraction_of(answer)
        self._load.accepted.append(extraction_id)
        for path in ("/status", "", "/status"):
            await self._request(client, "GET", f"/api/v1/extraction/{extraction_id}{path}")

    async def _request(self, client: RetryingClient, method: str, path: str, **options: Any) -> httpx2.Response | None:
        """Send a request, again after each `Retry-After`; record what fails and return None for it."""
        while True:
            address = await client.ready_address()
            try:
                answer = await client.client.request(method, address + path, **options)
            except BROKEN as fault:
                self._load.failed.append(f"{method} {path.split('/')[3]}: {type(fault).__name__}")
                return None
            self._load.count(answer)
            if answer.status_code not in {429, 503} or "Retry-After" not in answer.headers:
                break
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        if answer.status_code not in {200, 202}:
            self._load.failed.append(f"{method} {path.split('/')[3]}: {answer.status_code} {answer.text[:200]}")
            return None
        return answer


async def roll(folder: Path, plan: Plan) -> Report:
    """Start the servers and the fleet, and run the rolling restart on them."""
    settings = {"DRAIN_SECONDS": str(plan.drain_seconds), "WORKER_CONCURRENCY": "4"}
    async with open_isolated_fleet(folder, **settings) as fleet:
        return await Rolling(fleet, plan).run()


def main() -> int:
    """Run the rolling restart from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--drain-seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    exit_on_sigterm()
    plan = Plan(options.rounds, options.clients, options.drain_seconds)
    with tempfile.TemporaryDirectory(prefix="rolling-") as folder:
        report = asyncio.run(roll(Path(folder), plan))
    print_report(f"make rolling ROUNDS={plan.rounds}", report.figures(), options.out)
    report.audit.require_nothing_lost()
    return 1 if report.load.failed else 0


if __name__ == "__main__":
    sys.exit(main())
