"""What everybody else sees during an attack: health, another tenant's upload and status, and the service's memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.attacks.stand import Stand

HEALTH_SECONDS = 0.05
STATUS_SECONDS = 0.1
UPLOAD_SECONDS = 2.0
MEMORY_SECONDS = 0.1
TIMEOUT_SECONDS = 30.0
SETTLE_SECONDS = 3.0
"""For the first extraction to end, so that memory and caches are those of a service at work."""
SMALL = b"user,amount\n" + b"".join(b"u%d,%d\n" % (row % 20, row) for row in range(500))


@dataclass
class Seen:
    """Latencies in seconds by what was asked; an answer that never came counts as the timeout."""

    health: list[float] = field(default_factory=list)
    status: list[float] = field(default_factory=list)
    upload: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Answers that are neither good nor one of the documented refusals."""
    memory_before: float = 0.0
    memory_most: float = 0.0
    engine_most: float = 0.0
    """Of the processes that read files and compute, which ENGINE_URL bounds."""
    recovered_after: float | None = None
    """Seconds from the attack's end until everything was as before."""


class Witness:
    """Another tenant, an operator's probe, and a look at the process."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._client = httpx2.AsyncClient(
            base_url=stand.url, headers={"Authorization": f"Bearer {stand.tenant}"}, timeout=TIMEOUT_SECONDS
        )
        self._extraction = ""
        self._uploads = 0
        self.seen = Seen()

    async def prepare(self) -> None:
        """Upload a dataset and have features extracted, so that there is a status to read."""
        dataset = f"before{time.monotonic_ns()}"
        await self._upload(dataset)
        answer = await self._client.post(
            "/api/v1/extract-features",
            headers={"Prefer": "respond-async"},
            json={
                "dataset_id": dataset,
                "feature_description": "Total amount for each user",
                "quality_threshold": "low",
            },
        )
        answer.raise_for_status()
        self._extraction = answer.json()["data"]["extraction_id"]
        await asyncio.sleep(SETTLE_SECONDS)
        await self._status()
        self.seen = Seen(memory_before=self._stand.resident_mib())

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Measure all of it until the block ends."""
        tasks = [
            asyncio.create_task(self._every(HEALTH_SECONDS, self._health)),
            asyncio.create_task(self._every(STATUS_SECONDS, self._status)),
            asyncio.create_task(self._every(UPLOAD_SECONDS, self._next_upload)),
            asyncio.create_task(self._every(MEMORY_SECONDS, self._memory)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def recover(self, limit: float, health: float, upload: float) -> None:
        """Wait until a health check and a small upload take no longer than that; note how long it took."""
        began = time.monotonic()
        while time.monotonic() - began < limit:
            probe = Witness(self._stand)
            probe._extraction = self._extraction
            await asyncio.gather(probe._health(), probe._next_upload(), probe._status())
            await probe.close()
            if not probe.seen.faults and max(probe.seen.health) < health and max(probe.seen.upload) < upload:
                self.seen.recovered_after = time.monotonic() - began
                return
            await asyncio.sleep(0.2)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _every(self, seconds: float, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            began = time.monotonic()
            await look()
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))

    async def _health(self) -> None:
        await self._timed("GET", "/health/live", self.seen.health, {200})

    async def _status(self) -> None:
        await self._timed("GET", f"/api/v1/extraction/{self._extraction}/status", self.seen.status, {200})

    async def _next_upload(self) -> None:
        self._uploads += 1
        await self._upload(f"w{time.monotonic_ns()}")

    async def _upload(self, name: str) -> None:
        await self._timed(
            "POST",
            f"/api/v1/datasets?dataset_id={name}",
            self.seen.upload,
            {201},
            content=SMALL,
            headers={"Content-Type": "text/csv"},
        )

    async def _timed(self, method: str, path: str, into: list[float], good: set[int], **options: Any) -> None:
        began = time.monotonic()
        try:
            answer = await self._client.request(method, path, **options)
        except httpx2.HTTPError as error:
            self.seen.faults.append(f"{method} {path.partition('?')[0]}: {type(error).__name__}")
            into.append(max(TIMEOUT_SECONDS, time.monotonic() - began))
            return
        into.append(time.monotonic() - began)
        if answer.status_code not in good:
            self.seen.faults.append(f"{method} {path.partition('?')[0]}: {answer.status_code}")

    async def _memory(self) -> None:
        with contextlib.suppress(OSError):
            self.seen.memory_most = max(self.seen.memory_most, await asyncio.to_thread(self._stand.resident_mib))
            self.seen.engine_most = max(self.seen.engine_most, await asyncio.to_thread(self._stand.engine_mib))
