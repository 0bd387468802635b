from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, get_args, get_type_hints

import pytest
import structlog
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry
from psycopg.conninfo import conninfo_to_dict

from service.extractions.run import Ending
from service.features.events import ExtractionStarted, JobAttempted, QueueMeasured
from service.jobs.connection import connector_to
from service.jobs.queue import ProcrastinateQueue
from service.jobs.worker import JobWorker
from service.resources.runtime import Lifecycle
from service.settings import Settings
from service.telemetry import catalog
from service.telemetry.exposition import MetricsServer
from service.telemetry.metrics import Metrics
from service.telemetry.observer import TelemetryObserver


def test_outcomes_are_the_endings_of_a_run_and_its_crash() -> None:
    """The metric's outcomes are all that a run can come to, and one more for a run that came to nothing."""
    assert get_args(get_type_hints(JobAttempted)["outcome"]) == (*get_args(Ending), "crashed")


def test_both_sides_of_the_queue_have_their_span() -> None:
    """The catalog has the job's span as producer and as consumer."""
    assert [span.kind for span in catalog.SPANS if span.name == "job extract_features"] == ["PRODUCER", "CONSUMER"]


async def test_queue_takes_its_own_store_alone() -> None:
    """A unit of work of another store is a programming error that is said at once."""
    unknown: Any = object()
    with pytest.raises(TypeError, match="object"):
        await ProcrastinateQueue(NoOpTracerProvider()).enqueue(unknown, unknown)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_connections_keep_what_the_address_says(scheme: str) -> None:
    """Session settings and timeouts are added to the address; its own ones win."""
    connector = connector_to(f"{scheme}://ada:pw@db:5433/x?connect_timeout=9&options=-c%20work_mem%3D1MB")
    given = conninfo_to_dict(connector._pool_args["conninfo"])
    assert (given["host"], given["port"], given["dbname"], given["user"]) == ("db", "5433", "x", "ada")
    assert given["connect_timeout"] == "9"
    assert given["options"].endswith("-c work_mem=1MB")
    assert "statement_timeout" in given["options"]
    assert given["tcp_user_timeout"] == "30000"


def test_worker_that_was_never_started_can_be_stopped() -> None:
    """A signal that arrives before the worker runs is harmless, and it does not count as alive."""

    async def run(extraction_id: str) -> Ending:
        raise AssertionError(extraction_id)

    unused: Any = None
    worker = JobWorker(run, database_url="postgresql://x@y/z", observer=unused, tracer_provider=NoOpTracerProvider())
    worker.stop()
    assert not worker.alive


def test_settings_of_the_worker() -> None:
    """By default the API runs extractions too, eight at once, and has 25 seconds to stop."""
    settings = Settings(_env_file=None)
    assert (settings.worker_in_api, settings.worker_concurrency, settings.worker_grace_seconds) == (True, 8, 25.0)


def test_health_of_a_process_without_an_api() -> None:
    """The metrics port tells liveness and readiness at the API's paths; without a registry it has no metrics."""
    lifecycle = Lifecycle()
    server = MetricsServer(None, host="127.0.0.1", port=0, health=lifecycle)

    def ask(path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    try:
        assert ask("/health/live") == (200, b'{"status":"alive"}')
        assert ask("/health/ready") == (503, b'{"status":"starting"}')
        lifecycle.ready = True
        assert ask("/health/ready") == (200, b'{"status":"ready"}')
        lifecycle.draining = True
        assert (ask("/health/ready")[0], json.loads(ask("/health/ready")[1])) == (503, {"status": "draining"})
        assert ask("/metrics")[0] == 404
    finally:
        server.close()


def test_process_whose_worker_is_silent_is_not_ready() -> None:
    """A worker that lost its database, or whose event loop is blocked, is unavailable."""

    class Silent:
        alive = False

    silent: Any = Silent()
    assert Lifecycle(ready=True, worker=silent).readiness() == "unavailable"


def test_process_whose_engine_is_lost_is_to_be_replaced() -> None:
    """When no engine process ends any more, liveness and readiness say so."""

    class Lost:
        alive = False

    lost: Any = Lost()
    lifecycle = Lifecycle(ready=True, extracting=lost)
    assert (lifecycle.liveness(), lifecycle.readiness()) == ("stuck", "unavailable")


def test_metrics_port_of_an_api_tells_no_health() -> None:
    """Where the API tells it, the metrics port does not."""
    server = MetricsServer(CollectorRegistry(), host="127.0.0.1", port=0)
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health/ready", timeout=10)
        refused.value.close()
        assert refused.value.code == 404
    finally:
        server.close()


def observed() -> tuple[TelemetryObserver, CollectorRegistry]:
    """An observer and what it moves."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, version="1", environment="test")
    return TelemetryObserver(metrics, NoOpTracerProvider(), structlog.stdlib.get_logger("test")), registry


def test_attempts_are_counted_by_outcome() -> None:
    """Every outcome is there at 0 from the start, and an attempt moves its own by one."""
    observer, registry = observed()
    outcomes = get_args(get_type_hints(JobAttempted)["outcome"])
    before = [registry.get_sample_value("job_attempts_total", {"outcome": outcome}) for outcome in outcomes]
    assert before == [0.0] * len(outcomes)
    observer.record(JobAttempted("x", "superseded"))
    counted = {name: registry.get_sample_value("job_attempts_total", {"outcome": name}) for name in outcomes}
    assert {name for name, count in counted.items() if count} == {"superseded"}
    assert counted["superseded"] == 1.0


def test_attempt_that_is_over_is_not_active() -> None:
    """An extraction that was handed back is not active in this process any more, though it has not finished."""
    observer, registry = observed()
    observer.record(ExtractionStarted("x", "low"))
    assert registry.get_sample_value("active_extractions") == 1.0
    observer.record(JobAttempted("x", "handed_back"))
    assert registry.get_sample_value("active_extractions") == 0.0


def test_queue_is_shown_as_it_was_measured() -> None:
    """The gauges are at 0 from the start and show the last measurement."""
    observer, registry = observed()
    states = ("queued", "scheduled", "running")
    assert [registry.get_sample_value("extraction_queue_jobs", {"state": state}) for state in states] == [0.0] * 3
    assert registry.get_sample_value("extraction_queue_oldest_seconds") == 0.0
    observer.record(QueueMeasured(3, 2, 1, 4.5, 2, 7))
    assert [registry.get_sample_value("extraction_queue_jobs", {"state": state}) for state in states] == [3, 2, 1]
    assert registry.get_sample_value("extraction_queue_oldest_seconds") == 4.5
    assert registry.get_sample_value("extraction_workers") == 2
    assert registry.get_sample_value("extraction_crashes") == 7
