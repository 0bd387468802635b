from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.__main__ import main
from service.features.model import Extraction, ExtractionRequest
from service.resources.runtime import Runtime, open_runtime
from service.settings import Settings

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0
"""Seconds after which what does not come is taken for missing; nothing is measured by it."""
RECOVERY_SECONDS = 15.0
"""Within which another worker takes a dead one's extraction."""
OWNER = "ada"
CSV = b"user,clicks\n" + b"".join(b"u%d,%d\n" % (number % 7, number) for number in range(200))


class Worker:
    """A worker in a process of its own, whose engine is in trouble."""

    def __init__(self, settings: Settings, gate: Path, **environment: str) -> None:
        database_url = settings.database_url
        assert database_url is not None
        self._log = (settings.data_dir / f"worker-{time.monotonic_ns()}.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools/testbed/faulty_worker.py")],
            cwd=settings.data_dir,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
                "ENVIRONMENT": "test",
                "DATABASE_URL": database_url.get_secret_value(),
                "DATA_DIR": str(settings.data_dir),
                "PROMETHEUS_PORT": "0",
                "GATE": str(gate),
                **environment,
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged; anything but JSON fails the test."""
        self._log.seek(0)
        return [json.loads(line) for line in self._log.read().splitlines()]

    async def ready(self) -> Worker:
        """Wait until it works."""
        async for _ in patiently():
            started = [line for line in self.lines() if line["message"] == "working"]
            if started and (await asyncio.to_thread(self.ask, "/health/ready"))[0] == 200:
                return self
            assert self.process.poll() is None, self.lines()
        raise AssertionError(self.lines())

    def ask(self, path: str) -> tuple[int, str]:
        """GET from its metrics port."""
        [address] = [line["metrics"] for line in self.lines() if line["message"] == "working"]
        try:
            with urllib.request.urlopen(address.removesuffix("/metrics") + path, timeout=10) as answer:  # noqa: S310 - our own server
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def ended(self) -> int:
        """Its exit status."""
        return await asyncio.to_thread(self.process.wait, PATIENCE)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


class House:
    """An API without a worker, and worker processes beside it, on one database and one artifact store."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self.settings = settings
        self.runtime = runtime
        self.gate = settings.data_dir / "gate"
        self.workers: list[Worker] = []

    def worker(self, **environment: str) -> Worker:
        """Start a worker."""
        self.workers.append(Worker(self.settings, self.gate, **environment))
        return self.workers[-1]

    async def accept(self, dataset: str) -> str:
        """Take in a request for features."""
        request = ExtractionRequest(dataset, "Average clicks for each user", quality_threshold="low")
        return (await self.runtime.accept(OWNER, request)).extraction.id

    async def find(self, extraction_id: str) -> Extraction:
        """The row."""
        async with self.runtime.storage.store.begin() as unit:
            return await unit.extractions.get(OWNER, extraction_id)

    async def until(self, extraction_id: str, wanted: Callable[[Extraction], bool]) -> Extraction:
        """Wait for the row to be as wanted."""
        async for _ in patiently():
            found = await self.find(extraction_id)
            if wanted(found):
                return found
        raise AssertionError([found, *(worker.lines() for worker in self.workers)])

    def sql(self, statement: Any) -> list[Any]:
        """Ask the database directly."""
        url = self.runtime.storage.database_url.replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def artifacts(self, extraction_id: str) -> list[str]:
        """What attempts have published."""
        folder = self.settings.data_dir / "artifacts/features" / extraction_id
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def patiently() -> AsyncIterator[None]:
    """Turns of a loop that looks for something, until patience ends."""
    last = time.monotonic() + PATIENCE
    while time.monotonic() < last:
        yield
        await asyncio.sleep(0.05)


async def _bytes() -> AsyncIterator[bytes]:
    yield CSV


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[House]:
    runtime = open_runtime(settings)
    async with runtime.running():
        house = House(settings, runtime)
        for dataset in ("plain", "slow", "poison"):
            await runtime.upload(OWNER, dataset, "text/csv", _bytes())
        try:
            yield house
        finally:
            for worker in house.workers:
                worker.close()
    runtime.telemetry.close()


@pytest.fixture
async def house(make_settings: Callable[..., Settings]) -> AsyncIterator[House]:
    """An API that runs nothing itself."""
    async with _open(make_settings(worker_in_api=False)) as house:
        yield house


def completed(row: Extraction) -> bool:
    """Whether it has ended well."""
    return row.status == "completed"


async def test_killed_worker_is_replaced(house: House) -> None:
    """An extraction whose worker is killed is taken by another within 15 seconds, and ends once."""
    killed = await house.worker().ready()
    slow = await house.accept("slow")
    await house.until(slow, lambda row: row.stage == "compute")
    other = await house.worker().ready()
    killed.process.kill()
    started = time.monotonic()
    await house.until(slow, lambda row: row.attempt == 2)
    seconds = time.monotonic() - started
    print(f"recovered from kill -9 in {seconds:.1f} s")  # noqa: T201 - the measurement
    assert seconds < RECOVERY_SECONDS
    house.gate.touch()
    row = await house.until(slow, completed)
    assert (row.attempt, row.crashes) == (2, 1)
    assert house.artifacts(slow) == ["2.parquet"]
    assert 'job_attempts_total{outcome="crashed"} 1.0' in (await asyncio.to_thread(other.ask, "/metrics"))[1]


