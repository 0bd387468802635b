"""Load tests that passed, failed and were not measured, for the tests of the report; and that they are true records."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from statistics import NormalDist

import pytest

from loadtest.report.objectives import Objective
from loadtest.results import (
    Extractions,
    Indicator,
    Machine,
    Requests,
    Run,
    Service,
    ServicePoint,
    Stage,
    read_record,
    write_record,
)
from loadtest.verdict import Check, Outcome, Reason, Verdict

BEGAN = 1_796_000_000.0
READ = "GET /api/v1/extraction/{extraction_id}/status"
EXTRACT = "POST /api/v1/extract-features"
OBJECTIVES = (
    Objective("api-availability", 99.5),
    Objective("api-latency-read", 99.0, 250.0, (READ, "GET /api/v1/extractions")),
    Objective("api-latency-extract", 95.0, 10_000.0, (EXTRACT,)),
    Objective("extraction-success", 99.0),
)
ROUTES = {
    READ: (0.55, 6.0),
    EXTRACT: (0.18, 140.0),
    "GET /api/v1/extractions": (0.17, 9.0),
    "POST /api/v1/datasets": (0.1, 30.0),
}


@cache
def durations(count: int, median_ms: float, spread: float = 0.5) -> dict[str, int]:
    """A log-normal histogram of that many requests, with three significant digits."""
    found: dict[str, int] = {}
    for index in range(count):
        value = median_ms * math.exp(spread * NormalDist().inv_cdf((index + 0.5) / count))
        key = f"{value:.3g}" if value < 1000 else f"{round(value, 2 - math.floor(math.log10(value))):.0f}"
        found[key] = found.get(key, 0) + 1
    return found


def stage(
    index: int, rate: float, *, name: str = "", achieved: float | None = None, slow: float = 1.0, bad: float = 0.0
) -> Stage:
    """A minute at one arrival rate; `bad` is the share of requests that fail."""
    count = round(rate * 60)
    requests: list[Requests] = []
    for route, (part, median) in ROUTES.items():
        method, endpoint = route.split(" ")
        total = round(count * 6 * part)
        failed = round(total * bad)
        status = "202" if route == EXTRACT else "200"
        requests.append(Requests(method, endpoint, status, total - failed, durations(total - failed, median * slow)))
        for code, share in (("429", 0.6), ("503", 0.3), ("599", 0.1)):
            if number := round(failed * share):
                requests.append(
                    Requests(method, endpoint, code, number, durations(number, 4.0 if code == "429" else 900.0))
                )
    begin = BEGAN + 60 * index
    failed = round(count * bad)
    return Stage(
        name or f"{rate:g}/s", begin, begin + 60, rate, count, count, count - failed,
        rate if achieved is None else achieved, failed, 0.4 * slow, 3.1 * slow, requests,
    )  # fmt: skip


def points(stages: list[Stage]) -> list[ServicePoint]:
    """A look every second; the service gets slower as the rate goes beyond what it can do."""
    found: list[ServicePoint] = []
    used, queue = 0.0, 0.0
    for second in range(60 * len(stages)):
        current = stages[second // 60]
        used += 0.12 + current.achieved_rate * 0.045 * (1 + 0.12 * math.sin(second / 3))
        queue = max(0.0, queue + (current.rate - current.achieved_rate) * 0.9 + 0.6 * math.sin(second / 5))
        memory = 210 + second * 0.25 + queue * 0.2
        found.append(
            ServicePoint(
                BEGAN + second,
                2,
                used,
                memory,
                2 + current.rate * 0.3 + 2 * math.sin(second / 2),
                queue,
                queue * 0.35,
                min(8.0, current.rate),
            )
        )
    return found


def indicators(stages: list[Stage], bad: float) -> list[Indicator]:
    """Events of each SLO over the run, and over each stage."""
    found: list[Indicator] = []
    for objective in OBJECTIVES:
        for part in ("", *(one.name for one in stages)):
            total = 21_300.0 if not part else 3_550.0
            found.append(Indicator(objective.slo, part, "service", total * (1 - bad), total))
            found.append(Indicator(objective.slo, part, "client", round(total * (1 - bad * 1.1)), total))
    return found


def run(
    stages: list[Stage],
    *,
    bad: float = 0.0,
    failures: dict[str, int] | None = None,
    lost: list[str] | None = None,
    cores: float = 0.1,
) -> Run:
    """One run of those stages."""
    accepted = sum(one.count for each in stages for one in each.requests if one.status == "202")
    return Run(
        1, "2026-11-30-0753-steady", "https://features.example.com", "1.4.0", "steps", "analysts", "9f1c0a7be2d04c55",
        BEGAN, BEGAN + 60 * len(stages), 2, stages,
        Extractions(accepted, accepted - len(lost or []) - 3, 3, lost or [], []),
        Service(points(stages), {READ: 11_000.0}, indicators(stages, bad), 0, 1024.0, 412.7, 0.312, 0.014, 4.0),
        Machine(8, "Linux 6.1", "3.11.7", 0.8, 2.4, cores, ["postgres", "node_exporter"], 0.62, 0.184, 1.03),
        failures or {},
    )  # fmt: skip


def verdict(outcome: Outcome, checks: list[Check]) -> Verdict:
    """A verdict with a reason for each check that did not pass."""
    reasons = [Reason(one.gate, one.measured, one.allowed, one.sentence) for one in checks if one.outcome != "pass"]
    return Verdict(
        outcome, reasons, checks, "steps", "https://features.example.com", "2026-11-30-0753-steady", BEGAN, BEGAN + 360
    )


HELD = [
    Check("slo:api-availability", "pass", 99.98, 99.5, "99.98 % of requests were served; 99.5 % are asked for."),
    Check(
        "slo:api-latency-read", "pass", 99.91, 99.0, "99.91 % of reads were answered within 250 ms; 99 % are asked for."
    ),
    Check("achieved_rate", "pass", 0.998, 0.95, "The service kept up with 99.8 % of the arrivals in the stage 20/s."),
    Check("lost", "pass", 0, 0, "All 1,231 accepted extractions were found."),
    Check("doubled", "pass", 0, 0, "No extraction was run twice."),
    Check("memory_growth", "pass", 1.2, 10, "Memory grew by 1.2 MiB an hour."),
]


@cache
def passing() -> tuple[Verdict, Run]:
    """A run at the expected rate, without a fault."""
    stages = [stage(0, 2, name="warm-up"), stage(1, 10), stage(2, 20)]
    return verdict("pass", HELD), run(stages)


@cache
def failing() -> tuple[Verdict, Run]:
    """A run of six stages that broke down in the last two."""
    stages = [
        stage(0, 2, name="warm-up"), stage(1, 10), stage(2, 20), stage(3, 40, slow=1.6),
        stage(4, 60, slow=9, achieved=51, bad=0.03), stage(5, 80, slow=30, achieved=48, bad=0.16),
    ]  # fmt: skip
    slow = (
        "Only 91.27 % of reads were answered within 250 ms in the stage 80/s; 99 % are asked for. "
        "Add an API process or lower the rate: requests waited for a CPU."
    )
    refused = (
        "98.104 % of requests were served in the stage 80/s; 99.5 % are asked for. "
        "Most of the others were answered 503 by POST /api/v1/extract-features."
    )
    lost = "2 accepted extractions were not found after the run: look for their ids in the workers' logs."
    checks = [
        Check("slo:api-latency-read", "fail", 91.27, 99.0, slow),
        Check("slo:api-availability", "fail", 98.104, 99.5, refused),
        Check("lost", "fail", 2, 0, lost),
        HELD[2],
        HELD[4],
        Check("memory_growth", "not_measured", None, 10, "Memory growth needs a run of 10 min; this one lasted 6 min."),
    ]
    failures = {
        "POST /api/v1/extract-features: expected 200 or 202, answered 503 (queue_full)": 412,
        "GET /api/v1/extraction/{extraction_id}/status: no answer within 30 s": 37,
        "POST /api/v1/datasets: expected 201, answered 429 (rate_limited)": 1204,
    }
    return verdict("fail", checks), run(
        stages,
        bad=0.019,
        failures=failures,
        lost=["0192f1aa-77c1-7ab3-9d5e-0f4c1b6d2e11", "0192f1aa-77c1-7ab3-9d5e-0f4c1b6d2e12"],
    )


@cache
def unmeasured() -> tuple[Verdict, Run]:
    """A run on a machine that was busy with something else."""
    busy = "Other processes kept 2.31 cores busy (postgres, node_exporter); 0.5 are allowed. Stop them and run again."
    checks = [
        Check("machine", "not_measured", 2.31, 0.5, busy),
        Check("slo:api-latency-read", "not_measured", None, 99.0, "Not judged, since the machine was busy."),
    ]
    return verdict("not_measured", checks), run([stage(0, 2, name="warm-up"), stage(1, 10)], cores=2.31)


@pytest.mark.parametrize("sample", [passing, failing, unmeasured])
def test_samples_are_records(sample: object, tmp_path: Path) -> None:
    """The samples are written and read back as `run.json` and `verdict.json` are."""
    assert callable(sample)
    judged, made = sample()
    write_record(tmp_path / "run.json", made)
    write_record(tmp_path / "verdict.json", judged)
    assert read_record(tmp_path / "run.json", Run) == made
    assert read_record(tmp_path / "verdict.json", Verdict) == judged
