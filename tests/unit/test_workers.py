"""Metrics of several workers, aggregated: exact, monotone, with exemplars, even when workers die."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from service.telemetry import mmap_metrics as cells_module
from service.telemetry.metrics import Metrics
from service.telemetry.mmap_metrics import MmapMetrics
from service.telemetry.workers import DeadWorkerTotals, WorkersCollector

IDENTITY = {"version": "9", "environment": "test"}
ROUTES = [("GET", "/a"), ("POST", "/b")]
EXEMPLAR = {"trace_id": "ab" * 16, "span_id": "cd" * 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the workers' metrics files."""
    return tmp_path


def registry_of(folder: Path) -> CollectorRegistry:
    """Render the exposition of any process."""
    registry = CollectorRegistry()
    registry.register(WorkersCollector(folder, **IDENTITY))
    return registry


def worker(folder: Path, name: str, pid: int) -> Metrics:
    """The metrics of one worker, as if it were a process of its own."""
    metrics = Metrics(registry_of(folder), models=["m"], store=MmapMetrics(folder, name, pid=pid), **IDENTITY)
    metrics.expect_routes(ROUTES)
    return metrics


def names(text: bytes) -> set[str]:
    """Every series, and every line about one, without values."""
    lines = (line.partition(" # ")[0] if not line.startswith("#") else line for line in text.decode().splitlines())
    kept = (line if line.startswith("#") else line.rpartition(" ")[0] for line in lines)
    return {line for line in kept if not re.match(r"(# \w+ )?(process_|python_gc)", line)}


@pytest.mark.parametrize("render", [generate_latest, openmetrics])
def test_the_exposition_is_that_of_a_single_process(folder: Path, render: type) -> None:
    """Families, help, units and series are the same for one process and for several."""
    single = Metrics(CollectorRegistry(), models=["m"], **IDENTITY)
    single.expect_routes(ROUTES)
    worker(folder, "1", 11)
    worker(folder, "2", 12)
    assert names(render(registry_of(folder))) == names(render(single.registry))


def test_counters_and_histograms_are_added(folder: Path) -> None:
    """Every worker shows the sum of all, and a dead worker's counts stay when another replaces it."""
    retired = DeadWorkerTotals(folder)
    first, second = worker(folder, "1", 11), worker(folder, "2", 12)
    for metrics, times in ((first, 3), (second, 4)):
        for _ in range(times):
            metrics.counter("api_requests_total").child("GET", "/a", "200").inc()
            metrics.histogram("api_request_duration_seconds").child("GET", "/a").observe(0.005)
    labels = {"method": "GET", "endpoint": "/a"}

    def shown(registry: CollectorRegistry) -> tuple[float | None, ...]:
        return (
            registry.get_sample_value("api_requests_total", {**labels, "status": "200"}),
            registry.get_sample_value("api_request_duration_seconds_count", labels),
            registry.get_sample_value("api_request_duration_seconds_bucket", {**labels, "le": "0.005"}),
            round(registry.get_sample_value("api_request_duration_seconds_sum", labels) or 0, 9),
        )

    assert shown(first.registry) == shown(second.registry) == (7, 7, 7, 0.035)
    retired.absorb("1", 11)
    assert shown(second.registry) == (7, 7, 7, 0.035)
    worker(folder, "1", 13).counter("api_requests_total").child("GET", "/a", "200").inc()
    retired.absorb("1", 13)
    retired.absorb("2", 12)
    assert shown(registry_of(folder)) == (8, 7, 7, 0.035)


def test_gauges_follow_the_catalog(folder: Path) -> None:
    """A gauge is the sum, maximum or minimum over living workers; a dead one's value is dropped."""
    retired = DeadWorkerTotals(folder)
    for number in (1, 2, 3):
        metrics = worker(folder, str(number), 10 + number)
        metrics.gauge("api_requests_in_flight").child().set(number)
        metrics.gauge("model_breaker_state").child("m").set(number % 3)
        metrics.gauge("dependency_up").child("database").set(number != 2)
    registry = registry_of(folder)

    def shown() -> tuple[float | None, ...]:
        return (
            registry.get_sample_value("api_requests_in_flight"),
            registry.get_sample_value("model_breaker_state", {"model": "m"}),
            registry.get_sample_value("dependency_up", {"dependency": "database"}),
        )

    assert shown() == (6, 2, 0)
    retired.absorb("2", 12)
    assert shown() == (4, 1, 1)


