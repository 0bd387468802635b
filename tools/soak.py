"""The soak: many extractions over two APIs and three workers, one of which is killed every few seconds.

`python -m tools.soak --jobs 1000` starts everything it needs, prints what it measured as JSON, writes it to a file
when it is given one, and ends with status 1 unless nothing was lost, nothing was done twice, and every extraction of a
killed worker was in another's hands within 15 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.testbed.audit import Audit
from tools.testbed.fleet import RECOVERY_SECONDS, Fleet, open_fleet
from tools.testbed.pod import Pod
from tools.testbed.postgres import running_postgres
from tools.testbed.processes import exit_on_sigterm
from tools.testbed.redis import REDIS_SERVER, running_redis
from tools.testbed.retrying_client import RESPOND_ASYNC, RetryingClient, extraction_of

APIS = 2
WORKERS = 3
LAST_SECONDS = 120.0
"""For the last jobs to end, once nobody is killed any more."""


@dataclass(frozen=True)
class Plan:
    """What the soak does."""

    jobs: int
    kill_every: float = 5.0
    clients: int = 12
    seed: int = 1
    forked: bool = True
    recovery_seconds: float = RECOVERY_SECONDS
    """The longest that may pass until another worker has what a dead one held."""


@dataclass
class Kill:
    """One kill, and what became of what the dead one held."""

    pod: str
    at: float
    """Seconds since the epoch."""
    held: dict[str, int]
    """Which attempt at which extraction."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds until another worker had claimed each."""


@dataclass
class Report:
    """What was seen."""

    plan: Plan
    seconds: float
    kills: int
    kills_of_holders: int
    """Of which the dead process held extractions."""
    held: int
    worst_recovery_seconds: float
    median_recovery_seconds: float
    slow: list[str]
    """What became of each that took too long."""
    broken_requests: int
    refused_requests: int
    audit: Audit

    def faults(self) -> list[str]:
        """What the promise does not allow."""
        found = [
            name
            for name in ("lost", "unexplained", "missing", "orphans_after_sweep", "duplicates", "jobs_left")
            if getattr(self.audit, name)
        ]
        ended = sum(self.audit.by_status.get(status, 0) for status in ("completed", "failed", "cancelled"))
        if not ended == self.audit.accepted == self.plan.jobs:
            found.append(f"{ended} of {self.audit.accepted} accepted have ended, {self.plan.jobs} were asked for")
        if self.worst_recovery_seconds > self.plan.recovery_seconds:
            found.append(f"a recovery took {self.worst_recovery_seconds} s")
        return found

    def figures(self) -> dict[str, Any]:
        """For people and files."""
        audit = self.audit
        return {
            "jobs": self.plan.jobs,
            "processes": f"{APIS} APIs, {WORKERS} workers",
            "kill_every_seconds": self.plan.kill_every,
            "seconds": round(self.seconds, 1),
            "kills": self.kills,
            "kills_of_workers_with_jobs": self.kills_of_holders,
            "extractions_held_by_the_killed": self.held,
            "worst_recovery_seconds": round(self.worst_recovery_seconds, 2),
            "median_recovery_seconds": round(self.median_recovery_seconds, 2),
            "slow_recoveries": self.slow,
            "requests_broken_and_sent_again": self.broken_requests,
            "requests_told_to_come_later": self.refused_requests,
            "terminal": audit.by_status,
            "failures": audit.failures,
            "lost": len(audit.lost),
            "published_twice": len(audit.duplicates),
            "completed_without_table": len(audit.missing),
            "tables_of_dead_attempts_before_the_sweep": audit.orphans,
            "orphans_after_the_sweep": len(audit.orphans_after_sweep),
            "faults": self.faults(),
        }


