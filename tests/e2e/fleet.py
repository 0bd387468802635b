"""A fleet of the service's processes under a test's hand: started, killed, stopped, continued, and audited at the end.

Every process is `feature-agent serve` or `worker` as production runs it, with a folder of its own, on one database, one
artifact store and, where there is one, one Redis; as pods are.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, LiteralString, Self, cast

import httpx2
import psycopg
from psycopg.rows import dict_row

from service.extractions.retention import Housekeeping
from service.features.identity import DEFAULT_SCOPES
from service.resources.storage import SystemClock, open_storage
from service.settings import Settings
from service.store.artifacts import FolderArtifacts
from tests.e2e.processes import ROOT, Forked, Running, spawned

PATIENCE = 100.0
"""Seconds after which what does not come is taken for missing; nothing is measured by it."""
RECOVERY_SECONDS = 15.0
"""Within which another worker takes what a dead one held."""
INHERITED = {"PATH", "HOME", "LANG", "LD_LIBRARY_PATH"}
CLOUD = "AWS_"
SECRET = "only-for-tests-" * 4
BROKEN = (httpx2.TransportError,)
"""What a client sees of a process that dies under its request."""
CSV = b"user,clicks,price\n" + b"".join(b"u%d,%d,%d.5\n" % (n % 7, n % 31, n % 11) for n in range(400))
PROBE_SECONDS = 0.5
"""Between two looks of the balancer."""
Role = Literal["serve", "worker", "migrate", "backup", "restore"]


async def patiently(seconds: float = PATIENCE, pause: float = 0.05) -> AsyncIterator[None]:
    """Turns of a loop that looks for something, until patience ends."""
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        yield
        await asyncio.sleep(pause)


class Pod:
    """One process of the service, and those that took its place."""

    def __init__(
        self, folder: Path, role: Role, arguments: Sequence[str], environment: dict[str, str], *, forked: bool
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._arguments = [role, *arguments]
        self.folder = folder
        self.role = role
        self._forked = forked
        self._environment = environment
        self.logs: list[Path] = []
        self.start()

    @property
    def name(self) -> str:
        """Within the fleet."""
        return self.folder.name

    def start(self) -> None:
        """Start, or start again."""
        self.logs.append(self.folder / f"{len(self.logs)}.log")
        self.logs[-1].touch()
        begin = Forked if self._forked else spawned
        stages = self._environment.get("STAGE", "")
        self.process: Running = begin(self._arguments, self._environment, self.logs[-1], stages)

    def lines(self) -> list[dict[str, Any]]:
        """What it and those before it logged; anything but whole lines of JSON fails the test, except the last."""
        return [line for log in self.logs for line in _lines(log)]

    def last_lines(self) -> list[dict[str, Any]]:
        """What its last process logged."""
        return _lines(self.logs[-1])

    @property
    def address(self) -> str | None:
        """Where it answers, once it does: its API, or a worker's health and metrics."""
        for line in _lines(self.logs[-1]):
            if line["message"] in {"listening", "working"}:
                found = cast("str", line.get("address") or line["metrics"])
                return found.removesuffix("/metrics")
        return None

    async def ready(self) -> Self:
        """Wait until it says that it is."""
        async with httpx2.AsyncClient(verify=False, timeout=5.0) as client:
            async for _ in patiently():
                assert self.process.poll() is None, self.tail()
                if await self.ready_at(client):
                    return self
        raise AssertionError(self.tail())

    async def ready_at(self, client: httpx2.AsyncClient) -> str | None:
        """Its address, if it asks for traffic, or for jobs."""
        address = self.address
        if address is None or self.process.poll() is not None:
            return None
        try:
            return address if (await client.get(f"{address}/health/ready")).status_code == 200 else None
        except BROKEN:
            return None

    def kill(self) -> None:
        """As the kernel does when memory ends."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """SIGTERM, SIGSTOP, SIGCONT."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status."""
        return await asyncio.to_thread(self.process.wait, PATIENCE)

    def tail(self) -> str:
        """The end of its log, for a failed test's message."""
        return f"{self.name}: {self.logs[-1].read_text()[-3000:]}"


def _lines(log: Path) -> list[dict[str, Any]]:
    """Whole lines of JSON only: a kill may cut the last one short, and what goes wrong early is said in plain words."""
    written = log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in written if line.startswith("{") and line.endswith("}\n")]


@dataclass
class Audit:
    """What a fault left: compared with what it may."""

    accepted: int
    by_status: dict[str, int]
    failures: dict[str, int]
    """Failed extractions by the code of their reason."""
    jobs_left: int
    lost: list[str]
    """Extractions that were acknowledged and are not there, or do not end."""
    unexplained: list[str]
    """Failed without a reason."""
    missing: list[str]
    """Completed without their table."""
    orphans: int
    """Tables of attempts that died between publishing and storing their end."""
    orphans_after_sweep: list[str]
    duplicates: list[str]
    """Extractions with more than one table once the sweep has been."""

    def require_nothing_lost(self) -> None:
        """Everything accepted has ended once, with an answer or a reason, and nothing else is left."""
        faults = {
            name: getattr(self, name)
            for name in ("lost", "unexplained", "missing", "orphans_after_sweep", "duplicates", "jobs_left")
        }
        assert not any(faults.values()), faults
        assert self.accepted == sum(self.by_status.get(status, 0) for status in ("completed", "failed", "cancelled"))


