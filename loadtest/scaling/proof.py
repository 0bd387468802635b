"""The proof of the autoscaler's targets on one machine: measure a pod, predict, scale real processes, judge."""

from __future__ import annotations

import platform
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from loadtest.errors import BadInput
from loadtest.gate import outcome_of
from loadtest.locust_processes import Say
from loadtest.measure.indicators import Slo
from loadtest.running import make_folder, new_run_id
from loadtest.scaling.autoscaler import Flags
from loadtest.scaling.curve import Curve, measure
from loadtest.scaling.judging import judge_one, judge_prediction, judge_scaling
from loadtest.scaling.limited import NoCgroups
from loadtest.scaling.live import Happening, Scaled, scale_under_load
from loadtest.scaling.manifest import Deployed, read_deployed
from loadtest.scaling.path import Moment, highest, predict, rate_at
from loadtest.scaling.pod import PodProcess, await_ready
from loadtest.scaling.stand import Stand, open_stand
from loadtest.scaling.targets import Target, cpu_target_cores, judge_targets
from loadtest.scaling.worker_target import LARGER, WorkerCurve, judge_worker, measure_worker
from loadtest.traffic.plan import Options, make_plan
from loadtest.traffic.scenario import SCENARIOS
from loadtest.traffic.shapes import Step
from loadtest.verdict import Check, Outcome

PROOF_FILE = "hpa-proof.json"
SCENARIO = SCENARIOS / "api.yaml"
START_TIMEOUT_SECONDS = 120.0
CURVE_NUMBER, WORKER_NUMBER = 240, 241
"""Of the pods that are measured alone: above those that scale."""
CLUSTER = Flags()
WAVES = {"tide": 1, "tides": 2}


class Asked(Struct, frozen=True):
    """What a proof is asked for."""

    peak_pods: float
    """Height of the tide: what so many pods at their CPU target serve, by the measured curve."""
    shape: str
    """`tide`, or `tides` for two."""
    stage_seconds: float
    """Of the tide; its parts are multiples of it."""
    curve_stage_seconds: float
    curve_rate: float
    """The staircase goes in steps of a half of it."""
    speed: float
    jobs: int
    min_scale_ins: int
    larger: bool = True
    """Whether a worker is measured on larger datasets too."""
    minimum: int | None = None
    """Replicas in place of the manifest's, for a short form on a small machine."""
    maximum: int | None = None


class Proof(Struct, frozen=True):
    """Everything that was measured and decided."""

    verdict: Outcome
    checks: list[Check]
    targets: list[Target]
    deployed: Deployed
    worker: Deployed
    curve: Curve
    worker_curve: WorkerCurve
    larger: list[WorkerCurve]
    """The same worker on larger datasets."""
    predicted: list[Moment]
    seen: list[Moment]
    happenings: list[Happening]
    asked: Asked
    peak: float
    """Requests a second at the height of the tide."""
    flags: Flags
    requests: int
    failed_requests: int
    began: float
    ended: float
    date: str
    machine: str


def prove(asked: Asked, slos: Sequence[Slo], folder: Path, say: Say) -> Proof:
    """Carry out the proof. Raises BadInput and NotMeasured."""
    began = time.time()
    api, worker = _with_replicas(read_deployed("api"), asked), read_deployed("worker")
    flags = CLUSTER.faster(asked.speed)
    with open_stand() as stand, _limited_worker(stand, worker) as job_pod:
        curve, worker_curves = _measure(stand, api, job_pod, asked, slos, folder, say=say)
        peak = asked.peak_pods * curve.rate_at_cpu(cpu_target_cores(api))
        tide = Options(
            shape=asked.shape,
            run_id=new_run_id(),
            scenario=str(SCENARIO),
            rate=peak,
            stage_seconds=asked.stage_seconds,
        )
        steps = make_plan(tide).steps
        seconds = sum(step.seconds for step in steps)
        predicted = _predicted(curve, api, flags, steps)
        say(f"predicted: up to {highest(predicted)} pods; now for real, {seconds:.0f} s")
        scaled = scale_under_load(stand, api, flags, tide, slos, make_folder(folder / "tide"), say=say)
    return _concluded(asked, api, worker, (curve, worker_curves), predicted, scaled, peak=peak, began=began)


def _predicted(curve: Curve, api: Deployed, flags: Flags, steps: Sequence[Step]) -> list[Moment]:
    """Predict the path under the tide; a client of its scenario sends one request, so arrivals are requests."""
    seconds = sum(step.seconds for step in steps)
    return predict(curve, api, flags, lambda at: rate_at(steps, at), seconds, ready_seconds=curve.ready_seconds)


def rejudge(proof: Proof) -> Proof:
    """Predict and judge again what was measured and seen, which stays as it is."""
    tide = Options(
        shape=proof.asked.shape,
        run_id="",
        scenario=str(SCENARIO),
        rate=proof.peak,
        stage_seconds=proof.asked.stage_seconds,
    )
    predicted = _predicted(proof.curve, proof.deployed, proof.flags, make_plan(tide).steps)
    targets = judge_targets(proof.deployed, proof.curve, predicted, proof.flags)
    targets += judge_worker(proof.worker, proof.worker_curve, CLUSTER.sync)
    again = [
        *(judge_one(target) for target in targets),
        *judge_prediction(proof.deployed, proof.curve, predicted, proof.seen, proof.peak, proof.flags),
    ]
    names = {check.gate for check in again}
    checks = [*again, *(check for check in proof.checks if check.gate not in names)]
    return replace(proof, verdict=outcome_of(checks), checks=checks, targets=targets, predicted=predicted)


