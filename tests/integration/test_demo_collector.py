from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id

from tools.demo import process as process_module
from tools.demo import run as run_module
from tools.demo.client import Client, DemoFailed, Result
from tools.demo.collector import MAX_BODY_BYTES, Collector
from tools.demo.process import ServiceProcess, StopSignal, free_ports, running
from tools.demo.report import DemoReport
from tools.demo.run import run_demo
from tools.demo.trace_tree import build_forest

# ----------------------------------------------------------------------------------------------------------- collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    with Collector() as listening:
        yield listening


@pytest.fixture
def provider(collector: Collector) -> Iterator[TracerProvider]:
    """The SDK as the service configures it: batches over OTLP/HTTP to the collector."""
    exporter = OTLPSpanExporter(f"{collector.endpoint}/v1/traces", compression=Compression.Gzip)
    provider = TracerProvider(resource=Resource.create({"service.name": "feature-agent"}))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50))
    yield provider
    provider.shutdown()


def post(collector: Collector, body: bytes, path: str = "/v1/traces", **headers: str) -> int:
    """The status of one export."""
    connection = http.client.HTTPConnection(collector.endpoint.removeprefix("http://"), timeout=5)
    connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    with connection.getresponse() as response:
        response.read()
    connection.close()
    return response.status


def test_takes_what_the_sdk_exports(collector: Collector, provider: TracerProvider) -> None:
    """Spans that the SDK's own exporter sends arrive with their names, kinds, parents, times, attributes and status."""
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("POST /x", kind=SpanKind.SERVER) as root:
        root.set_attributes({"http.route": "/x", "count": 3, "ratio": 0.5, "cached": True, "names": ["a", "b"]})
        with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT) as child:
            child.set_status(Status(StatusCode.ERROR, "refused"))
    spans = {
        span.name: span
        for span in collector.wait_for_trace(format_trace_id(root.get_span_context().trace_id), seconds=10, quiet=0.1)
    }
    server, client = spans["POST /x"], spans["chat"]
    assert (server.kind, server.parent_id, server.failed) == ("server", "", False)
    assert (client.kind, client.parent_id, client.failed) == ("client", server.span_id, True)
    assert server.start_ns <= client.start_ns <= client.end_ns <= server.end_ns
    attributes = dict(server.attributes)
    assert "a" in str(attributes.pop("names"))
    assert attributes == {"http.route": "/x", "count": 3, "ratio": 0.5, "cached": True}
    (tree,) = build_forest(spans.values())
    assert [node.span.name for node in tree.walk()] == ["POST /x", "chat"]


def test_traces_are_kept_apart(collector: Collector, provider: TracerProvider) -> None:
    """Each trace has its own spans, and an unknown trace has none."""
    tracer = provider.get_tracer("test")
    ids = []
    for name in ("one", "two"):
        with tracer.start_as_current_span(name) as span:
            ids.append(format_trace_id(span.get_span_context().trace_id))
    provider.force_flush()
    assert [[span.name for span in collector.spans(trace_id)] for trace_id in ids] == [["one"], ["two"]]
    assert collector.spans("0" * 32) == ()


def test_waits_for_a_late_root(collector: Collector, provider: TracerProvider) -> None:
    """A trace whose root ends after its children is waited for until the root is there."""
    tracer = provider.get_tracer("test")
    root = tracer.start_span("root")
    trace_id = format_trace_id(root.get_span_context().trace_id)
    with tracer.start_as_current_span("child", context=_inside(root)):
        pass
    provider.force_flush()
    later = threading.Timer(0.3, root.end)
    later.start()
    spans = collector.wait_for_trace(trace_id, seconds=10, quiet=0.2)
    later.join()
    assert {span.name for span in spans} == {"root", "child"}


def test_waits_for_what_another_process_exports(collector: Collector, provider: TracerProvider) -> None:
    """A trace that looks whole is not, until the spans that are awaited by name and kind are there too."""
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        trace_id = format_trace_id(request.get_span_context().trace_id)
    provider.force_flush()

    def job() -> None:
        tracer.start_span("job", context=_inside(request), kind=SpanKind.CONSUMER).end()
        provider.force_flush()

    later = threading.Timer(0.5, job)
    later.start()
    spans = collector.wait_for_trace(trace_id, seconds=10, quiet=0.1, awaited=[("job", "consumer")])
    later.join()
    assert {span.name for span in spans} == {"request", "job"}


