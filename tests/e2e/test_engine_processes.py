"""The engine's processes under a service as production runs it: fair places, and an end whatever they do."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from service.features.identity import DEFAULT_SCOPES
from service.resources.storage import open_storage
from tools.testbed.fleet import Fleet, open_fleet
from tools.testbed.pod import Pod
from tools.testbed.polling import polling

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("fleet")]
SMALL = b"user,amount\n" + b"".join(b"u%d,%d\n" % (row % 20, row) for row in range(500))
LARGE = b"a,b,c,d\n" + b"".join(b"%d,some text that takes some room,12.5,2024-01-02\n" % row for row in range(95_000))
LARGE_UPLOADS = 9
GRACE_SECONDS = 45.0
"""30 s for open requests and what closing takes; Kubernetes grants more."""


@pytest.fixture
async def fleet(new_database: Callable[[], str], tmp_path: Path) -> AsyncIterator[Fleet]:
    """Nothing runs yet."""
    async with open_fleet(tmp_path, new_database()) as fleet:
        yield fleet


def engines(pod: Pod) -> list[int]:
    """The living engine processes of a service."""
    found = [
        int(child)
        for threads in Path(f"/proc/{pod.process.pid}/task").glob("*/children")
        for child in threads.read_text().split()
    ]
    return [pid for pid in found if b"engines.subprocess" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """A process's command line; empty when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


async def upload(client: httpx2.AsyncClient, address: str, name: str, content: bytes, key: str = "") -> int:
    """Upload a CSV; returns the status, 0 when the connection ended first."""
    headers = {"Content-Type": "text/csv", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        path = f"{address}/api/v1/datasets?dataset_id={name}"
        return (await client.post(path, content=content, headers=headers)).status_code
    except httpx2.TransportError:
        return 0


async def test_a_small_upload_gets_in_between_large_ones(fleet: Fleet) -> None:
    """Another principal's small upload is answered while most of one principal's large ones still wait."""
    pod = fleet.start(
        "serve",
        WORKER_IN_API="true",
        ENGINE_URL="duckdb://?concurrency=2&threads=1&memory_mib=256",
        MAX_UPLOADS_PER_PRINCIPAL="0",
    )
    await pod.ready()
    address = pod.address or ""
    storage = open_storage(fleet.settings())
    try:
        _, other = await storage.create_key("other", DEFAULT_SCOPES)
    finally:
        await storage.close()
    async with fleet.client() as client:
        large = [asyncio.create_task(upload(client, address, f"a{n}", LARGE)) for n in range(LARGE_UPLOADS)]
        await asyncio.wait(large, return_when=asyncio.FIRST_COMPLETED)
        done_before = sum(task.done() for task in large)
        assert await upload(client, address, "small", SMALL, other) == 201
        assert sum(task.done() for task in large) - done_before <= LARGE_UPLOADS // 3
        assert await asyncio.gather(*large) == [201] * LARGE_UPLOADS
    assert len(engines(pod)) <= 2


@pytest.mark.proof
async def test_sigterm_ends_a_service_whose_engine_hangs(fleet: Fleet) -> None:
    """Processes that answer nothing more are killed with the service, within its grace, and none is left."""
    pod = fleet.start("serve", WORKER_IN_API="true", WORKER_GRACE_SECONDS="1")
    await pod.ready()
    async with fleet.client() as client:
        uploads = [asyncio.create_task(upload(client, pod.address or "", f"a{n}", LARGE)) for n in range(8)]
        stopped: set[int] = set()
        async for _ in polling():
            for pid in set(engines(pod)) - stopped:
                os.kill(pid, signal.SIGSTOP)
                stopped.add(pid)
            if len(stopped) >= 2:
                break
        began = time.monotonic()
        pod.process.send_signal(signal.SIGTERM)
        while pod.process.poll() is None:
            assert time.monotonic() - began < GRACE_SECONDS, pod.tail()
            await asyncio.sleep(0.1)
        assert pod.process.poll() == 0, pod.tail()
        assert not [pid for pid in stopped if command_line(pid)]
        await asyncio.gather(*uploads)
