"""Each target of the autoscalers is valid on a sound curve, or its sentence has the number that would be right."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from loadtest.scaling.autoscaler import Flags
from loadtest.scaling.curve import Curve
from loadtest.scaling.targets import Target, cpu_target_cores, judge_targets
from loadtest.scaling.worker_target import judge_worker
from tests.unit.scaling_fixtures import API, CURVE, TIDE, WORKER, WORKER_CURVE, step

FLAGS = Flags().faster(5)


def judged(curve: Curve = CURVE, worst: float = 100.0) -> dict[str, Target]:
    """The verdicts by metric, where new pods start while the others have so many requests a second."""
    predicted = [replace(one, requests_per_pod=worst / (1 + place)) for place, one in enumerate(TIDE)]
    return {one.metric: one for one in judge_targets(API, curve, predicted, FLAGS)}


def worker(**changes: Any) -> dict[str, Target]:
    """The verdicts on the worker's targets."""
    return {one.metric: one for one in judge_worker(WORKER, replace(WORKER_CURVE, **changes), 15.0)}


def test_the_cores_of_the_cpu_target_are_those_of_the_request() -> None:
    """70 % of 250m are 0.175 cores."""
    assert cpu_target_cores(API) == 0.175


def test_a_spec_without_cpu_has_the_default_target() -> None:
    """The API server takes 80 % when no metric is given."""
    autoscaler = {name: value for name, value in API.autoscaler.items() if name != "metrics"}
    assert cpu_target_cores(replace(API, autoscaler=autoscaler)) == 0.2


def test_sound_targets_are_valid_and_right_as_they_are() -> None:
    """On a pod that keeps up with what is asked of it each target stays as the manifest has it."""
    found = judged()
    assert all(one.valid for one in found.values())
    assert [(one.metric, one.target, one.right) for one in found.values()] == [
        ("cpu", "70 %", "70 %"), ("memory", "80 %", "80 % of 320 MiB"), ("api_requests_in_flight", "8", "8"),
    ]  # fmt: skip


def test_the_sentence_on_cpu_has_its_three_rates() -> None:
    """What a pod serves at its target, up to its knee, and at the worst moment, at the knee itself included."""
    found = judged(worst=200.0)["cpu"]
    assert found.valid
    assert "at 70 % of its request a pod serves 50 requests/s" in found.sentence
    assert "hold up to 200;" in found.sentence
    assert "asks up to 200 of one" in found.sentence


def test_a_knee_below_the_worst_moment_asks_for_a_lower_cpu_target() -> None:
    """A pod that holds its objectives up to half of what is asked of it needs half of the target."""
    found = judged(replace(CURVE, steps=(step(50), step(100), step(150, good=False))), worst=200.0)["cpu"]
    assert (found.valid, found.right) == (False, "35 %")
    assert found.sentence.endswith(": too many, and 35 % would leave room for it")


def test_idle_memory_above_the_bound_asks_for_a_larger_request() -> None:
    """At 70 % of 320 MiB ten idle pods stay at seven; 384 MiB are the next 16 of which 224 MiB are at most 60 %."""
    found = judged(replace(CURVE, rested_memory_mib=224))["memory"]
    assert (found.valid, found.right) == (False, "80 % of 384 MiB")
    assert "224 of the 320 MiB that it requests (70 %)" in found.sentence
    assert "from 10 idle pods the autoscaler comes back to 7 of 3" in found.sentence
    assert "a request of 384 MiB would not" in found.sentence


def test_idle_memory_at_the_bound_is_allowed() -> None:
    """60 % of the request let the pods go, and memory before load counts as well as after it."""
    assert judged(replace(CURVE, idle_memory_mib=192))["memory"].valid
    assert not judged(replace(CURVE, idle_memory_mib=193))["memory"].valid


def test_waiting_requests_bring_pods_that_cpu_does_not() -> None:
    """52 requests that wait are 17 of each of three pods: seven pods by a target of eight, three by CPU."""
    found = judged()["api_requests_in_flight"]
    assert "with 52 requests that wait 2.5 s for a model it asks for 7 pods, where CPU and memory stay at 3" in (
        found.sentence
    )
    assert "at its CPU target a pod has 0.5 in flight" in found.sentence


def test_a_target_below_what_cpu_bound_load_has_in_flight_is_too_low() -> None:
    """With 9.2 requests in flight at the CPU target a target of 8 acts first; twice as many, rounded up, would not."""
    steps = (step(50, in_flight=9.2), step(100, in_flight=18.4))
    found = judged(replace(CURVE, steps=steps))["api_requests_in_flight"]
    assert (found.valid, found.right) == (False, "20")
    assert found.sentence.endswith("20 would be right")


def test_a_worker_that_starts_in_time_has_valid_targets() -> None:
    """Four jobs at one a second, or one that has waited 8 s, and 21 s of reaction are within 30 s."""
    found = worker()
    jobs, age = found["extraction_queue_jobs"], found["extraction_queue_oldest_seconds"]
    assert (jobs.valid, jobs.target, jobs.right) == (True, "4", "4")
    assert "1.00 jobs/s a worker start 4 waiting jobs in 4.0 s; a sync and a worker's start take 21 s" in jobs.sentence
    assert (age.valid, age.target, age.right) == (True, "8 s", "8 s")
    assert "the oldest job has then waited 8 s; a sync and a worker's start take 21 s" in age.sentence


def test_the_objective_may_be_reached_and_not_passed() -> None:
    """A wait of exactly 30 s is allowed for both targets, one of 31 s is not."""
    assert worker(ready_seconds=7.0)["extraction_queue_oldest_seconds"].valid
    assert not worker(ready_seconds=8.0)["extraction_queue_oldest_seconds"].valid
    assert worker(ready_seconds=11.0)["extraction_queue_jobs"].valid
    assert not worker(ready_seconds=12.0)["extraction_queue_jobs"].valid


def test_a_slow_worker_needs_a_lower_depth() -> None:
    """Of the 30 s 9 remain for waiting, in which a worker with a third of a job a second starts three."""
    found = worker(jobs_per_second=1 / 3 + 0.001)["extraction_queue_jobs"]
    assert (found.valid, found.right) == (False, "3")
    assert worker(jobs_per_second=0.01)["extraction_queue_jobs"].right == "1"


def test_a_worker_that_is_slow_to_start_needs_a_lower_age() -> None:
    """With ten seconds to readiness 5 s remain for the oldest job; the target is never below one."""
    assert worker(ready_seconds=10.0)["extraction_queue_oldest_seconds"].right == "5 s"
    assert worker(ready_seconds=60.0)["extraction_queue_oldest_seconds"].right == "1 s"