def test_waiting_is_bounded(collector: Collector, provider: TracerProvider) -> None:
    """A trace that never becomes whole is given as it is when the time is over."""
    tracer = provider.get_tracer("test")
    root = tracer.start_span("never ended")
    with tracer.start_as_current_span("child", context=_inside(root)) as child:
        trace_id = format_trace_id(child.get_span_context().trace_id)
    provider.force_flush()
    assert [span.name for span in collector.wait_for_trace(trace_id, seconds=0.3)] == ["child"]


def test_unknown_kind_is_unspecified(collector: Collector) -> None:
    """A span kind from a later protocol does not break the collector."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8, name="new")
    span.MergeFromString(b"\x30\x63")  # field 6, kind: 99
    assert post(collector, request.SerializeToString()) == 200
    assert [span.kind for span in collector.spans("01" * 16)] == ["unspecified"]


@pytest.mark.parametrize(
    ("body", "path", "headers", "status"),
    [
        (b"", "/v1/traces", {}, 200),
        (b"", "/v1/logs", {}, 404),
        (b"\xff\xff not protobuf", "/v1/traces", {}, 400),
        (b"not gzip", "/v1/traces", {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(b"cut off" * 100, mtime=0)[:20], "/v1/traces", {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(bytes(MAX_BODY_BYTES + 1), mtime=0), "/v1/traces", {"Content_Encoding": "gzip"}, 400),
        (b"", "/v1/traces", {"Content_Encoding": "br"}, 400),
        (b"", "/v1/traces", {"Content_Length": "many"}, 411),
        (b"", "/v1/traces", {"Content_Length": str(MAX_BODY_BYTES + 1)}, 413),
    ],
)
def test_answers_by_the_protocol(
    collector: Collector, body: bytes, path: str, headers: dict[str, str], status: int
) -> None:
    """What is not an export is refused with the status that says why; the collector goes on."""
    assert post(collector, body, path, **headers) == status
    assert post(collector, b"") == 200


def _inside(span: Any) -> Any:
    from opentelemetry.trace import set_span_in_context

    return set_span_in_context(span)


# ------------------------------------------------------------------------------------------------------------- process


ENDLESS = "import time\nprint('here')\ntime.sleep(60)"


def script(tmp_path: Path, body: str) -> list[str]:
    """A command that runs a few lines of Python."""
    path = tmp_path / "script.py"
    path.write_text(body)
    return [sys.executable, "-u", str(path)]


def wait_for_output(process: ServiceProcess) -> None:
    """Until the process has written something."""
    deadline = time.monotonic() + 10
    while not process.tail():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_lines_of_json_and_text_are_distinguished(tmp_path: Path) -> None:
    """JSON objects are log lines; whatever else the process wrote is in the tail alone."""
    command = script(tmp_path, "print('{\"message\": \"here\"}'); print('words'); print('[1]'); print('3')")
    process = ServiceProcess(command, os.environ, tmp_path)
    wait_for_output(process)
    process._process.wait(10)
    process.stop()
    assert process.log() == ({"message": "here"},)
    assert process.tail() == ('{"message": "here"}', "words", "[1]", "3")
    assert process.exit_code == 0


def test_deaf_process_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not end on SIGTERM is killed."""
    monkeypatch.setattr(process_module, "STOP_TIMEOUT_SECONDS", 0.3)
    body = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(60)"
    process = ServiceProcess(script(tmp_path, body), os.environ, tmp_path)
    wait_for_output(process)
    process.stop()
    assert process.exit_code == -signal.SIGKILL


