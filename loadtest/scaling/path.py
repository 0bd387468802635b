"""The path of replicas over a run: predicted from a pod's curve, or seen, and how far two paths are from each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from msgspec import Struct

from loadtest.hpa.model import Outcome
from loadtest.scaling.autoscaler import Autoscaler, Flags, Seen
from loadtest.scaling.curve import Curve
from loadtest.scaling.manifest import MIB, Deployed
from loadtest.traffic.shapes import Step as TrafficStep

TICK_SECONDS = 0.5
HOUR_SECONDS = 3600.0
START_CORES = 0.0
"""CPU of a pod that starts: the autoscaler does not count it while it is not ready."""


class Moment(Struct, frozen=True):
    """One sync of the autoscaler."""

    at: float
    """Seconds since the run began."""
    current: int
    desired: int
    ready: int
    cpu_share: float
    """Mean CPU use of the pods, of their request."""
    memory_share: float
    in_flight: float
    """Of a pod, on average."""
    requests_per_pod: float
    """A second, of a ready pod; 0 where it was not counted."""
    why: str = ""


class _Pod:
    def __init__(self, created: float, ready_at: float) -> None:
        self.created = created
        self.ready_at = ready_at
        self.used = 0.0
        self.memory = 0.0
        self.in_flight = 0.0
        self.sample: tuple[float, float] | None = None
        self.cores: float | None = None


def rate_at(steps: Sequence[TrafficStep], moment: float) -> float:
    """Give the arrivals a second at that moment of a run."""
    offset = 0.0
    for step in steps:
        if moment < offset + step.seconds:
            return step.first + (step.last - step.first) * (moment - offset) / step.seconds
        offset += step.seconds
    return 0.0


def predict(  # noqa: PLR0913 - what a prediction depends on
    curve: Curve,
    deployed: Deployed,
    flags: Flags,
    rate: Callable[[float], float],
    seconds: float,
    *,
    ready_seconds: float,
    in_flight: Callable[[float], float] | None = None,
    memory_mib: float | None = None,
    replicas: int | None = None,
) -> list[Moment]:
    """Play the autoscaler against pods that behave as the curve says; `rate` gives requests a second at a moment.

    `in_flight` of a pod by its requests a second, and its `memory_mib`, take the place of the curve's own.
    """
    autoscaler = Autoscaler(deployed, flags)
    count = autoscaler.spec.minimum if replicas is None else replicas
    pods = [_Pod(-HOUR_SECONDS, -HOUR_SECONDS) for _ in range(count)]
    moments: list[Moment] = []
    next_sample, next_sync, now = flags.window, flags.sync, 0.0
    while now < seconds:
        now = round(now + TICK_SECONDS, 6)
        ready = [pod for pod in pods if pod.ready_at <= now]
        share = rate(now) / max(1, len(ready))
        for pod in pods:
            busy = share if pod in ready else 0.0
            limit = curve.limit_cpu_m / 1000
            cores = START_CORES if pod not in ready else min(limit, curve.cpu_at(busy))
            pod.used += cores * TICK_SECONDS
            pod.memory = (curve.memory_under_load() if memory_mib is None else memory_mib) * MIB
            pod.in_flight = (in_flight or curve.in_flight_at)(busy)
        if now >= next_sample:
            next_sample += flags.window
            for pod in pods:
                _sample(pod, now)
        if now >= next_sync:
            next_sync += flags.sync
            outcome = autoscaler.decide(now, len(pods), [_seen(pod, now) for pod in pods])
            moments.append(_moment(now, pods, deployed, ready=len(ready), share=share, outcome=outcome))
            _resize(pods, outcome.desired, now, ready_seconds)
    return moments


def _sample(pod: _Pod, now: float) -> None:
    if pod.sample is not None:
        before, used = pod.sample
        pod.cores = (pod.used - used) / (now - before)
    pod.sample = (now, pod.used)


def _seen(pod: _Pod, now: float) -> Seen:
    ready = pod.ready_at <= now
    sampled = pod.cores is not None
    return Seen(
        created=pod.created,
        ready_at=pod.ready_at if ready else None,
        ready=ready,
        cpu_cores=pod.cores,
        memory=pod.memory if sampled else None,
        in_flight=pod.in_flight if ready else None,
    )


def _resize(pods: list[_Pod], desired: int, now: float, ready_seconds: float) -> None:
    """Start pods, or take the youngest away, as a ReplicaSet does."""
    while len(pods) < desired:
        pods.append(_Pod(now, now + ready_seconds))
    pods.sort(key=lambda pod: pod.created)
    del pods[desired:]


def _moment(
    now: float, pods: Sequence[_Pod], deployed: Deployed, *, ready: int, share: float, outcome: Outcome
) -> Moment:
    resources = deployed.resources
    cores = [pod.cores for pod in pods if pod.cores is not None]
    return Moment(
        at=now,
        current=len(pods),
        desired=outcome.desired,
        ready=ready,
        cpu_share=1000 * sum(cores) / max(1, len(cores)) / resources.request_cpu_m,
        memory_share=sum(pod.memory for pod in pods) / max(1, len(pods)) / resources.request_memory,
        in_flight=sum(pod.in_flight for pod in pods) / max(1, len(pods)),
        requests_per_pod=share,
        why=outcome.why or "",
    )


# -- comparing ---------------------------------------------------------------------------------------------------


def replicas_at(path: Sequence[Moment], moment: float) -> int:
    """Give the replicas that are wanted at a moment."""
    found = path[0].current
    for one in path:
        if one.at > moment:
            break
        found = one.desired
    return found


def distance(seen: Sequence[Moment], predicted: Sequence[Moment], slack: float) -> int:
    """Give the largest difference in replicas, where a decision may come so many seconds earlier or later."""
    worst = 0
    for moment in seen:
        near = [replicas_at(predicted, moment.at + shift) for shift in _shifts(slack)]
        worst = max(worst, min(abs(moment.desired - wanted) for wanted in near))
    return worst


def _shifts(slack: float) -> list[float]:
    steps = 8
    return [slack * (2 * step / steps - 1) for step in range(steps + 1)]


def turns(path: Sequence[Moment]) -> int:
    """Count how often the path changes its direction."""
    directions = [one.desired > one.current for one in path if one.desired != one.current]
    return sum(first != second for first, second in itertools.pairwise(directions))


def scale_ins(path: Sequence[Moment]) -> int:
    """Count the pods that were taken away."""
    return sum(max(0, one.current - one.desired) for one in path)


def highest(path: Sequence[Moment]) -> int:
    """Give the most replicas that were wanted."""
    return max((one.desired for one in path), default=0)
