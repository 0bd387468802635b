"""What the algorithm reads and keeps: the controller's flags, what was observed, and the state between syncs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from loadtest.hpa.spec import SECOND


class Controller(Struct, frozen=True):
    """Flags of kube-controller-manager (--horizontal-pod-autoscaler-…) with their defaults; times in nanoseconds."""

    downscale: int = 300 * SECOND
    tolerance: float = 0.1
    cpu_initialization: int = 300 * SECOND
    readiness_delay: int = 30 * SECOND


class Pod(Struct, frozen=True):
    """One pod as the API server and the metrics APIs show it at a sync.

    `usage` has millicores of "cpu" and thousandths of a byte of "memory", `gauges` thousandths by the name of a Pods
    metric; a name that is not there has no sample yet. `started` is None until the pod has a start time and a Ready
    condition; `changed` is when that condition last changed. `sampled` is the end of the samples' window.
    """

    running: bool = True
    ready: bool = True
    started: int | None = 0
    changed: int = 0
    usage: Mapping[str, int] = {}
    gauges: Mapping[str, int] = {}
    sampled: int = 0
    leaving: bool = False
    """Being deleted or failed: not counted for metrics of pods."""


class Observation(Struct, frozen=True):
    """Everything that one sync sees: the scale's replicas, the pods, and the metrics."""

    now: int
    replicas: int
    pods: tuple[Pod, ...]
    external: Mapping[str, int] = {}
    """Thousandths by metric name, all series of a metric added together."""
    requests: Mapping[str, int] = {}
    """Of each pod: millicores of cpu, thousandths of a byte of memory."""
    window: int = 15 * SECOND
    """Time over which a sample was taken."""
    broken: frozenset[str] = frozenset()
    """Metric names whose API answers with an error."""


class Proposal(NamedTuple):
    """The replicas that one metric asks for, and the measured values that the status shows for it."""

    replicas: int
    shown: tuple[int, ...]


class Stamped(NamedTuple):
    """A number of replicas (recommended, added or removed) and when."""

    replicas: int
    at: int


class Condition(NamedTuple):
    """A condition of the status."""

    status: bool
    reason: str
    detail: str = ""


class Status(Struct, frozen=True):
    """The status that the controller writes when it differs from the last one."""

    current: int = 0
    desired: int = 0
    scaled: int | None = None
    shown: tuple[tuple[int, ...] | None, ...] = ()
    able: Condition | None = None
    active: Condition | None = None
    limited: Condition | None = None

    @property
    def why(self) -> str | None:
        """The reason of the limit, or of being unable to compute: the last of the conditions that are worth a word."""
        if self.limited:
            return self.limited.reason
        return self.active.reason if self.active and not self.active.status else None


class State(Struct, frozen=True):
    """What the controller remembers from one sync to the next."""

    recommendations: tuple[Stamped, ...] = ()
    added: tuple[Stamped, ...] = ()
    removed: tuple[Stamped, ...] = ()
    status: Status = Status()


class Outcome(Struct, frozen=True):
    """The replicas to have from now on, the state for the next sync, and the reason if the status changed."""

    desired: int
    state: State
    why: str | None = None
