"""A client that behaves as the API asks: it waits for `Retry-After` and sends again what broke."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any, cast

import httpx2

from tools.testbed.fleet import Fleet
from tools.testbed.pod import BROKEN
from tools.testbed.polling import polling

EXTRACT = "/api/v1/extract-features"
RESPOND_ASYNC = {"Prefer": "respond-async"}
CSV = b"user,clicks,price\n" + b"".join(b"u%d,%d,%d.5\n" % (n % 7, n % 31, n % 11) for n in range(400))
PARALLEL_SUBMISSIONS = 8
ENDED_TIMEOUT_SECONDS = 3600.0


def extraction_of(answer: httpx2.Response) -> str:
    """Return the id that an accepted request was given."""
    assert answer.status_code in {200, 202}, answer.text
    return cast("str", answer.json()["data"]["extraction_id"])


@dataclass
class RetryingClient:
    """Send requests to any API that is ready, until one answers."""

    fleet: Fleet
    client: httpx2.AsyncClient
    broken: int = 0
    """Requests that ended without an answer, and were sent again."""
    refused: int = 0
    """Answers of 429 and 503."""

    async def ready_address(self) -> str:
        """Wait for an API that is ready and return its address. Raises AssertionError."""
        async for _ in polling():
            if self.fleet.ready:
                return random.choice(self.fleet.ready)  # noqa: S311 - spreads requests
        raise AssertionError([pod.tail() for pod in self.fleet.pods])

    async def request(self, method: str, path: str, address: str | None = None, **options: Any) -> httpx2.Response:
        """Send a request until the answer is neither 429 nor 503; the first time to `address`, if it is given."""
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
        """Add a dataset, if it is not there already."""
        path = f"/api/v1/datasets?dataset_id={dataset_id}"
        answer = await self.request("POST", path, content=content, headers={"Content-Type": "text/csv"})
        assert answer.status_code in {201, 409}, answer.text

    async def extract(
        self, dataset_id: str, key: str, sentence: str = "Average clicks for each user", **headers: str
    ) -> httpx2.Response:
        """Request an extraction under an Idempotency-Key."""
        body = {"dataset_id": dataset_id, "feature_description": sentence, "quality_threshold": "low"}
        return await self.request("POST", EXTRACT, json=body, headers={"Idempotency-Key": key, **headers})

    async def submit(self, dataset_id: str, count: int, name: str = "job") -> list[str]:
        """Submit so many different extractions and return their ids."""

        async def one(number: int) -> str:
            sentence = f"Average clicks for each user, and number {number}"
            async with places:
                return extraction_of(await self.extract(dataset_id, f"{name}-{number}", sentence, **RESPOND_ASYNC))

        places = asyncio.Semaphore(PARALLEL_SUBMISSIONS)
        return list(await asyncio.gather(*(one(number) for number in range(count))))

    async def wait_until_ended(self, extraction_id: str, pause_seconds: float = 0.5) -> dict[str, Any]:
        """Poll the status of an extraction until it has ended, and return it."""
        async for _ in polling(ENDED_TIMEOUT_SECONDS, pause_seconds):
            answer = await self.request("GET", f"/api/v1/extraction/{extraction_id}/status")
            assert answer.status_code == 200, answer.text
            data = cast("dict[str, Any]", answer.json()["data"])
            if data["status"] in {"completed", "failed", "cancelled"}:
                return data
        raise AssertionError(extraction_id)