class Soak:
    """One run on a fleet."""

    def __init__(self, fleet: Fleet, plan: Plan) -> None:
        self._fleet = fleet
        self._plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - whom to kill is no secret
        self._kills: list[Kill] = []
        self._callers: list[RetryingClient] = []
        self._numbers = itertools.count()

    async def run(self) -> Report:
        """All jobs to their end, under fire."""
        fleet, plan = self._fleet, self._plan
        for role in ["serve"] * APIS + ["worker"] * WORKERS:
            fleet.start("serve" if role == "serve" else "worker")
        await asyncio.gather(*(pod.ready() for pod in fleet.pods))
        begun = time.monotonic()
        async with fleet.client() as client:
            await RetryingClient(fleet, client).upload("clicks")
            killing = asyncio.create_task(self._keep_killing())
            found = await asyncio.gather(*(self._client() for _ in range(plan.clients)))
            assert not killing.done(), killing.exception()
            killing.cancel()
        seconds = time.monotonic() - begun
        await fleet.wait_until_all_ended(LAST_SECONDS)
        audit = await fleet.audit([extraction_id for ids in found for extraction_id in ids])
        return await self._report(seconds, audit)

    async def _client(self) -> list[str]:
        """One client: request after request until all are made, each followed to its end."""
        accepted: list[str] = []
        async with self._fleet.client() as client:
            caller = RetryingClient(self._fleet, client)
            self._callers.append(caller)
            while (number := next(self._numbers)) < self._plan.jobs:
                sentence = f"Average clicks and price for each user, number {number}"
                answer = await caller.extract("clicks", f"soak-{number}", sentence, **RESPOND_ASYNC)
                accepted.append(extraction_of(answer))
                await caller.wait_until_ended(accepted[-1], pause_seconds=1.0)
        return accepted

    async def _keep_killing(self) -> None:
        while True:
            await asyncio.sleep(self._plan.kill_every)
            pod = self._random.choice([pod for pod in self._fleet.pods if pod.address] or self._fleet.pods)
            pod.kill()
            self._kills.append(Kill(pod.name, time.time(), _in_hand(pod)))
            pod.start()

    async def _report(self, seconds: float, audit: Audit) -> Report:
        starts = _starts(self._fleet.pods)
        attempts = {row["id"]: row["attempt"] for row in await self._fleet.sql("SELECT id, attempt FROM extractions")}
        for kill in self._kills:
            # What has no later attempt had ended before its worker was killed, and only the line about it is missing;
            # what another worker had begun already was not the dead one's any more.
            kill.held = {
                each: attempt
                for each, attempt in kill.held.items()
                if attempt < attempts[each] and attempt == _attempt_before(starts[each], kill.at)
            }
            kill.recoveries = [min(at for at, _ in starts[each] if at > kill.at) - kill.at for each in kill.held]
        recoveries = sorted(each for kill in self._kills for each in kill.recoveries)
        return Report(
            plan=self._plan,
            seconds=seconds,
            kills=len(self._kills),
            kills_of_holders=sum(bool(kill.held) for kill in self._kills),
            held=len(recoveries),
            worst_recovery_seconds=max(recoveries, default=0.0),
            median_recovery_seconds=recoveries[len(recoveries) // 2] if recoveries else 0.0,
            slow=[
                self._story(kill, each, took, starts[each])
                for kill in self._kills
                for each, took in zip(kill.held, kill.recoveries, strict=True)
                if took > self._plan.recovery_seconds
            ],
            broken_requests=sum(caller.broken for caller in self._callers),
            refused_requests=sum(caller.refused for caller in self._callers),
            audit=audit,
        )

    def _story(self, kill: Kill, extraction_id: str, took: float, starts: list[tuple[float, int]]) -> str:
        """Who else died before another worker had it."""
        others = [f"{other.pod} at {other.at - kill.at:.1f}" for other in self._kills if 0 < other.at - kill.at < took]
        begun = [f"{attempt} at {at - kill.at:.1f}" for at, attempt in sorted(starts)]
        return f"{extraction_id} of {kill.pod}: {took:.1f} s; attempts {begun}; killed {others}"


def _in_hand(pod: Pod) -> dict[str, int]:
    """Attempts that its last process had begun, and of whose end it did not tell."""
    begun: dict[str, int] = {}
    for line in pod.last_lines():
        if line["message"] == "extraction started":
            begun[line["extraction_id"]] = line["attempt"]
        elif line["message"] == "extraction finished":
            begun.pop(line["extraction_id"], None)
    return begun


def _starts(pods: list[Pod]) -> dict[str, list[tuple[float, int]]]:
    """When each extraction's attempts began, wherever."""
    starts: dict[str, list[tuple[float, int]]] = {}
    for line in (line for pod in pods for line in pod.lines() if line["message"] == "extraction started"):
        moment = datetime.fromisoformat(line["timestamp"]).timestamp()
        starts.setdefault(line["extraction_id"], []).append((moment, line["attempt"]))
    return starts


def _attempt_before(starts: list[tuple[float, int]], moment: float) -> int:
    return max(attempt for at, attempt in starts if at <= moment)


async def soak(folder: Path, plan: Plan) -> Report:
    """Start the servers and the fleet, and run."""
    with ExitStack() as servers:
        postgres = servers.enter_context(running_postgres(folder / "postgresql"))
        environment = {"WORKER_CONCURRENCY": "2"}
        if REDIS_SERVER is not None:
            environment["REDIS_URL"] = servers.enter_context(running_redis(folder)).url
        async with open_fleet(folder, postgres.url, **environment) as fleet:
            fleet.forked = plan.forked
            return await Soak(fleet, plan).run()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kill-every", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    exit_on_sigterm()
    plan = Plan(options.jobs, options.kill_every, options.clients, options.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = asyncio.run(soak(Path(folder), plan))
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    told = {
        "command": f"make soak JOBS={plan.jobs}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine,
        "plan": asdict(plan),
        **report.figures(),
    }
    text = json.dumps(told, indent=2)
    print(text)  # noqa: T201 - the result
    if options.out:
        options.out.write_text(f"{text}\n")
    return 1 if report.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
