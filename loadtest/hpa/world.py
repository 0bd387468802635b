"""A simulated world for the algorithm: pods that take time to start, a load that they share, metrics that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from loadtest.errors import BadInput
from loadtest.hpa import algorithm
from loadtest.hpa.model import Controller, Observation, Outcome, Pod, State
from loadtest.hpa.proposals import quotient
from loadtest.hpa.quantity import Quantity
from loadtest.hpa.spec import SECOND, Spec, SpecForm

HOUR = 3600 * SECOND
SLACK = SECOND // 1000
"""A sync at the very end of a scenario still counts."""
MIB = 1024 * 1024 * 1000
"""A MiB in thousandths of a byte."""
MAX_PODS = 150_000
"""Pods of the largest supported cluster."""
MAX_SYNCS = 1_000_000

Sync = Callable[[Spec, Controller, Observation, State], Outcome]
Seconds = Annotated[float, Meta(ge=0)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Point(Struct, frozen=True, forbid_unknown_fields=True):
    """The load from `at` seconds on. Totals (cpu_m, pods_m) are shared evenly among the ready pods."""

    at: float = 0.0
    cpu_m: Whole = 0
    memory_mib: Whole = 0
    pods_m: dict[str, Whole] | None = None
    external_m: dict[str, Whole] | None = None
    missing: int = 0
    """So many of the oldest pods have no samples."""
    broken: list[str] | None = None
    """Metric names whose API answers with an error."""


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """A spec, flags of the controller, how pods start, and the load; times in seconds."""

    spec: SpecForm
    replicas: Annotated[int, Meta(ge=0, le=MAX_PODS)]
    seconds: Seconds
    load: Annotated[list[Point], Meta(min_length=1)]
    id: str = ""
    request_cpu: Quantity | None = None
    request_memory: Quantity | None = None
    cap_m: Whole = 0
    """The cpu limit: one pod uses no more; 0 is no limit."""
    sync: Annotated[float, Meta(ge=0.001)] = 15.0
    downscale: Seconds = 300.0
    cpu_init: Seconds = 300.0
    ready_delay: Seconds = 30.0
    tolerance: Seconds = 0.1
    pending: Seconds = 0.0
    """From creation to Running."""
    start: Seconds = 0.0
    """From creation to Ready."""
    window: Seconds = 15.0
    """Of a sample; the first one comes this long after Running."""

    def __post_init__(self) -> None:
        if self.seconds / self.sync > MAX_SYNCS:
            raise ValueError(f"seconds / sync is above {MAX_SYNCS} syncs: shorten the scenario")


class Decision(Struct, frozen=True, omit_defaults=True):
    """One sync: the time, the replicas before and after, and how many pods were ready."""

    t: float
    current: int
    desired: int
    ready: int
    why: str | None = None


class World(Struct):
    """The times of creation of all pods, oldest first, and the scenario in nanoseconds."""

    scenario: Scenario
    pending: int
    start: int
    window: int
    requests: dict[str, int]
    created: list[int] = field(default_factory=list[int])

    def ready(self, now: int) -> int:
        """Count the ready pods."""
        return sum(now - created >= self.start for created in self.created)

    def resize(self, replicas: int, now: int) -> None:
        """Create pods now, or delete the youngest, as a ReplicaSet does."""
        if replicas > MAX_PODS:
            raise BadInput(
                f"{replicas} replicas are more than the {MAX_PODS} pods of a cluster: lower spec.maxReplicas"
            )
        self.created += [now] * (replicas - len(self.created))
        del self.created[replicas:]

    def observe(self, now: int, ready: int) -> Observation:
        """Return what the controller sees."""
        point = at(self.scenario.load, span(now))
        alike: dict[int, Pod] = {}
        for created in self.created:
            if created not in alike:
                alike[created] = self.show(created, now, point, max(1, ready))
        pods = [alike[created] for created in self.created]
        for index in range(min(max(point.missing, 0), len(pods))):
            pods[index] = replace(pods[index], usage={}, gauges={})
        named = {m.external.metric.name for m in self.scenario.spec.metrics or () if m.external}
        return Observation(
            now=now,
            replicas=len(pods),
            pods=tuple(pods),
            external={**dict.fromkeys(named, 0), **(point.external_m or {})},
            requests=self.requests,
            window=self.window,
            broken=frozenset(point.broken or ()),
        )

    def show(self, created: int, now: int, point: Point, sharers: int) -> Pod:
        """Return one pod; a pod that is not ready has samples of 0 except for memory."""
        age = now - created
        ready = age >= self.start
        sampled = age >= self.pending + self.window
        started = created + self.pending
        return Pod(
            running=age >= self.pending,
            ready=ready,
            started=started,
            changed=created + self.start if ready else started,
            usage=self.usage(point, sharers, ready=ready) if sampled else {},
            gauges=self.gauges(point, sharers, ready=ready) if sampled else {},
            sampled=now,
        )

    def usage(self, point: Point, sharers: int, *, ready: bool) -> dict[str, int]:
        """Return a pod's cpu, up to the limit, and its memory."""
        cpu, cap = quotient(point.cpu_m, sharers) if ready else 0, self.scenario.cap_m
        return {"cpu": min(cpu, cap) if cap > 0 else cpu, "memory": point.memory_mib * MIB}

    def gauges(self, point: Point, sharers: int, *, ready: bool) -> dict[str, int]:
        """Return a pod's share of the totals of Pods metrics; one that the load does not name is 0."""
        totals = point.pods_m or {}
        names = [metric.pods.metric.name for metric in self.scenario.spec.metrics or () if metric.pods]
        return {name: quotient(totals.get(name, 0), sharers) if ready else 0 for name in names}


def at(load: list[Point], seconds: float) -> Point:
    """Return the last point whose time has come, or else the first."""
    found = load[0]
    for point in load:
        if point.at <= seconds:
            found = point
    return found


def nanoseconds(seconds: float) -> int:
    """Cut seconds to whole nanoseconds."""
    return int(seconds * SECOND)


def span(time: int) -> float:
    """Return seconds, whole ones as an integer."""
    whole, rest = divmod(time, SECOND)
    return whole + rest / SECOND if rest else whole


def build(scenario: Scenario) -> World:
    """Return the world at the start: all pods are an hour old."""
    given = {"cpu": scenario.request_cpu, "memory": scenario.request_memory}
    return World(
        scenario=scenario,
        pending=nanoseconds(scenario.pending),
        start=nanoseconds(scenario.start),
        window=nanoseconds(scenario.window),
        requests={name: request for name, request in given.items() if request is not None},
        created=[-HOUR] * scenario.replicas,
    )


def play(scenario: Scenario, sync: Sync = algorithm.sync) -> Iterator[Decision]:
    """Yield the decision of every sync of a scenario."""
    spec, world, state = scenario.spec.read(), build(scenario), State()
    controller = Controller(
        downscale=nanoseconds(scenario.downscale),
        tolerance=scenario.tolerance,
        cpu_initialization=nanoseconds(scenario.cpu_init),
        readiness_delay=nanoseconds(scenario.ready_delay),
    )
    step = nanoseconds(scenario.sync)
    for now in range(step, nanoseconds(scenario.seconds) + SLACK, step):
        ready, current = world.ready(now), len(world.created)
        outcome = sync(spec, controller, world.observe(now, ready), state)
        state = outcome.state
        world.resize(outcome.desired, now)
        yield Decision(t=span(now), current=current, desired=outcome.desired, ready=ready, why=outcome.why)
