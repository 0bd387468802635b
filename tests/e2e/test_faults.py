from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.small_disk import small_disk
from tests.redis_process import running_redis
from tools.testbed.fleet import Fleet, open_fleet
from tools.testbed.polling import polling
from tools.testbed.postgres import running_postgres
from tools.testbed.retrying_client import RESPOND_ASYNC, RetryingClient, extraction_of

JOBS = int(os.environ.get("FAULT_JOBS", "24"))
"""In the middle of which the database is restarted; `make faults` takes 200."""
AWAY_SECONDS = 10.0
"""Longer than a worker may be silent before it counts as dead."""
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
"""Without the lock of the variant for threads: a process that is forked while another thread holds it never starts."""
pytestmark = [pytest.mark.proof, pytest.mark.timeout(600), pytest.mark.xdist_group("fleet")]


@pytest.fixture
async def fleet(new_database: Callable[[], str], tmp_path: Path) -> AsyncIterator[Fleet]:
    """Nothing runs yet."""
    async with open_fleet(tmp_path, new_database()) as fleet:
        yield fleet


def tell(what: str, seconds: float) -> None:
    """The measurement."""
    print(f"recovered from {what} in {seconds:.1f} s")  # noqa: T201 - for whoever runs it


async def count_ended(fleet: Fleet) -> int:
    """How many extractions have ended."""
    [row] = await fleet.sql("SELECT count(*) AS ended FROM extractions WHERE finished_at IS NOT NULL")
    return int(row["ended"])


async def until_ended(fleet: Fleet, least: int) -> float:
    """Wait until so many have ended; the instant."""
    async for _ in polling():
        if await count_ended(fleet) >= least:
            return time.monotonic()
    raise AssertionError([pod.tail() for pod in fleet.pods])


async def test_database_crashes_amid_jobs(tmp_path: Path) -> None:
    """A database that crashes and comes back while jobs run costs none of them, and clients only the wait."""
    with running_postgres(tmp_path / "postgresql") as postgres:
        async with open_fleet(tmp_path, postgres.url) as fleet, fleet.client() as client:
            fleet.start("serve", WORKER_IN_API="true")
            fleet.start("worker")
            fleet.start("worker")
            await asyncio.gather(*(pod.ready() for pod in fleet.pods))
            caller = RetryingClient(fleet, client)
            await caller.upload("clicks")
            accepted = await caller.submit("clicks", JOBS)
            await until_ended(fleet, JOBS // 4)
            await asyncio.to_thread(postgres.crash)
            later = asyncio.create_task(caller.submit("clicks", 4, "during"))
            await asyncio.sleep(AWAY_SECONDS)
            await asyncio.to_thread(postgres.start)
            back, before = time.monotonic(), await count_ended(fleet)
            tell("a crash of the database", await until_ended(fleet, before + 1) - back)
            accepted += await later
            for extraction_id in accepted:
                assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
            await fleet.wait_until_all_ended()
            assert all(pod.process.poll() is None for pod in fleet.pods)
            audit = await fleet.audit(accepted)
    audit.require_nothing_lost()
    assert audit.by_status == {"completed": JOBS + 4}


async def test_redis_dies_and_comes_back(fleet: Fleet) -> None:
    """Without Redis requests are taken and jobs run; when it is back, it is used again."""
    with running_redis(fleet.folder) as redis:
        fleet.environment |= {"REDIS_URL": redis.url, "RATE_LIMIT_PER_MINUTE": "100000"}
        api = await fleet.start("serve", WORKER_IN_API="true").ready()
        async with fleet.client() as client:
            caller = RetryingClient(fleet, client)
            await caller.upload("clicks")
            accepted = await caller.submit("clicks", 4, "before")
            redis.kill()
            accepted += await caller.submit("clicks", 4, "during")
            for extraction_id in accepted:
                assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
            health = (await client.get(f"{api.address}/health")).json()
            assert (health["status"], health["services"]["redis"]) == ("degraded", "unhealthy")
            redis.start()
            back = time.monotonic()
            async for _ in polling():
                if (await client.get(f"{api.address}/health")).json()["status"] == "healthy":
                    break
            tell("a crash of Redis", time.monotonic() - back)
            assert (await client.get(f"{api.address}/health")).json()["status"] == "healthy"
            accepted += await caller.submit("clicks", 4, "after")
            for extraction_id in accepted:
                assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
            audit = await fleet.audit(accepted)
    assert caller.broken == 0
    audit.require_nothing_lost()


async def test_disk_is_full(new_database: Callable[[], str], tmp_path: Path) -> None:
    """On a full disk nothing half written stays, jobs wait and clients are told; with space again everything ends."""
    with small_disk(tmp_path / "artifacts", 2048) as disk:
        async with open_fleet(tmp_path, new_database()) as fleet, fleet.client() as client:
            api = await fleet.start("serve", WORKER_IN_API="true").ready()
            caller = RetryingClient(fleet, client)
            await caller.upload("clicks")
            filler = disk / "filler"
            _fill(filler)
            accepted = await caller.submit("clicks", 3)
            for extraction_id in accepted:
                waiting = await fleet.wait_for_row(
                    extraction_id, lambda row: row["status"] == "queued" and row["retries"]
                )
                assert waiting["failure"]["code"] == "dependency_unavailable"
            path, headers = f"{api.address}/api/v1/datasets?dataset_id=more", {"Content-Type": "text/csv"}
            refused = await client.post(path, content=b"a\n1\n", headers=headers)
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["Retry-After"]) > 0
            assert not [path for path in disk.rglob("*") if "#" in path.name]
            filler.unlink()
            freed = time.monotonic()
            for extraction_id in accepted:
                assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
            tell("a full disk", time.monotonic() - freed)
            await caller.upload("more")
            await fleet.wait_until_all_ended()
            audit = await fleet.audit(accepted)
    audit.require_nothing_lost()


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