def test_termination_stops_the_service(tmp_path: Path) -> None:
    """SIGTERM to the demonstration ends the service too; the handler of before is back afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    command = script(tmp_path, ENDLESS)
    with pytest.raises(StopSignal, match="SIGTERM"), running(command, os.environ, tmp_path) as process:  # noqa: PT012 -- the signal comes inside
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert process.exit_code is not None
    assert signal.getsignal(signal.SIGTERM) is before


def test_runs_outside_the_main_thread(tmp_path: Path) -> None:
    """Where signals cannot be handled the service is stopped at the end of the block all the same."""
    codes: list[int | None] = []

    def run() -> None:
        with running(script(tmp_path, ENDLESS), os.environ, tmp_path) as process:
            wait_for_output(process)
        codes.append(process.exit_code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [-signal.SIGTERM]


# -------------------------------------------------------------------------------------------------------------- client

RESULT = {
    "extraction_id": "e1", "status": "completed", "row_count": 2, "grain": "entity", "features": [],
    "model": {"name": "builtin:planner"}, "quality": {"threshold": "medium", "score": 0.9},
}  # fmt: skip


class Stub(BaseHTTPRequestHandler):
    """Answers each path with the next of its prepared answers, the last one for ever."""

    answers: ClassVar[dict[str, list[tuple[int, object]]]] = {}

    def answer(self) -> None:
        """Read the request, send what was prepared."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        queue = self.answers[self.path]
        status, body = queue.pop(0) if len(queue) > 1 else queue[0]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-Request-ID", "r1")
        self.send_header("X-Trace-ID", "t1")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815 -- http.server finds methods by these names

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of a server that gives prepared answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Client(server.server_port, server.server_port, "key")
    server.shutdown()
    thread.join()
    server.server_close()
    Stub.answers.clear()


def test_waits_for_an_extraction_in_the_background(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 202 is followed until the extraction is completed; the ids are those of the request that asked."""
    monkeypatch.setattr("tools.demo.client.POLL_SECONDS", 0.01)
    Stub.answers |= {
        "/api/v1/extract-features": [(202, {"data": {"extraction_id": "e1", "status": "queued"}})],
        "/api/v1/extraction/e1/status": [
            (200, {"data": {"extraction_id": "e1", "status": status}}) for status in ("processing", "completed")
        ],
        "/api/v1/extraction/e1": [(200, {"data": RESULT, "processing_time": 1})],
    }
    extracted = client.extract("d", "a sentence", "medium", "r1")
    assert (extracted.data.row_count, extracted.request_id, extracted.trace_id) == (2, "r1", "t1")


def test_failed_extraction_ends_the_demo(client: Client) -> None:
    """An extraction that fails in the background ends the demo with its reason."""
    Stub.answers |= {
        "/api/v1/extract-features": [(202, {"data": {"extraction_id": "e1", "status": "queued"}})],
        "/api/v1/extraction/e1/status": [
            (200, {"data": {"extraction_id": "e1", "status": "failed", "error_message": "no memory"}})
        ],
    }
    with pytest.raises(DemoFailed, match="the extraction failed: no memory"):
        client.extract("d", "a sentence", "medium", "r1")


def test_endless_extraction_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extraction that does not end is given up after a while."""
    monkeypatch.setattr("tools.demo.client.TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("tools.demo.client.POLL_SECONDS", 0.01)
    status = (200, {"data": {"extraction_id": "e1", "status": "processing"}})
    Stub.answers |= {
        "/api/v1/extract-features": [(202, {"data": {"extraction_id": "e1", "status": "queued"}})],
        "/api/v1/extraction/e1/status": [status],
    }
    with pytest.raises(DemoFailed, match="did not end"):
        client.extract("d", "a sentence", "medium", "r1")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((422, {"title": "Unprocessable", "detail": "Too little.", "errors": [{"field": "x", "message": "is short"}]}),
         "answered 422: Too little. [is short]"),
        ((503, {"title": "Service Unavailable"}), "answered 503: Service Unavailable"),
        ((502, b"<html>"), "answered 502: without a problem document"),
        ((200, {"data": {"extraction_id": "e1"}}), "not what its contract says: .*status"),
    ],
)  # fmt: skip
def test_error_responses_are_reported_in_one_line(client: Client, answer: tuple[int, object], words: str) -> None:
    """An error response, and one that breaks the contract, are reported in the service's own words."""
    Stub.answers |= {"/api/v1/extract-features": [answer]}
    with pytest.raises(DemoFailed, match=words.replace("[", r"\[")):
        client.extract("d", "a sentence", "medium", "r1")


