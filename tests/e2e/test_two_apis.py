"""Two API processes and a worker process on one database: to a client they are one service."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tools.testbed.fleet import Fleet, open_fleet
from tools.testbed.pod import Pod
from tools.testbed.polling import polling
from tools.testbed.retrying_client import CSV, EXTRACT

pytestmark = [pytest.mark.proof, pytest.mark.timeout(300), pytest.mark.xdist_group("fleet")]
BODY = {"dataset_id": "clicks", "feature_description": "Average clicks for each user", "quality_threshold": "low"}


@pytest.fixture
async def fleet(new_database: Callable[[], str], tmp_path: Path) -> AsyncIterator[Fleet]:
    """Two APIs that run nothing themselves, with a dataset."""
    async with open_fleet(tmp_path, new_database()) as fleet:
        apis = [fleet.start("serve") for _ in range(2)]
        await asyncio.gather(*(api.ready() for api in apis))
        async with fleet.client() as client:
            path = f"{apis[0].address}/api/v1/datasets?dataset_id=clicks"
            answer = await client.post(path, content=CSV, headers={"Content-Type": "text/csv"})
            assert answer.status_code == 201, answer.text
        yield fleet


async def test_fifty_equal_requests_to_two_processes_make_one_extraction(fleet: Fleet) -> None:
    """Sent at once to either, they wait for one run of one row, and fifty answers are the same to the byte."""
    await fleet.start("worker").ready()
    headers = {"Idempotency-Key": "fifty"}
    limits = httpx2.Limits(max_connections=None)
    async with fleet.client(limits=limits) as client:

        async def ask(number: int) -> httpx2.Response:
            return await client.post(f"{fleet.pods[number % 2].address}{EXTRACT}", json=BODY, headers=headers)

        answers = await asyncio.gather(*(ask(number) for number in range(50)))
        again = [await ask(number) for number in range(2)]

    assert {answer.status_code for answer in (*answers, *again)} == {200}, answers[0].text
    assert len({answer.content for answer in (*answers, *again)}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) <= 1
    assert [answer.headers["idempotency-replayed"] for answer in again] == ["true", "true"]
    [row] = await fleet.sql("SELECT id, attempt FROM extractions")
    assert (row["id"], row["attempt"]) == (answers[0].json()["data"]["extraction_id"], 1)
    assert [key["key"] for key in await fleet.sql("SELECT key FROM idempotency_keys")] == ["fifty"]


async def test_a_run_elsewhere_is_followed_and_cancelled(fleet: Fleet) -> None:
    """One API takes the request in, a worker runs it, the other API tells its progress and ends it within seconds."""
    one, two = fleet.pods
    reached = fleet.folder / "reached"
    await fleet.start("worker", module="tests.e2e.staged", STAGE="computing", REACHED=str(reached)).ready()
    async with fleet.client() as client:
        accepted = await client.post(f"{one.address}{EXTRACT}", json=BODY, headers={"Prefer": "respond-async"})
        path = accepted.headers["location"]
        following = asyncio.create_task(events(client, two, path))
        async for _ in polling():
            if reached.exists() and (await status(client, two, path))["stage"] == "compute":
                break
        started = time.monotonic()
        cancelled = await client.delete(f"{two.address}{path}")
        async for _ in polling():
            if (await status(client, one, path))["status"] == "cancelled":
                break
        print(f"cancelled in {time.monotonic() - started:.2f} s")  # noqa: T201 - the measurement
        told = await asyncio.wait_for(following, 60)
        last = told[-2][0] if len(told) > 1 else told[-1][0]
        resumed = await events(client, one, path, last)

    assert (accepted.status_code, "retry-after" in accepted.headers) == (202, True)
    assert cancelled.status_code in {200, 202}
    identities = [identity for identity, _, _ in told]
    assert identities == sorted(set(identities))
    assert [(name, data["status"]) for _, name, data in told][-1] == ("end", "cancelled")
    assert ("status", "processing") in [(name, data["status"]) for _, name, data in told]
    assert resumed == told[-1:]


async def status(client: httpx2.AsyncClient, pod: Pod, path: str) -> dict[str, Any]:
    """How far it has come, as that process tells it."""
    return (await client.get(f"{pod.address}{path}/status")).json()["data"]


async def events(
    client: httpx2.AsyncClient, pod: Pod, path: str, last: int | None = None
) -> list[tuple[int, str, dict[str, Any]]]:
    """All events until the stream ends: id, name and data."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    text = (await client.get(f"{pod.address}{path}/events", headers=headers)).text
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found