async def test_stopped_and_continued_worker_changes_nothing(house: House) -> None:
    """A worker that slept past its death finds its extraction done by another, leaves it so, and works on."""
    sleeper = await house.worker().ready()
    slow = await house.accept("slow")
    await house.until(slow, lambda row: row.stage == "compute")
    sleeper.process.send_signal(signal.SIGSTOP)
    other = await house.worker().ready()
    await house.until(slow, lambda row: row.attempt == 2)
    house.gate.touch()
    done = await house.until(slow, completed)
    other.process.terminate()
    assert await other.ended() == 0
    sleeper.process.send_signal(signal.SIGCONT)
    assert (await house.until(await house.accept("plain"), completed)).attempt == 1
    async for _ in patiently():
        if 'job_attempts_total{outcome="superseded"} 1.0' in (await asyncio.to_thread(sleeper.ask, "/metrics"))[1]:
            break
    assert 'job_attempts_total{outcome="superseded"} 1.0' in (await asyncio.to_thread(sleeper.ask, "/metrics"))[1]
    assert await house.find(slow) == done
    assert house.artifacts(slow) == ["2.parquet"]
    sleeper.process.terminate()
    assert await sleeper.ended() == 0
    assert house.sql("SELECT id FROM procrastinate_jobs UNION ALL SELECT id FROM procrastinate_workers") == []


async def test_worker_told_to_stop_hands_back(house: House) -> None:
    """On SIGTERM a worker ends with status 0; what does not end within the grace is another's, and no crash."""
    worker = await house.worker(WORKER_GRACE_SECONDS="0.2").ready()
    slow = await house.accept("slow")
    await house.until(slow, lambda row: row.stage == "compute")
    worker.process.terminate()
    assert await worker.ended() == 0
    row = await house.find(slow)
    assert (row.status, row.attempt, row.crashes) == ("queued", 1, 0)
    assert not [line for line in worker.lines() if line["level"] not in {"info", "debug"}]
    house.gate.touch()
    await house.worker().ready()
    row = await house.until(slow, completed)
    assert (row.attempt, row.crashes) == (2, 0)


async def test_poison_is_not_tried_for_ever(house: House) -> None:
    """An extraction that kills three workers is failed by the fourth; those that were beside it are not."""
    beside = [await house.accept("slow") for _ in range(2)]
    poison = await house.accept("poison")
    for death in range(3):
        assert await house.worker().ended() == -signal.SIGKILL
        house.sql("DELETE FROM procrastinate_workers")  # as after their time; the rescue need not be waited for
        if death == 1:
            house.gate.touch()
    plain = await house.accept("plain")
    await house.worker().ready()
    row = await house.until(poison, lambda row: row.status == "failed")
    assert row.failure is not None
    assert (row.failure.code, row.crashes) == ("worker_lost", 3)
    for innocent in (plain, *beside):
        await house.until(innocent, completed)


async def test_worker_without_its_database_says_so(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """A worker without its database ends with status 1 and says what to do."""
    settings = make_settings(database_url="postgresql://x@127.0.0.1:1/y")
    worker = Worker(settings, tmp_path / "gate")
    assert await worker.ended() == 1
    worker._log.seek(0)
    assert worker._log.read().startswith("feature-agent: PostgreSQL at 127.0.0.1:1, database y, account x cannot be")
    worker.close()


@pytest.fixture
def operator(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any]]:
    """Runs `feature-agent jobs …` on a database with one queued extraction."""
    settings = make_settings(worker_in_api=False)
    assert settings.database_url is not None
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("ENVIRONMENT", "test")
    monkeypatch.chdir(settings.data_dir)

    async def prepare() -> None:
        async with _open(settings) as house:
            await house.accept("plain")

    asyncio.run(prepare())
    capsys.readouterr()

    def run(*arguments: str) -> tuple[int, Any]:
        status = main(["jobs", *arguments])
        said = capsys.readouterr()
        return status, json.loads(said.out) if "--json" in arguments and status == 0 else said.out + said.err

    return run


def test_operator_sees_and_ends_extractions(operator: Callable[..., tuple[int, Any]]) -> None:
    """An operator lists, shows and cancels any principal's extraction; a mistake is one line and status 2 or 1."""
    status, [listed] = operator("list", "--json")
    assert status == 0
    assert (listed["owner"], listed["dataset_id"], listed["status"]) == (OWNER, "plain", "queued")
    extraction_id = listed["extraction_id"]
    assert operator("list", "--status", "failed", "--json") == (0, [])
    assert operator("show", extraction_id, "--json") == (0, {**listed, "webhooks": {}})
    assert OWNER in operator("list")[1]
    assert extraction_id in operator("show", extraction_id)[1]
    assert operator("show", "nothing")[0] == 2
    assert operator("list", "--status", "lost")[0] == 2
    status, words = operator("retry", extraction_id)
    assert (status, words) == (1, "feature-agent: The extraction has not failed.\n")
    status, cancelled = operator("cancel", extraction_id, "--json")
    assert (status, cancelled["status"]) == (0, "cancelled")
    assert operator("cancel", extraction_id)[0] == 1


def test_operator_retries_a_failed_extraction(operator: Callable[..., tuple[int, Any]]) -> None:
    """A failed extraction is queued again together with its job."""
    url = os.environ["DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE extractions SET status = 'failed', crashes = 3, attempt = 3, finished_at = now()")
        connection.execute("DELETE FROM procrastinate_jobs")
        status, [failed] = operator("list", "--status", "failed", "--json")
        status, revived = operator("retry", failed["extraction_id"], "--json")
        assert (status, revived["status"], revived["crashes"]) == (0, "queued", 0)
        jobs = connection.execute("SELECT status::text, lock FROM procrastinate_jobs").fetchall()
    assert jobs == [("todo", failed["extraction_id"])]
