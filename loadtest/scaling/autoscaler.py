"""The autoscaler's model fed with measured or predicted pods: what they look like to it, and what it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from loadtest.hpa import algorithm
from loadtest.hpa.model import Controller, Observation, Outcome, Pod, State
from loadtest.hpa.spec import SECOND, Behavior, Rules, Spec
from loadtest.scaling.manifest import Deployed

MILLI = 1000
GAUGE = "api_requests_in_flight"


class Flags(Struct, frozen=True):
    """Periods of the controller and of the metrics, in seconds, as a cluster has them by default."""

    sync: float = 15.0
    window: float = 15.0
    """Of a sample of CPU and memory."""
    downscale: float = 300.0
    cpu_initialization: float = 300.0
    readiness_delay: float = 30.0
    speed: float = 1.0
    """How many times faster than a cluster's all of these, and the windows of the spec, are."""

    def faster(self, speed: float) -> Flags:
        """Give the flags for a proof that is so many times as fast."""
        return Flags(
            self.sync / speed,
            self.window / speed,
            self.downscale / speed,
            self.cpu_initialization / speed,
            self.readiness_delay / speed,
            speed,
        )


class Seen(Struct, frozen=True):
    """A pod at a moment, in seconds, cores and bytes."""

    created: float
    ready_at: float | None
    """None until it became ready."""
    ready: bool
    cpu_cores: float | None
    """Over the last window; None before its first sample."""
    memory: float | None
    in_flight: float | None
    leaving: bool = False


class Autoscaler:
    """Decides at every sync."""

    def __init__(self, deployed: Deployed, flags: Flags) -> None:
        self.spec = faster_spec(deployed.spec(), flags.speed)
        self._flags = flags
        self._controller = Controller(
            downscale=round(flags.downscale * SECOND),
            cpu_initialization=round(flags.cpu_initialization * SECOND),
            readiness_delay=round(flags.readiness_delay * SECOND),
        )
        resources = deployed.resources
        self._requests = {"cpu": resources.request_cpu_m, "memory": resources.request_memory * MILLI}
        self._state = State()

    def decide(
        self, now: float, replicas: int, pods: Sequence[Seen], external: Mapping[str, float] | None = None
    ) -> Outcome:
        """Give the replicas to have from now on; `now` and the pods' moments are seconds on any one clock."""
        seen = Observation(
            now=round(now * SECOND),
            replicas=replicas,
            pods=tuple(_pod(pod, now) for pod in pods),
            external={name: round(value * MILLI) for name, value in (external or {}).items()},
            requests=self._requests,
            window=round(self._flags.window * SECOND),
        )
        outcome = algorithm.sync(self.spec, self._controller, seen, self._state)
        self._state = outcome.state
        return outcome


def _pod(pod: Seen, now: float) -> Pod:
    usage: dict[str, int] = {}
    if pod.cpu_cores is not None and pod.memory is not None:
        usage = {"cpu": round(pod.cpu_cores * MILLI), "memory": round(pod.memory * MILLI)}
    return Pod(
        running=True,
        ready=pod.ready,
        started=round(pod.created * SECOND),
        changed=round((pod.ready_at if pod.ready_at is not None else pod.created) * SECOND),
        usage=usage,
        gauges={} if pod.in_flight is None else {GAUGE: round(pod.in_flight * MILLI)},
        sampled=round(now * SECOND),
        leaving=pod.leaving,
    )


def faster_spec(spec: Spec, speed: float) -> Spec:
    """Give a spec whose windows and periods pass so many times as fast."""
    if spec.behavior is None or speed == 1:
        return spec
    return replace(spec, behavior=Behavior(_faster(spec.behavior.up, speed), _faster(spec.behavior.down, speed)))


def _faster(rules: Rules, speed: float) -> Rules:
    window = None if rules.window is None else round(rules.window / speed)
    policies = tuple(replace(policy, period=round(policy.period / speed)) for policy in rules.policies)
    return replace(rules, window=window, policies=policies)
