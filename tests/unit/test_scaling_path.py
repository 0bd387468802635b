"""The predicted path of replicas for loads whose answer is plain, and the comparison of two paths."""

from __future__ import annotations

import pytest

from loadtest.scaling.autoscaler import Flags
from loadtest.scaling.path import Moment, distance, highest, predict, rate_at, replicas_at, scale_ins, turns
from loadtest.traffic.shapes import Step
from tests.unit.scaling_fixtures import API, CURVE, path

FLAGS = Flags().faster(5)


def predicted(rate: float, seconds: float = 240, **changes: float) -> list[Moment]:
    """The path under a constant rate."""
    replicas, memory = changes.get("replicas"), changes.get("memory", 96.0)
    return predict(
        CURVE,
        API,
        FLAGS,
        lambda _: rate,
        seconds,
        ready_seconds=4,
        memory_mib=memory,
        replicas=None if replicas is None else int(replicas),
    )


def test_a_low_load_stays_at_the_least_number_of_pods() -> None:
    """Thirty requests a second of three pods use a fifth of their target and change nothing."""
    found = predicted(30)
    assert {one.desired for one in found} == {3}
    assert found[-1].cpu_share == pytest.approx(0.0035 * 10 / 0.25)
    assert found[-1].requests_per_pod == pytest.approx(10)


@pytest.mark.parametrize(("rate", "pods"), [(300, 6), (400, 8), (450, 9), (2000, 10)])
def test_a_load_worth_so_many_pods_brings_them(rate: float, pods: int) -> None:
    """A pod serves 50 requests a second at its target, so 300 end at six pods, and no load at more than the most."""
    assert predicted(rate)[-1].desired == pods


def test_replicas_follow_a_load_that_comes_and_goes() -> None:
    """A tide brings six pods and, a window after its end, the path is back at three without a turn in between."""
    found = predict(CURVE, API, FLAGS, lambda at: 300.0 if 30 <= at < 90 else 0.0, 300, ready_seconds=4)
    assert (found[0].desired, highest(found), found[-1].desired) == (3, 6, 3)
    assert (scale_ins(found), turns(found)) == (3, 1)


def test_idle_memory_above_the_bound_keeps_pods() -> None:
    """Ten idle pods at 70 % of their memory's request stay above the least number: 7 * 70 / 80 is rounded up to 7."""
    assert predicted(0, 600, replicas=10, memory=0.7 * 320)[-1].desired == 7


def test_idle_memory_below_the_bound_lets_pods_go() -> None:
    """Ten idle pods at half of their memory's request come back to three."""
    assert predicted(0, 600, replicas=10, memory=0.5 * 320)[-1].desired == 3


def test_a_pod_that_starts_serves_nothing() -> None:
    """Until new pods are ready, the load is shared by those that are."""
    found = predict(CURVE, API, FLAGS, lambda _: 300.0, 30, ready_seconds=20)
    grown = [one for one in found if one.current == 6]
    assert grown[0].ready == 3
    assert grown[0].requests_per_pod == pytest.approx(100)


@pytest.mark.parametrize(
    ("moment", "rate"), [(0, 10), (5, 20), (9.9, 29.8), (10, 30), (19, 30), (20, 30), (25, 15), (30, 0), (99, 0)]
)
def test_rates_on_ramps_lie_on_the_line(moment: float, rate: float) -> None:
    """A ramp's rate is between its ends, a level's is constant, and after the last step nothing comes."""
    steps = (Step("up", 10, 10, 30), Step("level", 10, 30, 30), Step("down", 10, 30, 0))
    assert rate_at(steps, moment) == pytest.approx(rate)


@pytest.mark.parametrize(("moment", "replicas"), [(0, 3), (15, 3), (29.9, 3), (30, 6), (44, 6), (45, 8), (999, 8)])
def test_replicas_hold_from_one_decision_to_the_next(moment: float, replicas: int) -> None:
    """Before the first sync the path has what it began with, and after the last what was wanted last."""
    assert replicas_at(path(3, 6, 8), moment) == replicas


def test_equal_paths_have_no_distance() -> None:
    """A path is no pod away from itself."""
    assert distance(path(3, 6, 8, 3), path(3, 6, 8, 3), 0.0) == 0


def test_a_path_that_is_late_within_the_slack_has_no_distance() -> None:
    """A sync's delay counts as nothing when that much is allowed, and in full when not."""
    late, early = path(3, 3, 6, 8, 8), path(3, 6, 8, 8, 8)
    assert distance(late, early, 15.0) == 0
    assert distance(late, early, 0.0) == 3


def test_pods_too_many_are_the_distance() -> None:
    """Two pods more than predicted at any one time, or two fewer, are a distance of two."""
    assert distance(path(3, 8, 8, 8), path(3, 6, 6, 6), 15.0) == 2
    assert distance(path(3, 4, 4, 4), path(3, 6, 6, 6), 15.0) == 2


@pytest.mark.parametrize(
    ("replicas", "changes", "removed", "most"),
    [
        ((3, 3, 3), 0, 0, 3),
        ((3, 6, 8), 0, 0, 8),
        ((3, 6, 6, 4, 3), 1, 3, 6),
        ((3, 6, 3, 6, 3), 3, 6, 6),
        ((3, 4, 4, 3, 3, 4), 2, 1, 4),
    ],
)
def test_turns_and_pods_taken_away_are_counted(
    replicas: tuple[int, ...], changes: int, removed: int, most: int
) -> None:
    """Only changes of direction are turns, level stretches are passed over, and each pod that goes counts."""
    found = path(*replicas)
    assert (turns(found), scale_ins(found), highest(found)) == (changes, removed, most)


def test_an_empty_path_has_nothing() -> None:
    """Nothing was wanted, changed or taken away when there was no sync."""
    assert (turns([]), scale_ins([]), highest([])) == (0, 0, 0)
