"""Single rules of the HorizontalPodAutoscaler on numbers that were computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.hpa.algorithm import sync
from loadtest.hpa.model import Controller, Observation, Outcome, Pod, Stamped, State
from loadtest.hpa.spec import MAX_INT32, SECOND, Spec, read_spec

NOW = 10_000 * SECOND
OLD = NOW - 3600 * SECOND
PAST = State(recommendations=(Stamped(1, OLD),))
"""A controller that runs for an hour: at its first sync it would remember the replicas that it finds."""


def spec(*metrics: dict[str, Any], lowest: int = 1, highest: int = 100, **fields: Any) -> Spec:
    """Return a spec of 1 to 100 pods with these metrics."""
    return read_spec({"minReplicas": lowest, "maxReplicas": highest, "metrics": list(metrics), **fields})


def resource(name: str = "cpu", percent: int = 50) -> dict[str, Any]:
    """Return a Resource metric in per cent of the request."""
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def gauge(value: str = "10", name: str = "inflight") -> dict[str, Any]:
    """Return a Pods metric."""
    target = {"type": "AverageValue", "averageValue": value}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}


def queue(**target: str) -> dict[str, Any]:
    """Return an External metric: value or averageValue."""
    kind = {"value": "Value", "averageValue": "AverageValue"}[next(iter(target))]
    return {"type": "External", "external": {"metric": {"name": "depth"}, "target": {"type": kind, **target}}}


def pods(cpu: list[int | None], **fields: Any) -> tuple[Pod, ...]:
    """Return old ready pods with this cpu (millicores) and as many thousandths in flight; None has no sample."""
    base: dict[str, Any] = {"started": OLD, "changed": OLD, "sampled": NOW, **fields}
    found = [{} if used is None else {"cpu": used} for used in cpu]
    return tuple(Pod(usage=used, gauges={"inflight": used["cpu"]} if used else {}, **base) for used in found)


def decide(of: Spec, seen: tuple[Pod, ...], state: State | None = None, **fields: Any) -> Outcome:
    """Decide one sync of pods that request 100m, with no window downward."""
    observation = Observation(now=NOW, replicas=len(seen), pods=seen, requests={"cpu": 100}, **fields)
    return sync(of, Controller(downscale=0), observation, state or PAST)


@pytest.mark.parametrize(("used", "wanted"), [(45, 4), (44, 4), (43, 4), (55, 4), (56, 5), (37, 3), (38, 4), (100, 8)])
def test_usage_within_a_tenth_of_the_target_changes_nothing(used: int, wanted: int) -> None:
    """At a target of 50 %, 45 to 55 % stays (4 x 44/50 = 3.52 rounds up to 4 too); 56 % asks for 4.48, so 5."""
    assert decide(spec(resource()), pods([used] * 4)).desired == wanted


def test_the_edges_of_the_tolerance_are_inside() -> None:
    """20 pods stay at 45 and 55 %; 44 % asks for 17.6 and 56 % for 22.4."""
    assert [decide(spec(resource()), pods([used] * 20)).desired for used in (44, 45, 55, 56)] == [18, 20, 20, 23]


def test_before_a_scale_up_a_pod_without_a_sample_uses_nothing() -> None:
    """3 pods at 100 % and 1 without a sample are 75 % of 50 %: 1.5 x 4 = 6, not 8."""
    assert decide(spec(resource()), pods([100, 100, 100, None])).desired == 6


def test_before_a_scale_down_a_pod_without_a_sample_uses_its_request() -> None:
    """9 pods at 10 % and 1 at an assumed 100 % are 19 % of 50 %: 0.38 x 10 = 4, not 2."""
    assert decide(spec(resource()), pods([*[10] * 9, None])).desired == 4


def test_before_a_scale_down_a_gauge_without_a_sample_is_at_its_target() -> None:
    """9 pods at 1 of 10 and 1 at an assumed 10 are 1.9: 0.19 x 10 = 2."""
    assert decide(spec(gauge()), pods([*[1000] * 9, None])).desired == 2


def test_pods_without_samples_never_turn_the_direction() -> None:
    """1 pod at 60 % asks for more, 3 without a sample would make it 15 %: 4 pods stay."""
    assert decide(spec(resource()), pods([60, None, None, None])).desired == 4


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"running": False}, 4),
        ({"ready": False, "started": NOW - 10 * SECOND}, 4),
        ({"started": None}, 4),
        ({"started": NOW - 60 * SECOND, "changed": NOW - 14 * SECOND}, 4),
        ({"started": NOW - 60 * SECOND, "changed": NOW - 15 * SECOND}, 6),
        ({"ready": False, "changed": OLD + 29 * SECOND}, 4),
        ({"ready": False, "changed": OLD + 30 * SECOND}, 6),
    ],
)
def test_cpu_of_a_pod_that_starts_does_not_count(fields: dict[str, Any], wanted: int) -> None:
    """2 pods at 100 % and 1 at 90 %: 290/300 is 96 % and asks for 6; while the third starts it is 66 %, so 4."""
    assert decide(spec(resource()), (*pods([100, 100]), *pods([90], **fields))).desired == wanted


def test_a_gauge_of_a_running_pod_counts_before_it_is_ready() -> None:
    """Only CPU waits for readiness: 3 pods at 20 in flight of 10 ask for 6 though one is not ready."""
    seen = (*pods([20_000, 20_000]), *pods([20_000], ready=False, started=NOW - SECOND))
    assert decide(spec(gauge()), seen).desired == 6


def test_pods_that_are_being_deleted_do_not_count() -> None:
    """1 pod at 10 % that is leaving is not in the average of 2 at 100 %: 2 x 2 = 4."""
    assert decide(spec(resource()), (*pods([100, 100]), *pods([10], leaving=True))).desired == 4


def test_leftover_pods_do_not_turn_a_scale_down_into_a_scale_up() -> None:
    """4 pods at 20 % and 1 at an assumed 100 % are 36 of 50 %: 0.72 x 5 = 4, more than the 2 replicas, which stay."""
    seen = Observation(now=NOW, replicas=2, pods=(*pods([20] * 4), *pods([None])), requests={"cpu": 100})
    assert sync(spec(resource()), Controller(downscale=0), seen, PAST).desired == 2


def test_external_values_are_shared_by_ready_pods_or_divided_by_the_target() -> None:
    """30 of a Value of 10 is 3 x 2 ready pods of 4 = 6; 30 of an AverageValue of 10 is 3 pods."""
    seen = (*pods([0, 0]), *pods([0, 0], ready=False))
    found = [
        decide(spec(queue(**{kind: "10"})), seen, external={"depth": 30_000}) for kind in ("value", "averageValue")
    ]
    assert [outcome.desired for outcome in found] == [6, 3]


@pytest.mark.parametrize(("target", "wanted"), [("value", 2), ("averageValue", 4)])
def test_a_count_that_overflows_32_bits(target: str, wanted: int) -> None:
    """An overflow of a Value becomes the lowest integer and asks for fewer pods; an AverageValue is cut instead."""
    of = spec(queue(**{target: "1m"}), lowest=2)
    assert decide(of, pods([0, 0]), external={"depth": MAX_INT32 * 2}).desired == wanted


@pytest.mark.parametrize(("target", "wanted"), [("value", 1), ("averageValue", 4)])
def test_a_negative_external_value(target: str, wanted: int) -> None:
    """An AverageValue takes -1 for an overflow and asks for more pods, 4 at first; a Value asks for none."""
    assert decide(spec(queue(**{target: "10"})), pods([0, 0]), external={"depth": -1000}).desired == wanted


def test_the_highest_of_several_metrics_is_taken() -> None:
    """CPU asks for 4 x 2 = 8 and the queue for 6: 8."""
    assert decide(spec(resource(), queue(averageValue="10")), pods([100] * 4), external={"depth": 60_000}).desired == 8


@pytest.mark.parametrize(("used", "wanted"), [(100, 8), (10, 4)])
def test_with_a_failing_metric_it_goes_up_but_not_down(used: int, wanted: int) -> None:
    """CPU at 100 % still doubles 4 pods while the queue fails; at 10 % they stay."""
    assert decide(spec(resource(), queue(value="10")), pods([used] * 4), broken=frozenset({"depth"})).desired == wanted


@pytest.mark.parametrize(
    ("metric", "fields", "why"),
    [
        (resource(), {"broken": frozenset({"cpu"})}, "FailedGetResourceMetric"),
        (gauge(name="rps"), {}, "FailedGetPodsMetric"),
        (queue(value="1"), {}, "FailedGetExternalMetric"),
        (resource("memory"), {}, "FailedGetResourceMetric"),
    ],
)
def test_without_any_metric_nothing_changes(metric: dict[str, Any], fields: dict[str, Any], why: str) -> None:
    """An API that fails, no sample, or no value: the pods stay and the reason names the kind of metric."""
    outcome = decide(spec(metric), pods([100] * 4), **fields)
    assert (outcome.desired, outcome.why) == (4, why)


def test_utilization_without_a_request_fails() -> None:
    """Per cent of nothing cannot be computed: the pods stay."""
    seen = pods([100] * 4)
    outcome = sync(spec(resource()), Controller(), Observation(now=NOW, replicas=4, pods=seen), State())
    assert (outcome.desired, outcome.why) == (4, "FailedGetResourceMetric")


def test_a_target_without_replicas_is_left_alone() -> None:
    """Autoscaling is off while the target has 0 replicas, whatever minReplicas is."""
    outcome = decide(spec(resource(), lowest=3), ())
    assert (outcome.desired, outcome.why) == (0, "ScalingDisabled")


@pytest.mark.parametrize(("count", "wanted"), [(1, 3), (12, 10)])
def test_bounds_come_before_metrics(count: int, wanted: int) -> None:
    """Below minReplicas and above maxReplicas the pods go there at once, even without metrics."""
    of = spec(resource(), lowest=3, highest=10)
    assert decide(of, pods([None] * count)).desired == wanted


def remembered(*samples: tuple[int, int]) -> State:
    """Return a state with recommendations of so many seconds ago."""
    return State(recommendations=tuple(Stamped(replicas, NOW - ago * SECOND) for replicas, ago in samples))


@pytest.mark.parametrize(("ago", "wanted"), [(299, 8), (300, 8), (301, 2)])
def test_without_behavior_the_highest_recommendation_of_the_window_holds(ago: int, wanted: int) -> None:
    """8 pods were recommended: that holds for 300 s, the edge included."""
    observation = Observation(now=NOW, replicas=9, pods=pods([10] * 9), requests={"cpu": 100})
    assert sync(spec(resource()), Controller(), observation, remembered((8, ago))).desired == wanted


@pytest.mark.parametrize(("ago", "wanted"), [(59, 8), (60, 2)])
def test_with_behavior_the_edge_of_the_window_is_outside(ago: int, wanted: int) -> None:
    """A window of 60 s downward holds 8 pods for less than 60 s."""
    of = spec(resource(), behavior={"scaleDown": {"stabilizationWindowSeconds": 60}})
    assert decide(of, pods([10] * 9), remembered((8, ago))).desired == wanted


@pytest.mark.parametrize(("ago", "wanted"), [(59, 5), (60, 8)])
def test_a_window_upward_follows_the_lowest_recommendation(ago: int, wanted: int) -> None:
    """A window of 60 s upward holds back from 8 pods to the 5 of a moment ago."""
    of = spec(resource(), behavior={"scaleUp": {"stabilizationWindowSeconds": 60}})
    assert decide(of, pods([100] * 4), remembered((5, ago))).desired == wanted


POLICIES = [
    {"type": "Pods", "value": 2, "periodSeconds": 60},
    {"type": "Percent", "value": 30, "periodSeconds": 60},
]


@pytest.mark.parametrize(("select", "up", "down"), [("Max", 13, 7), ("Min", 12, 8), ("Disabled", 10, 10)])
def test_policies_limit_a_step(select: str, up: int, down: int) -> None:
    """From 10 pods, 2 or 30 % of them at a time: 13 and 7 by the larger step, 12 and 8 by the smaller."""
    rules = {"selectPolicy": select, "policies": POLICIES, "stabilizationWindowSeconds": 0}
    of = spec(resource(), behavior={"scaleUp": rules, "scaleDown": rules})

    assert decide(of, pods([100] * 10)).desired == up
    assert decide(of, pods([5] * 10)).desired == down


@pytest.mark.parametrize(("ago", "wanted"), [(59, 11), (60, 13)])
def test_what_was_added_in_the_period_counts(ago: int, wanted: int) -> None:
    """2 of 10 pods were added within the period: 30 % of the 8 at its start is 10.4, so 11."""
    rules = {"policies": POLICIES[1:]}
    of = spec(resource(), behavior={"scaleUp": rules, "scaleDown": rules})
    state = State(added=(Stamped(2, NOW - ago * SECOND),))
    assert decide(of, pods([100] * 10), state).desired == wanted


def test_a_policy_of_the_highest_integer_overflows_and_allows_nothing() -> None:
    """4 + 2147483647 does not fit 32 bits, so the controller sees a negative limit and stays."""
    rules = {"policies": [{"type": "Pods", "value": MAX_INT32, "periodSeconds": 60}]}
    assert decide(spec(resource(), behavior={"scaleUp": rules}), pods([100] * 4)).desired == 4


def test_the_state_is_not_changed_in_place() -> None:
    """A sync gives a new state; the old one can be used again for another forecast."""
    state = remembered((8, 10))
    before = repr(state)
    outcome = decide(spec(resource()), pods([100] * 4), state)

    assert repr(state) == before
    assert outcome.state != state


metrics_drawn = st.lists(
    st.sampled_from([resource(), resource(percent=120), gauge(), queue(value="10"), queue(averageValue="3")]),
    min_size=1,
    max_size=3,
)
behaviors = st.sampled_from([None, {}, {"scaleUp": {"policies": POLICIES}}, {"scaleDown": {"selectPolicy": "Min"}}])
usages = st.lists(st.one_of(st.none(), st.integers(0, 50_000)), min_size=2, max_size=12)


@settings(max_examples=200, deadline=None)
@given(metrics=metrics_drawn, behavior=behaviors, used=usages, depth=st.integers(0, 10**6), failing=st.booleans())
def test_bounds_and_failures_hold_for_any_numbers(
    metrics: list[dict[str, Any]], behavior: object, used: list[int | None], depth: int, *, failing: bool
) -> None:
    """The decision is within minReplicas and maxReplicas, and never lower than now while a metric fails."""
    of = spec(*metrics, *[gauge(name="away")] * failing, lowest=2, highest=12, behavior=behavior)
    outcome = decide(of, pods(used), external={"depth": depth})

    assert 2 <= outcome.desired <= 12
    assert not failing or outcome.desired >= len(used)
