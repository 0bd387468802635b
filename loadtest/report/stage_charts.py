"""Charts with a place for each stage: arrival rates, status codes, and the latency of the main routes."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.report.document import LineChart, Part, Section, Series, StackedBars, Text
from loadtest.report.objectives import Objective, bounds_of
from loadtest.report.percentiles import percentile
from loadtest.report.routes import by_route, by_status, durations_of, judged, status_name, tone
from loadtest.results import Run, Stage

MAX_ROUTES = 6
MAX_STAGES = 60
"""Stages drawn, the last: a run that looks for the limit finds it there."""
MAX_STATUSES = 10
PERCENTILES = (50.0, 95.0, 99.0)


def load_section(run: Run) -> Section:
    """Show what was asked of the service, and how it answered."""
    stages = run.stages[-MAX_STAGES:]
    return Section("Load and answers", (rates(stages), statuses(stages)))


def latency_section(run: Run, objectives: Sequence[Objective]) -> Section:
    """Show the latency of each main route by stage, as clients saw it."""
    names = main_routes(run, objectives)
    if not names:
        return Section("Latency by stage", (Text("No request was measured."),))
    said = Text(
        "As clients saw it, from the moment at which a request was due. A stage without a request has no point."
    )
    return Section("Latency by stage", (said, *(latency(run.stages[-MAX_STAGES:], name, objectives) for name in names)))


def main_routes(run: Run, objectives: Sequence[Objective]) -> list[str]:
    """Choose the routes to draw: those with an SLO first, then the busiest."""
    names = [route.name for route in by_route(judged(run) or run.stages)]
    bound = [name for name in names if bounds_of(objectives, name)]
    return [*bound, *(name for name in names if name not in bound)][:MAX_ROUTES]


def rates(stages: Sequence[Stage]) -> LineChart:
    """Draw the arrival rate that was asked for, and the one that the service kept up with."""
    asked = Series("asked", tuple((float(index), stage.rate) for index, stage in enumerate(stages)), dashed=True)
    achieved = Series("achieved", tuple((float(index), stage.achieved_rate) for index, stage in enumerate(stages)))
    return LineChart(
        title="Arrival rate by stage",
        series=(achieved, asked),
        y_unit="clients/s",
        categories=_names(stages),
        note="Achieved: clients that ended, a second.",
    )


def statuses(stages: Sequence[Stage]) -> StackedBars:
    """Draw how many requests of each stage had which status; the rarest share one part."""
    counts = [by_status(stage) for stage in stages]
    totals = {status: sum(count[status] for count in counts) for count in counts for status in count}
    common = sorted(totals, key=lambda status: -totals[status])[:MAX_STATUSES]
    parts = [
        Part(status_name(status), tuple(float(count[status]) for count in counts), tone(status))
        for status in sorted(common)
    ]
    rest = tuple(float(sum(number for status, number in count.items() if status not in common)) for count in counts)
    if any(rest):
        parts.append(Part("others", rest))
    return StackedBars(
        title="Requests by status and stage",
        categories=_names(stages),
        parts=tuple(parts),
        y_unit="requests",
        note="A rare status is drawn at least two pixels high, so that it is seen.",
    )


def latency(stages: Sequence[Stage], route: str, objectives: Sequence[Objective]) -> LineChart:
    """Draw p50, p95 and p99 of one route with the bounds of its SLOs."""
    columns = [durations_of(stage, route) for stage in stages]
    series = tuple(
        Series(
            f"p{percent:g}", tuple((float(index), percentile(found, percent)) for index, found in enumerate(columns))
        )
        for percent in PERCENTILES
    )
    bounds = bounds_of(objectives, route)
    return LineChart(title=route, series=series, y_unit="ms", categories=_names(stages), bounds=bounds, log=True)


def _names(stages: Sequence[Stage]) -> tuple[str, ...]:
    """Name the stages."""
    return tuple(stage.name for stage in stages)
