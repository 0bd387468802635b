from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import SimpleNamespace

import pytest
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, StaticSampler
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry import tracing
from service.telemetry.logs import configure_logging
from service.telemetry.tracing import Tracing, open_tracing

Open = Callable[..., Tracing]


class Stuck(SpanExporter):
    """A collector that takes the first batch and never answers until the exporter is shut down."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.shutdowns = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take a batch."""
        self.entered.set()
        self.released.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Release a waiting export."""
        self.shutdowns += 1
        self.released.set()


class Failing(SpanExporter):
    """An unreachable collector: fails, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take a batch."""
        if self.error:
            raise self.error
        return SpanExportResult.FAILURE


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The OTEL_* variables and the global propagator are as before after each test, and none is set at its start."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OTEL_")}
    propagator: TextMapPropagator = propagate.get_global_textmap()
    yield
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    os.environ.update(before)
    propagate.set_global_textmap(propagator)


@pytest.fixture
def lost() -> list[int]:
    """Each reported loss."""
    return []


@pytest.fixture
def tracing_of(lost: list[int]) -> Iterator[Open]:
    """Opens tracing that counts its losses in `lost`, and ends it afterwards."""
    opened: list[Tracing] = []

    def make(**options: object) -> Tracing:
        given = {
            "service_namespace": "house",
            "service_name": "svc",
            "version": "9",
            "environment": "test",
            "enabled": True,
            "on_dropped": lost.append,
        }
        opened.append(open_tracing(**{**given, **options}))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for each in opened:
        each.shutdown(timeout=0.2)


def span(tracing: Tracing, name: str = "work") -> None:
    """Make one span."""
    with tracing.provider.get_tracer("t").start_as_current_span(name):
        pass


def exporters(tracing: Tracing) -> list[SpanExporter]:
    """The exporters behind the processors."""
    return [processor._counted._exporter for processor in tracing._processors]


class TestConfiguration:
    """The effect of arguments and environment."""

    def test_spans_carry_the_service(self, tracing_of: Open) -> None:
        """A span is exported once flushed, with namespace, name, version and environment of the service."""
        memory = InMemorySpanExporter()
        tracing = tracing_of(exporters=[memory])
        span(tracing)
        assert tracing.force_flush()
        (exported,) = memory.get_finished_spans()
        attributes = exported.resource.attributes
        assert (attributes["service.namespace"], attributes["service.name"]) == ("house", "svc")
        assert attributes["service.version"] == "9"
        assert attributes["deployment.environment.name"] == "test"

    def test_standard_variables_win(self, tracing_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """OTEL_SERVICE_NAME, resource attributes and the sampler are taken from the environment."""
        monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=ml")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.0")
        memory = InMemorySpanExporter()
        tracing = tracing_of(exporters=[memory])
        assert tracing.provider.resource.attributes["service.name"] == "other"
        assert tracing.provider.resource.attributes["team"] == "ml"
        span(tracing)
        tracing.force_flush()
        assert memory.get_finished_spans() == ()

    def test_the_default_sampler_takes_all(self, tracing_of: Open) -> None:
        """Without a setting every root is sampled, and children follow their parent."""
        description = tracing_of(exporters=[]).provider.sampler.get_description()
        assert description.startswith("ParentBased{root:AlwaysOnSampler")

    @pytest.mark.parametrize(
        ("endpoint", "url"),
        [
            ("http://jaeger:4318", "http://jaeger:4318/v1/traces"),
            ("http://jaeger:4318/", "http://jaeger:4318/v1/traces"),
            ("http://jaeger:4318/otlp/v1/traces", "http://jaeger:4318/otlp/v1/traces"),
        ],
    )
    def test_the_collectors_address(self, tracing_of: Open, endpoint: str, url: str) -> None:
        """A collector's address without a path gets the path of OTLP's traces; one with a path is taken as it is."""
        (exporter,) = exporters(tracing_of(endpoint=endpoint))
        assert isinstance(exporter, OTLPSpanExporter)
        assert exporter._endpoint == url

    def test_no_address_leaves_it_to_the_environment(self, tracing_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an address the standard variable names the collector."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:9999")
        (exporter,) = exporters(tracing_of())
        assert isinstance(exporter, OTLPSpanExporter)
        assert exporter._endpoint == "http://collector:9999/v1/traces"

    def test_other_exporters_by_name(self, tracing_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """OTEL_TRACES_EXPORTER chooses: the console, or none."""
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
        (exporter,) = exporters(tracing_of(endpoint="http://jaeger:4318"))
        assert isinstance(exporter, ConsoleSpanExporter)
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
        assert exporters(tracing_of()) == []

    def test_a_protocol_that_is_not_installed(self, tracing_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """The protocol gRPC is refused at start by name, rather than tracing being off in silence."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        with pytest.raises(RuntimeError, match="otlp_proto_grpc"):
            tracing_of()

    def test_only_traceparent_is_propagated(self, tracing_of: Open) -> None:
        """Baggage does not leave with outgoing requests, unless OTEL_PROPAGATORS asks for it."""
        tracing_of(exporters=[])
        assert isinstance(propagate.get_global_textmap(), TraceContextTextMapPropagator)

    def test_asked_for_propagators_stay(self, tracing_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """OTEL_PROPAGATORS takes precedence."""
        before = propagate.get_global_textmap()
        monkeypatch.setenv("OTEL_PROPAGATORS", "tracecontext,baggage")
        tracing_of(exporters=[])
        assert propagate.get_global_textmap() is before

    def test_disabled(self, tracing_of: Open) -> None:
        """Disabled, nothing records or is exported, and spans still have valid ids that logs can carry."""
        tracing = tracing_of(enabled=False, endpoint="http://127.0.0.1:1")
        started = tracing.provider.get_tracer("t").start_span("x")
        assert started.get_span_context().is_valid
        assert not started.is_recording()
        assert exporters(tracing) == []
        assert tracing.force_flush()
        assert tracing.shutdown()


class TestLosses:
    """Spans that cannot be exported."""

    def test_a_full_queue(self, tracing_of: Open, lost: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        """Spans that the bounded queue cannot take are counted one by one."""
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
        stuck = Stuck()
        tracing = tracing_of(exporters=[stuck])
        span(tracing)
        span(tracing)
        assert stuck.entered.wait(10)
        for _ in range(7):
            span(tracing)
        assert sum(lost) == 3
        assert not tracing.shutdown(timeout=0.05)
        assert stuck.shutdowns == 1
        assert sum(lost) == 9

    @pytest.mark.parametrize("error", [None, RuntimeError("boom")], ids=["fails", "raises"])
    def test_a_failed_export(self, tracing_of: Open, lost: list[int], error: Exception | None) -> None:
        """Every span of a failed batch is counted, whether the exporter says so or raises."""
        tracing = tracing_of(exporters=[Failing(error)])
        for _ in range(3):
            span(tracing)
        tracing.force_flush()
        assert sum(lost) == 3

    def test_after_the_end(self, tracing_of: Open, lost: list[int]) -> None:
        """A span that ends after shutdown is counted; unsampled ones never are."""
        memory = InMemorySpanExporter()
        tracing = tracing_of(exporters=[memory])
        tracer = tracing.provider.get_tracer("t")
        late = tracer.start_span("late")
        assert tracing.shutdown()
        assert tracing.shutdown()
        late.end()
        assert lost == [1]

    def test_recorded_but_not_sampled(self, tracing_of: Open, lost: list[int]) -> None:
        """A span that a sampler records without sampling it is neither exported nor lost."""
        memory = InMemorySpanExporter()
        tracing = tracing_of(exporters=[memory])
        tracing.provider.sampler = StaticSampler(Decision.RECORD_ONLY)
        span(tracing)
        assert tracing.shutdown()
        assert (memory.get_finished_spans(), lost) == ((), [])

    def test_spans_are_flushed_at_the_end(self, tracing_of: Open, lost: list[int]) -> None:
        """Shutdown exports what is queued and loses nothing."""
        memory = InMemorySpanExporter()
        tracing = tracing_of(exporters=[memory])
        for _ in range(5):
            span(tracing)
        assert tracing.shutdown()
        assert len(memory.get_finished_spans()) == 5
        assert lost == []

    def test_a_dead_collector_costs_one_line_a_minute(
        self, tracing_of: Open, lost: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Batch after batch fails against a closed port: one warning without a stack, the next a minute later."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
        clock = [1000.0]
        monkeypatch.setattr(tracing, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        stream = io.StringIO()
        logs = configure_logging(
            level="DEBUG", log_format="json", service="s", version="1", environment="e", stream=stream
        )
        try:
            opened = tracing_of(endpoint="http://127.0.0.1:1")
            for _ in range(4):
                span(opened)
                opened.force_flush()
            clock[0] += 61
            span(opened)
            opened.force_flush()
        finally:
            logs.close()
        first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert (first["message"], first["level"], first["dropped"]) == ("spans are being lost", "warning", 1)
        assert second["dropped"] == 4
        assert "exception" not in first
        assert sum(lost) == 5

    def test_exporter_chatter_is_silent(self, tracing_of: Open) -> None:
        """The exporter's own lines for each attempt are off."""
        tracing_of(exporters=[])
        logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        assert not logger.isEnabledFor(logging.ERROR)

    def test_a_flush_that_takes_too_long(self, tracing_of: Open) -> None:
        """A flush gives up waiting at its time."""
        stuck = Stuck()
        opened = tracing_of(exporters=[stuck])
        span(opened)
        assert not opened.force_flush(timeout=0.05)
        stuck.released.set()


def test_exceptions_leave_by_their_type_alone() -> None:
    """Neither message nor stack of a recorded exception, nor the status' words, reach an exporter; the rest does."""
    exporter = InMemorySpanExporter()
    tracing = open_tracing(
        service_namespace="x",
        service_name="x",
        version="1",
        environment="test",
        enabled=True,
        on_dropped=lambda _: None,
        exporters=[exporter],
    )
    tracer = tracing.provider.get_tracer("test")
    with suppress(ValueError), tracer.start_as_current_span("failing", attributes={"kept": 1}) as span:
        span.add_event("kept", {"kept": "too"})
        raise ValueError("a cell's value: Ann")
    with tracer.start_as_current_span("well"):
        pass
    assert tracing.force_flush()
    failing, well = exporter.get_finished_spans()
    tracing.shutdown()

    assert "Ann" not in failing.to_json()
    assert failing.status.status_code is StatusCode.ERROR
    assert failing.attributes == {"kept": 1}
    assert [(event.name, dict(event.attributes or {})) for event in failing.events] == [
        ("kept", {"kept": "too"}),
        ("exception", {"exception.type": "ValueError"}),
    ]
    assert failing.context is not None
    assert failing.context.trace_id != 0
    assert (failing.end_time or 0) >= (failing.start_time or 0) > 0
    assert (well.name, well.status.is_unset) == ("well", True)
