"""Jaeger's configuration: what the documentation knows, what the service needs, and what a real Jaeger makes of it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode

from service.settings import Settings
from tests.monitoring import traffic
from tests.monitoring.jaeger_schema import faults
from tests.monitoring.stand import ROOT, answers, free_port, process, until
from tests.support import LiveService

FILE = ROOT / "observability/jaeger/config.yaml"
JAEGER = os.environ.get("JAEGER_BIN") or shutil.which("jaeger")
DEFAULT = re.compile(r"\$\{env:[A-Z_]+:-([^}]*)\}")


def configuration() -> dict[str, Any]:
    """The file, with the defaults of its environment variables."""
    return yaml.safe_load(DEFAULT.sub(r"\1", FILE.read_text()))


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


def test_traces_are_judged_after_the_slowest_model_call() -> None:
    """Tail sampling waits for longer than planning may take, and keeps errors and slow traces."""
    sampling = configuration()["processors"]["tail_sampling"]
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


@dataclass(frozen=True)
class Jaeger:
    """A running Jaeger."""

    otlp: str
    query: str
    spanmetrics: str

    def get(self, address: str) -> str | None:
        """The answer's text, or None when there is none."""
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own server
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return None

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """The stored spans of a trace."""
        text = self.get(f"{self.query}/api/traces/{trace_id}")
        return json.loads(text)["data"][0]["spans"] if text else []


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[Jaeger]:
    """A real Jaeger with the shipped configuration; only its addresses, its folder and its patience differ."""
    if JAEGER is None:
        pytest.skip("there is no jaeger on this machine: put one on PATH or name it in JAEGER_BIN")
    names = ("HEALTH", "QUERY", "QUERY_GRPC", "OTLP_GRPC", "OTLP_HTTP", "SPANMETRICS", "TELEMETRY")
    ports = {name: free_port() for name in names}
    environment = {f"JAEGER_{name}_PORT": str(port) for name, port in ports.items()}
    environment |= {"JAEGER_DATA": str(tmp_path / "badger"), "JAEGER_UI_CONFIG": str(FILE.parent / "ui.json")}
    environment |= {"JAEGER_DECISION_WAIT": "2s", "JAEGER_SAMPLE_PERCENT": "0"}
    (tmp_path / "badger").mkdir()
    with process([JAEGER, "--config", str(FILE)], tmp_path / "jaeger.log", environment) as running:
        health = f"http://127.0.0.1:{ports['HEALTH']}/status"
        until(lambda: running.poll() is not None or answers(health), "Jaeger")
        assert running.poll() is None, (tmp_path / "jaeger.log").read_text()[-4000:]
        yield Jaeger(*(f"http://127.0.0.1:{ports[name]}" for name in ("OTLP_HTTP", "QUERY", "SPANMETRICS")))


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
        assert json.loads(services) == {"services": ["feature-agent"]}


@pytest.mark.timeout(300)
def test_what_is_kept(jaeger: Jaeger) -> None:
    """With nothing left to chance, failed traces are kept and quick successes are not; both are counted."""
    provider = TracerProvider(resource=Resource({"service.name": "feature-agent"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{jaeger.otlp}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("quick") as quick:
        pass
    began = time.time_ns()
    slow = tracer.start_span("slow", start_time=began - 5 * 10**9)
    slow.end(began)
    failed = tracer.start_span("failed")
    failed.set_status(StatusCode.ERROR)
    failed.end()
    provider.shutdown()
    for span in (failed, slow):
        until(lambda span=span: jaeger.spans(_id(span)), "a trace that must be kept")
    assert jaeger.spans(_id(quick)) == []
    counted = until(lambda: _counted(jaeger), "the metrics of operations")
    assert counted == {"quick", "slow", "failed"}


def _counted(jaeger: Jaeger) -> set[str]:
    text = jaeger.get(f"{jaeger.spanmetrics}/metrics") or ""
    return set(re.findall(r'^traces_span_metrics_calls_total\{.*?span_name="([^"]+)"', text, re.MULTILINE))


def _id(span: Any) -> str:
    return format(span.get_span_context().trace_id, "032x")
