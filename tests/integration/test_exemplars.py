"""From a request to its trace: exemplars, stored and given back by a real Prometheus."""

from __future__ import annotations

import gc
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from prometheus_client import CollectorRegistry

from service.features.events import (
    EngineTurnTaken,
    ExtractionFinished,
    ExtractionStarted,
    ModelCalled,
    WebhookAttempted,
)
from service.telemetry.catalog import METRICS
from service.telemetry.exposition import MetricsServer
from service.telemetry.gc_pauses import GcPauseMonitor
from service.telemetry.http import HttpObserver
from service.telemetry.logs import configure_logging
from service.telemetry.metrics import Metrics
from service.telemetry.mmap_metrics import MmapMetrics
from service.telemetry.observer import TelemetryObserver
from service.telemetry.workers import WorkersCollector
from tests.support import KeptIds

PROMETHEUS = shutil.which("prometheus")
CONFIGURATION = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: api
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


IDENTITY = {"version": "1", "environment": "test"}


@pytest.fixture(params=["one process", "several workers"])
def metrics(request: pytest.FixtureRequest, tmp_path: Path) -> Metrics:
    """The metrics of one process, or of one worker among several."""
    registry, store = CollectorRegistry(), None
    if request.param == "several workers":
        numbers = tmp_path / "numbers"
        numbers.mkdir()
        registry.register(WorkersCollector(numbers, **IDENTITY))
        store = MmapMetrics(numbers, "1")
    metrics = Metrics(registry, models=["m"], store=store, **IDENTITY)
    metrics.expect_routes([("GET", "/a")])
    return metrics


@pytest.fixture
def prometheus(metrics: Metrics, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A Prometheus that scrapes the metrics port; asked with a path and parameters, it gives the answer's data."""
    if PROMETHEUS is None:
        pytest.skip("no prometheus on this machine")
    server = MetricsServer(metrics.registry, host="127.0.0.1", port=0)
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=server.port))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(path: str, **parameters: str) -> Any:
        address = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, ConnectionError):
            return None

    yield ask
    process.terminate()
    process.wait(30)
    server.close()


def until(found: Callable[[], Any]) -> Any:
    """What is found, as soon as it is; scrapes and Prometheus' own start take their time."""
    deadline = time.monotonic() + 60
    while not (answer := found()):
        assert time.monotonic() < deadline, "Prometheus did not get there"
        time.sleep(0.1)
    return answer


async def serve(metrics: Metrics, provider: TracerProvider) -> str:
    """Serve one request through the observer and give its trace id."""
    logs = configure_logging(
        level="INFO", log_format="json", service="s", version="1", environment="t", stream=io.StringIO()
    )
    sent: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], _receive: object, send: Callable[..., Any]) -> None:
        scope["path_template"] = "/a"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    observer = HttpObserver(app, metrics=metrics, access=logs.access, tracer_provider=provider)
    scope = {"type": "http", "method": "GET", "path": "/a", "headers": [], "client": ("127.0.0.1", 1)}
    await observer(scope, send, send)  # type: ignore[arg-type] -- it never receives
    logs.close()
    return dict(sent[0]["headers"])[b"x-trace-id"].decode()


async def test_prometheus_gives_the_trace_back(metrics: Metrics, prometheus: Callable[..., Any]) -> None:
    """Of a sampled and an unsampled request, the expression of a p95 panel leads to the trace of the sampled one."""
    await serve(metrics, TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    trace_id = await serve(metrics, TracerProvider(sampler=ALWAYS_ON, id_generator=KeptIds(), shutdown_on_exit=False))
    query = "histogram_quantile(0.95, sum by (le) (rate(api_request_duration_seconds_bucket[1m])))"
    now = time.time()
    found = until(lambda: prometheus("query_exemplars", query=query, start=f"{now - 300}", end=f"{now + 300}"))
    exemplars = [exemplar for series in found for exemplar in series["exemplars"]]
    assert {exemplar["labels"]["trace_id"] for exemplar in exemplars} == {trace_id}
    assert {series["seriesLabels"]["endpoint"] for series in found} == {"/a"}


def record_all(metrics: Metrics, provider: TracerProvider) -> str:
    """Have every duration observed within a span, by what observes it in production; gives the span's trace id."""
    observer = TelemetryObserver(metrics, provider, structlog.stdlib.get_logger("service.x"))
    garbage = GcPauseMonitor(metrics)
    with provider.get_tracer("t").start_as_current_span("job") as span:
        garbage.start()
        observer.record(ExtractionStarted("e", "low", waited=0.2))
        observer.record(EngineTurnTaken("small", 0.1))
        observer.record(ModelCalled("m", "success", 0.3))
        observer.record(ExtractionFinished("e", "low", "completed", 0.4))
        observer.record(WebhookAttempted("d", "e", "http://a.example", "delivered", "delivered", 0.1))
        gc.collect()
        garbage.stop()
    return f"{span.get_span_context().trace_id:032x}"


async def test_every_duration_leads_to_its_trace(metrics: Metrics, prometheus: Callable[..., Any]) -> None:
    """Each histogram of the catalog that has exemplars gives Prometheus the sampled trace, and never the other."""
    off = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    on = TracerProvider(sampler=ALWAYS_ON, id_generator=KeptIds(), shutdown_on_exit=False)
    record_all(metrics, off)
    await serve(metrics, off)
    traces = {record_all(metrics, on), await serve(metrics, on)}
    now = time.time()
    for name in [metric.name for metric in METRICS if metric.exemplars]:
        query, around = f"rate({name}_bucket[1m])", {"start": f"{now - 300}", "end": f"{now + 300}"}
        found = until(lambda query=query, around=around: prometheus("query_exemplars", query=query, **around))
        shown = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
        assert shown <= traces, name
        assert shown, name


def test_a_ratio_is_never_no_data(metrics: Metrics, prometheus: Callable[..., Any]) -> None:
    """Scraped before any traffic, the parts of an error ratio exist with the value 0."""

    def result(query: str) -> Any:
        answer = prometheus("query", query=query)
        return answer and answer["result"]

    errors = until(lambda: result('sum(api_requests_total{endpoint="/a",status=~"5.."})'))
    assert errors[0]["value"][1] == "0"
    total = until(lambda: result('sum(api_requests_total{endpoint="/a"})'))
    assert total[0]["value"][1] == "0"
