"""The plan of a run, made from the same few options by the process that prepares it and by every process of Locust."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from loadtest.traffic.arrivals import expected
from loadtest.traffic.pool import require_enough
from loadtest.traffic.scenario import DEFAULT, Scenario, load_scenario
from loadtest.traffic.shapes import UNTIL_IT_BREAKS, Step, steps_of

TALLY_FILE = "tally.json"
PROGRESS_FILE = "progress.json"
STOP_FILE = "stop"
"""Once it is there no more clients come, and the run ends when the last one has left."""
WARM_UP_SECONDS = 10.0
DRAIN_TIMEOUT_SECONDS = 90.0
"""After the last arrival, for the last clients to leave."""


class Options(Struct, frozen=True):
    """What a run is asked for on a command line."""

    shape: str
    run_id: str
    scenario: str = str(DEFAULT)
    rate: float | None = None
    """Arrivals a second in place of the scenario's."""
    stage_seconds: float | None = None
    warm_up_seconds: float = WARM_UP_SECONDS
    seed: int = 1
    generators: int = 1
    """Processes that share the arrivals."""


class Plan(Struct, frozen=True):
    """What the clients do."""

    options: Options
    steps: tuple[Step, ...]
    scenario: Scenario
    scenario_digest: str

    @property
    def datasets(self) -> tuple[str, ...]:
        """Ids of the datasets that are uploaded before the run."""
        return tuple(f"{self.options.run_id}-d{number}" for number in range(self.scenario.data.datasets))


def make_plan(options: Options) -> Plan:
    """Read the scenario and lay out the run. Raises BadInput for what cannot be run."""
    scenario, digest = load_scenario(Path(options.scenario))
    rate = scenario.rate if options.rate is None else options.rate
    steps = steps_of(options.shape, rate, options.stage_seconds, options.warm_up_seconds)
    if options.shape not in UNTIL_IT_BREAKS:  # which ends long before its last step
        wishes = expected(steps) * scenario.asking_share
        require_enough(scenario.data, scenario.repeat_share, wishes, options.generators)
    return Plan(options, steps, scenario, digest)


class Progress(Struct, frozen=True):
    """How far a run is; written every second."""

    at: float
    """Seconds since its start."""
    stage: str
    arrivals: int
    ended: int
    failed: int
    requests: int
    slow_requests: int
    """Requests that took longer than a second, event streams and requests for features left out."""


class Outcome(Struct, frozen=True):
    """The counts of all processes, and when the run began."""

    began: float
    """Seconds since the epoch."""
    ended: float
    workers: int
    generator_cores: float
    """Of the busiest process, over its busiest five seconds."""
    tally: dict[str, object]
    """As `Tally.dump` gives it."""
