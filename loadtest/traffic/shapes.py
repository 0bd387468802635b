"""Shapes of load: how the arrival rate changes over a run. Rates are multiples of the scenario's promised rate."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from loadtest.errors import BadInput
from loadtest.results import WARM_UP

MIN_STAGE_SECONDS = 1.0
UNTIL_IT_BREAKS = frozenset({"capacity", "breakpoint"})
"""Shapes that end before their last step, when the service no longer keeps up."""
MAX_STAGE_SECONDS = 7 * 24 * 3600.0
MAX_RATE = 100_000.0
"""Arrivals a second; a scenario's own rate has the same bound."""


class Step(Struct, frozen=True):
    """A stretch of the run: the rate goes steadily from `first` to `last`."""

    name: str
    seconds: float
    first: float
    """Arrivals a second."""
    last: float

    @property
    def mean(self) -> float:
        """Arrivals a second, on average."""
        return (self.first + self.last) / 2


def _flat(name: str, seconds: float, rate: float) -> Step:
    return Step(name, seconds, rate, rate)


def _smoke(rate: float, seconds: float) -> tuple[Step, ...]:
    return (_flat("smoke", seconds, rate * 3 / 4),)


def _staircase(rate: float, seconds: float) -> tuple[Step, ...]:
    return tuple(_flat(f"step-{step}", seconds, rate * step / 4) for step in range(1, 5))


def _ramp(rate: float, seconds: float) -> tuple[Step, ...]:
    return (Step("ramp", 2 * seconds, 0.0, rate), _flat("hold", seconds, rate))


def _spike(rate: float, seconds: float) -> tuple[Step, ...]:
    return (_flat("before", seconds, rate / 4), _flat("spike", seconds, rate), _flat("after", seconds, rate / 4))


def _tide(rate: float, seconds: float) -> tuple[Step, ...]:
    return (_flat("low", seconds, rate / 10), *_wave("", rate, seconds))


def _tides(rate: float, seconds: float) -> tuple[Step, ...]:
    return (*_tide(rate, seconds), *_wave("-2", rate, seconds))


def _wave(name: str, rate: float, seconds: float) -> tuple[Step, ...]:
    low = rate / 10
    rising = Step(f"rising{name}", 2 * seconds, low, rate)
    return (rising, _flat(f"high{name}", 3 * seconds, rate), _flat(f"ebb{name}", 8 * seconds, low))


def _soak(rate: float, seconds: float) -> tuple[Step, ...]:
    return tuple(_flat(f"part-{part}", 10 * seconds, rate / 2) for part in range(1, 7))


def _capacity(rate: float, seconds: float) -> tuple[Step, ...]:
    shares = (0.15, 0.3, 0.45, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
    return tuple(_flat(f"step-{share:g}", seconds, rate * share) for share in shares)


def _breakpoint(rate: float, seconds: float) -> tuple[Step, ...]:
    return tuple(_flat(f"step-{step:02d}", seconds, rate * step / 4) for step in range(2, 33, 2))


SHAPES: dict[str, tuple[str, float, Callable[[float, float], tuple[Step, ...]]]] = {
    "smoke": ("three quarters of the promised rate: does it work at all", 60.0, _smoke),
    "staircase": ("a quarter, a half, three quarters, all of the promised rate", 25.0, _staircase),
    "ramp": ("from nothing to the promised rate, and holding it", 60.0, _ramp),
    "spike": ("a quarter, suddenly all of the promised rate, a quarter again", 45.0, _spike),
    "tide": ("a tenth, all, a tenth of the promised rate: what an autoscaler has to follow", 30.0, _tide),
    "tides": ("the same, twice", 30.0, _tides),
    "soak": ("half of the promised rate for an hour: what grows, leaks or wears out", 60.0, _soak),
    "capacity": ("finely from little to eight times the promised rate, until it breaks", 20.0, _capacity),
    "breakpoint": ("twice a step further, up to eight times the promised rate, until it breaks", 20.0, _breakpoint),
}
"""Name -> what it is for, seconds of a stage, its steps."""


def steps_of(shape: str, rate: float, stage_seconds: float | None, warm_up_seconds: float) -> tuple[Step, ...]:
    """Give the steps of a shape, after a warm-up at a quarter of the rate. Raises BadInput for an unknown shape."""
    if shape not in SHAPES:
        raise BadInput(f"--shape {shape}: there is no such shape; take one of {', '.join(SHAPES)}")
    _, seconds, build = SHAPES[shape]
    stage_seconds = seconds if stage_seconds is None else stage_seconds
    if not MIN_STAGE_SECONDS <= stage_seconds <= MAX_STAGE_SECONDS:
        raise BadInput(
            f"--stage-seconds {stage_seconds}: a stage takes at least {MIN_STAGE_SECONDS:.0f} s, at most a week"
        )
    if not 0 <= warm_up_seconds <= MAX_STAGE_SECONDS:
        raise BadInput(f"--warm-up-seconds {warm_up_seconds}: 0 leaves it out, and a week is the longest")
    if not 0 < rate <= MAX_RATE:
        raise BadInput(f"--rate {rate}: clients arrive at more than 0 and at most {MAX_RATE:.0f} a second")
    warm_up = (_flat(WARM_UP, warm_up_seconds, rate / 4),) if warm_up_seconds else ()
    return (*warm_up, *build(rate, stage_seconds))
