"""The verdict on a scaling run: what real pods did, against the prediction and against what clients may expect."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.results import WARM_UP, Run
from loadtest.scaling.autoscaler import Flags
from loadtest.scaling.curve import Curve
from loadtest.scaling.live import Scaled
from loadtest.scaling.manifest import Deployed
from loadtest.scaling.path import Moment, distance, highest, scale_ins, turns
from loadtest.scaling.targets import Target, cpu_target_cores
from loadtest.verdict import Check

MAX_PATH_DISTANCE = 1
PEAK_SHARE = 0.9
"""Of the capacity at the most replicas that the planned peak may take."""
MAX_LAG_MS = 150.0
"""p99 of the generator's lateness above which what clients saw was the machine's doing."""


def judge_scaling(deployed: Deployed, scaled: Scaled, min_scale_ins: int, waves: int = 1) -> list[Check]:
    """Judge what pods did under load, wherever they ran."""
    spec = deployed.spec()
    most, ins = highest(scaled.path), scale_ins(scaled.path)
    last = scaled.path[-1].desired if scaled.path else 0
    wanted = min(2 * spec.minimum, spec.maximum)
    changes, allowed = turns(scaled.path), 2 * waves - 1
    failed = scaled.failed_requests
    example = f", such as: {next(iter(scaled.run.failures))}" if failed else ""
    return [
        _check("scaled_out", most, wanted, most >= wanted, f"from {spec.minimum} pods it went to {most}"),
        _check("scale_ins", ins, min_scale_ins, ins >= min_scale_ins, f"{ins} pods were taken away under load"),
        _check("failed_requests", failed, 0, not failed, f"{failed} requests failed, scaling in included{example}"),
        _check("forced_ends", scaled.forced, 0, not scaled.forced, f"{scaled.forced} pods outlasted their grace"),
        _check("returned", last, spec.minimum, last == spec.minimum, f"after the peak it came back to {last} pods"),
        _check("oscillation", changes, allowed, changes <= allowed, f"it changed direction {changes} times"),
        _generator(scaled.run),
    ]


def judge_prediction(
    deployed: Deployed, curve: Curve, predicted: Sequence[Moment], seen: Sequence[Moment], peak: float, flags: Flags
) -> list[Check]:
    """Judge the real path against the predicted one, and the capacity against the planned peak."""
    spec = deployed.spec()
    difference = distance(seen, predicted, 2 * flags.sync)
    capacity = spec.maximum * curve.rate_at_cpu(cpu_target_cores(deployed))
    near = difference <= MAX_PATH_DISTANCE
    path = f"at most {difference} pods from the prediction within two syncs ({highest(predicted)} predicted)"
    room = f"the planned peak is {peak:.0f} requests/s; {spec.maximum} pods at their CPU target serve {capacity:.0f}"
    fits = peak <= PEAK_SHARE * capacity
    return [
        _check("replica_path", difference, MAX_PATH_DISTANCE, near, path),
        _check("head_room", round(peak, 1), round(PEAK_SHARE * capacity, 1), fits, room),
    ]


def judge_one(target: Target) -> Check:
    """Give a target's verdict as a gate."""
    name = f"target:{target.metric}"
    return Check(name, "pass" if target.valid else "fail", None, None, f"{target.target}: {target.sentence}")


def _generator(run: Run) -> Check:
    lag = max((stage.lag_p99_ms for stage in run.stages if stage.name != WARM_UP), default=0.0)
    sentence = f"the generator started clients at most {lag:.0f} ms late (p99 of its worst stage)"
    outcome = "pass" if lag <= MAX_LAG_MS else "not_measured"
    return Check("generator", outcome, lag, MAX_LAG_MS, sentence)


def _check(gate: str, measured: float, allowed: float, good: bool, sentence: str) -> Check:  # noqa: FBT001
    return Check(gate, "pass" if good else "fail", measured, allowed, sentence)
