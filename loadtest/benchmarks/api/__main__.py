"""`python -m loadtest.benchmarks.api`: measure, and print the tables.

Every variant is started once; then rounds go over all of them, so that what disturbs the machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from loadtest.benchmarks.api.client import BrokenAnswer
from loadtest.benchmarks.api.measure import Running, Sample, running
from loadtest.benchmarks.api.report import Results, render
from loadtest.benchmarks.api.stage import Stage
from loadtest.benchmarks.api.variants import VARIANTS, Variant

COMMAND = "make bench-api"
SERVER_CORE, CLIENT_CORE = 0, 1
SCRAPES = 20
HALF = 0.5
PROMETHEUS_ACCEPTS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
WORKLOADS = ("status", "cached", "uncached", "upload")


def main() -> int:
    """Run and print; with `--write`, into the file of the results."""
    options = _options()
    if len(os.sched_getaffinity(0)) <= max(SERVER_CORE, CLIENT_CORE):
        sys.stderr.write("the benchmark pins server and client to a core each and needs two\n")
        return 2
    wanted = set(options.only.split(",")) if options.only else None
    variants = [variant for variant in VARIANTS if wanted is None or variant.name in wanted]
    results = Results()
    with Stage(CLIENT_CORE) as stage, ExitStack() as servers:
        with ThreadPoolExecutor(options.together) as starting:
            started = list(
                starting.map(lambda variant: _start(variant, stage, servers, results, options.together), variants)
            )
        for number in range(options.rounds):
            _round(started, results, options.seconds, options.workloads.split(","))
            _say(f"round {number + 1} of {options.rounds} done")
        _finish(started, results, options.seconds)
    text = render(results, COMMAND, options.rounds, options.seconds)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a request costs.")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="for one measurement")
    parser.add_argument("--only", default="", help=f"of {','.join(variant.name for variant in VARIANTS)}")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument(
        "--together", type=int, default=1, help="servers started at once; their start is not measured then"
    )
    parser.add_argument("--write", type=Path, help="the report's file")
    return parser.parse_args()


def _start(variant: Variant, stage: Stage, servers: ExitStack, results: Results, together: int) -> Running:
    server = servers.enter_context(running(variant, stage, SERVER_CORE))
    if together == 1:
        results.ready[variant.name] = server.process.ready_seconds
    _say(f"{variant.name} is ready after {server.process.ready_seconds:.1f} s")
    return server


def _round(started: list[Running], results: Results, seconds: float, workloads: list[str]) -> None:
    for workload in workloads:
        for server in started:
            if workload in server.variant.workloads:
                sample = _measured(server, workload, seconds)
                results.note(server.variant.name, workload, sample)
                _say(f"{server.variant.name:12} {workload:9} {sample.cpu_us:9.1f} µs {sample.rate:8.1f}/s")
            if workload == "status":
                results.resident[server.variant.name] = server.process.resident_mib()


def _measured(server: Running, workload: str, seconds: float) -> Sample:
    """A server that breaks a connection is asked once more. Raises BrokenAnswer when it does so again."""
    try:
        return server.measure(workload, seconds)
    except BrokenAnswer as broken:
        _say(f"{server.variant.name}: {broken}; once more")
        return server.measure(workload, seconds)


def _finish(started: list[Running], results: Results, seconds: float) -> None:
    """What concerns the service alone: its tail at half its rate, and a scrape."""
    server = next((server for server in started if server.variant.name == "ours-10"), None)
    if server is None:
        return
    rate = median(sample.rate for sample in results.samples["ours-10", "status"])
    results.half = [server.at_rate("status", seconds, rate * HALF) for _ in range(3)]
    results.scrape = _scrape(server.metrics_url)


def _scrape(url: str) -> tuple[float, int]:
    times: list[float] = []
    body = b""
    request = urllib.request.Request(url, headers={"Accept": PROMETHEUS_ACCEPTS})  # noqa: S310 -- our own server
    for _ in range(SCRAPES):
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- likewise
            body = answer.read()
        times.append(time.perf_counter() - began)
    return median(times) * 1e3, sum(not line.startswith(b"#") for line in body.splitlines())


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
