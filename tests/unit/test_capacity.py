"""docs/capacity.md: the figures of the committed proof, and the arithmetic on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.results import read_record
from loadtest.scaling.capacity import pods_for_rate, render, workers_for_jobs
from loadtest.scaling.proof import PROOF_FILE, Proof
from loadtest.scaling.worker_target import WorkerCurve

ROOT = Path(__file__).parents[2]
CURVE = WorkerCurve(
    rows=400,
    jobs=60,
    jobs_per_second=2.0,
    cpu_seconds_per_job=0.3,
    idle_memory_mib=120.0,
    memory_mib=180.0,
    throttled_share=0.1,
    ready_seconds=4.0,
)


@pytest.fixture(scope="module")
def proof() -> Proof:
    """The committed proof."""
    return read_record(ROOT / "docs" / "measurements" / PROOF_FILE, Proof)


def test_the_page_is_that_of_the_committed_proof(proof: Proof) -> None:
    """`python -m loadtest hpa capacity > docs/capacity.md` would change nothing."""
    assert (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8") == render(proof)


def test_no_more_pods_than_the_rate_needs_and_no_fewer_than_the_autoscaler_keeps(proof: Proof) -> None:
    """Little load gives the least pods; twice the load, at most one pod more than twice as many."""
    assert pods_for_rate(proof, 1.0) == proof.deployed.spec().minimum
    assert pods_for_rate(proof, 2000.0) <= 2 * pods_for_rate(proof, 1000.0)
    assert pods_for_rate(proof, 2000.0) >= 2 * pods_for_rate(proof, 1000.0) - 1


@pytest.mark.parametrize(("jobs", "workers"), [(0.0, 2), (5040.0, 2), (10_080.0, 2), (10_081.0, 3), (50_400.0, 10)])
def test_workers_are_busy_for_seven_tenths(jobs: float, workers: int) -> None:
    """Two jobs a second at 70 % are 5 040 an hour; one more needs another worker, and two are kept in any case."""
    assert workers_for_jobs(CURVE, jobs, 2) == workers
