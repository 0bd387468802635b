"""A rolling restart under load: every process is replaced, one after another, and no client may notice.

`python -m tools.rolling` starts everything it needs, prints what it measured as JSON, writes it to a file when it
is given one, and ends with status 1 when a request failed of a client that asks only processes that are ready and
comes back when it is told to.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from tools.testbed.audit import Audit
from tools.testbed.fleet import Fleet, open_fleet
from tools.testbed.pod import BROKEN
from tools.testbed.postgres import running_postgres
from tools.testbed.processes import exit_on_sigterm
from tools.testbed.redis import REDIS_SERVER, running_redis
from tools.testbed.retrying_client import EXTRACT, RESPOND_ASYNC, RetryingClient, extraction_of

APIS = 2
WORKERS = 2


@dataclass(frozen=True)
class Plan:
    """What is done."""

    rounds: int = 3
    """How often every process is replaced."""
    clients: int = 8
    drain_seconds: float = 5.0
    pause_seconds: float = 0.02
    """Between a client's requests; connections are kept meanwhile."""


@dataclass
class Load:
    """What the clients saw."""

    statuses: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    closing: int = 0
    """Answers that said that they are the last on their connection."""

    def note(self, answer: httpx2.Response) -> None:
        """Count an answer."""
        status = str(answer.status_code)
        if answer.status_code >= 400:
            status += f" {answer.json()['error_code']}"
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.closing += answer.headers.get("Connection") == "close"


@dataclass
class Report:
    """What was seen."""

    plan: Plan
    seconds: float
    replaced: int
    slowest_stop_seconds: float
    load: Load
    audit: Audit

    def figures(self) -> dict[str, Any]:
        """For people and files."""
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
    """One run on a fleet."""

    def __init__(self, fleet: Fleet, plan: Plan) -> None:
        self._fleet = fleet
        self._plan = plan
        self._load = Load()
        self._enough = asyncio.Event()
        self._numbers = itertools.count()
        self._stops: list[float] = []

    async def run(self) -> Report:
        """Replace everything, under load."""
        fleet = self._fleet
        for _ in range(APIS):
            fleet.start("serve")
        for _ in range(WORKERS):
            fleet.start("worker")
        await asyncio.gather(*(pod.ready() for pod in fleet.pods))
        async with fleet.client() as client:
            await RetryingClient(fleet, client).upload("clicks")
        begun = time.monotonic()
        clients = [asyncio.create_task(self._client()) for _ in range(self._plan.clients)]
        for _ in range(self._plan.rounds):
            await self._replace_all()
        self._enough.set()
        await asyncio.gather(*clients)
        seconds = time.monotonic() - begun
        await fleet.wait_until_all_ended()
        audit = await fleet.audit(self._load.accepted)
        return Report(self._plan, seconds, len(self._stops), max(self._stops), self._load, audit)

    async def _replace_all(self) -> None:
        """Start another, wait until it is ready, stop the old one; one after another."""
        for old in [pod for pod in self._fleet.pods if pod.process.poll() is None]:
            await self._fleet.start(old.role).ready()
            asked = time.monotonic()
            old.signal(signal.SIGTERM)
            assert await old.exit_status() == 0, old.tail()
            self._stops.append(time.monotonic() - asked)

    async def _client(self) -> None:
        async with self._fleet.client() as client:
            caller = RetryingClient(self._fleet, client)
            while not self._enough.is_set():
                await self._errand(caller)
                await asyncio.sleep(self._plan.pause_seconds)

    async def _errand(self, caller: RetryingClient) -> None:
        """Ask for features, now with patience and now without, and look at them."""
        number = next(self._numbers)
        patience = RESPOND_ASYNC if number % 3 else {}
        body = {
            "dataset_id": "clicks",
            "feature_description": f"Average clicks for each user, number {number % 50}",
            "quality_threshold": "low",
        }
        headers = {"Idempotency-Key": f"rolling-{number}", **patience}
        answer = await self._ask(caller, "POST", EXTRACT, json=body, headers=headers)
        if answer is None:
            return
        extraction_id = extraction_of(answer)
        self._load.accepted.append(extraction_id)
        for path in ("/status", "", "/status"):
            await self._ask(caller, "GET", f"/api/v1/extraction/{extraction_id}{path}")

    async def _ask(self, caller: RetryingClient, method: str, path: str, **options: Any) -> httpx2.Response | None:
        while True:
            address = await caller.ready_address()
            try:
                answer = await caller.client.request(method, address + path, **options)
            except BROKEN as fault:
                self._load.failed.append(f"{method} {path.split('/')[3]}: {type(fault).__name__}")
                return None
            self._load.note(answer)
            if answer.status_code not in {429, 503} or "Retry-After" not in answer.headers:
                break
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        if answer.status_code not in {200, 202}:
            self._load.failed.append(f"{method} {path.split('/')[3]}: {answer.status_code} {answer.text[:200]}")
            return None
        return answer


async def roll(folder: Path, plan: Plan) -> Report:
    """Start the servers and the fleet, and run."""
    with ExitStack() as servers:
        postgres = servers.enter_context(running_postgres(folder / "postgresql"))
        environment = {"DRAIN_SECONDS": str(plan.drain_seconds), "WORKER_CONCURRENCY": "4"}
        if REDIS_SERVER is not None:
            environment["REDIS_URL"] = servers.enter_context(running_redis(folder)).url
        async with open_fleet(folder, postgres.url, **environment) as fleet:
            return await Rolling(fleet, plan).run()


def main() -> int:
    """The command."""
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
    told = {
        "command": f"make rolling ROUNDS={plan.rounds}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        **report.figures(),
    }
    text = json.dumps(told, indent=2)
    print(text)  # noqa: T201 - the result
    if options.out:
        options.out.write_text(f"{text}\n")
    report.audit.require_nothing_lost()
    return 1 if report.load.failed else 0


if __name__ == "__main__":
    sys.exit(main())
