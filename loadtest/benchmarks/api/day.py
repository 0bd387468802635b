"""A day's traffic in minutes: `python -m loadtest.benchmarks.api.day --requests 2000000`.

Status reads, repeated extractions, and everything that strangers send: unknown paths, methods, ids, tokens and headers,
each time others. Memory and series are looked at on the way; both must stay where they were after the first tenth.
"""

from __future__ import annotations

import argparse
import random
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple
from uuid import uuid4

import uvloop

from loadtest.benchmarks.api.__main__ import CLIENT_CORE, SERVER_CORE
from loadtest.benchmarks.api.client import closed_loop
from loadtest.benchmarks.api.measure import Running, running
from loadtest.benchmarks.api.stage import Stage
from loadtest.benchmarks.api.variants import VARIANTS
from loadtest.benchmarks.api.workloads import Caller

STEPS = 10
CONNECTIONS = 32
GROWTH_MIB = 8.0
"""Between the first tenth and the last: the allocator's breath, not a leak of a day."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


class Look(NamedTuple):
    """How the process stands after a number of requests."""

    requests: int
    resident_mib: float
    series: int


def traffic(server: Running, chance: random.Random) -> Callable[[], bytes]:
    """Nine of ten requests are the service's own, the others are anybody's."""
    caller, own = server.caller, server.workloads
    strangers = (_path, _method, _identity, _token, _header)

    def request() -> bytes:
        draw = chance.random()
        if draw < 0.1:  # noqa: PLR2004 -- a share
            return chance.choice(strangers)(caller, chance)
        return own["cached" if draw > 0.99 else "status"].request()  # noqa: PLR2004 -- likewise

    return request


def _path(caller: Caller, _: random.Random) -> bytes:
    return caller.raw("GET", f"/{uuid4().hex}/{uuid4().hex}?{uuid4().hex}=1")


def _method(caller: Caller, chance: random.Random) -> bytes:
    return caller.raw(chance.choice(METHODS), "/api/v1/extractions")


def _identity(caller: Caller, _: random.Random) -> bytes:
    return caller.raw("GET", f"/api/v1/extraction/{uuid4().hex}/status")


def _token(caller: Caller, _: random.Random) -> bytes:
    stranger = Caller(caller.port, f"fa_{uuid4().hex[:12]}_{uuid4().hex}{uuid4().hex[:11]}", b"", [])
    return stranger.raw("GET", f"/api/v1/extraction/{caller.extractions[0]}/status")


def _header(caller: Caller, _: random.Random) -> bytes:
    return caller.raw("GET", "/api/v1/extractions?limit=1", **{f"x-{uuid4().hex}": uuid4().hex})


def look(server: Running, requests: int) -> Look:
    """Memory and number of series now."""
    with urllib.request.urlopen(server.metrics_url, timeout=30) as answer:  # noqa: S310 -- our own server
        series = sum(not line.startswith(b"#") for line in answer.read().splitlines())
    return Look(requests, server.process.resident_mib(), series)


def day(server: Running, requests: int) -> tuple[list[Look], Counter[int]]:
    """Send it all; a look after each tenth."""
    chance = random.Random(7)  # noqa: S311 -- repeatable, guards nothing
    looks: list[Look] = []
    statuses: Counter[int] = Counter()
    for step in range(1, STEPS + 1):
        load = uvloop.run(
            closed_loop(
                "127.0.0.1",
                server.process.port,
                traffic(server, chance),
                connections=CONNECTIONS,
                count=requests // STEPS,
            )
        )
        statuses += load.statuses
        looks.append(look(server, step * (requests // STEPS)))
        sys.stderr.write(f"{looks[-1]}\n")
    return looks, statuses


def main() -> int:
    """Print the looks as a table; 1 when anything grew."""
    parser = argparse.ArgumentParser(description="A day's traffic in minutes.")
    parser.add_argument("--requests", type=int, default=2_000_000)
    options = parser.parse_args()
    variant = next(variant for variant in VARIANTS if variant.name == "ours-10")
    with Stage(CLIENT_CORE) as stage, running(variant, stage, SERVER_CORE) as server:
        looks, statuses = day(server, options.requests)
    lines = [f"| {item.requests} | {item.resident_mib:.0f} | {item.series} |" for item in looks]
    sys.stdout.write("\n".join(["| requests | RSS MiB | series |", "| ---: | ---: | ---: |", *lines]) + "\n\n")
    sys.stdout.write(f"Answers: {', '.join(f'{number} x {status}' for status, number in statuses.most_common())}.\n")
    grown = looks[-1].resident_mib - looks[0].resident_mib > GROWTH_MIB or looks[-1].series != looks[0].series
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
