"""docs/capacity.md: how many pods for how much, by the figures of the committed proof."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadtest.scaling.manifest import MIB, Deployed
from loadtest.scaling.proof import Proof
from loadtest.scaling.targets import cpu_target_cores
from loadtest.scaling.worker_target import WorkerCurve

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
LANE_SECONDS = 3600


def render(proof: Proof) -> str:
    """Write the document."""
    curve, worker = proof.curve, proof.worker_curve
    target = curve.rate_at_cpu(cpu_target_cores(proof.deployed))
    return TEMPLATE.format(
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
    return (
        f"An API pod opens at most {api} ({_pool(proof.deployed)} of its pool, {SESSION_CONNECTIONS} of its own), a worker "
        f"{worker}. {proof.deployed.spec().maximum} and {proof.worker.spec().maximum} pods, the manifests' maxima: "
        f"{proof.deployed.spec().maximum * api + proof.worker.spec().maximum * worker}. {pods} API pods and {workers} workers: "
        f"{pods * api + workers * worker}"
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


TEMPLATE = """# Capacity

How many pods for how much, by the curve of [one limited pod](measurements/hpa-proof.md) ({date}; {machine}). Written by
`python -m loadtest hpa capacity`; a test compares it with the committed proof. Measure on your own machines before you buy: `make hpa-proof`.

## What was measured

- An API pod ({api_limits}) serves {target} requests/s of reads at its autoscaler's target of {utilisation} % of the requested CPU, and up to {knee} requests/s
  before its objectives are missed, where a request costs {cost} ms of CPU.
- A worker ({worker_limits}) does {jobs_per_second} extractions a second of small datasets; one costs {job_cost} s of CPU, the built-in planner's
  included.

## Pods for reads

{apis}

Prices are assumed (${core} a core-hour, ${gib} a GiB-hour) and for the API pods alone. The arrow: what the load needs → what the autoscaler keeps.

## Workers for extractions

{workers}

Workers that are busy {busy} % of the time. Above some 100,000 rows the time goes into reading and aggregating, and grows with rows × features. An
extraction brings about {polls} requests to the API with it.

## What is short first, and what then

| at | short | arithmetic | what replaces it |
|---|---|---|---|
| one pod | CPU of its one Python process | {knee} requests/s at {cost} ms | more pods; `WORKERS` only where pods cannot be |
| maxReplicas | the autoscaler's bound | the table above | raise it, after the next line |
| some 200 connections | PostgreSQL's connections, a process each | {connections} | PgBouncer in session mode bounds and queues them; status reads already share one connection a process |
| 1,000 requests/s | LISTEN/NOTIFY: every API process hears of every extraction's progress | extractions/s × some 4 notices × API pods wake-ups a second | fewer notices (progress at most once a second), then a channel for each shard of owners |
| 1,000 requests/s | Redis | a rate-limit script a request, one or two look-ups a plan: some 2,000 operations/s of the 50,000 and more of one core | nothing yet; a cluster by key after that |
| 10,000 extractions/h | workers, then the queue's table | {ten_thousand} | more workers; the queue takes some 1,000 jobs/s of one PostgreSQL before its index churn shows |
| 10,000 extractions/h | the object store | some 3 PUT and 2 GET an extraction: 14 requests/s of the 3,500 PUT/s of one S3 prefix | nothing |
| 100 pods | Prometheus | {series} series a process: 400,000 for 100 | fewer replicas of larger pods; recording rules instead of raw series in boards |

- **CPU grows with requests** and is what the API's autoscaler sees. **Waiting grows with the model's latency** and is what requests in flight are for: at
  2.5 s a plan, 60 synchronous requests in flight are 24 a second and no CPU. **Memory does not grow with load**: an idle pod and a busy one differ by
  some tens of MiB, so memory as a target only guards against leaks, and its request must stay above idle / 0.6.
- **Uploads** are read by a process apart, one at a time for each pod (`concurrency=1` in `base/api.env`): pods bound them, not CPU.
- **One database** is the end of this design: at 1,000 requests/s, status reads are batched to some hundred statements a second. Beyond it owners are
  sharded over databases, or status moves to a replica, which nothing here does.
"""
