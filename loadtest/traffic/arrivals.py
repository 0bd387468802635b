"""When clients arrive: an open model, in which arrivals do not depend on how fast the service answers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from loadtest.traffic.shapes import Step


class Arrival(NamedTuple):
    """A client that is due."""

    number: int
    at: float
    """Seconds since the start of the run."""
    stage: int
    """Index of the step."""


def arrivals(steps: Sequence[Step], seed: int, share: int = 0, shares: int = 1) -> Iterator[Arrival]:
    """Give the moments of a Poisson process whose rate follows the steps; the same ones for the same seed.

    With several generators each takes every `shares`-th arrival, beginning with its own `share`, so that together they
    send exactly what one would. A rate that changes within a step is met by thinning (Lewis and Shedler, 1979).
    """
    chance = random.Random(seed)  # noqa: S311 - moments of arrivals are no secret
    number, began = 0, 0.0
    for index, step in enumerate(steps):
        for moment in _within(step, chance):
            if number % shares == share:
                yield Arrival(number, began + moment, index)
            number += 1
        began += step.seconds


def _within(step: Step, chance: random.Random) -> Iterator[float]:
    highest = max(step.first, step.last)
    moment = 0.0
    while highest > 0:
        moment += chance.expovariate(highest)
        if moment >= step.seconds:
            return
        rate = step.first + (step.last - step.first) * moment / step.seconds
        if rate >= highest or chance.random() * highest < rate:
            yield moment


def expected(steps: Sequence[Step]) -> float:
    """Give the mean number of arrivals."""
    return sum(step.mean * step.seconds for step in steps)


def total_seconds(steps: Sequence[Step]) -> float:
    """Give the length of all steps together."""
    return sum(step.seconds for step in steps)
