"""The capacity of one pod within its limits: a staircase of load, and what it costs at each step."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from loadtest.locust_processes import Say, Target
from loadtest.measure.indicators import Slo
from loadtest.report.percentiles import merge, percentile
from loadtest.results import WARM_UP, Run, Stage
from loadtest.running import run
from loadtest.scaling.limited import Used
from loadtest.scaling.pod import PodProcess
from loadtest.traffic.plan import Options

SAMPLE_SECONDS = 1.0
READ_SLO = "api-latency-read"
MAX_READ_MS = 250.0
"""For objectives that say nothing of reads."""
MIN_ACHIEVED = 0.95
MAX_FAILED = 0.005
IDLE_SECONDS = 8.0
MIB = 2**20


class Step(Struct, frozen=True):
    """One step of the staircase."""

    clients_per_second: float
    requests_per_second: float
    cpu_cores: float
    cpu_ms_per_request: float
    p50_ms: float
    """Of reads, as clients saw them."""
    p95_ms: float
    p99_ms: float
    throttled_share: float
    """Of the scheduler's periods."""
    loop_lag_ms: float
    """p99 of the event loop's lag; an upper bound."""
    memory_mib: float
    """Working set, highest."""
    in_flight: float
    """Requests being served, on average (Little's law over the clients' durations)."""
    failed_share: float
    good: bool
    """Whether the objectives held and the pod kept up."""
    steady: bool
    """Whether the machine had CPU to spare, so that the figures are the pod's own."""


class Curve(Struct, frozen=True):
    """What one pod can do."""

    component: str
    request_cpu_m: int
    limit_cpu_m: int
    request_memory_mib: float
    limited: bool
    idle_cpu_cores: float
    idle_memory_mib: float
    """Working set before any load."""
    rested_memory_mib: float
    """Working set after all load, at rest again."""
    ready_seconds: float
    """From the start of the process to its first readiness."""
    steps: tuple[Step, ...]

    @property
    def knee(self) -> Step:
        """Give the last step before the first one that was not good; the first step if none was."""
        found = self.steps[0]
        for step in self.steps:
            if not step.good:
                break
            found = step
        return found

    def cpu_at(self, requests_per_second: float) -> float:
        """Give the cores that a pod uses for so many requests a second, between the measured steps."""
        points = [(0.0, self.idle_cpu_cores), *((s.requests_per_second, s.cpu_cores) for s in self.steps)]
        return interpolated(sorted(points), requests_per_second)

    def memory_under_load(self) -> float:
        """Give the working set in MiB under load, which does not depend on the rate.

        It is the lowest of the steps': for a minute after an upload a pod also has the process that has read it.
        """
        return min((step.memory_mib for step in self.steps), default=self.idle_memory_mib)

    def in_flight_at(self, requests_per_second: float) -> float:
        """Give the requests in flight, likewise."""
        points = [(0.0, 0.0), *((s.requests_per_second, s.in_flight) for s in self.steps)]
        return interpolated(sorted(points), requests_per_second)

    def rate_at_cpu(self, cores: float) -> float:
        """Give the requests a second at which a pod uses so many cores."""
        points = [(self.idle_cpu_cores, 0.0), *((s.cpu_cores, s.requests_per_second) for s in self.steps if s.good)]
        return interpolated(sorted(points), cores)


def interpolated(points: Sequence[tuple[float, float]], x: float) -> float:
    """Give y at x on the line through rising points, continued along its last piece."""
    if x <= points[0][0] or len(points) == 1:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1 or (x1, y1) == points[-1]:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else y1
    return points[-1][1]


