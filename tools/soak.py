"""Soak: run many extractions over two APIs and three workers while a process is killed every few seconds.

`python -m tools.soak --jobs 1000` starts everything it needs and prints what it measured as JSON, and writes it to a
file with `--out`. Exit status 1 unless nothing was lost, nothing was done twice, and another worker took over every
extraction of a killed one within 15 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tools.testbed.audit import Audit
from tools.testbed.drill import open_isolated_fleet, print_report
from tools.testbed.fleet import RECOVERY_SECONDS, Fleet
from tools.testbed.pod import Pod
from tools.testbed.processes import exit_on_sigterm
from tools.testbed.retrying_client import RESPOND_ASYNC, RetryingClient, extraction_of

APIS = 2
WORKERS = 3
ENDING_TIMEOUT_SECONDS = 120.0
"""For the last jobs to end, once no process is killed any more."""
Start = tuple[float, int]
"""When an attempt began, in seconds since the epoch, and its number."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a soak."""

    jobs: int
    kill_every: float = 5.0
    """Seconds."""
    clients: int = 12
    seed: int = 1
    forked: bool = True
    recovery_seconds: float = RECOVERY_SECONDS
    """Within which another worker must take over what a dead one held."""


@dataclass
class Kill:
    """One kill, and what became of the extractions that the process held."""

    pod: str
    at: float
    """Seconds since the epoch."""
    held: dict[str, int]
    """Extraction to the number of its attempt."""
    recoveries: list[float] = field(default_factory=list[float])
    """Seconds until another worker had claimed each."""


@dataclass
class Report:
    """What was measured."""

    plan: Plan
    seconds: float
    kills: int
    kills_of_holders: int
    """Kills of processes that held extractions."""
    held: int
    worst_recovery_seconds: float
    median_recovery_seconds: float
    slow: list[str]
    """A description of each recovery that took too long."""
    broken_requests: int
    refused_requests: int
    audit: Audit

    def faults(self) -> list[str]:
        """Name everything that must not be."""
        found = list(self.audit.faults())
        ended, accepted = self.audit.ended, self.audit.accepted
        if not ended == accepted == self.plan.jobs:
            found.append(f"{ended} of {accepted} accepted have ended, {self.plan.jobs} were asked for")
        if self.worst_recovery_seconds > self.plan.recovery_seconds:
            found.append(f"a recovery took {self.worst_recovery_seconds} s")
        return found

    def figures(self) -> dict[str, Any]:
        """Return the report for people and files."""
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
    """Run a soak on a fleet."""

    def __init__(self, fleet: Fleet, plan: Plan) -> None:
        self._fleet = fleet
        self._plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - which process is killed is no secret
        self._kills: list[Kill] = []
        self._clients: list[RetryingClient] = []
        self._numbers = itertools.count()

    async def run(self) -> Report:
        """Run all jobs to their end while processes are killed."""
        fleet, plan = self._fleet, self._plan
        for _ in range(APIS):
            fleet.start("serve")
        for _ in range(WORKERS):
            fleet.start("worker")
        await asyncio.gather(*(pod.ready() for pod in fleet.pods))
        begun = time.monotonic()
        async with fleet.client() as client:
            await RetryingClient(fleet, client).upload("clicks")
            killing = asyncio.create_task(self._keep_killing())
            found = await asyncio.gather(*(self._run_client() for _ in range(plan.clients)))
            assert not killing.done(), killing.exception()
            killing.cancel()
        seconds = time.monotonic() - begun
        await fleet.wait_until_all_ended(ENDING_TIMEOUT_SECONDS)
        audit = await fleet.audit([extraction_id for ids in found for extraction_id in ids])
        return await self._report(seconds, audit)

    async def _run_client(self) -> list[str]:
        """Send one request after another until all are sent, follow each to its end, and return the extractions."""
        accepted: list[str] = []
        async with self._fleet.client() as connections:
            client = RetryingClient(self._fleet, connections)
            self._clients.append(client)
            while (number := next(self._numbers)) < self._plan.jobs:
                sentence = f"Average clicks and price for each user, number {number}"
                answer = await client.extract("clicks", f"soak-{number}", sentence, **RESPOND_ASYNC)
                accepted.append(extraction_of(answer))
                await client.wait_until_ended(accepted[-1], pause_seconds=1.0)
        return accepted

    async def _keep_killing(self) -> None:
        while True:
            await asyncio.sleep(self._plan.kill_every)
            pod = self._random.choice([pod for pod in self._fleet.pods if pod.address] or self._fleet.pods)
            pod.kill()
            self._kills.append(Kill(pod.name, time.time(), _running_attempts(pod)))
            pod.start()

    async def _report(self, seconds: float, audit: Audit) -> Report:
        starts = _starts(self._fleet.pods)
        attempts = {row["id"]: row["attempt"] for row in await self._fleet.sql("SELECT id, attempt FROM extractions")}
        for kill in self._kills:
            _measure_recoveries(kill, starts, attempts)
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
                self._describe(kill, each, took, starts[each])
                for kill in self._kills
                for each, took in zip(kill.held, kill.recoveries, strict=True)
                if took > self._plan.recovery_seconds
            ],
            broken_requests=sum(client.broken for client in self._clients),
            refused_requests=sum(client.refused for client in self._clients),
            audit=audit,
        )

    def _describe(self, kill: Kill, extraction_id: str, took: float, starts: Sequence[Start]) -> str:
        """Describe a slow recovery: its attempts, and which processes were killed before another worker had it."""
        others = [f"{other.pod} at {other.at - kill.at:.1f}" for other in self._kills if 0 < other.at - kill.at < took]
        begun = [f"{attempt} at {at - kill.at:.1f}" for at, attempt in sorted(starts)]
        return f"{extraction_id} of {kill.pod}: {took:.1f} s; attempts {begun}; killed {others}"


