"""Run the demo: start everything, upload a sample, extract features, and collect the signals of that request."""

from __future__ import annotations

import csv
import http.client
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar
from uuid import uuid4

import msgspec
from rich.console import Console

from tools.demo.client import Client, DemoFailed, send_request
from tools.demo.collector import Collector
from tools.demo.metrics import Scrape, changes_between
from tools.demo.page import print_failure, print_report
from tools.demo.process import SERVE, LogLine, ServiceProcess, StopSignal, free_ports, running, service_environment
from tools.demo.report import KEY_FILE, DemoReport, Step, manual_commands
from tools.demo.sample import write_event_log
from tools.demo.trace_tree import build_forest

SENTENCE = "Extract click-through and conversion features for recommendation engine"
THRESHOLD = "medium"
TABLE_ROWS = 5
READY_TIMEOUT_SECONDS = 60.0
"""A first start unpacks and initialises the embedded database."""
SIGNAL_TIMEOUT_SECONDS = 10.0
"""For each signal to arrive after the answer; the exporter sends every 0.2 s."""
REMOVAL_TIMEOUT_SECONDS = 10.0
"""For a database that was interrupted while it was created to notice that its folder is gone."""
_UPLOAD, _EXTRACT = "/api/v1/datasets", "/api/v1/extract-features"
_OK = 200

T = TypeVar("T")


def run_demo(*, data_dir: Path | None, as_json: bool, rows: int = 60_000) -> int:
    """Run the demo and return its exit status: 0, or 1 with one line and the end of the service's log.

    `data_dir` keeps the service's database and files (default: a temporary folder); `rows` is the size of the sample.
    """
    progress = Console(stderr=True)
    try:
        with _scratch_folder() as scratch:
            report = _Demo(scratch, data_dir, rows, progress).run()
    except StopSignal as signal:
        print_failure(progress, f"stopped by {signal}", ())
        return 1
    except DemoFailed as failure:
        print_failure(progress, str(failure), failure.tail)
        return 1
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        print_report(Console(), report)
    return 0


class _Demo:
    """Run the demo once, and time its steps."""

    def __init__(self, scratch: Path, data_dir: Path | None, rows: int, progress: Console) -> None:
        self._scratch = scratch
        self._data_dir = data_dir
        self._home = (data_dir or scratch / "data").resolve()
        self._rows = rows
        self._aside = progress
        self._steps: list[Step] = []

    def run(self) -> DemoReport:
        """Start everything, run the steps, stop everything. Raises DemoFailed with the end of the service's log."""
        port, metrics_port = free_ports(2)
        with Collector() as collector:
            settings = self._settings(port, metrics_port, collector.endpoint)
            with running(SERVE, service_environment(os.environ, settings), self._scratch) as process:
                try:
                    return self._run_steps(process, collector, port, metrics_port)
                except (DemoFailed, OSError, http.client.HTTPException, ValueError) as error:
                    raise DemoFailed(_explain(process, error), process.tail()) from error

    def _settings(self, port: int, metrics_port: int, collector: str) -> dict[str, str]:
        return {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "PROMETHEUS_PORT": str(metrics_port),
            "DATA_DIR": str(self._home),
            "JAEGER_ENABLED": "true",
            "JAEGER_ENDPOINT": collector,
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "INFO",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }

    def _run_steps(self, process: ServiceProcess, collector: Collector, port: int, metrics_port: int) -> DemoReport:
        sample, dataset_id = self._scratch / "event-log.csv", f"event-log-{self._rows}"
        with self._step("sample written"):
            write_event_log(sample, rows=self._rows)
        with self._step("service ready"):
            _wait_until_ready(process, port)
        client = Client(port, metrics_port, (self._home / KEY_FILE).read_text(encoding="utf-8").strip())
        with self._step("uploaded and profiled"):
            client.upload(dataset_id, sample)
            before = _poll(client.scrape, lambda scrape: _requests(scrape, _UPLOAD) > 0)
        with self._step("features extracted"):
            extracted = client.extract(dataset_id, SENTENCE, THRESHOLD, f"demo-{uuid4().hex[:8]}")
        with self._step("signals arrived"):
            after = _poll(client.scrape, lambda scrape: _requests(scrape, _EXTRACT) > _requests(before, _EXTRACT))
            log = _poll(lambda: _log_of(process, extracted.request_id), _has_access_line)
            spans = collector.wait_for_trace(extracted.trace_id, seconds=SIGNAL_TIMEOUT_SECONDS)
        table = csv.reader(io.StringIO(client.table(extracted.data.extraction_id), newline=""))
        report = DemoReport(
            sentence=SENTENCE,
            quality_threshold=THRESHOLD,
            dataset_id=dataset_id,
            rows=self._rows,
            request_id=extracted.request_id,
            trace_id=extracted.trace_id,
            processing_time=extracted.processing_time,
            steps=tuple(self._steps),
            result=extracted.data,
            trace=build_forest(spans),
            log=log,
            metrics=changes_between(before, after),
            exemplars=tuple(found for found in after.exemplars if found.trace_id == extracted.trace_id),
            table=tuple(map(tuple, islice(table, TABLE_ROWS + 1))),
            commands=manual_commands(SENTENCE, THRESHOLD, self._data_dir),
        )
        _require_every_signal(report)
        return report

    @contextmanager
    def _step(self, name: str) -> Generator[None]:
        started = time.perf_counter()
        with self._aside.status(f"{name} …"):
            yield
        self._steps.append(Step(name, round(time.perf_counter() - started, 2)))


