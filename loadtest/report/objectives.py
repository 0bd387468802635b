"""What a page needs to know of an SLO to draw it beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.report.document import Bound
from loadtest.report.formats import duration_ms, number


@dataclass(frozen=True, slots=True)
class Objective:
    """One SLO."""

    slo: str
    percent: float
    """How many of its events have to be good."""
    within_ms: float | None = None
    """Bound of an SLO of latency."""
    routes: tuple[str, ...] = ()
    """`METHOD endpoint` of the routes that the bound applies to."""


def percent_of(objectives: Sequence[Objective], slo: str) -> float | None:
    """Find how many percent of an SLO's events have to be good."""
    return next((objective.percent for objective in objectives if objective.slo == slo), None)


def bounds_of(objectives: Sequence[Objective], route: str) -> tuple[Bound, ...]:
    """List the bounds of a route's latency."""
    return tuple(
        Bound(objective.within_ms, f"SLO: {number(objective.percent)} % within {duration_ms(objective.within_ms)}")
        for objective in objectives
        if objective.within_ms is not None and route in objective.routes
    )
