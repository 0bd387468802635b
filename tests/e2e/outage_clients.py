"""Many clients at once, in a process of their own: each asks for features for a while, and obeys Retry-After.

`python -m tests.e2e.outage_clients` reads a `Storm` as JSON from standard input and writes a list of `Outcome`s.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

ANSWER_SECONDS = 100.0
"""After so long without an answer a client counts as never answered."""


@dataclass(frozen=True)
class Storm:
    """Who asks whom, and for how long."""

    ports: tuple[int, ...]
    """Of the services, on this machine; client n asks the n-th, in turn."""
    key: str
    dataset: str
    clients: int
    seconds: float
    """From the common start; a client that is told to come back later than that is done."""
    pause_seconds: float
    """Between a client's success and its next request."""


@dataclass(frozen=True)
class Outcome:
    """One answer, or none: then its status is 0."""

    client: int
    started: float
    """Seconds since the storm began."""
    seconds: float
    status: int
    code: str = ""
    retry_after: int | None = None
    model: str = ""
    fallback: bool | None = None


async def run(storm: Storm) -> list[Outcome]:
    """All clients to their end; they begin together."""
    begun = time.monotonic()
    answers = await asyncio.gather(*(_client(storm, number, begun) for number in range(storm.clients)))
    return [outcome for outcomes in answers for outcome in outcomes]


async def _client(storm: Storm, number: int, begun: float) -> list[Outcome]:
    outcomes: list[Outcome] = []
    while True:
        sentence = f"Clicks and mean price of every user, number {number} time {len(outcomes)}"
        outcomes.append(await _ask(storm, number, begun, sentence))
        wait = outcomes[-1].retry_after or storm.pause_seconds
        if time.monotonic() + wait > begun + storm.seconds:
            return outcomes
        await asyncio.sleep(wait)


async def _ask(storm: Storm, number: int, begun: float, sentence: str) -> Outcome:
    started = time.monotonic()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            status, headers, body = await _post(storm, storm.ports[number % len(storm.ports)], sentence)
    except (OSError, TimeoutError, ValueError, IndexError):
        return Outcome(number, started - begun, time.monotonic() - started, 0)
    seconds = time.monotonic() - started
    model: dict[str, Any] = body["data"]["model"] if status == 200 else {}
    return Outcome(
        client=number,
        started=started - begun,
        seconds=seconds,
        status=status,
        code=body.get("error_code", ""),
        retry_after=int(headers["retry-after"]) if "retry-after" in headers else None,
        model=model.get("name", ""),
        fallback=model.get("fallback"),
    )


async def _post(storm: Storm, port: int, sentence: str) -> tuple[int, dict[str, str], Any]:
    content = json.dumps({"dataset_id": storm.dataset, "feature_description": sentence}).encode()
    head = (
        f"POST /api/v1/extract-features HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {storm.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + content)
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    first, *lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]), headers, json.loads(answer.partition(b"\r\n\r\n")[2])


if __name__ == "__main__":
    told = Storm(**json.loads(sys.stdin.read()))
    sys.stdout.write(json.dumps([asdict(outcome) for outcome in asyncio.run(run(told))]))
