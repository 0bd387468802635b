"""`python -m loadtest.benchmarks.edge [--rounds N] [--write FILE]`: CPU of a request over both protocols, interleaved.

A round measures both, in turns first and second, so that what disturbs the machine disturbs both alike; the ratio is
taken within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

import httptools
import uvicorn

from loadtest.benchmarks.api.client import closed_loop
from loadtest.benchmarks.api.processes import ServerProcess, free_port

KINDS = ("plain", "limited")
NAMES = {"plain": "uvicorn's HttpToolsProtocol", "limited": "with limits (`service/edge/protocol.py`)"}
SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS = 16
VERSIONS = f"uvicorn {uvicorn.__version__}, httptools {httptools.__version__}"
METHOD = (
    "`python -m loadtest.benchmarks.edge`: {rounds} rounds of {count} requests over {connections} kept connections, "
    "both protocols interleaved, a constant answer; the server pinned to a core, the client to another. CPU is the "
    "server process' own; medians, and quartiles of the rounds' ratios."
)
FIELDS = (
    b"Host: localhost:8000\r\nAuthorization: Bearer fa_0123456789ab_0123456789abcdef0123456789abcdef0123456789a\r\n"
    b"User-Agent: bench/1\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
)
REQUESTS = {
    "GET, 6 fields": b"GET /api/v1/extraction/0123456789abcdef/status HTTP/1.1\r\n" + FIELDS + b"\r\n",
    "POST, 8 fields and 200 bytes": b"POST /api/v1/extract-features HTTP/1.1\r\n"
    + FIELDS
    + b"Content-Type: application/json\r\nContent-Length: 200\r\n\r\n"
    + b" " * 200,
}


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="What the limits of connections cost a request.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--count", type=int, default=20_000, help="requests of one measurement")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {kind: stack.enter_context(_server(kind, Path(folder))) for kind in KINDS}
        costs = {name: _measure(servers, request, options) for name, request in REQUESTS.items()}
    text = _render(costs, options)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _server(kind: str, folder: Path) -> ServerProcess:
    port = free_port()
    command = ("-m", "loadtest.benchmarks.edge.server", kind, str(port))
    return ServerProcess(command, {}, port=port, health="/", core=SERVER_CORE, log=folder / f"{kind}.log")


def _measure(
    servers: Mapping[str, ServerProcess], request: bytes, options: argparse.Namespace
) -> dict[str, list[float]]:
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for server in servers.values():
        _cost(server, request, options.count // 4)  # warm
    for number in range(options.rounds):
        for kind in KINDS if number % 2 else reversed(KINDS):
            costs[kind].append(_cost(servers[kind], request, options.count))
    return costs


def _cost(server: ServerProcess, request: bytes, count: int) -> float:
    """Return the server's CPU for a request, in microseconds."""
    before = server.cpu_seconds()
    load = asyncio.run(closed_loop("127.0.0.1", server.port, lambda: request, connections=CONNECTIONS, count=count))
    assert load.statuses.keys() == {200}, load.statuses  # noqa: S101 -- a refusal would be cheaper than an answer
    return (server.cpu_seconds() - before) / load.requests * 1e6


def _render(costs: Mapping[str, Mapping[str, list[float]]], options: argparse.Namespace) -> str:
    lines = [
        "# What the limits of connections cost",
        "",
        METHOD.format(rounds=options.rounds, count=options.count, connections=CONNECTIONS),
        "",
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}; {VERSIONS}.",
        "",
        "| request | protocol | CPU µs | ratio | quartiles |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, of_kind in costs.items():
        ratios = [limited / plain for plain, limited in zip(of_kind["plain"], of_kind["limited"], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        lines.append(f"| {name} | {NAMES['plain']} | {median(of_kind['plain']):.1f} | 1 | |")
        lines.append(
            f"| {name} | {NAMES['limited']} | {median(of_kind['limited']):.1f} | {median(ratios):.3f}"
            f" | {low:.3f} to {high:.3f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
