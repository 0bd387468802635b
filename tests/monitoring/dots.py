"""`python -m tests.monitoring.dots`: every exemplar of a run of minutes, followed from Prometheus to Jaeger.

An API and a worker process under mixed traffic, with a slow and a failing model for a while; a real Prometheus and a
real Jaeger with the shipped configurations. Each exemplar that Prometheus has is looked up in Jaeger until it is found.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from service.telemetry.catalog import METRICS
from tests.monitoring.jaeger import JAEGER, NONE_HERE, Jaeger, configuration, running_jaeger
from tests.monitoring.stand import ROOT, free_port, prometheus, shipped
from tools.gameday.monitoring import missing_programs
from tools.gameday.system import System, running_system
from tools.testbed.api_client import Client

PAGE = ROOT / "docs/measurements/exemplars.md"
RATES = {"read": 4.0, "extract": 1.0, "stranger": 0.5}
TROUBLES = ((0.2, "slow"), (0.35, "good"), (0.5, "status-500"), (0.65, "good"))
"""From which part of the run on the model behaves how."""
LOOK_SECONDS = 2.0
_PAGE = """# Every exemplar leads to a trace

`make exemplars` (with a Jaeger on PATH or in `JAEGER_BIN`), {date}: for {seconds} s, {read:g} reads,
{extract:g} extraction and {stranger:g} refused requests a second against an API and a worker process; the model is slow
for a while and fails for another. Every exemplar that a real Prometheus has is looked up in a real Jaeger with the
shipped tail sampling.

| metric | exemplars | lead to a trace |
| --- | ---: | ---: |
{rows}
| all | {seen} | {found} |

After a dot was there its trace could be read within {median:.0f} s in the median and {longest:.0f} s at most, looked up
every {look:g} s. Jaeger took {accepted:.0f} spans and refused {refused:.0f}. It kept {kept:.0f} traces and threw
{thrown:.0f} away, and had {memory:.0f} MiB of memory of its own at most. Its dependency graph: {edges}.
"""
Dot = tuple[str, str, float]
"""Metric, trace and time of an exemplar."""


@dataclass
class Followed:
    """What became of the dots."""

    seen: dict[Dot, float] = field(default_factory=dict)
    """When each came to Prometheus, by the monotonic clock."""
    found: dict[Dot, float] = field(default_factory=dict)
    """Seconds from then until its trace could be read."""

    def look(self, address: str, jaeger: Jaeger, began: float) -> None:
        """Take in what is new, and look for what has not been found."""
        now = time.monotonic()
        for dot in _dots(address, began):
            self.seen.setdefault(dot, now)
        there: dict[str, bool] = {}
        for dot in [dot for dot in self.seen if dot not in self.found]:
            if dot[1] not in there:
                there[dot[1]] = bool(jaeger.spans(dot[1]))
            if there[dot[1]]:
                self.found[dot] = time.monotonic() - self.seen[dot]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when every dot led to a trace, 1 when one did not, 2 when a program is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.monitoring.dots", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="how long there is traffic")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    lacking = [f"not installed: {program}" for program in missing_programs()] + [NONE_HERE] * (JAEGER is None)
    if lacking:
        sys.stderr.write(f"nothing was run; {'; '.join(lacking)}\n")
        return 2
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        followed, facts = _run(Path(folder), options.seconds, stack)
    page = _page(followed, facts, options.seconds)
    sys.stdout.write(page)
    if options.write:
        PAGE.write_text(page)
    return 0 if followed.seen and len(followed.found) == len(followed.seen) else 1


def _run(folder: Path, seconds: int, stack: ExitStack) -> tuple[Followed, dict[str, Any]]:
    for name in ("jaeger", "stand", "prometheus"):
        (folder / name).mkdir()
    limit = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["jaeger"]["environment"]["GOMEMLIMIT"]
    jaeger = stack.enter_context(running_jaeger(folder / "jaeger", GOMEMLIMIT=limit))
    environment = {"JAEGER_ENABLED": "true", "JAEGER_ENDPOINT": jaeger.otlp}
    place = stack.enter_context(running_system(folder / "stand", environment))
    nothing = f"127.0.0.1:{free_port()}"
    targets = {name: [f"127.0.0.1:{port}"] for name, port in place.targets.items()} | {"recorded": [nothing]}
    configured = shipped(folder / "prometheus", targets, nothing)
    began = time.time()
    address = stack.enter_context(prometheus(configured, free_port()))
    followed, most_memory = Followed(), 0.0
    for _ in _traffic(place, seconds):
        followed.look(address, jaeger, began)
        most_memory = max(most_memory, jaeger.resident_mib())
    limit_at = time.monotonic() + float(configuration()["processors"]["tail_sampling"]["decision_wait"][:-1])
    while len(followed.found) < len(followed.seen) and time.monotonic() < limit_at:
        time.sleep(LOOK_SECONDS)
        followed.look(address, jaeger, began)
    return followed, _facts(jaeger, most_memory)


def _traffic(place: System, seconds: int) -> Any:
    """Users at work and the model's troubles, with a pause to look now and then."""
    place.users.rates |= RATES
    began, troubles = time.monotonic(), list(TROUBLES)
    with place.users.busy():
        while (gone := time.monotonic() - began) < seconds:
            if troubles and gone >= troubles[0][0] * seconds:
                place.model_behaves(troubles.pop(0)[1])
            time.sleep(LOOK_SECONDS)
            yield
    yield


def _dots(address: str, began: float) -> list[Dot]:
    names = "|".join(f"{metric.name}_bucket" for metric in METRICS if metric.exemplars)
    asked = {"query": f'{{__name__=~"{names}"}}', "start": str(began), "end": str(time.time() + 1)}
    series = Client(address, None).get(f"/api/v1/query_exemplars?{urlencode(asked)}").data
    return [
        (one["seriesLabels"]["__name__"].removesuffix("_bucket"), dot["labels"]["trace_id"], dot["timestamp"])
        for one in series
        for dot in one["exemplars"]
    ]


def _facts(jaeger: Jaeger, memory: float) -> dict[str, Any]:
    end = round(time.time() * 1000)
    edges = json.loads(jaeger.get(f"{jaeger.query}/api/dependencies?endTs={end}&lookback=3600000") or "{}")
    return {
        "accepted": jaeger.total("otelcol_receiver_accepted_spans"),
        "refused": jaeger.total("otelcol_receiver_refused_spans"),
        "kept": jaeger.total(r'otelcol_processor_tail_sampling_global_count_traces_sampled\S*sampled="true"'),
        "thrown": jaeger.total(r'otelcol_processor_tail_sampling_global_count_traces_sampled\S*sampled="false"'),
        "memory": memory,
        "edges": ", ".join(sorted(f"{one['parent']} → {one['child']}" for one in edges.get("data", []))) or "empty",
    }


def _page(followed: Followed, facts: dict[str, Any], seconds: int) -> str:
    waits = sorted(followed.found.values()) or [0.0]
    names = sorted({metric for metric, _, _ in followed.seen})
    rows = "\n".join(f"| `{name}` | {_of(followed.seen, name)} | {_of(followed.found, name)} |" for name in names)
    return _PAGE.format(
        seconds=seconds,
        rows=rows,
        seen=len(followed.seen),
        found=len(followed.found),
        median=statistics.median(waits),
        longest=waits[-1],
        look=LOOK_SECONDS,
        date=datetime.now(UTC).date().isoformat(),
        **RATES,
        **facts,
    )


def _of(dots: dict[Dot, float], name: str) -> int:
    return sum(metric == name for metric, _, _ in dots)


if __name__ == "__main__":
    sys.exit(main())