def test_the_newest_exemplar_is_shown(folder: Path) -> None:
    """The newest exemplar of all workers is shown, including that of a dead one."""
    retired = DeadWorkerTotals(folder)
    for number, digit in ((1, "1"), (2, "2")):
        histogram = worker(folder, str(number), 10 + number).histogram("model_request_duration_seconds")
        histogram.child("m").observe(0.3, {"trace_id": digit * 32, "span_id": digit * 16})
    retired.absorb("2", 12)
    text = openmetrics(registry_of(folder)).decode()
    assert re.findall(r'# \{span_id="(\d+)",trace_id="(\d+)"\} 0\.3 ', text) == [("2" * 16, "2" * 32)]
    worker(folder, "2", 13).histogram("event_loop_lag_seconds").child().observe(0.3, EXEMPLAR)
    assert "abab" not in openmetrics(registry_of(folder)).decode()


def test_more_series_than_a_file_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a file is full the next series go into another, and all are read."""
    monkeypatch.setattr(cells_module, "_SEGMENT_BYTES", 16_384)
    metrics = worker(folder, "1", 11)
    metrics.counter("auth_failures_total").child("missing").inc(2)
    assert len(list(folder.glob("1.11.*"))) > 1
    assert registry_of(folder).get_sample_value("auth_failures_total", {"reason": "missing"}) == 2


def test_a_counter_only_rises(folder: Path) -> None:
    """A counter refuses a negative amount."""
    with pytest.raises(ValueError, match="non-negative"):
        worker(folder, "1", 11).counter("auth_failures_total").child("missing").inc(-1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 200), max_size=50))
def test_buckets_are_the_clients(amounts: list[float]) -> None:
    """Whatever is observed lands in the buckets where the Prometheus client puts it."""
    folder = Path(tempfile.mkdtemp())
    single = Metrics(CollectorRegistry(), **IDENTITY)
    shared = worker(folder, "1", 11)
    for metrics in (single, shared):
        for amount in amounts:
            metrics.histogram("feature_extraction_duration_seconds").child("low").observe(amount)

    def lines(metrics: Metrics) -> list[str]:
        text = generate_latest(metrics.registry).decode().splitlines()
        return [line for line in text if line.startswith("feature_extraction_duration_seconds") and '"low"' in line]

    assert lines(shared) == lines(single)
    shutil.rmtree(folder)


def test_totals_never_fall_while_workers_come_and_go(folder: Path) -> None:
    """A total that is read continuously from another thread only rises, and ends at the number counted."""
    retired, registry, over = DeadWorkerTotals(folder), registry_of(folder), threading.Event()
    seen: list[float] = []

    def watch() -> None:
        while not over.is_set():
            seen.append(registry.get_sample_value("auth_failures_total", {"reason": "missing"}) or 0.0)

    watching = threading.Thread(target=watch)
    watching.start()
    dice, counted = random.Random(4), 0  # noqa: S311 -- a plan of a test
    for pid in range(100, 120):
        counter = worker(folder, "1", pid).counter("auth_failures_total").child("missing")
        for _ in range(dice.randrange(200)):
            counter.inc()
            counted += 1
        retired.absorb("1", pid)
    over.set()
    watching.join()
    assert seen == sorted(seen)
    assert registry.get_sample_value("auth_failures_total", {"reason": "missing"}) == counted


KILLED = """
import os, signal, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from service.telemetry.mmap_metrics import MmapMetrics
from service.telemetry.metrics import Metrics
folder = Path(sys.argv[1])
metrics = Metrics(CollectorRegistry(), version="9", environment="test", store=MmapMetrics(folder, "1"))
for _ in range(1000):
    metrics.counter("auth_failures_total").child("missing").inc()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing(folder: Path) -> None:
    """Other processes read everything that a process counted before kill -9."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert ended.returncode == -9
    assert registry_of(folder).get_sample_value("auth_failures_total", {"reason": "missing"}) == 1000