@dataclass
class Fleet:
    """The processes, and what they share."""

    folder: Path
    database_url: str
    artifacts_url: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    forked: bool = True
    """Whether processes are forked, or started by the command line."""
    key: str = ""
    pods: list[Pod] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)
    """Addresses of the APIs that were ready when last asked."""

    @asynccontextmanager
    async def balanced(self) -> AsyncIterator[None]:
        """While the block runs, ask the APIs for their readiness, as a balancer does."""
        enough = asyncio.Event()
        looking = asyncio.create_task(self._keep_looking(enough))
        try:
            yield
        finally:
            enough.set()
            await looking

    async def _keep_looking(self, enough: asyncio.Event) -> None:
        async with httpx2.AsyncClient(verify=False, timeout=5.0) as client:
            while not enough.is_set():
                apis = [pod for pod in self.pods if pod.role == "serve"]
                found = await asyncio.gather(*(pod.ready_at(client) for pod in apis))
                self.ready = [address for address in found if address is not None]
                await asyncio.sleep(PROBE_SECONDS)

    @property
    def shared(self) -> dict[str, str]:
        """What every process is told."""
        kept = {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith(CLOUD)}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "ENVIRONMENT": "test",
            "DATABASE_URL": self.database_url,
            "ARTIFACTS_URL": self.artifacts_url,
            "JWT_SECRET": SECRET,
            "PORT": "0",
            "PROMETHEUS_PORT": "0",
            "RATE_LIMIT_PER_MINUTE": "0",
            "WORKER_IN_API": "false",
            **self.environment,
        }

    def settings(self) -> Settings:
        """Of the fleet, for a look into its stores."""
        return Settings(
            _env_file=None,
            environment="test",
            database_url=self.database_url,
            data_dir=self.folder / "driver",
            artifacts_url=self.artifacts_url,
            jwt_secret=SECRET,
        )

    def start(self, role: Role, *arguments: str, **environment: str) -> Pod:
        """Start a process; with a STAGE, one that stops there."""
        folder = self.folder / f"{role}-{len(self.pods)}"
        own = {**self.shared, "DATA_DIR": str(folder), **environment}
        self.pods.append(Pod(folder, role, arguments, own, forked=self.forked and "LD_PRELOAD" not in own))
        return self.pods[-1]

    async def prepare(self) -> None:
        """The schema, and a key for the clients."""
        storage = open_storage(self.settings())
        try:
            await storage.database.migrate()
            _, self.key = await storage.create_key("clients", DEFAULT_SCOPES)
        finally:
            await storage.close()

    def client(self, **options: Any) -> httpx2.AsyncClient:
        """An HTTP client with the key, that keeps its connections."""
        credentials = {"Authorization": f"Bearer {self.key}"}
        return httpx2.AsyncClient(headers=credentials, timeout=PATIENCE, verify=False, **options)

    async def sql(self, statement: LiteralString, *values: Any) -> list[dict[str, Any]]:
        """Ask the database directly."""
        url = self.database_url.replace("+psycopg", "")
        connecting = psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row, connect_timeout=5)
        async with await connecting as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def row(self, extraction_id: str) -> dict[str, Any]:
        """One extraction."""
        [row] = await self.sql("SELECT * FROM extractions WHERE id = %s", extraction_id)
        return row

    async def until(self, extraction_id: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for the row to be as wanted."""
        async for _ in patiently():
            row = await self.row(extraction_id)
            if wanted(row):
                return row
        raise AssertionError([row, *(pod.tail() for pod in self.pods)])

    async def until_all_ended(self, seconds: float = PATIENCE) -> None:
        """Wait until no extraction is unfinished and no job is left."""
        async for _ in patiently(seconds, 0.2):
            [left] = await self.sql(
                "SELECT (SELECT count(*) FROM extractions WHERE status IN ('queued', 'processing')) AS rows,"
                " (SELECT count(*) FROM procrastinate_jobs) AS jobs"
            )
            if not any(left.values()):
                return
        stuck = await self.sql("SELECT id, status, attempt, crashes FROM extractions WHERE finished_at IS NULL")
        raise AssertionError([stuck, *(pod.tail() for pod in self.pods)])

    async def audit(self, acknowledged: Sequence[str]) -> Audit:
        """Compare what clients were told is accepted with what there is, before and after the sweep."""
        rows = {row["id"]: row for row in await self.sql("SELECT * FROM extractions")}
        [jobs] = await self.sql("SELECT count(*) AS left FROM procrastinate_jobs")
        storage = open_storage(self.settings())
        try:
            artifacts = storage.artifacts
            found = {item.key async for page in artifacts.pages("features") for item in page}
            used = {row["result"]["artifact_key"] for row in rows.values() if row["status"] == "completed"}
            if isinstance(artifacts, FolderArtifacts):
                _age(self.folder / "artifacts", hours=2)
            upkeep = Housekeeping(upkeep=storage.database.upkeep, artifacts=artifacts, clock=SystemClock(), days=30)
            assert await upkeep() is not None
            swept = {item.key async for page in artifacts.pages("features") for item in page}
        finally:
            await storage.close()
        owners = [key.split("/")[1] for key in swept]
        return Audit(
            accepted=len(rows),
            by_status=_counted(row["status"] for row in rows.values()),
            failures=_counted(row["failure"]["code"] for row in rows.values() if row["status"] == "failed"),
            jobs_left=jobs["left"],
            lost=[
                *sorted(set(acknowledged) - rows.keys()),
                *(key for key, row in rows.items() if row["finished_at"] is None),
            ],
            unexplained=[key for key, row in rows.items() if row["status"] == "failed" and not row["failure"]],
            missing=sorted(used - found),
            orphans=len(found - used),
            orphans_after_sweep=sorted(swept - used),
            duplicates=sorted({owner for owner in owners if owners.count(owner) > 1}),
        )

    def close(self) -> None:
        """Leave no process behind."""
        for pod in self.pods:
            if pod.process.poll() is None:
                pod.kill()


def _counted(words: Any) -> dict[str, int]:
    listed = list(words)
    return {word: listed.count(word) for word in sorted(set(listed))}


def _age(folder: Path, *, hours: int) -> None:
    """Make every file so old that the sweep may take it."""
    then = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


@asynccontextmanager
async def open_fleet(
    folder: Path, database_url: str, artifacts_url: str = "", **environment: str
) -> AsyncIterator[Fleet]:
    """A fleet without any process yet."""
    fleet = Fleet(folder, database_url, artifacts_url or f"file://{folder}/artifacts", environment)
    try:
        await fleet.prepare()
        async with fleet.balanced():
            yield fleet
    finally:
        fleet.close()


@dataclass
class Caller:
    """A client that obeys: it picks a process that is ready, waits as it is told, and sends again what broke."""

    fleet: Fleet
    client: httpx2.AsyncClient
    broken: int = 0
    """Requests that ended without an answer, and were sent again."""
    refused: int = 0
    """Answers that told it to come later."""

    async def ready_address(self) -> str:
        """Of any API that is ready."""
        async for _ in patiently():
            if self.fleet.ready:
                return random.choice(self.fleet.ready)  # noqa: S311 - spreads requests
        raise AssertionError([pod.tail() for pod in self.fleet.pods])

    async def ask(self, method: str, path: str, address: str | None = None, **options: Any) -> httpx2.Response:
        """Until there is an answer that does not say to come later."""
        while True:
            try:
                answer = await self.client.request(method, (address or await self.ready_address()) + path, **options)
            except BROKEN:
                self.broken += 1
                address = None
                continue
            if answer.status_code not in {429, 503}:
                return answer
            self.refused += 1
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
            address = None

    async def upload(self, dataset_id: str, content: bytes = CSV) -> None:
        """Add a dataset; that it is there already is as good."""
        path = f"/api/v1/datasets?dataset_id={dataset_id}"
        answer = await self.ask("POST", path, content=content, headers={"Content-Type": "text/csv"})
        assert answer.status_code in {201, 409}, answer.text

    async def extract(
        self, dataset_id: str, key: str, sentence: str = "Average clicks for each user", **headers: str
    ) -> httpx2.Response:
        """Ask for features under an Idempotency-Key."""
        body = {"dataset_id": dataset_id, "feature_description": sentence, "quality_threshold": "low"}
        return await self.ask("POST", EXTRACT, json=body, headers={"Idempotency-Key": key, **headers})

    async def submit(self, dataset_id: str, count: int, name: str = "job") -> list[str]:
        """Have so many different requests accepted, some at once; gives their extractions."""

        async def one(number: int) -> str:
            sentence = f"Average clicks for each user, and number {number}"
            async with places:
                return extraction_of(await self.extract(dataset_id, f"{name}-{number}", sentence, **ASYNC))

        places = asyncio.Semaphore(8)
        return list(await asyncio.gather(*(one(number) for number in range(count))))

    async def ended(self, extraction_id: str, pause: float = 0.5) -> dict[str, Any]:
        """Ask until the extraction has ended."""
        async for _ in patiently(3600.0, pause):
            answer = await self.ask("GET", f"/api/v1/extraction/{extraction_id}/status")
            assert answer.status_code == 200, answer.text
            data = cast("dict[str, Any]", answer.json()["data"])
            if data["status"] in {"completed", "failed", "cancelled"}:
                return data
        raise AssertionError(extraction_id)


EXTRACT = "/api/v1/extract-features"
ASYNC = {"Prefer": "respond-async"}


def extraction_of(answer: httpx2.Response) -> str:
    """The id that an accepted request was given."""
    assert answer.status_code in {200, 202}, answer.text
    return cast("str", answer.json()["data"]["extraction_id"])
