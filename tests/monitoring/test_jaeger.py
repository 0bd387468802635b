"""Jaeger's configuration: what the documentation knows, what the service needs, and what a real Jaeger makes of it."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import StatusCode, Tracer

from service.settings import Settings
from service.telemetry.catalog import EXEMPLAR, KEPT_BY_ID
from tests.monitoring import traffic
from tests.monitoring.jaeger import FILE, JAEGER, NONE_HERE, Jaeger, configuration, running_jaeger
from tests.monitoring.jaeger_schema import faults
from tests.monitoring.stand import ROOT, until
from tests.support import LiveService


def test_the_schema_knows_everything_in_it() -> None:
    """Every component is part of Jaeger's distribution, every key is documented, every name leads somewhere."""
    assert faults(configuration()) == []


BREAKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "unknown key": lambda c: c["processors"]["tail_sampling"].update(decision_delay="1s"),
    "unknown component": lambda c: c["exporters"].update(elasticsearch={}),
    "unknown section": lambda c: c.update(sources={}),
    "wrong type": lambda c: c["processors"]["batch"].update(send_batch_size="many"),
    "wrong value": lambda c: c["processors"]["tail_sampling"]["policies"][0].update(type="errors"),
    "unused component": lambda c: c["service"]["pipelines"].pop("traces/count"),
    "lost storage": lambda c: c["exporters"]["jaeger_storage_exporter"].update(trace_storage="elsewhere"),
    "lost metrics": lambda c: c["extensions"]["jaeger_query"]["storage"].pop("metrics"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_configuration_is_found_out(name: str) -> None:
    """The check fails when a key is misspelt, a component unknown or unused, a value wrong, or a storage undefined."""
    broken = copy.deepcopy(configuration())
    BREAKS[name](broken)
    assert faults(broken)


def test_traces_are_given_up_after_the_slowest_model_call() -> None:
    """Tail sampling waits for longer than planning may take, and keeps errors and slow traces at once."""
    sampling = configuration()["processors"]["tail_sampling"]
    assert sampling["sampling_strategy"] == "span-ingest"
    wait = float(sampling["decision_wait"].removesuffix("s"))
    assert wait > Settings.model_fields["model_timeout_seconds"].default
    policies = {policy["type"]: policy for policy in sampling["policies"]}
    assert policies["status_code"]["status_code"]["status_codes"] == ["ERROR"]
    assert policies["latency"]["latency"]["threshold_ms"] <= 10_000


def test_the_monitor_tab_asks_for_what_is_written() -> None:
    """Metrics of operations are counted before sampling, and read under the names that the exporter gives them."""
    found = configuration()
    reading = found["extensions"]["jaeger_storage"]["metric_backends"]["prometheus"]["prometheus"]
    assert reading["normalize_calls"]
    assert reading["normalize_duration"]
    counting = found["service"]["pipelines"]["traces/count"]
    assert "tail_sampling" not in counting["processors"]
    assert counting["exporters"] == ["spanmetrics"]
    ui = json.loads((FILE.parent / "ui.json").read_text())
    assert ui["monitor"]["menuEnabled"]


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[Jaeger]:
    """A real Jaeger that throws away at once what nothing speaks for."""
    if JAEGER is None:
        pytest.skip(NONE_HERE)
    with running_jaeger(tmp_path, JAEGER_DECISION_WAIT="2s", JAEGER_DECISION_WAIT_AFTER_ROOT="1s") as running:
        yield running


@pytest.mark.timeout(300)
def test_an_extraction_can_be_read_back(jaeger: Jaeger, make_settings: Callable[..., Settings]) -> None:
    """The trace of a real extraction arrives over OTLP, is kept, and comes back through Jaeger's API, whole."""
    with LiveService(make_settings(jaeger_enabled=True, jaeger_endpoint=jaeger.otlp)) as service:
        assert service.client.upload("clicks", traffic.ROWS.encode()).status == 201
        answer = service.client.extract("clicks", "Mean price of every user", quality_threshold="low")
        assert answer.status == 200, answer.body
        trace_id = answer.headers["x-trace-id"]
        wanted = {"POST /api/v1/extract-features", "extraction.plan", "extraction.compute"}
        until(lambda: wanted <= {span["operationName"] for span in jaeger.spans(trace_id)}, "the trace")
        assert {span["traceID"] for span in jaeger.spans(trace_id)} == {trace_id}
        services = until(lambda: jaeger.get(f"{jaeger.query}/api/v3/services"), "services")
        assert json.loads(services) == {"services": ["feature-agent-api"]}


@pytest.mark.timeout(300)
def test_what_is_kept(jaeger: Jaeger) -> None:
    """Failed, slow, marked and chosen traces are kept, quick successes with another id are not; all are counted."""
    tracer, finish = _tracer(jaeger, ids=[_id(KEPT_BY_ID), *[_id(KEPT_BY_ID) + number for number in (1, 2, 3)], _id(0)])
    quick = tracer.start_span("quick")
    quick.end()
    began = time.time_ns()
    tracer.start_span("slow", start_time=began - 5 * 10**9).end(began)
    failed = tracer.start_span("failed")
    failed.set_status(StatusCode.ERROR)
    failed.end()
    marked = tracer.start_span("marked", attributes={EXEMPLAR: True})
    marked.end()
    tracer.start_span("chosen").end()
    finish()
    for trace_id in [*[_id(KEPT_BY_ID) + number for number in (1, 2, 3)], _id(0)]:
        until(lambda trace_id=trace_id: jaeger.spans(f"{trace_id:032x}"), "a trace that must be kept")
    assert jaeger.spans(f"{_id(KEPT_BY_ID):032x}") == []
    counted = until(lambda: _counted(jaeger), "the metrics of operations")
    assert counted == {"quick", "slow", "failed", "marked", "chosen"}


RATE, SECONDS, SPANS_OF_A_REQUEST = 50, 30, 10


@pytest.mark.proof
@pytest.mark.skipif(JAEGER is None, reason=NONE_HERE)
@pytest.mark.timeout(300)
def test_fifty_requests_a_second_lose_nothing(tmp_path: Path) -> None:
    """The shipped limits take 50 requests a second with ten spans each: no span is refused, and memory stays within."""
    with running_jaeger(tmp_path, GOMEMLIMIT=_compose()["environment"]["GOMEMLIMIT"]) as jaeger:
        _send(jaeger, RATE * SECONDS)
        sent = RATE * SECONDS * SPANS_OF_A_REQUEST
        until(lambda: jaeger.total("otelcol_receiver_accepted_spans") >= sent, "every span")
        assert jaeger.total("otelcol_receiver_refused_spans") == 0
        assert jaeger.total("otelcol_processor_refused_spans") == 0
        assert jaeger.resident_mib() < int(_compose()["mem_limit"].removesuffix("m"))


def test_memory_is_left_around_the_limiter() -> None:
    """The limiter refuses spans before the runtime's own limit, and that comes before the container's."""
    limiter = configuration()["processors"]["memory_limiter"]
    compose = _compose()
    soft = int(compose["environment"]["GOMEMLIMIT"].removesuffix("MiB"))
    assert limiter["limit_mib"] < soft < int(compose["mem_limit"].removesuffix("m"))
    assert limiter["spike_limit_mib"] <= limiter["limit_mib"] / 4


def _compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["jaeger"]


def _send(jaeger: Jaeger, requests: int) -> None:
    """Requests at the rate, each a trace of its own."""
    tracer, finish = _tracer(jaeger)
    for _ in range(requests):
        now = time.monotonic()
        with tracer.start_as_current_span("GET /api/v1/datasets", attributes={"http.route": "/api/v1/datasets"}):
            for _ in range(SPANS_OF_A_REQUEST - 1):
                tracer.start_span("SELECT feature_agent", attributes={"db.query.text": "SELECT " + "x, " * 100}).end()
        time.sleep(max(now + 1 / RATE - time.monotonic(), 0))
    finish()


def _tracer(jaeger: Jaeger, ids: Sequence[int] = ()) -> tuple[Tracer, Callable[[], object]]:
    """A tracer whose traces have these ids, then random ones; and what sends the rest."""
    provider = TracerProvider(
        resource=Resource({"service.name": "feature-agent-api"}), id_generator=_Ids(ids), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{jaeger.otlp}/v1/traces"), 65_536))
    return provider.get_tracer("test"), provider.shutdown


class _Ids(RandomIdGenerator):
    """Gives the traces that it is told first."""

    def __init__(self, first: Sequence[int]) -> None:
        self._first = list(first)

    def generate_trace_id(self) -> int:
        """The next trace's id."""
        return self._first.pop(0) if self._first else super().generate_trace_id()


def _id(chance: int) -> int:
    """A trace id with these 16 bits where its random half begins."""
    return 1 << 127 | chance << 48


def _counted(jaeger: Jaeger) -> set[str]:
    text = jaeger.get(f"{jaeger.spanmetrics}/metrics") or ""
    return set(re.findall(r'^traces_span_metrics_calls_total\{.*?span_name="([^"]+)"', text, re.MULTILINE))
