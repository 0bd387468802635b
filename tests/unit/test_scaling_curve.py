"""A pod's curve between, before and beyond its measured steps, and the figures of one step."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from loadtest.results import Requests, ServicePoint
from loadtest.scaling.curve import Curve, Sampler, _step, interpolated
from loadtest.scaling.limited import Used
from loadtest.scaling.manifest import MIB
from loadtest.scaling.pod import PodProcess
from tests.unit.scaling_fixtures import CURVE, RUN, STAGE, step

POINTS = [(0.0, 10.0), (10.0, 20.0), (20.0, 40.0)]


@pytest.mark.parametrize(("x", "y"), [(-5, 10), (0, 10), (5, 15), (10, 20), (15, 30), (20, 40), (30, 60)])
def test_a_line_goes_through_its_points_and_on(x: float, y: float) -> None:
    """Before the first point the line is level, and after the last it goes on as before."""
    assert interpolated(POINTS, x) == pytest.approx(y)


def test_one_point_and_two_of_one_place_give_their_value() -> None:
    """No line can be drawn through one place, so its last value holds."""
    assert interpolated([(5.0, 7.0)], 100) == 7.0
    assert interpolated([(0.0, 1.0), (5.0, 7.0), (5.0, 9.0)], 6) == 9.0


@pytest.mark.parametrize(("rate", "cores"), [(0, 0.1), (50, 0.175), (100, 0.25), (150, 0.45), (250, 0.85)])
def test_cpu_is_read_between_the_steps(rate: float, cores: float) -> None:
    """CPU starts at that of an idle pod and goes from step to step."""
    curve = replace(CURVE, idle_cpu_cores=0.1, steps=(step(100, cpu_cores=0.25), step(200, cpu_cores=0.65)))
    assert curve.cpu_at(rate) == pytest.approx(cores)


def test_memory_and_requests_in_flight_are_read_likewise() -> None:
    """Half way to the first step memory is between idle and it, and half of its requests are in flight."""
    assert CURVE.memory_under_load() == 128
    assert CURVE.in_flight_at(25) == pytest.approx(0.25)


@pytest.mark.parametrize(("cores", "rate"), [(0.0, 0), (0.175, 50), (0.35, 100), (0.525, 150), (0.875, 250)])
def test_the_rate_of_an_amount_of_cpu_is_the_inverse(cores: float, rate: float) -> None:
    """At 3.5 ms a request the rate follows from the cores, past the last good step by its line."""
    assert CURVE.rate_at_cpu(cores) == pytest.approx(rate)


def test_a_step_that_was_not_good_has_no_rate() -> None:
    """A pod that does not keep up burns CPU for little: its step is no point of the rate's line."""
    broken = step(210, good=False, cpu_cores=1.0)
    assert replace(CURVE, steps=(step(100), step(200), broken)).rate_at_cpu(1.05) == pytest.approx(300)


@pytest.mark.parametrize(
    ("steps", "knee"),
    [
        ((step(50), step(100), step(200, good=False)), 100),
        ((step(50), step(100, good=False), step(200)), 50),
        ((step(50), step(100)), 100),
        ((step(50),), 50),
        ((step(50, good=False), step(100)), 50),
    ],
)
def test_the_knee_is_the_last_step_before_the_first_bad_one(steps: tuple[Any, ...], knee: float) -> None:
    """A good step after a bad one does not count, and without a good one the first stands for the knee."""
    assert replace(CURVE, steps=steps).knee.requests_per_second == knee


def test_a_curve_of_one_step_is_a_line() -> None:
    """One good step and the idle pod give every figure."""
    one: Curve = replace(CURVE, steps=(step(50),))
    assert one.cpu_at(100) == pytest.approx(0.35)
    assert one.rate_at_cpu(0.0875) == pytest.approx(25)


def test_a_curve_without_a_good_step_serves_nothing() -> None:
    """No rate of such a pod can be relied on."""
    assert replace(CURVE, steps=(step(50, good=False),)).rate_at_cpu(0.175) == 0.0


def sampler() -> Sampler:
    """Samples of a second before the stage, its ends, and after it: half a core within it."""
    made = Sampler(cast("PodProcess", None))
    made.samples = [
        (9.0, Used(0.0, 900 * MIB, 0, 0)),
        (10.0, Used(5.0, 100 * MIB, 1000, 100)),
        (20.0, Used(9.0, 140 * MIB, 1100, 120)),
        (30.0, Used(15.0, 120 * MIB, 1200, 150)),
        (31.0, Used(99.0, 900 * MIB, 9999, 9999)),
    ]
    return made


def measured(**changes: Any) -> Any:
    """The step of a stage of 20 s with 200 reads of 5 ms and 200 uploads of 100 ms."""
    reads = Requests("GET", "/api/v1/extractions/{id}", "200", 200, {"5": 190, "40": 10})
    streams = Requests("GET", "/api/v1/extractions/{id}/events", "200", 1, {"9000": 1})
    uploads = Requests("POST", "/api/v1/datasets", "201", 199, {"100": 199})
    stage = replace(STAGE, requests=[reads, streams, uploads], **changes)
    points = [ServicePoint(at, 1, 0, 0, 0, 0, 0, 0, loop_lag_ms=lag) for at, lag in ((5, 99), (15, 2), (25, 7))]
    return _step(stage, replace(RUN, service=replace(RUN.service, points=points)), sampler(), 40.0)


def test_the_figures_of_a_step_are_those_of_its_stage() -> None:
    """CPU, throttling, memory, latency of reads and lag are taken from within the stage alone."""
    found = measured()
    assert found.clients_per_second == 10
    assert found.requests_per_second == 20
    assert found.cpu_cores == pytest.approx(0.5)
    assert found.cpu_ms_per_request == pytest.approx(25)
    assert found.throttled_share == pytest.approx(50 / 200)
    assert found.memory_mib == 140
    assert (found.p50_ms, found.p99_ms) == (5, 40)
    assert found.loop_lag_ms == 7
    assert found.in_flight == pytest.approx((190 * 5 + 10 * 40 + 9000 + 19900) / 1000 / 20)


@pytest.mark.parametrize(
    ("changes", "good", "steady"),
    [
        ({"lag_p99_ms": 100}, True, True),
        ({"lag_p99_ms": 101}, True, False),
        ({"failed": 1, "completed": 199}, True, False),
        ({"failed": 2, "completed": 198}, False, False),
        ({"achieved_rate": 9.5}, True, False),
        ({"achieved_rate": 9.4}, False, False),
    ],
)
def test_a_step_is_good_within_its_bounds(changes: dict[str, Any], good: bool, steady: bool) -> None:  # noqa: FBT001
    """A step fails above 0.5 % failed clients or below 95 % of the rate; a late generator makes it unsteady."""
    found = measured(**changes)
    assert (found.good, found.steady) == (good, steady)


def test_slow_reads_make_a_step_bad() -> None:
    """The 99th percentile of reads may be at the bound and not above it."""
    stage = replace(STAGE, requests=[Requests("GET", "/api/v1/extractions/{id}", "200", 100, {"41": 100})])
    assert not _step(stage, RUN, sampler(), 40.0).good
    assert _step(stage, RUN, sampler(), 41.0).good


def test_without_samples_a_step_has_no_cpu() -> None:
    """A stage that is shorter than the time between two samples has no difference to show."""
    empty = Sampler(cast("PodProcess", None))
    found = _step(STAGE, RUN, empty, 40.0)
    assert (found.cpu_cores, found.throttled_share, found.memory_mib) == (0.0, 0.0, 0.0)