class Sampler:
    """Reads what a pod has used, every second, in a thread.

    With `scrape_seconds` it also asks for the pod's metrics as often as an autoscaler does: being watched costs CPU.
    """

    def __init__(self, pod: PodProcess, scrape_seconds: float | None = None) -> None:
        self._pod = pod
        self._scrape_seconds = scrape_seconds
        self.samples: list[tuple[float, Used]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:  # noqa: PYI034 - is not made to be subclassed
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        scraped = time.monotonic()
        while not self._over.is_set():
            self.samples.append((time.time(), self._pod.used()))
            if self._scrape_seconds is not None and time.monotonic() - scraped >= self._scrape_seconds:
                scraped = time.monotonic()
                self._pod.in_flight()
            self._over.wait(SAMPLE_SECONDS)

    def within(self, began: float, ended: float) -> list[tuple[float, Used]]:
        """Give the samples of a stretch of time."""
        return [sample for sample in self.samples if began <= sample[0] <= ended]


def measure(
    pod: PodProcess,
    key: str,
    options: Options,
    slos: Sequence[Slo],
    folder: Path,
    *,
    say: Say,
    limited: bool = True,
    scrape_seconds: float | None = None,
) -> tuple[Curve, Run]:
    """Send a staircase of load to one pod that is ready. Raises BadInput and NotMeasured as a run does."""
    time.sleep(IDLE_SECONDS / 2)
    with Sampler(pod, scrape_seconds) as sampler:
        time.sleep(IDLE_SECONDS)
        idle = sampler.samples[:]
        done = run(Target(pod.host, key, (pod.metrics,)), options, slos, folder, say)
        time.sleep(IDLE_SECONDS)
    stages = [stage for stage in done.stages if stage.name != WARM_UP and stage.arrivals]
    bound_ms = next((1000 * (slo.sli.within or 0) for slo in slos if slo.name == READ_SLO), MAX_READ_MS)
    steps = tuple(_step(stage, done, sampler, bound_ms) for stage in stages)
    resources = pod.deployed.resources
    curve = Curve(
        component=pod.deployed.component,
        request_cpu_m=resources.request_cpu_m,
        limit_cpu_m=resources.limit_cpu_m,
        request_memory_mib=resources.request_memory / MIB,
        limited=limited,
        idle_cpu_cores=_cores(idle),
        idle_memory_mib=statistics.median(used.memory for _, used in idle) / MIB,
        rested_memory_mib=sampler.samples[-1][1].memory / MIB,
        ready_seconds=(pod.ready_at or pod.created) - pod.created,
        steps=steps,
    )
    return curve, done


def _step(stage: Stage, done: Run, sampler: Sampler, bound_ms: float) -> Step:
    seconds = stage.ended - stage.began
    samples = sampler.within(stage.began, stage.ended)
    count = sum(one.count for one in stage.requests)
    reads = merge(one.durations for one in stage.requests if one.method == "GET" and _judged(one.endpoint))
    whole = sum(float(ms) * n for one in stage.requests for ms, n in one.durations.items())
    cores = _cores(samples)
    failed = stage.failed / max(1, stage.failed + stage.completed)
    rate = stage.arrivals / seconds
    p99 = percentile(reads, 99) or 0.0
    lags = [point.loop_lag_ms for point in done.service.points if stage.began <= point.at <= stage.ended]
    return Step(
        clients_per_second=rate,
        requests_per_second=count / seconds,
        cpu_cores=cores,
        cpu_ms_per_request=1000 * cores * seconds / max(1, count),
        p50_ms=percentile(reads, 50) or 0.0,
        p95_ms=percentile(reads, 95) or 0.0,
        p99_ms=p99,
        throttled_share=_throttled(samples),
        loop_lag_ms=max(lags, default=0.0),
        memory_mib=max((used.memory for _, used in samples), default=0) / MIB,
        in_flight=whole / 1000 / seconds,
        failed_share=failed,
        good=p99 <= bound_ms and failed <= MAX_FAILED and stage.achieved_rate >= MIN_ACHIEVED * rate,
        steady=stage.lag_p99_ms <= MAX_STEADY_LAG_MS,
    )


MAX_STEADY_LAG_MS = 100.0
"""p99 of the generator's lateness above which a step is not the pod's own doing."""


def _judged(endpoint: str) -> bool:
    return endpoint.startswith("/api/v1/") and not endpoint.endswith(("/features", "/events"))


def _cores(samples: Sequence[tuple[float, Used]]) -> float:
    if len(samples) < 2:  # noqa: PLR2004 - a difference needs two
        return 0.0
    (t0, first), (t1, last) = samples[0], samples[-1]
    return (last.cpu_seconds - first.cpu_seconds) / (t1 - t0)


def _throttled(samples: Sequence[tuple[float, Used]]) -> float:
    if len(samples) < 2:  # noqa: PLR2004 - likewise
        return 0.0
    first, last = samples[0][1], samples[-1][1]
    return (last.throttled - first.throttled) / max(1, last.periods - first.periods)