def test_dataset_that_is_there_is_used(client: Client, tmp_path: Path) -> None:
    """A dataset of that id from an earlier run is no failure; another refusal of the upload is."""
    (tmp_path / "log.csv").write_text("a\n1\n")
    Stub.answers |= {"/api/v1/datasets?dataset_id=d": [(409, {}), (413, {"title": "Too large"})]}
    client.upload("d", tmp_path / "log.csv")
    with pytest.raises(DemoFailed, match="413: Too large"):
        client.upload("d", tmp_path / "log.csv")


# ----------------------------------------------------------------------------------------------------------------- run


def test_whole_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real service, one request: every signal of it is there and carries its ids; a second run uses its data."""
    assert run_demo(data_dir=tmp_path / "data", as_json=True, rows=2_000) == 0
    printed = json.loads(capsys.readouterr().out)
    root = printed["trace"][0]
    inside = json.dumps(root)
    assert len(printed["trace"]) == 1
    assert (root["span"]["name"], root["span"]["kind"]) == ("POST /api/v1/extract-features", "server")
    assert all(f'"extraction.{stage}"' in inside for stage in ("profile", "plan", "compute", "assess"))
    assert {line["request_id"] for line in printed["log"]} == {printed["request_id"]}
    assert {line["trace_id"] for line in printed["log"]} == {printed["trace_id"]} == {root["span"]["trace_id"]}
    assert {found["trace_id"] for found in printed["exemplars"]} == {printed["trace_id"]}
    moved = {change["name"] for change in printed["metrics"]}
    assert {"api_requests_total", "feature_extractions_total", "model_requests_total"} <= moved
    assert [
        name for name in printed["table"][0] if name in {feature["name"] for feature in printed["result"]["features"]}
    ]
    assert run_demo(data_dir=tmp_path / "data", as_json=False, rows=2_000) == 0
    page = capsys.readouterr().out
    assert "6 By hand" in page
    assert f"{tmp_path}/data/development.key" in page


def test_service_that_cannot_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A service that ends by itself is reported in one line below the end of its log, with exit status 1."""
    (tmp_path / "file").write_text("in the way")
    assert run_demo(data_dir=tmp_path / "file", as_json=True, rows=10) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "the service ended by itself with exit status" in printed.err.splitlines()[-1]
    assert len(printed.err.splitlines()) > 1


def test_service_that_is_never_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that runs and does not become ready in time is not waited for any longer."""
    monkeypatch.setattr(run_module, "READY_TIMEOUT_SECONDS", 0.2)
    with (
        running(script(tmp_path, ENDLESS), os.environ, tmp_path) as process,
        pytest.raises(DemoFailed, match="was not ready within"),
    ):
        run_module._wait_until_ready(process, free_ports(1)[0])


def test_stopped_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGTERM in the middle of the demo ends it with exit status 1, its service stopped."""

    def terminate(path: Path, *, rows: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(run_module, "write_event_log", terminate)
    assert run_demo(data_dir=None, as_json=True, rows=10) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "feature-agent demo: stopped by SIGTERM"


def test_scratch_is_removed_under_a_writer() -> None:
    """The temporary folder is gone in the end although something still makes files in it when it is first removed."""
    with run_module._scratch_folder() as folder:
        writer = threading.Thread(target=write_until_removed, args=(folder,))
        writer.start()
    writer.join()
    assert not folder.exists()


def write_until_removed(folder: Path) -> None:
    """Make files in the folder for a while, or until it is gone."""
    stop = time.monotonic() + 0.3
    number = 0
    with contextlib.suppress(FileNotFoundError):
        while time.monotonic() < stop:
            (folder / f"late-{number}").touch()
            number += 1


def test_missing_signals_are_a_failure() -> None:
    """A request that left no trace is no success: the failure names what is missing."""
    result = msgspec.convert(RESULT, Result)
    report = DemoReport(
        sentence="", quality_threshold="", dataset_id="", rows=1, request_id="r", trace_id="t", processing_time=1.0,
        steps=(), result=result, trace=(), log=({},), metrics=(), exemplars=(), table=(("a",), ("1",)), commands=(),
    )  # fmt: skip
    with pytest.raises(DemoFailed, match=r"left no features, no spans, no metrics, no exemplars$"):
        run_module._require_every_signal(report)
