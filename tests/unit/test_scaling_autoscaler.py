"""The model decides about measured pods as the controller does: numbers computed by hand from the API's manifest."""

from __future__ import annotations

import pytest

from loadtest.hpa.spec import DEFAULT_UP, SECOND, Behavior, Rules, Spec
from loadtest.scaling.autoscaler import Autoscaler, Flags, Seen, faster_spec
from loadtest.scaling.manifest import MIB
from tests.unit.scaling_fixtures import API, WORKER

NOW = 1000.0


def seen(
    cpu: float | None, count: int = 1, *, in_flight: float = 1.0, ready: bool = True, age: float = 900
) -> list[Seen]:
    """So many pods with this CPU and a third of the memory that they request."""
    memory = None if cpu is None else 100.0 * MIB
    born = NOW - age
    return [Seen(born, born + 5 if ready else None, ready, cpu, memory, in_flight if ready else None)] * count


def test_flags_of_a_faster_proof_are_divided() -> None:
    """Every period is divided, and the speed is kept for the windows of the spec."""
    assert Flags().faster(5) == Flags(3.0, 3.0, 60.0, 60.0, 6.0, 5)


def test_windows_and_periods_of_a_faster_spec_are_divided() -> None:
    """The API's 300 s and 60 s become 60 s and 12 s; values and selection stay."""
    slow, fast = API.spec().behavior, faster_spec(API.spec(), 5).behavior
    assert slow is not None
    assert fast is not None
    assert (fast.up.window, fast.down.window) == (0, 60 * SECOND)
    assert {one.period for one in fast.up.policies} == {3 * SECOND}
    assert {one.period for one in fast.down.policies} == {12 * SECOND}
    assert [(one.type, one.value) for one in fast.down.policies] == [
        (one.type, one.value) for one in slow.down.policies
    ]
    assert fast.down.select == "Min"


def test_a_window_that_is_not_given_stays_so() -> None:
    """None means the controller's own window, which the flags divide."""
    spec = Spec(1, 3, (), Behavior(DEFAULT_UP, Rules("Max", None, ())))
    fast = faster_spec(spec, 5).behavior
    assert fast is not None
    assert fast.down.window is None


def test_a_spec_without_behavior_or_of_a_cluster_stays() -> None:
    """At speed 1, and without behavior, there is nothing to divide."""
    assert faster_spec(API.spec(), 1) == API.spec()
    assert faster_spec(Spec(1, 3, ()), 5) == Spec(1, 3, ())


@pytest.mark.parametrize(
    ("pods", "desired"),
    [
        (seen(0.175, 3), 3),  # 70 % of 250m at a target of 70 %
        (seen(0.19, 3), 3),  # 76 / 70 is within the tolerance of a tenth
        (seen(0.35, 3), 6),  # 140 / 70 * 3
        (seen(0.2, 3), 4),  # 80 / 70 * 3 = 3.4
        (seen(1.0, 3), 7),  # 400 / 70 * 3 = 17.1, but at most 4 pods, or as many again, in 15 s
        (seen(0.35, 3) + seen(0.0, ready=False, age=5), 6),  # a starting pod counts as idle: 105 / 70 * 4
        (seen(0.35, 3) + seen(0.9, ready=False, age=5), 6),  # whatever it uses for its start
        (seen(0.35, 3) + seen(None), 6),  # likewise one without a sample
        (seen(0.35, 3) + seen(0.0, 5, ready=False, age=5), 8),  # 52 / 70 turns the direction: nothing changes
    ],
)  # fmt: skip
def test_cpu_decides_as_computed_by_hand(pods: list[Seen], desired: int) -> None:
    """The replicas follow from the ratio to the target, with starting and sample-less pods as damping."""
    assert Autoscaler(API, Flags()).decide(NOW, len(pods), pods).desired == desired


def test_requests_in_flight_bring_pods_when_cpu_does_not() -> None:
    """At a quarter of its CPU and 16 waiting requests, of 8 that it may have, three pods become six."""
    assert Autoscaler(API, Flags()).decide(NOW, 3, seen(0.0625, 3, in_flight=16)).desired == 6


def test_idle_pods_go_after_the_window_and_two_at_a_time() -> None:
    """A scale-down waits 300 s for a higher recommendation, then removes the smaller of half and two pods."""
    autoscaler = Autoscaler(API, Flags())
    assert [autoscaler.decide(NOW + at, 6, seen(0.01, 6)).desired for at in (0, 150, 301)] == [6, 6, 4]


def test_the_queue_of_a_worker_is_an_external_metric() -> None:
    """Twelve waiting jobs at four of a worker ask for three workers."""
    external = {"extraction_queue_jobs": 12.0, "extraction_queue_oldest_seconds": 1.0}
    assert Autoscaler(WORKER, Flags()).decide(NOW, 2, seen(0.1, 2), external).desired == 3