def _with_replicas(deployed: Deployed, asked: Asked) -> Deployed:
    bounds = {"minReplicas": asked.minimum, "maxReplicas": asked.maximum}
    given = {name: value for name, value in bounds.items() if value is not None}
    return replace(deployed, autoscaler={**deployed.autoscaler, **given})


@contextmanager
def _limited_worker(stand: Stand, worker: Deployed) -> Generator[PodProcess]:
    """Run one worker within its limits, or without where there are no cgroups: the API's measurement says so."""
    try:
        pod = PodProcess(stand, worker, WORKER_NUMBER)
    except NoCgroups:
        pod = PodProcess(stand, worker, WORKER_NUMBER, limited=False)
    try:
        _require_ready(pod)
        yield pod
    finally:
        pod.kill()


def _measure(
    stand: Stand, api: Deployed, job_pod: PodProcess, asked: Asked, slos: Sequence[Slo], folder: Path, *, say: Say
) -> tuple[Curve, list[WorkerCurve]]:
    """Measure one limited worker, then one limited API pod."""
    limits = f"{job_pod.deployed.resources.limit_cpu_m}m and {api.resources.limit_cpu_m}m of CPU"
    say(f"measuring one worker and one API pod within their limits ({limits})")
    try:
        pod = PodProcess(stand, api, CURVE_NUMBER)
    except NoCgroups as error:
        raise BadInput(f"{error}; {_without_limits(stand, api, slos, folder, say)}") from None
    try:
        _require_ready(pod)
        worker_curves = [measure_worker(pod.host, stand.key, job_pod, asked.jobs)]
        say(f"a worker does {worker_curves[0].jobs_per_second:.2f} extractions a second")
        if asked.larger:
            worker_curves += [measure_worker(pod.host, stand.key, job_pod, jobs, rows) for rows, jobs in LARGER.items()]
        options = Options(
            shape="capacity",
            run_id=new_run_id(),
            scenario=str(SCENARIO),
            rate=asked.curve_rate,
            stage_seconds=asked.curve_stage_seconds,
        )
        curve, _ = measure(
            pod,
            stand.key,
            options,
            slos,
            make_folder(folder / "curve"),
            say=say,
            scrape_seconds=CLUSTER.faster(asked.speed).sync,
        )
    finally:
        pod.kill()
    say(f"a pod's objectives hold up to {curve.knee.requests_per_second:.0f} requests a second")
    return curve, worker_curves


def _without_limits(stand: Stand, api: Deployed, slos: Sequence[Slo], folder: Path, say: Say) -> str:
    """Measure a pod without limits for a few seconds, so that the message says at least what that gave."""
    pod = PodProcess(stand, api, CURVE_NUMBER, limited=False)
    try:
        _require_ready(pod)
        options = Options(
            shape="smoke", run_id=new_run_id(), scenario=str(SCENARIO), stage_seconds=5.0, warm_up_seconds=2.0
        )
        curve, _ = measure(pod, stand.key, options, slos, make_folder(folder / "unlimited"), say=say, limited=False)
    finally:
        pod.kill()
    step = curve.steps[0]
    return (
        f"without limits a pod served {step.requests_per_second:.0f} requests/s at {step.cpu_ms_per_request:.1f} ms of "
        f"CPU each (p99 {step.p99_ms:.0f} ms), which proves no target"
    )


def _require_ready(pod: PodProcess) -> None:
    if not await_ready(pod, START_TIMEOUT_SECONDS):
        raise BadInput(f"{pod.name} did not become ready: {pod.tail()}")


def _concluded(
    asked: Asked,
    api: Deployed,
    worker: Deployed,
    curves: tuple[Curve, list[WorkerCurve]],
    predicted: list[Moment],
    scaled: Scaled,
    *,
    peak: float,
    began: float,
) -> Proof:
    flags = CLUSTER.faster(asked.speed)
    curve, (worker_curve, *larger) = curves
    targets = judge_targets(api, curve, predicted, flags)
    targets += judge_worker(worker, worker_curve, CLUSTER.sync)
    checks = [
        *(judge_one(target) for target in targets),
        *judge_prediction(api, curve, predicted, scaled.path, peak, flags),
        *judge_scaling(api, scaled, asked.min_scale_ins, WAVES[asked.shape]),
    ]
    return Proof(
        verdict=outcome_of(checks),
        checks=checks,
        targets=targets,
        deployed=api,
        worker=worker,
        curve=curve,
        worker_curve=worker_curve,
        larger=larger,
        predicted=predicted,
        seen=scaled.path,
        happenings=scaled.happenings,
        asked=asked,
        peak=peak,
        flags=flags,
        requests=sum(one.count for stage in scaled.run.stages for one in stage.requests),
        failed_requests=scaled.failed_requests,
        began=began,
        ended=time.time(),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=f"{scaled.run.machine.cores} cores, {platform.system()}, Python {platform.python_version()}",
    )
