"""The API benchmark in its shortest form: every kind of server starts and answers its workloads rightly."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from loadtest.benchmarks.api.measure import Sample, running
from loadtest.benchmarks.api.report import Results, render
from loadtest.benchmarks.api.stage import Stage
from loadtest.benchmarks.api.variants import VARIANTS
from tests.redis_process import needs_redis

BY_NAME = {variant.name: variant for variant in VARIANTS}
SERVER, CLIENT = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))

needs_seed = pytest.mark.skipif(
    find_spec("fastapi") is None, reason="`make bench-api` installs what the seed is made of"
)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """PostgreSQL, Redis, a model and a collector."""
    with Stage(CLIENT) as stage:
        yield stage


@needs_redis
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["litestar", "ours-100", "apart", pytest.param("seed-100", marks=needs_seed)])
def test_a_variant_answers_its_workloads(stage: Stage, name: str) -> None:
    """It starts on its core, gives the answers that are measured, and the kernel says what it took."""
    with running(BY_NAME[name], stage, SERVER) as server:
        answers = {
            workload: json.loads(server.some(workload, 4).last)
            for workload in ("status", "cached")
            if workload in server.variant.workloads
        }
        assert server.process.cpu_seconds() > 0
        assert server.process.resident_mib() > 20
        assert os.sched_getaffinity(server.process.pid) == {SERVER}
    if name == "litestar":
        assert answers == {"status": {"extraction_id": "x", "status": "completed", "progress": 100}}
        return
    status = answers["status"]["data"] if server.variant.family == "ours" else answers["status"]
    assert status["extraction_id"] in server.caller.extractions
    assert status["progress"] == 100
    features = answers["cached"]["data"]["features"]
    assert [feature["name"] for feature in features] == ["row_count", "mean_price"]
    assert answers["cached"]["data"]["extraction_id"] not in server.caller.extractions


def test_the_report_compares_rounds_pairwise_at_equal_sampling() -> None:
    """A ratio is the median of the rounds' own ratios, so that what slows a whole round down does not count."""
    results = Results()
    for ours, seed, bare in ((100.0, 700.0, 40.0), (300.0, 2100.0, 120.0), (100.0, 650.0, 45.0)):
        for name in ("ours-10", "reads-10", "no-traces"):
            results.note(name, "status", Sample(ours, 1.0, 1.0, 2.0))
        for name in ("ids-alone", "no-metrics"):
            results.note(name, "status", Sample(ours - 50.0, 1.0, 1.0, 2.0))
        results.note("seed-10", "status", Sample(seed, 1.0, 1.0, 2.0))
        results.note("seed-100", "status", Sample(seed * 2, 1.0, 1.0, 2.0))
        results.note("litestar", "status", Sample(bare, 1.0, 1.0, 2.0))
    results.ready["ours-10"] = 4.0
    assert results.gain("ours-10", "status") == 7.0
    assert results.gain("ours-100", "status") is None
    assert results.less("no-metrics") == 50.0
    text = render(results, "command", 3, 1.0)
    assert "| status reads at 10% traces, times bare Litestar ≤ 2.5 | 2.5 | met |" in text
    assert "| status reads, both at 10% traces, times cheaper than the seed design ≥ 4 | 7.0 | met |" in text
    assert "| metrics and access line, µs a request ≤ 40 | 50.0 | not met |" in text
    assert "| ready, with a worker inside, s ≤ 3 | 4.0 | not met |" in text
    assert "| a scrape, ms ≤ 10 | - | - |" in text
