"""The cost of a request against a committed baseline, in a unit that takes the machine's speed out of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from loadtest.errors import BadInput
from loadtest.results import WARM_UP, Run

BASELINE_FILE = Path(__file__).with_name("baseline.json")


class Known(Struct, frozen=True):
    """What a shape cost when the baseline was made."""

    shape: str
    scenario_digest: str
    cost: Annotated[float, Meta(gt=0)]
    """CPU time of the service for a request, in units of the calibration's."""
    cpu_milliseconds: float
    """The same on the machine of the baseline."""
    date: str
    machine: str
    rate: float
    """Clients a second, on average over what is judged: a request costs more when few share its fixed costs."""


MIN_SECONDS = 90.0
"""Of a run, below which the cost of a request is too much a matter of chance to compare anything with it."""
MAX_RATE_DIFFERENCE = 0.1
"""Of the baseline's rate, within which a run is compared with it; the moments of arrivals are a matter of chance."""


class Baseline(Struct, frozen=True):
    """The committed file."""

    runs: tuple[Known, ...] = ()

    def cost_of(self, run: Run) -> float | None:
        """Give the known cost of a run like this one."""
        for known in self.runs:
            alike = (known.shape, known.scenario_digest) == (run.shape, run.scenario_digest)
            if alike and abs(_rate(run) - known.rate) <= MAX_RATE_DIFFERENCE * known.rate:
                return known.cost
        return None

    def with_run(self, run: Run) -> Baseline:
        """Give the baseline with that run in place of an older one of its shape; a short run is not kept."""
        if _judged_seconds(run) < MIN_SECONDS:
            return self
        others = tuple(known for known in self.runs if known.shape != run.shape)
        machine = f"{run.machine.cores} cores, {run.machine.system}, Python {run.machine.python}"
        date = f"{datetime.fromtimestamp(run.began, UTC):%Y-%m-%d}"
        own = Known(
            shape=run.shape,
            scenario_digest=run.scenario_digest,
            cost=round(cost_of(run), 5),
            cpu_milliseconds=round(_cpu_ms(run), 3),
            date=date,
            machine=machine,
            rate=round(_rate(run), 3),
        )
        return Baseline((*others, own))


def cost_of(run: Run) -> float:
    """Give the service's CPU time for a request in units of a fixed piece of work on the same machine."""
    return _cpu_ms(run) / 1000 / run.machine.calibration_seconds


def _cpu_ms(run: Run) -> float:
    return 1000 * run.service.cpu_seconds / max(1.0, sum(run.service.requests.values()))


def _rate(run: Run) -> float:
    """Give the clients a second that were asked for, on average over the judged stages."""
    seconds = _judged_seconds(run)
    weighted = [stage.rate * (stage.ended - stage.began) for stage in run.stages if stage.name != WARM_UP]
    return sum(weighted) / seconds if seconds else 0.0


def _judged_seconds(run: Run) -> float:
    return sum(stage.ended - stage.began for stage in run.stages if stage.name != WARM_UP)


def load_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises BadInput, naming the file and the field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Baseline)
    except OSError as error:
        raise BadInput(f"--baseline {path}: cannot be read: {error.strerror}") from None
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"--baseline {path}: {error}") from None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline. Raises BadInput when that cannot be done."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(baseline), indent=2) + b"\n")
    except OSError as error:
        raise BadInput(f"--baseline {path}: cannot be written: {error.strerror}") from None
