"""The HPA model against the real controller, and how it behaves on this service's numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from loadtest.hpa.forms import read_form
from loadtest.hpa.world import Decision, Scenario, play
from tests.unit.hpa_fixtures import FILES, differences, recorded


@pytest.mark.parametrize("name", FILES)
def test_every_decision_equals_the_real_controllers(name: str) -> None:
    """Time, replicas before and after, ready pods and reason are the controller's at every sync of every scenario."""
    assert list(differences(name)) == []


def test_the_fixtures_are_whole() -> None:
    """600 scenarios that were recorded at random and 211 variations are compared, sync by sync."""
    assert [len(recorded(name)) for name in FILES] == [600, 211]
    assert sum(len(decisions) for _, decisions in recorded("decisions")) == 46_889


def played(metrics: list[dict[str, Any]], *, behavior: object = None, **fields: Any) -> list[Decision]:
    """Return the decisions for 3 to 10 replicas of this service's size."""
    spec = {"minReplicas": 3, "maxReplicas": 10, "metrics": metrics, "behavior": behavior}
    given = {
        "spec": spec, "request_cpu": "250m", "request_memory": "512Mi", "cpu_init": 60, "start": 10, "pending": 2,
    }  # fmt: skip
    return list(play(read_form({**given, **fields}, Scenario)))


def utilization(name: str, percent: int) -> dict[str, Any]:
    """Return a Resource metric."""
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def inflight(value: str) -> dict[str, Any]:
    """Return a Pods metric of requests in flight."""
    target = {"type": "AverageValue", "averageValue": value}
    return {"type": "Pods", "pods": {"metric": {"name": "inflight"}, "target": target}}


@pytest.mark.parametrize(
    ("idle", "pods"),
    [(40, 3), (58, 3), (60, 3), (61, 3), (62, 4), (65, 5), (70, 7), (71, 8), (72, 10), (79, 10), (85, 10)],
)
def test_idle_memory_keeps_the_pods_that_a_peak_brought(idle: int, pods: int) -> None:
    """A memory target of 80 % lets 10 pods go back only as far as their idle share of the request allows."""
    load = [{"memory_mib": round(512 * idle / 100)}]
    assert played([utilization("memory", 80)], replicas=10, seconds=7200, load=load)[-1].desired == pods


@pytest.mark.parametrize("idle", [58, 61])
def test_the_way_back_from_a_memory_peak_takes_half_an_hour(idle: int) -> None:
    """At 58 to 61 % each step waits for the window again: 3 pods after 1590 s, a step about every 315 s."""
    load = [{"memory_mib": round(512 * idle / 100)}]
    decisions = played([utilization("memory", 80)], replicas=10, seconds=3600, load=load)
    steps = [decision.t for decision in decisions if decision.desired < decision.current]

    assert steps[-1] == 1590
    assert {after - before for before, after in pairwise(steps)} == {315}


@pytest.mark.parametrize(("behavior", "sizes"), [(None, [6, 9, 9]), ({}, [7, 9, 9])])
def test_the_first_step_up_depends_on_a_behavior(behavior: object, sizes: list[int]) -> None:
    """Without behavior the pods double at most; with any behavior, even an empty one, 4 more are allowed."""
    fields: dict[str, Any] = {"load": [{"pods_m": {"inflight": 9_000}}], "start": 0, "pending": 0}
    decisions = played([inflight("1")], behavior=behavior, replicas=3, seconds=45, **fields)
    assert [decision.desired for decision in decisions] == sizes


@pytest.mark.parametrize(
    ("behavior", "start", "cap", "sizes"),
    [(None, 10, 0, [6, 10]), (None, 10, 500, [6, 9]), ({}, 10, 500, [7, 10]), ({}, 20, 500, [7, 9])],
)
def test_a_step_of_cpu_ends_at_9_or_10(behavior: object, start: int, cap: int, sizes: list[int]) -> None:
    """1750m at 70 % of 250m is 10 pods, but 9 are within the tolerance: the end depends on start time and CPU limit."""
    fields: dict[str, Any] = {"load": [{"cpu_m": 1750}], "start": start, "cap_m": cap}
    decisions = played([utilization("cpu", 70)], behavior=behavior, replicas=3, seconds=900, **fields)
    assert list(dict.fromkeys(decision.desired for decision in decisions)) == sizes


def test_a_load_that_waits_is_seen_by_requests_in_flight_alone() -> None:
    """60 requests in flight with little CPU leave 3 pods to CPU and memory; 8 in flight a pod brings 6, then 8."""
    load = [{"cpu_m": 120, "memory_mib": 250, "pods_m": {"inflight": 60_000}}]
    resources = [utilization("cpu", 70), utilization("memory", 80)]

    assert {d.desired for d in played(resources, replicas=3, seconds=900, load=load)} == {3}
    found = [d.desired for d in played([*resources, inflight("8")], replicas=3, seconds=900, load=load)]
    assert list(dict.fromkeys(found)) == [6, 8]


def test_while_one_metric_fails_it_scales_up_but_never_down() -> None:
    """With memory broken the load's rise brings pods, and its end takes none away until memory is back."""
    metrics = [utilization("memory", 80), inflight("8")]
    load = [
        {"at": 0, "memory_mib": 100, "pods_m": {"inflight": 60_000}, "broken": ["memory"]},
        {"at": 300, "memory_mib": 100, "pods_m": {"inflight": 0}, "broken": ["memory"]},
        {"at": 1200, "memory_mib": 100, "pods_m": {"inflight": 0}},
    ]
    decisions = played(metrics, replicas=3, seconds=1800, load=load)

    assert [d.desired for d in decisions if d.t in {300, 1195, 1800}] == [8, 3]
    assert all(d.desired == 8 for d in decisions if 60 <= d.t < 1200)
