"""What a run leaves in its folder, as typed records: `run.json`, read by the gate, the report and the capacity figures.

Times are seconds since the epoch unless a name says otherwise; durations in milliseconds count from the moment at which
a request was due, so that a request that had to wait for its turn is not shown as fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from loadtest.errors import BadInput

RUN_FILE = "run.json"
NO_ANSWER = "599"
"""Status of a request that got no answer: an SLO's selector for 5xx counts it, since its client was not served."""
WARM_UP = "warm-up"
"""Name of the first stage, which nothing is judged by."""


class Requests(Struct, frozen=True):
    """Requests of one stage to one route with one status."""

    method: str
    endpoint: str
    """Route template, as the service's own metrics name it."""
    status: str
    count: int
    durations: dict[str, int]
    """Milliseconds, rounded to three significant digits -> requests."""


class Stage(Struct, frozen=True):
    """A stretch of the run with one arrival rate, or one that rises or falls steadily."""

    name: str
    began: float
    ended: float
    rate: float
    """Arrivals a second that were asked for, on average."""
    arrivals: int
    """Clients that were due in this stage."""
    started: int
    completed: int
    """Clients that got everything they came for, whenever that was."""
    achieved_rate: float
    """Clients that ended, a second, over the stage's length shifted by the median length of a visit."""
    failed: int
    lag_p50_ms: float
    """How much later than due a client was started: the generator's own delay."""
    lag_p99_ms: float
    requests: list[Requests]


class Extractions(Struct, frozen=True):
    """What became of the extractions that the run asked for."""

    accepted: int
    completed: int
    failed: int
    lost: list[str]
    """Accepted and not there, or not ended in time, or ended without a table."""
    doubled: list[str]
    """Idempotency keys under which two extractions exist, and extractions that no client asked for."""


class ServicePoint(Struct, frozen=True):
    """The service's processes together at one moment, from their metrics."""

    at: float
    processes: int
    cpu_seconds: float
    """Used since the run began."""
    memory_mib: float
    """Of the process with the most."""
    in_flight: float
    queued: float
    oldest_seconds: float
    active: float
    """Extractions that run."""
    loop_lag_ms: float = 0.0
    """p99 of the event loops' lag since the look before; an upper bound, by the histogram's buckets."""


class Indicator(Struct, frozen=True):
    """Events of one SLO over a part of the run."""

    slo: str
    stage: str
    """Empty for the whole run."""
    side: str
    """`service` by its own metrics, `client` as Locust saw it."""
    good: float
    total: float


class Service(Struct, frozen=True):
    """What the service's own metrics say."""

    points: list[ServicePoint]
    requests: dict[str, float]
    """`METHOD endpoint` -> requests that it counted from the first to the last look."""
    indicators: list[Indicator]
    restarts: int
    memory_limit_mib: float
    """Smallest limit that a process states; 0 when none does."""
    cpu_seconds: float
    cache_hits: float
    """Share of the requests for features that a cached result or plan answered."""
    throttled_share: float | None = None
    """Share of the scheduler's periods in which a CPU limit stopped it; None when its cgroup cannot be read."""
    cpu_limit_cores: float | None = None
    spans_dropped: float = 0.0


class Machine(Struct, frozen=True):
    """The machine that generates the load."""

    cores: int
    system: str
    python: str
    pressure_before: float | None
    """Percent of 10 s in which something waited for a CPU, before the run; None without /proc/pressure/cpu."""
    pressure_after: float | None
    foreign_cores: float
    """Cores that processes outside of the test kept busy, on average over the run."""
    foreign_names: list[str]
    """The busiest of them."""
    generator_cores: float
    """Cores that the busiest process of the generator used, on average over its busiest stage."""
    calibration_seconds: float
    """CPU time of a fixed piece of work, the median over the run: the unit in which costs are compared."""
    calibration_spread: float
    """Largest over smallest of its repetitions."""


class Run(Struct, frozen=True):
    """One load test."""

    version: int
    id: str
    host: str
    service_version: str
    shape: str
    scenario: str
    scenario_digest: str
    began: float
    ended: float
    workers: int
    """Processes that generated the load."""
    stages: list[Stage]
    extractions: Extractions
    service: Service
    machine: Machine
    failures: dict[str, int]
    """Sentences about requests that did not get the answer that the test expects -> how often."""
    stopped_early: str = ""
    """Why a run until it breaks ended before its last stage."""


Record = TypeVar("Record", bound=Struct)


def write_record(path: Path, record: Struct) -> None:
    """Write a record as indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read a record. Raises BadInput, naming the file and the field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}; run `python -m loadtest run` first") from None
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"{path}: {error}") from None
