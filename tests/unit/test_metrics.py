from __future__ import annotations

import asyncio
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry, generate_latest

from service.concurrency.deadline import deadline
from service.features import events
from service.features.errors import ComputeFailed, DeadlineExceeded, ModelUnavailable, QualityTooLow, RequestImpossible
from service.features.model import Stage
from service.telemetry import catalog
from service.telemetry.logs import Logs, configure_logging
from service.telemetry.memory import memory_limit_bytes
from service.telemetry.metrics import Metrics, exemplar_of
from service.telemetry.observer import TelemetryObserver
from service.telemetry.runtime import RuntimeMonitor

SAMPLED = SpanContext(0x1234, 0x5678, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


@pytest.fixture
def registry() -> CollectorRegistry:
    """An empty registry."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    """The catalog's metrics on the registry."""
    return Metrics(registry, version="1.2.3", environment="test", models=("builtin:planner",))


@pytest.fixture
def stream() -> io.StringIO:
    """Where the lines go."""
    return io.StringIO()


@pytest.fixture
def logs(stream: io.StringIO) -> Iterator[Logs]:
    """JSON logging onto the stream, undone afterwards."""
    logs = configure_logging(
        level="DEBUG", log_format="json", service="s", version="1", environment="test", stream=stream
    )
    yield logs
    logs.close()


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Finished spans."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    """A provider whose spans end in `spans`."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


@pytest.fixture
def observer(metrics: Metrics, provider: TracerProvider, logs: Logs) -> TelemetryObserver:
    """The observer under test."""
    return TelemetryObserver(metrics, provider, structlog.stdlib.get_logger("service.observer"))


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line, decoded."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def value(registry: CollectorRegistry, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    """A sample's value, None when there is no such series."""
    return registry.get_sample_value(name, dict(labels or {}))


class TestMetrics:
    """Series and their labels."""

    def test_every_metric_of_the_catalog_is_exported(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """The exposition names each catalog metric, and the client's own of process and interpreter."""
        text = generate_latest(registry).decode()
        for metric in catalog.METRICS:
            assert f"# HELP {metric.name} " in text
        assert "process_cpu_seconds_total " in text
        assert "python_info{" in text
        assert "python_gc_collections_total{" in text
        assert 'application_info{environment="test",version="1.2.3"} 1.0' in text

    def test_no_created_series(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """The client's `_created` series are off."""
        metrics.counter("auth_failures_total").child("missing").inc()
        assert "_created" not in generate_latest(registry).decode()

    def test_known_label_sets_start_at_zero(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """Before anything happened each known combination is exported as 0, but not a dependency's state."""
        assert value(registry, "auth_failures_total", {"reason": "expired"}) == 0
        labels = {"status": "failed", "quality_threshold": "low"}
        assert value(registry, "feature_extractions_total", labels) == 0
        assert value(registry, "model_requests_total", {"model": "builtin:planner", "status": "timeout"}) == 0
        assert value(registry, "telemetry_spans_dropped_total") == 0
        assert value(registry, "dependency_up", {"dependency": "database"}) is None

    def test_known_routes_start_at_zero(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """An expected route has success and server-error series from the start; a junk method has none."""
        metrics.expect_routes([("GET", "/items/{id}"), ("POST", "/items"), ("OPTIONS", "/items"), ("BREW", "/tea")])
        for method, endpoint, status in (
            ("GET", "/items/{id}", "200"),
            ("GET", "/items/{id}", "500"),
            ("POST", "/items", "202"),
            ("OPTIONS", "/items", "503"),
            ("GET", "unmatched", "404"),
        ):
            labels = {"method": method, "endpoint": endpoint, "status": status}
            assert value(registry, "api_requests_total", labels) == 0
        counted = {"method": "POST", "endpoint": "/items"}
        assert value(registry, "api_request_duration_seconds_count", counted) == 0
        assert "tea" not in generate_latest(registry).decode()

    def test_unknown_values_fall_into_the_labels_fallback(
        self, registry: CollectorRegistry, metrics: Metrics, logs: Logs, stream: io.StringIO
    ) -> None:
        """A value outside its closed set becomes the fallback, and each label is reported once."""
        requests = metrics.counter("api_requests_total")
        for junk in range(50):
            requests.child(f"M{junk}", f"/junk/{junk}", f"{junk}").inc()
            metrics.counter("model_requests_total").child(f"gpt-{junk}", "success").inc()
        labels = {"method": "_OTHER", "endpoint": "unmatched", "status": "other"}
        assert value(registry, "api_requests_total", labels) == 50
        assert value(registry, "model_requests_total", {"model": "other", "status": "success"}) == 50
        reported = [(line["metric"], line["label"]) for line in lines(stream)]
        assert reported == [
            ("api_requests_total", "method"),
            ("api_requests_total", "endpoint"),
            ("api_requests_total", "status"),
            ("model_requests_total", "model"),
        ]

    def test_a_fallback_is_a_known_value(self, metrics: Metrics, logs: Logs, stream: io.StringIO) -> None:
        """Counting under the fallback on purpose is not reported."""
        metrics.counter("api_requests_total").child("GET", "unmatched", "404").inc()
        assert stream.getvalue() == ""

    def test_lost_spans_are_counted(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """Tracing reports how many spans were lost."""
        metrics.spans_dropped(3)
        assert value(registry, "telemetry_spans_dropped_total") == 3

    def test_children_are_cached(self, metrics: Metrics) -> None:
        """The same labels give the same series object."""
        family = metrics.counter("auth_failures_total")
        assert family.child("missing") is family.child("missing")

    def test_bounds_are_written_as_floats(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """The bucket of the latency objective is found under le="10.0"."""
        metrics.expect_routes([("GET", "/a")])
        assert 'endpoint="/a",le="10.0",method="GET"' in generate_latest(registry).decode()


class TestExemplarOf:
    """The exemplar that links a bucket to a trace."""

    def test_sampled_span(self) -> None:
        """A sampled span gives its ids in lower-case hexadecimal, within the 128 characters that OpenMetrics allows."""
        exemplar = exemplar_of(SAMPLED)
        assert exemplar == {"trace_id": f"{0x1234:032x}", "span_id": f"{0x5678:016x}"}
        assert sum(len(name) + len(text) for name, text in exemplar.items()) == 63

    @pytest.mark.parametrize(
        "span",
        [
            SpanContext(1, 2, is_remote=False),
            trace.INVALID_SPAN.get_span_context(),
            SpanContext(0, 0, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)),
        ],
        ids=["not sampled", "no span", "invalid"],
    )
    def test_anything_else(self, span: SpanContext) -> None:
        """A span that is not exported has no exemplar, because a link to it would lead nowhere."""
        assert exemplar_of(span) is None


class TestTelemetryObserver:
    """How the domain's events change metrics."""

    def test_an_extraction(
        self, registry: CollectorRegistry, observer: TelemetryObserver, provider: TracerProvider, stream: io.StringIO
    ) -> None:
        """Start and end move the gauge, the counter and the duration with the trace as exemplar, and are logged."""
        observer.record(events.ExtractionStarted("x1", "high"))
        assert value(registry, "active_extractions") == 1
        with provider.get_tracer("t").start_as_current_span("root") as span:
            observer.record(events.ExtractionFinished("x1", "high", "completed", 3.0))
        assert value(registry, "active_extractions") == 0
        labels = {"status": "completed", "quality_threshold": "high"}
        assert value(registry, "feature_extractions_total", labels) == 1
        bucket = next(
            sample
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "feature_extraction_duration_seconds_bucket" and sample.exemplar
        )
        assert bucket.labels == {"quality_threshold": "high", "le": "5.0"}
        assert bucket.exemplar is not None
        assert bucket.exemplar.labels["trace_id"] == f"{span.get_span_context().trace_id:032x}"
        line = lines(stream)[-1]
        assert (line["message"], line["level"], line["extraction_id"]) == ("extraction finished", "info", "x1")
        assert line["duration_ms"] == 3000.0

    def test_the_wait_for_the_start(self, registry: CollectorRegistry, observer: TelemetryObserver) -> None:
        """A first attempt observes how long its extraction waited, with 30 s as a bound; a later attempt nothing."""
        observer.record(events.ExtractionStarted("x1", "high", waited=30.0))
        observer.record(events.ExtractionStarted("x2", "high", waited=30.1))
        observer.record(events.ExtractionStarted("x2", "high"))
        assert value(registry, "extraction_start_delay_seconds_bucket", {"le": "30.0"}) == 1
        assert value(registry, "extraction_start_delay_seconds_count") == 2

    @pytest.mark.parametrize(
        ("code", "status", "level"),
        [
            ("quality_too_low", "rejected", "info"),
            ("request_impossible", "rejected", "info"),
            ("compute_failed", "failed", "warning"),
            ("model_unavailable", "failed", "warning"),
            ("never_heard_of", "failed", "warning"),
        ],
    )
    def test_failures_are_distinguished(
        self,
        registry: CollectorRegistry,
        observer: TelemetryObserver,
        stream: io.StringIO,
        code: str,
        status: str,
        level: str,
    ) -> None:
        """A fault that the client can correct is rejected; the service's own is failed and uses up the budget."""
        observer.record(events.ExtractionFinished("x", "low", "failed", 0.1, failure_code=code))
        labels = {"status": status, "quality_threshold": "low"}
        assert value(registry, "feature_extractions_total", labels) == 1
        given_up = {"compute_failed": code, "model_unavailable": code, "never_heard_of": "other"}.get(code)
        letters = value(registry, "extraction_dead_letters_total", {"code": given_up or "internal_error"})
        assert letters == (1 if given_up else 0)
        assert (lines(stream)[-1]["level"], lines(stream)[-1]["failure_code"]) == (level, code)

    def test_the_gauge_survives_lost_and_repeated_events(
        self, registry: CollectorRegistry, observer: TelemetryObserver
    ) -> None:
        """An extraction that is cancelled before its start, or reported twice, leaves the gauge correct."""
        observer.record(events.ExtractionFinished("never-started", "low", "cancelled", 0.0))
        observer.record(events.ExtractionStarted("a", "low"))
        observer.record(events.ExtractionStarted("a", "low"))
        assert value(registry, "active_extractions") == 1

    def test_a_model_call(self, registry: CollectorRegistry, observer: TelemetryObserver, stream: io.StringIO) -> None:
        """A successful call counts request, tokens, cost and time, and needs no line."""
        observer.record(events.ModelCalled("builtin:planner", "success", 0.2, 10, 5, 0.5))
        assert value(registry, "model_requests_total", {"model": "builtin:planner", "status": "success"}) == 1
        assert value(registry, "model_tokens_total", {"model": "builtin:planner", "type": "input"}) == 10
        assert value(registry, "model_tokens_total", {"model": "builtin:planner", "type": "output"}) == 5
        assert value(registry, "model_cost_usd_total", {"model": "builtin:planner"}) == 0.5
        assert value(registry, "model_request_duration_seconds_sum", {"model": "builtin:planner"}) == 0.2
        assert stream.getvalue() == ""

    def test_a_failed_model_call(
        self, registry: CollectorRegistry, observer: TelemetryObserver, stream: io.StringIO
    ) -> None:
        """A failed call is counted by its outcome and logged; an unknown price adds no cost."""
        observer.record(events.ModelCalled("builtin:planner", "timeout", 30.0))
        assert value(registry, "model_requests_total", {"model": "builtin:planner", "status": "timeout"}) == 1
        assert value(registry, "model_cost_usd_total", {"model": "builtin:planner"}) == 0
        line = lines(stream)[-1]
        assert (line["message"], line["status"], line["level"]) == ("model call failed", "timeout", "warning")

    def test_the_small_events(self, registry: CollectorRegistry, observer: TelemetryObserver) -> None:
        """Each remaining event moves its own metric."""
        observer.record(events.OutputRetried("leakage"))
        observer.record(events.FeatureAssessed(0.72))
        observer.record(events.FeatureAssessed(0.1, "constant"))
        observer.record(events.RateLimitDecided("degraded"))
        observer.record(events.AuthenticationFailed("revoked"))
        observer.record(events.AuthenticationThrottled())
        observer.record(events.RequestOverShare("stream"))
        assert value(registry, "agent_output_retries_total", {"reason": "leakage"}) == 1
        assert value(registry, "feature_quality_score_count") == 2
        assert value(registry, "feature_quality_score_bucket", {"le": "0.7"}) == 1
        assert value(registry, "features_rejected_total", {"reason": "constant"}) == 1
        assert value(registry, "rate_limit_decisions_total", {"decision": "degraded"}) == 1
        assert value(registry, "auth_failures_total", {"reason": "revoked"}) == 1
        assert value(registry, "authentication_throttled_total") == 1
        kinds = ("upload", "download", "stream", "wait")
        assert [value(registry, "requests_over_share_total", {"kind": kind}) for kind in kinds] == [0, 0, 1, 0]

    def test_every_event_of_the_domain_is_understood(self, observer: TelemetryObserver) -> None:
        """No event of the domain's union lacks its recorder."""
        assert set(observer._recorders) == set(get_args(events.Event))

    def test_recording_never_raises(self, observer: TelemetryObserver, stream: io.StringIO) -> None:
        """An event that cannot be recorded is logged, and the caller does not notice."""
        observer.record(object())  # type: ignore[arg-type]
        line = lines(stream)[-1]
        assert (line["message"], line["event_type"]) == ("event not recorded", "object")
        assert line["exception"]["type"] == "builtins.KeyError"

    @pytest.mark.parametrize("stage", get_args(Stage))
    def test_a_stage(
        self, observer: TelemetryObserver, spans: InMemorySpanExporter, stream: io.StringIO, stage: Stage
    ) -> None:
        """A stage is a span of the catalog's name, current for what runs within, and its end is recorded."""
        with observer.stage("x9", stage):
            inner = trace.get_current_span().get_span_context()
        (span,) = spans.get_finished_spans()
        assert (span.name, span.attributes) == (f"extraction.{stage}", {"extraction.id": "x9"})
        assert span.context is not None
        assert span.context.span_id == inner.span_id
        assert (lines(stream)[-1]["message"], lines(stream)[-1]["stage"]) == ("stage finished", stage)

    def test_a_failed_stage(
        self, observer: TelemetryObserver, spans: InMemorySpanExporter, stream: io.StringIO
    ) -> None:
        """A failed stage marks its span with the error's type, shows nothing of its message, and is not recorded."""
        with pytest.raises(ValueError, match="cell"), observer.stage("x9", "compute"):
            raise ValueError("a cell's value: Ann")
        (span,) = spans.get_finished_spans()
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes == {"extraction.id": "x9", "error.type": "ValueError"}
        assert span.events == ()
        assert "Ann" not in span.to_json()
        assert stream.getvalue() == ""

    @pytest.mark.parametrize(
        ("error", "seconds", "fails"),
        [
            (RequestImpossible("no such column"), 60.0, False),
            (QualityTooLow("none was good"), 60.0, False),
            (asyncio.CancelledError(), 60.0, False),
            (asyncio.CancelledError(), 0.0, True),
            (DeadlineExceeded("too late"), 60.0, True),
            (ModelUnavailable("none answers"), 60.0, True),
            (ComputeFailed("it broke"), 60.0, True),
        ],
        ids=["impossible", "quality", "called off", "out of time", "deadline", "model", "compute"],
    )
    def test_only_our_faults_fail_a_stage(
        self,
        observer: TelemetryObserver,
        spans: InMemorySpanExporter,
        error: BaseException,
        seconds: float,
        *,
        fails: bool,
    ) -> None:
        """A stage that fails by the client's fault, or is cancelled, is no failed span; it has the error's type."""
        with pytest.raises(type(error)), deadline(seconds), observer.stage("x9", "plan"):
            raise error
        (span,) = spans.get_finished_spans()
        assert (span.status.status_code is StatusCode.ERROR) is fails
        assert (span.attributes or {})["error.type"] == type(error).__qualname__

    def test_without_sampling_there_is_no_exemplar(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """Under an unsampled span durations are observed without exemplar."""
        provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
        observer = TelemetryObserver(metrics, provider, structlog.stdlib.get_logger("service.observer"))
        with observer.stage("x", "plan"):
            observer.record(events.ModelCalled("builtin:planner", "success", 0.2))
        samples = [sample for family in registry.collect() for sample in family.samples]
        assert not any(sample.exemplar for sample in samples)
        assert value(registry, "model_request_duration_seconds_count", {"model": "builtin:planner"}) == 1


class TestRuntimeMonitor:
    """Measurements of the process itself."""

    async def test_refresh(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """A check that answers is up; one that raises, says False or hangs is down; the pool's numbers are taken."""

        async def fine() -> None: ...

        async def broken() -> None:
            raise OSError("connection refused")

        async def refusing() -> bool:
            return False

        async def hanging() -> None:
            await asyncio.Event().wait()

        monitor = RuntimeMonitor(
            metrics,
            checks={"database": fine, "redis": broken, "ai_model": refusing, "artifacts": hanging},
            pool=lambda: {"in_use": 3, "idle": 2},
            check_seconds=0.02,
        )
        expected = {"database": True, "redis": False, "ai_model": False, "artifacts": False}
        assert await monitor.refresh() == expected
        for name, up in expected.items():
            assert value(registry, "dependency_up", {"dependency": name}) == up
        assert value(registry, "db_pool_connections", {"state": "in_use"}) == 3
        assert value(registry, "db_pool_connections", {"state": "idle"}) == 2

    async def test_changes_are_logged_once(self, metrics: Metrics, logs: Logs, stream: io.StringIO) -> None:
        """A change of a dependency's state is logged once, not at each check."""
        answers = iter([True, False, False, True, True])

        async def check() -> bool:
            return next(answers)

        monitor = RuntimeMonitor(metrics, checks={"redis": check})
        for _ in range(5):
            await monitor.refresh()
        assert [line["message"] for line in lines(stream)] == ["dependency is unreachable", "dependency is back"]

    async def test_a_broken_pool_is_logged(self, metrics: Metrics, logs: Logs, stream: io.StringIO) -> None:
        """A pool that cannot be measured is logged and does not end the monitor."""

        def pool() -> Mapping[Any, int]:
            raise RuntimeError("closed")

        assert await RuntimeMonitor(metrics, checks={}, pool=pool).refresh() == {}
        assert lines(stream)[-1]["message"] == "pool not measured"

    async def test_it_measures_while_it_is_open(self, registry: CollectorRegistry, metrics: Metrics) -> None:
        """Inside its block it checks and measures by itself, a stalled loop shows, and its tasks end with the block."""
        checked = asyncio.Event()

        async def check() -> None:
            checked.set()

        async with RuntimeMonitor(metrics, checks={"database": check}, lag_seconds=0.01, refresh_seconds=0.01):
            await checked.wait()
            time.sleep(0.06)  # noqa: ASYNC251 -- the stall that is to be seen
            await asyncio.sleep(0.03)
            checked.clear()
            await checked.wait()
        observed = value(registry, "event_loop_lag_seconds_count") or 0
        quick = value(registry, "event_loop_lag_seconds_bucket", {"le": "0.025"}) or 0
        assert observed > quick
        assert len(asyncio.all_tasks()) == 1

    async def test_slow_gauges_keep_their_value_while_they_cannot_be_measured(
        self, registry: CollectorRegistry, metrics: Metrics
    ) -> None:
        """A slow gauge keeps its last value while its measure fails."""
        answers = iter([None, 17.0, None])
        asked = asyncio.Event()

        async def measure() -> float:
            answer = next(answers, None)
            asked.set()
            if answer is None:
                raise OSError("away")
            return answer

        name = "backup_last_success_timestamp_seconds"
        async with RuntimeMonitor(metrics, checks={}, slow_gauges={name: measure}, slow_gauge_seconds=0.01):
            for _ in range(4):
                asked.clear()
                await asked.wait()
        assert value(registry, name) == 17.0
        assert value(registry, "memory_limit_bytes") == memory_limit_bytes()


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/pod/c\n", {"pod/c/memory.max": "1000\n", "pod/memory.max": "max\n", "memory.max": "900\n"}, 900),
        ("4:memory:/a/b\n3:cpu:/a\n", {"memory/memory.limit_in_bytes": "800\n"}, 800),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("", {}, None),
    ],
)
def test_memory_limit_is_the_least_around_the_process(
    tmp_path: Path, groups: str, files: dict[str, str], limit: int | None
) -> None:
    """Limits of the process's control group and those around it count, of either version; else the machine's memory."""
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    found = memory_limit_bytes(proc=tmp_path / "cgroup", mount=tmp_path / "mount")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found == (machine if limit is None else limit)
