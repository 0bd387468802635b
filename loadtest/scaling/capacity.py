"""docs/capacity.md: how many pods for how much, by the figures of the committed proof."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from loadtest.scaling.manifest import MIB, Deployed
from loadtest.scaling.proof import Proof
from loadtest.scaling.targets import cpu_target_cores
from loadtest.scaling.worker_target import WorkerCurve

TEMPLATE = Path(__file__).with_name("capacity_template.md")
BUSY = 0.7
"""Share of a worker's time that is planned for."""
POLLS = 4
"""Requests to the API that an extraction brings with it: to ask for it, to poll, to read it, to download it."""
SESSION_CONNECTIONS = 3
"""Connections that an API process holds beside its pool: status reads, repeats, and LISTEN."""
WORKER_CONNECTIONS = 2
"""Likewise a worker: the queue's LISTEN and its heartbeat."""
SERIES = 4_000
"""Of a process (docs/measurements/day.md: the number does not grow with traffic)."""
CORE_HOUR_USD, GIB_HOUR_USD = 0.04, 0.005
"""Assumed prices, of the order that clouds ask for general-purpose machines by the hour."""
HOURS = 730
RATES = (50, 200, 500, 1000)
JOBS = (100, 1000, 10_000)


def render(proof: Proof) -> str:
    """Write the document."""
    curve, worker = proof.curve, proof.worker_curve
    target = curve.rate_at_cpu(cpu_target_cores(proof.deployed))
    return TEMPLATE.read_text(encoding="utf-8").format(
        date=proof.date,
        machine=proof.machine,
        api_limits=_limits(proof.deployed),
        worker_limits=_limits(proof.worker),
        target=f"{target:.0f}",
        utilisation=f"{100 * cpu_target_cores(proof.deployed) * 1000 / proof.deployed.resources.request_cpu_m:.0f}",
        knee=f"{curve.knee.requests_per_second:.0f}",
        cost=f"{curve.knee.cpu_ms_per_request:.1f}",
        jobs_per_second=f"{worker.jobs_per_second:.2f}",
        job_cost=f"{worker.cpu_seconds_per_job:.2f}",
        workers=_workers([worker, *proof.larger]),
        apis=_apis(proof, target),
        connections=_connections(proof, target),
        series=f"{SERIES:,}",
        core=CORE_HOUR_USD,
        gib=GIB_HOUR_USD,
        busy=f"{100 * BUSY:.0f}",
        polls=POLLS,
        ten_thousand=_ten_thousand(proof, target),
    )


def pods_for_rate(proof: Proof, rate: float) -> int:
    """Give the API pods for so many requests a second at the CPU target, never fewer than the autoscaler keeps."""
    target = proof.curve.rate_at_cpu(cpu_target_cores(proof.deployed))
    return max(proof.deployed.spec().minimum, math.ceil(rate / target))


def workers_for_jobs(curve: WorkerCurve, jobs_an_hour: float, minimum: int) -> int:
    """Give the workers for so many extractions an hour."""
    return max(minimum, math.ceil(jobs_an_hour / 3600 / (BUSY * curve.jobs_per_second)))


def _limits(deployed: Deployed) -> str:
    r = deployed.resources
    request = f"{r.request_cpu_m}m and {r.request_memory // MIB} MiB requested"
    return f"{request}, {r.limit_cpu_m}m and {r.limit_memory // MIB} MiB at most"


def _workers(curves: Sequence[WorkerCurve]) -> str:
    head = "| rows of the dataset | a worker does | CPU of one | " + " | ".join(f"{jobs:,}/h" for jobs in JOBS) + " |"
    lines = [head, "|---:" * (3 + len(JOBS)) + "|"]
    for curve in curves:
        counts = " | ".join(f"{workers_for_jobs(curve, jobs, 1)}" for jobs in JOBS)
        lines.append(
            f"| {curve.rows:,} | {curve.jobs_per_second * 3600:,.0f}/h | {curve.cpu_seconds_per_job:.2f} s | {counts} |"
        )
    return "\n".join(lines)


def _apis(proof: Proof, target: float) -> str:
    most = proof.deployed.spec().maximum
    lines = ["| requests/s | API pods | cores asked for | memory asked for | a month |", "|---:|---:|---:|---:|---:|"]
    for rate in RATES:
        pods = pods_for_rate(proof, rate)
        cores = pods * proof.deployed.resources.request_cpu_m / 1000
        gib = pods * proof.deployed.resources.request_memory / MIB / 1024
        note = "" if pods <= most else f" (above maxReplicas {most})"
        price = HOURS * (cores * CORE_HOUR_USD + gib * GIB_HOUR_USD)
        lines.append(
            f"| {rate:,} | {math.ceil(rate / target)} → {pods}{note} | {cores:.1f} | {gib:.1f} GiB | ${price:,.0f} |"
        )
    return "\n".join(lines)


def _pool(deployed: Deployed) -> int:
    return int(deployed.settings["DATABASE_POOL_SIZE"]) + int(deployed.settings["DATABASE_MAX_OVERFLOW"])


def _connections(proof: Proof, target: float) -> str:
    api, worker = _pool(proof.deployed) + SESSION_CONNECTIONS, _pool(proof.worker) + WORKER_CONNECTIONS
    pods, workers = math.ceil(1000 / target), workers_for_jobs(proof.worker_curve, 10_000, proof.worker.spec().minimum)
    most, most_workers = proof.deployed.spec().maximum, proof.worker.spec().maximum
    return (
        f"An API pod opens at most {api} ({_pool(proof.deployed)} of its pool, {SESSION_CONNECTIONS} of its own), "
        f"a worker {worker}. The manifests' maxima ({most}, {most_workers}): {most * api + most_workers * worker}. "
        f"{pods} API pods and {workers} workers: {pods * api + workers * worker}"
    )


def _ten_thousand(proof: Proof, target: float) -> str:
    workers = workers_for_jobs(proof.worker_curve, 10_000, proof.worker.spec().minimum)
    rate = 10_000 / 3600
    cores = rate * proof.worker_curve.cpu_seconds_per_job
    return (
        f"{rate:.1f} extractions a second of {proof.worker_curve.rows}-row datasets cost {cores:.1f} cores of workers "
        f"({workers} pods at {100 * BUSY:.0f} %) and {rate * POLLS:.0f} requests/s of the API "
        f"({math.ceil(rate * POLLS / target)} pods' worth)"
    )
