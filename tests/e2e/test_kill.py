from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tools.testbed.fleet import RECOVERY_SECONDS, Fleet, open_fleet
from tools.testbed.pod import BROKEN, Pod
from tools.testbed.polling import polling
from tools.testbed.retrying_client import EXTRACT, RESPOND_ASYNC, RetryingClient, extraction_of

ACCEPTING = ("before_commit", "after_commit", "answering")
WORKING = ("computing", "publishing", "published")
pytestmark = [pytest.mark.proof, pytest.mark.timeout(300), pytest.mark.xdist_group("fleet")]


@pytest.fixture
async def fleet(new_database: Callable[[], str], tmp_path: Path) -> AsyncIterator[Fleet]:
    """Nothing runs yet."""
    async with open_fleet(tmp_path, new_database()) as fleet:
        yield fleet


def staged(fleet: Fleet, role: Any, stage: str, **environment: str) -> Pod:
    """A process that stops at that moment of its only job."""
    reached = fleet.folder / f"{role}-{stage}"
    options = {"STAGE": stage, "REACHED": str(reached), "WORKER_CONCURRENCY": "1", **environment}
    return fleet.start(role, module="tests.e2e.staged", **options)


async def reached(fleet: Fleet, role: str, stage: str) -> None:
    """Wait until that process is there."""
    async for _ in polling():
        if (fleet.folder / f"{role}-{stage}").exists():
            return
    raise AssertionError([pod.tail() for pod in fleet.pods])


async def broken(client: httpx2.AsyncClient, pod: Pod, key: str) -> None:
    """Send a request that the process does not live to answer."""
    body = {"dataset_id": "clicks", "feature_description": "Average clicks for each user", "quality_threshold": "low"}
    with pytest.raises(BROKEN):
        await client.post(f"{pod.address}{EXTRACT}", json=body, headers={"Idempotency-Key": key})


async def recovered(fleet: Fleet, ids: list[str], since: float) -> dict[str, float]:
    """Seconds until another worker has claimed each."""
    seconds: dict[str, float] = {}
    async for _ in polling():
        for row in await fleet.sql("SELECT id FROM extractions WHERE attempt > 1 AND id = ANY(%s)", ids):
            seconds.setdefault(row["id"], time.monotonic() - since)
        if len(seconds) == len(ids):
            return seconds
    raise AssertionError([seconds, *(pod.tail() for pod in fleet.pods)])


async def test_kill_at_every_stage(fleet: Fleet) -> None:
    """An API, a worker, or an API with its worker inside, killed at any moment of a job, loses and doubles nothing.

    Each of nine processes is stopped at one moment, then all are killed at once. What was not committed is not there;
    the client's second request under its key makes it. What was committed is found under the key. What ran is run
    again by another worker within 15 seconds, and one table is left of it.
    """
    apis = {stage: staged(fleet, "serve", stage) for stage in ACCEPTING}
    embedded = [staged(fleet, "serve", stage, WORKER_IN_API="true") for stage in WORKING]
    workers = [staged(fleet, "worker", stage) for stage in WORKING]
    survivor = fleet.start("serve")
    await asyncio.gather(*(pod.ready() for pod in fleet.pods))
    async with fleet.client() as client:
        caller = RetryingClient(fleet, client)
        await caller.upload("clicks")
        held: list[str] = []
        for number in range(len(embedded + workers)):
            answer = await client.post(
                f"{survivor.address}{EXTRACT}",
                json={"dataset_id": "clicks", "feature_description": "Average clicks", "quality_threshold": "low"},
                headers={"Idempotency-Key": f"held-{number}", **RESPOND_ASYNC},
            )
            held.append(extraction_of(answer))
        for stage in WORKING:
            await reached(fleet, "serve", stage)
            await reached(fleet, "worker", stage)
        await fleet.start("worker").ready()
        lost = [asyncio.create_task(broken(client, pod, stage)) for stage, pod in apis.items()]
        for stage in ACCEPTING:
            await reached(fleet, "serve", stage)
        for pod in (*apis.values(), *embedded, *workers):
            pod.kill()
        killed = time.monotonic()
        await asyncio.gather(*lost)
        seconds = await recovered(fleet, held, killed)
        print(f"recovered from kill -9 in {max(seconds.values()):.1f} s at most: {sorted(seconds.values())}")  # noqa: T201 - the measurement
        assert max(seconds.values()) < RECOVERY_SECONDS
        known = {row["key"] for row in await fleet.sql("SELECT key FROM idempotency_keys")}
        assert known & set(ACCEPTING) == {"after_commit", "answering"}
        again = {stage: await caller.extract("clicks", stage) for stage in ACCEPTING}
        replayed = {stage: answer.headers.get("Idempotency-Replayed") for stage, answer in again.items()}
        assert replayed == {"before_commit": None, "after_commit": "true", "answering": "true"}
        for extraction_id in held:
            assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
        await fleet.wait_until_all_ended()
        audit = await fleet.audit([*held, *map(extraction_of, again.values())])
    audit.require_nothing_lost()
    assert (audit.accepted, audit.by_status) == (9, {"completed": 9})
    assert audit.orphans == 2  # of the two that were killed between publishing and storing their end


async def test_paused_between_publishing_and_storing(fleet: Fleet) -> None:
    """A worker that sleeps past its death with its table published changes nothing when it wakes: its end is refused.

    Its table is taken back, and the other's stays.
    """
    sleeper = await staged(fleet, "worker", "published", ONCE="yes").ready()
    await fleet.start("serve").ready()
    async with fleet.client() as client:
        caller = RetryingClient(fleet, client)
        await caller.upload("clicks")
        mine = extraction_of(await caller.extract("clicks", "mine", **RESPOND_ASYNC))
        await reached(fleet, "worker", "published")
        paused = time.monotonic()
        await fleet.start("worker").ready()
        seconds = await recovered(fleet, [mine], paused)
        print(f"recovered from SIGSTOP in {seconds[mine]:.1f} s")  # noqa: T201 - the measurement
        done = await fleet.wait_for_row(mine, lambda row: row["status"] == "completed")
        sleeper.signal(signal.SIGCONT)
        async for _ in polling():
            metrics = (await client.get(f"{sleeper.address}/metrics")).text
            if 'job_attempts_total{outcome="superseded"} 1.0' in metrics:
                break
        assert await fleet.row(mine) == done
        assert done["result"]["artifact_key"] == f"features/{mine}/2.parquet"
        audit = await fleet.audit([mine])
    audit.require_nothing_lost()
    assert audit.orphans == 0