def _measure_recoveries(kill: Kill, starts: dict[str, list[Start]], attempts: dict[str, int]) -> None:
    """Keep the extractions that the process held when it was killed, with the time until each began again.

    One without a later attempt had ended before, and only the log line about it is missing; one that another worker had
    begun already was not held any more.
    """
    kill.held = {
        each: attempt
        for each, attempt in kill.held.items()
        if attempt < attempts[each] and attempt == _attempt_before(starts[each], kill.at)
    }
    kill.recoveries = [min(at for at, _ in starts[each] if at > kill.at) - kill.at for each in kill.held]


def _running_attempts(pod: Pod) -> dict[str, int]:
    """Return the attempts that its last process logged as started and not as finished."""
    begun: dict[str, int] = {}
    for line in pod.last_lines():
        if line["message"] == "extraction started":
            begun[line["extraction_id"]] = line["attempt"]
        elif line["message"] == "extraction finished":
            begun.pop(line["extraction_id"], None)
    return begun


def _starts(pods: Sequence[Pod]) -> dict[str, list[Start]]:
    """Return when the attempts at each extraction began, on all processes."""
    starts: dict[str, list[Start]] = {}
    for line in (line for pod in pods for line in pod.lines() if line["message"] == "extraction started"):
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        starts.setdefault(line["extraction_id"], []).append((at, line["attempt"]))
    return starts


def _attempt_before(starts: Sequence[Start], moment: float) -> int:
    return max(attempt for at, attempt in starts if at <= moment)


async def soak(folder: Path, plan: Plan) -> Report:
    """Start the servers and the fleet, and run the soak on them."""
    async with open_isolated_fleet(folder, WORKER_CONCURRENCY="2") as fleet:
        fleet.forked = plan.forked
        return await Soak(fleet, plan).run()


def main() -> int:
    """Run the soak from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    exit_on_sigterm()
    plan = Plan(options.jobs, options.kill_every, options.clients, options.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = asyncio.run(soak(Path(folder), plan))
    print_report(f"make soak JOBS={plan.jobs}", {"plan": asdict(plan), **report.figures()}, options.out)
    return 1 if report.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
