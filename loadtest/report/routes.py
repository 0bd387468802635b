"""Requests of a run added up by route, by stage and by status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loadtest.report.document import Tone
from loadtest.report.percentiles import merge
from loadtest.results import NO_ANSWER, WARM_UP, Requests, Run, Stage


@dataclass(frozen=True, slots=True)
class Route:
    """Requests to one route."""

    name: str
    """`METHOD endpoint`."""
    count: int
    failures: int
    durations: Mapping[str, int]


def judged(run: Run) -> list[Stage]:
    """List the stages that a run is judged by: all but the warm-up."""
    return [stage for stage in run.stages if stage.name != WARM_UP]


def by_route(stages: Iterable[Stage]) -> list[Route]:
    """Add up the requests of each route, the busiest first."""
    groups: dict[str, list[Requests]] = {}
    for stage in stages:
        for requests in stage.requests:
            groups.setdefault(f"{requests.method} {requests.endpoint}", []).append(requests)
    routes = [_route(name, group) for name, group in groups.items()]
    return sorted(routes, key=lambda route: (-route.count, route.name))


def durations_of(stage: Stage, name: str) -> dict[str, int]:
    """Merge the durations of one route in one stage."""
    return merge(one.durations for one in stage.requests if f"{one.method} {one.endpoint}" == name)


def by_status(stage: Stage) -> Counter[str]:
    """Count a stage's requests by status."""
    counts: Counter[str] = Counter()
    for requests in stage.requests:
        counts[requests.status] += requests.count
    return counts


def tone(status: str) -> Tone:
    """Say what a status means for its client."""
    if status == NO_ANSWER:
        return "none"
    if status[:1] in {"1", "2", "3"}:
        return "good"
    return "fair" if status[:1] == "4" else "bad"


def status_name(status: str) -> str:
    """Name a status in a legend."""
    return "no answer" if status == NO_ANSWER else status


def _route(name: str, group: Sequence[Requests]) -> Route:
    """Add up the requests of one route."""
    failures = sum(requests.count for requests in group if tone(requests.status) != "good")
    count = sum(requests.count for requests in group)
    return Route(name, count, failures, merge(requests.durations for requests in group))