async def test_processes_migrate_at_once(new_database: Callable[[], str], tmp_path: Path) -> None:
    """On an empty database two APIs, a worker and two `migrate` start together; each gets the whole schema."""
    fleet = Fleet(tmp_path, new_database(), f"file://{tmp_path}/artifacts")
    try:
        migrating = [fleet.start("migrate") for _ in range(2)]
        serving = [fleet.start("serve"), fleet.start("serve"), fleet.start("worker")]
        assert [await pod.exit_status() for pod in migrating] == [0, 0]
        await asyncio.gather(*(pod.ready() for pod in serving))
        revisions = await fleet.sql("SELECT version_num FROM alembic_version")
        assert len(revisions) == 1
        await fleet.prepare()
        async with fleet.balanced(), fleet.client() as client:
            caller = RetryingClient(fleet, client)
            await caller.upload("clicks")
            mine = extraction_of(await caller.extract("clicks", "mine", **RESPOND_ASYNC))
            assert (await caller.wait_until_ended(mine))["status"] == "completed"
            (await fleet.audit([mine])).require_nothing_lost()
    finally:
        fleet.close()


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.parametrize(("first", "then"), [("-2h", "+2h"), ("+2h", "-2h")])
async def test_clock_jumps(fleet: Fleet, first: str, then: str) -> None:
    """A machine whose clock is hours off, and then is set, loses no job, delays none, and deletes nothing of others."""
    dial = fleet.folder / "clock"
    dial.write_text(first)
    clock = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(dial),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    odd = fleet.start("serve", WORKER_IN_API="true", **clock)
    await odd.ready()
    async with fleet.client() as client:
        caller = RetryingClient(fleet, client)
        await caller.upload("clicks")
        accepted = await caller.submit("clicks", 8)
        dial.write_text(then)
        begun = time.monotonic()
        await fleet.start("worker").ready()
        for extraction_id in accepted:
            assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
        tell(f"a clock set from {first} to {then}", time.monotonic() - begun)
        spans: list[dict[str, Any]] = await fleet.sql("SELECT started_at, finished_at FROM extractions")
        assert all(row["finished_at"] >= row["started_at"] for row in spans)
        assert not [row for row in await fleet.sql("SELECT attempt FROM extractions") if row["attempt"] != 1]
        audit = await fleet.audit(accepted)
    audit.require_nothing_lost()