@contextmanager
def _scratch_folder() -> Generator[Path]:
    """Make a temporary folder, and remove it even while an interrupted database set-up still writes into it."""
    folder = Path(mkdtemp(prefix="feature-agent-demo-"))
    try:
        yield folder
    finally:
        deadline = time.monotonic() + REMOVAL_TIMEOUT_SECONDS
        shutil.rmtree(folder, ignore_errors=True)
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
            shutil.rmtree(folder, ignore_errors=True)


def _poll(read: Callable[[], T], complete: Callable[[T], bool]) -> T:
    """Read again until it is complete or `SIGNAL_TIMEOUT_SECONDS` are over: telemetry follows the answer."""
    deadline = time.monotonic() + SIGNAL_TIMEOUT_SECONDS
    while not complete(value := read()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def _wait_until_ready(process: ServiceProcess, port: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while process.exit_code is None and time.monotonic() < deadline:
        try:
            if send_request(port, "GET", "/health/ready", headers={}).status == _OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise DemoFailed(f"the service was not ready within {READY_TIMEOUT_SECONDS:.0f} s")


def _explain(process: ServiceProcess, error: Exception) -> str:
    """Say in one line what went wrong; the end of the service, if it ended, explains every other error."""
    if process.exit_code is not None:
        return f"the service ended by itself with exit status {process.exit_code}"
    return str(error) if isinstance(error, DemoFailed) else f"{type(error).__name__}: {error}"


def _requests(scrape: Scrape, endpoint: str) -> float:
    return scrape.value("api_requests_total", endpoint=endpoint)


def _log_of(process: ServiceProcess, request_id: str) -> tuple[LogLine, ...]:
    return tuple(line for line in process.log() if line.get("request_id") == request_id)


def _has_access_line(log: tuple[LogLine, ...]) -> bool:
    return any(line.get("endpoint") == _EXTRACT for line in log)


def _require_every_signal(report: DemoReport) -> None:
    signals = {
        "features": report.result.features,
        "spans": report.trace,
        "log lines": report.log,
        "metrics": report.metrics,
        "exemplars": report.exemplars,
        "rows of the feature table": report.table[1:],
    }
    missing = [name for name, found in signals.items() if not found]
    if missing:
        raise DemoFailed(f"the request left no {', no '.join(missing)}")
