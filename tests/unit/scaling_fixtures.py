"""A pod's curve with round numbers, a run without fault, and paths written as numbers of pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from loadtest.results import WARM_UP, Extractions, Machine, Requests, Run, Service, Stage
from loadtest.scaling.autoscaler import Flags
from loadtest.scaling.curve import Curve, Step
from loadtest.scaling.live import Happening, Scaled
from loadtest.scaling.manifest import MIB, Resources, read_deployed
from loadtest.scaling.path import Moment
from loadtest.scaling.proof import Asked, Proof
from loadtest.scaling.targets import Target
from loadtest.scaling.worker_target import WorkerCurve
from loadtest.verdict import Check

API = replace(read_deployed("api"), resources=Resources(250, 1000, 320 * MIB, 512 * MIB))
"""As it is, with round numbers for what a measurement may change."""
WORKER = read_deployed("worker")
RESOURCES = API.resources


def step(rate: float, *, good: bool = True, **changes: Any) -> Step:
    """A step at which each request a second costs 3.5 ms of CPU: 50/s are the 175m of the API's target."""
    made = Step(
        clients_per_second=rate,
        requests_per_second=rate,
        cpu_cores=0.0035 * rate,
        cpu_ms_per_request=3.5,
        p50_ms=5,
        p95_ms=20,
        p99_ms=40,
        throttled_share=0.25,
        loop_lag_ms=3,
        memory_mib=128,
        in_flight=rate / 100,
        failed_share=0,
        good=good,
        steady=True,
    )
    return replace(made, **changes)


CURVE = Curve(
    component="api",
    request_cpu_m=250,
    limit_cpu_m=1000,
    request_memory_mib=320,
    limited=True,
    idle_cpu_cores=0.0,
    idle_memory_mib=96,
    rested_memory_mib=112,
    ready_seconds=4.0,
    steps=(step(50), step(100), step(200), step(250, good=False)),
)
WORKER_CURVE = WorkerCurve(
    rows=400,
    jobs=40,
    jobs_per_second=1.0,
    cpu_seconds_per_job=0.5,
    idle_memory_mib=140,
    memory_mib=222,
    throttled_share=0.1,
    ready_seconds=6.0,
)
STAGE = Stage("tide", 10, 30, 10, 200, 200, 200, 10.0, 0, 1, 150, [Requests("GET", "/x", "200", 200, {"5": 200})])
RUN = Run(
    1, "id", "http://a", "1", "tide", "api.yaml", "abc", 0, 30, 1,
    [replace(STAGE, name=WARM_UP, lag_p99_ms=900, requests=[]), STAGE], Extractions(0, 0, 0, [], []),
    Service([], {}, [], 0, 0, 0, 0), Machine(2, "Linux", "3.11", 5.0, 5.0, 0.1, [], 0.2, 0.0625, 1.1), {},
)  # fmt: skip


def path(*replicas: int, sync: float = 15.0) -> list[Moment]:
    """The moments at which the autoscaler wanted these numbers of pods, one sync after the other."""
    before = (replicas[0], *replicas)
    return [
        Moment((at + 1) * sync, before[at], wanted, before[at], 0.7, 0.4, 1.5, 50.0)
        for at, wanted in enumerate(replicas)
    ]


TIDE = path(3, 6, 8, 6, 4, 3)
"""Five pods come and five go."""


def scaled(seen: Sequence[Moment] = TIDE, failures: dict[str, int] | None = None, forced: int = 0) -> Scaled:
    """A scaling run with this path."""
    run = replace(RUN, failures=failures or {})
    return Scaled(list(seen), [Happening(16.0, "api-004 created")], run, sum(run.failures.values()), forced, 4.0)


PROOF = Proof(
    verdict="pass",
    checks=[Check("scaled_out", "pass", 8, 6, "from 3 pods it went to 8")],
    targets=[
        Target(name, target, valid=True, right=target, sentence=f"{name} holds")
        for name, target in (
            ("cpu", "70 %"),
            ("memory", "80 %"),
            ("api_requests_in_flight", "8"),
            ("extraction_queue_jobs", "4"),
            ("extraction_queue_oldest_seconds", "8 s"),
        )
    ],
    deployed=API,
    worker=WORKER,
    curve=CURVE,
    worker_curve=WORKER_CURVE,
    larger=[WORKER_CURVE],
    predicted=TIDE,
    seen=TIDE,
    happenings=[Happening(-1, "before the run"), Happening(75, "api-004 created")],
    asked=Asked(8, "tides", 30, 15, 50, 5, 40, 5),
    peak=397.0,
    flags=Flags().faster(5),
    requests=54321,
    failed_requests=0,
    began=1_700_000_000,
    ended=1_700_000_600,
    date="2023-11-14",
    machine="2 cores, Linux, Python 3.11",
)
