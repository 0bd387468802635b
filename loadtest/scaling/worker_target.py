"""The worker's targets: how many jobs a limited worker does, and whether a queue at its target starts in time."""

from __future__ import annotations

import json
import time
import urllib.request

from msgspec import Struct

from loadtest.errors import NotMeasured
from loadtest.measure.api import Api
from loadtest.scaling.curve import Sampler
from loadtest.scaling.manifest import MIB, Deployed
from loadtest.scaling.pod import PodProcess
from loadtest.scaling.targets import Target
from loadtest.traffic.clients import DATASETS, EXTRACT
from loadtest.traffic.pool import sentences_of_the_pool, table

FRESHNESS_SECONDS = 30.0
"""Bound of the objective extraction-freshness."""
JOBS_METRIC = "extraction_queue_jobs"
AGE_METRIC = "extraction_queue_oldest_seconds"
LOOK_SECONDS = 0.5
END_TIMEOUT_SECONDS = 300.0
ROWS = 400
DATASET_ID = "worker-curve"


class WorkerCurve(Struct, frozen=True):
    """What one limited worker does."""

    jobs: int
    jobs_per_second: float
    cpu_seconds_per_job: float
    idle_memory_mib: float
    memory_mib: float
    """Highest working set."""
    throttled_share: float
    """Of the scheduler's periods, while it worked."""
    ready_seconds: float


def measure_worker(api_host: str, key: str, worker: PodProcess, jobs: int) -> WorkerCurve:
    """Fill the queue while one worker serves it, and time how fast it empties. Raises NotMeasured."""
    _post(api_host, key, f"{DATASETS}?dataset_id={DATASET_ID}", table(ROWS, 1), "text/csv")
    idle = worker.used()
    api = Api(api_host, key)
    with Sampler(worker) as sampler:
        for sentence in sentences_of_the_pool()[:jobs]:
            body = {"dataset_id": DATASET_ID, "feature_description": sentence, "quality_threshold": "low"}
            _post(api_host, key, EXTRACT, json.dumps(body).encode(), "application/json")
        first = _completed(api)
        began, used = time.monotonic(), worker.used()
        ended = _await(api, jobs)
        after = worker.used()
    done = jobs - first
    return WorkerCurve(
        jobs=jobs,
        jobs_per_second=done / (ended - began),
        cpu_seconds_per_job=(after.cpu_seconds - used.cpu_seconds) / done,
        idle_memory_mib=idle.memory / MIB,
        memory_mib=max(of.memory for _, of in sampler.samples) / MIB,
        throttled_share=(after.throttled - used.throttled) / max(1, after.periods - used.periods),
        ready_seconds=(worker.ready_at or worker.created) - worker.created,
    )


def _post(host: str, key: str, path: str, body: bytes, content_type: str) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": content_type, "Prefer": "respond-async"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(f"{host}{path}", data=body, headers=headers), timeout=30):  # noqa: S310
        pass


def _completed(api: Api) -> int:
    return sum(status == "completed" for status in api.extractions(DATASET_ID).values())


def _await(api: Api, jobs: int) -> float:
    last = time.monotonic() + END_TIMEOUT_SECONDS
    while time.monotonic() < last:
        if _completed(api) >= jobs:
            return time.monotonic()
        time.sleep(LOOK_SECONDS)
    raise NotMeasured(f"a worker did not finish {jobs} extractions in {END_TIMEOUT_SECONDS:.0f} s")


def judge_worker(deployed: Deployed, curve: WorkerCurve, sync_seconds: float) -> list[Target]:
    """Judge the queue's depth and age: what waits at the target must start before the objective's bound."""
    reaction = sync_seconds + curve.ready_seconds
    late = f"a sync and a worker's start take {reaction:.0f} s more, of {FRESHNESS_SECONDS:.0f} s that a job may wait"
    found: list[Target] = []
    for metric in deployed.spec().metrics:
        amount = metric.amount / 1000
        if metric.name == JOBS_METRIC:
            wait = amount / curve.jobs_per_second
            valid = wait + reaction <= FRESHNESS_SECONDS
            right = amount if valid else max(1, int((FRESHNESS_SECONDS - reaction) * curve.jobs_per_second))
            sentence = (
                f"{curve.jobs_per_second:.2f} jobs/s a worker start {amount:g} waiting jobs in {wait:.1f} s; {late}"
            )
            found.append(Target(JOBS_METRIC, f"{amount:g}", valid, f"{right:g}", sentence))
        elif metric.name == AGE_METRIC:
            valid = amount + reaction <= FRESHNESS_SECONDS
            right = amount if valid else max(1, int(FRESHNESS_SECONDS - reaction))
            sentence = f"the oldest job has then waited {amount:g} s; {late}"
            found.append(Target(AGE_METRIC, f"{amount:g} s", valid, f"{right:g} s", sentence))
    return found
