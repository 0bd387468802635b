"""Every gate of a scaling run lets its bound through and nothing beyond it."""

from __future__ import annotations

from msgspec.structs import replace

from loadtest.scaling.autoscaler import Flags
from loadtest.scaling.judging import judge_one, judge_prediction, judge_scaling
from loadtest.scaling.live import Scaled
from loadtest.scaling.targets import Target
from loadtest.verdict import Check
from tests.unit.scaling_fixtures import API, CURVE, RUN, STAGE, TIDE, path, scaled


def gate(name: str, seen: Scaled, *, waves: int = 1, min_scale_ins: int = 5) -> Check:
    """One gate of a run."""
    return {one.gate: one for one in judge_scaling(API, seen, min_scale_ins, waves)}[name]


def predicted(name: str, seen: Scaled, peak: float = 400.0) -> Check:
    """One gate of a run against its prediction."""
    return {one.gate: one for one in judge_prediction(API, CURVE, TIDE, seen.path, peak, Flags())}[name]


def test_a_sound_run_passes_every_gate() -> None:
    """From three pods to eight and back, without a failed request, nothing is held against a run."""
    found = judge_scaling(API, scaled(), 5)
    assert {one.outcome for one in found} == {"pass"}
    assert [one.gate for one in found] == [
        "scaled_out", "scale_ins", "failed_requests", "forced_ends", "returned", "oscillation", "generator",
    ]  # fmt: skip


def test_twice_the_least_number_is_scaled_out() -> None:
    """Six of three pods are enough, five are not."""
    assert gate("scaled_out", scaled(path(3, 6, 3))).outcome == "pass"
    failed = gate("scaled_out", scaled(path(3, 5, 3)))
    assert (failed.outcome, failed.measured, failed.allowed) == ("fail", 5, 6)


def test_a_short_form_scales_out_to_its_maximum() -> None:
    """With one to three pods two are asked for; with three to four no more than four."""
    small = replace(API, autoscaler={**API.autoscaler, "maxReplicas": 4})
    [first, *_] = judge_scaling(small, scaled(path(3, 4, 3)), 1)
    assert (first.outcome, first.allowed) == ("pass", 4)


def test_pods_have_to_be_taken_away_under_load() -> None:
    """Five of five are enough, five of six are not."""
    assert gate("scale_ins", scaled()).outcome == "pass"
    assert gate("scale_ins", scaled(), min_scale_ins=6).outcome == "fail"


def test_one_failed_request_fails_and_is_named() -> None:
    """Not one request may fail, and the sentence has an example."""
    failed = gate("failed_requests", scaled(failures={"GET /x answered 502": 1}))
    assert (failed.outcome, failed.measured) == ("fail", 1)
    assert failed.sentence.startswith("1 requests failed")
    assert failed.sentence.endswith("such as: GET /x answered 502")


def test_a_pod_that_outlasts_its_grace_fails() -> None:
    """Not one pod may be killed."""
    assert gate("forced_ends", scaled()).outcome == "pass"
    assert gate("forced_ends", scaled(forced=1)).outcome == "fail"


def test_a_run_has_to_come_back() -> None:
    """The last decision has to be the least number of pods; without any decision it is none."""
    assert gate("returned", scaled()).outcome == "pass"
    assert gate("returned", scaled(path(3, 8, 4))).outcome == "fail"
    assert gate("returned", scaled([])).outcome == "fail"


def test_each_wave_may_turn_once_and_once_more_to_the_next() -> None:
    """One wave turns once; two waves turn three times, and a fourth time is an oscillation."""
    two = scaled(path(3, 6, 3, 6, 3))
    assert gate("oscillation", scaled()).outcome == "pass"
    assert gate("oscillation", two).outcome == "fail"
    assert gate("oscillation", two, waves=2).outcome == "pass"
    assert gate("oscillation", scaled(path(3, 6, 3, 6, 3, 4)), waves=2).outcome == "fail"


def test_a_late_generator_measured_nothing() -> None:
    """150 ms are the bound, the warm-up is not looked at, and what is above it is no verdict on the service."""
    late = replace(scaled(), run=replace(RUN, stages=[replace(STAGE, lag_p99_ms=151)]))
    assert gate("generator", scaled()).measured == 150
    assert gate("generator", scaled()).outcome == "pass"
    assert gate("generator", late).outcome == "not_measured"


def test_a_path_may_be_one_pod_from_its_prediction() -> None:
    """A pod more than predicted is allowed, two are not."""
    assert predicted("replica_path", scaled()).measured == 0
    assert predicted("replica_path", scaled(path(3, 6, 9, 6, 4, 3))).outcome == "pass"
    assert predicted("replica_path", scaled(path(3, 6, 10, 6, 4, 3))).outcome == "fail"


def test_the_peak_has_to_leave_room() -> None:
    """Ten pods at their CPU target serve 500 requests a second: 450 of them may be planned."""
    assert predicted("head_room", scaled(), 449.9).outcome == "pass"
    failed = predicted("head_room", scaled(), 451)
    assert (failed.outcome, failed.measured, failed.allowed) == ("fail", 451, 450)


def test_a_target_is_a_gate_of_its_own() -> None:
    """An invalid target fails under its metric's name, with its sentence."""
    valid = judge_one(Target("cpu", "70 %", valid=True, right="70 %", sentence="holds"))
    invalid = judge_one(Target("cpu", "70 %", valid=False, right="35 %", sentence="too many"))
    assert (valid.gate, valid.outcome, valid.sentence) == ("target:cpu", "pass", "70 %: holds")
    assert (invalid.outcome, invalid.sentence) == ("fail", "70 %: too many")
