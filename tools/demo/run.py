"""The demonstration from start to end: one request, and what it left in the answer, trace, log and metrics."""

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

from tools.demo.client import Client, DemoFailed, exchange
from tools.demo.collector import Collector
from tools.demo.metrics import Scrape, difference
from tools.demo.page import show_failure, show_story
from tools.demo.process import SERVE, LogLine, ServiceProcess, Stopped, free_ports, running, service_environment
from tools.demo.report import KEY_FILE, Step, Story, commands_by_hand
from tools.demo.sample import write_event_log
from tools.demo.trace_tree import build_forest

SENTENCE = "Extract click-through and conversion features for recommendation engine"
THRESHOLD = "medium"
TABLE_ROWS = 5
READY_SECONDS = 60.0
"""A first start unpacks and initialises the embedded database."""
SIGNAL_SECONDS = 10.0
"""For each signal to arrive after the answer; the exporter is told to send every 0.2 s."""
REMOVAL_SECONDS = 10.0
"""For a database that was interrupted in its making to notice that its folder is gone."""
_UPLOAD, _EXTRACT = "/api/v1/datasets", "/api/v1/extract-features"
_OK = 200

T = TypeVar("T")


def run_demo(*, data_dir: Path | None, as_json: bool, rows: int = 60_000) -> int:
    """Run the demonstration and give its exit status: 0, or 1 with one line and the end of the service's log.

    `data_dir` keeps the service's database and files (default: a temporary folder); `rows` is the size of the sample.
    """
    aside = Console(stderr=True)
    try:
        with _scratch_folder() as scratch:
            story = _Narrator(scratch, data_dir, rows, aside).tell()
    except Stopped as signal:
        show_failure(aside, f"stopped by {signal}", ())
        return 1
    except DemoFailed as failure:
        show_failure(aside, str(failure), failure.tail)
        return 1
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(story), indent=2).decode() + "\n")
    else:
        show_story(Console(), story)
    return 0


class _Narrator:
    """Plays the story once, and times its steps."""

    def __init__(self, scratch: Path, data_dir: Path | None, rows: int, aside: Console) -> None:
        self._scratch = scratch
        self._data_dir = data_dir
        self._home = (data_dir or scratch / "data").resolve()
        self._rows = rows
        self._aside = aside
        self._steps: list[Step] = []

    def tell(self) -> Story:
        """Start everything, play, stop everything. Raises DemoFailed with the end of the service's log."""
        port, metrics_port = free_ports(2)
        with Collector() as collector:
            settings = self._settings(port, metrics_port, collector.endpoint)
            with running(SERVE, service_environment(os.environ, settings), self._scratch) as process:
                try:
                    return self._play(process, collector, port, metrics_port)
                except (DemoFailed, OSError, http.client.HTTPException, ValueError) as error:
                    raise DemoFailed(_blame(process, error), process.tail()) from error

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

    def _play(self, process: ServiceProcess, collector: Collector, port: int, metrics_port: int) -> Story:
        sample, dataset_id = self._scratch / "event-log.csv", f"event-log-{self._rows}"
        with self._step("sample written"):
            write_event_log(sample, rows=self._rows)
        with self._step("service ready"):
            _wait_until_ready(process, port)
        client = Client(port, metrics_port, (self._home / KEY_FILE).read_text(encoding="utf-8").strip())
        with self._step("uploaded and profiled"):
            client.upload(dataset_id, sample)
            before = _until(client.scrape, lambda scrape: _requests(scrape, _UPLOAD) > 0)
        with self._step("features extracted"):
            extracted = client.extract(dataset_id, SENTENCE, THRESHOLD, f"demo-{uuid4().hex[:8]}")
        with self._step("signals arrived"):
            after = _until(client.scrape, lambda scrape: _requests(scrape, _EXTRACT) > _requests(before, _EXTRACT))
            log = _until(lambda: _lines_of(process, extracted.request_id), _has_access_line)
            spans = collector.wait_for_trace(extracted.trace_id, seconds=SIGNAL_SECONDS)
        table = csv.reader(io.StringIO(client.table(extracted.data.extraction_id), newline=""))
        story = Story(
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
            metrics=difference(before, after),
            exemplars=tuple(found for found in after.exemplars if found.trace_id == extracted.trace_id),
            table=tuple(map(tuple, islice(table, TABLE_ROWS + 1))),
            commands=commands_by_hand(SENTENCE, THRESHOLD, self._data_dir),
        )
        _require_every_signal(story)
        return story

    @contextmanager
    def _step(self, name: str) -> Generator[None]:
        started = time.perf_counter()
        with self._aside.status(f"{name} …"):
            yield
        self._steps.append(Step(name, round(time.perf_counter() - started, 2)))


@contextmanager
def _scratch_folder() -> Generator[Path]:
    """A temporary folder, removed for good even while an interrupted database set-up still writes into it."""
    folder = Path(mkdtemp(prefix="feature-agent-demo-"))
    try:
        yield folder
    finally:
        deadline = time.monotonic() + REMOVAL_SECONDS
        shutil.rmtree(folder, ignore_errors=True)
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
            shutil.rmtree(folder, ignore_errors=True)


def _until(read: Callable[[], T], good: Callable[[T], bool]) -> T:
    """Read again until it is good, for at most `SIGNAL_SECONDS`: telemetry is written after the answer is sent."""
    deadline = time.monotonic() + SIGNAL_SECONDS
    while not good(value := read()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def _wait_until_ready(process: ServiceProcess, port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.exit_code is None and time.monotonic() < deadline:
        try:
            if exchange(port, "GET", "/health/ready", headers={}).status == _OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise DemoFailed(f"the service was not ready within {READY_SECONDS:.0f} s")


def _blame(process: ServiceProcess, error: Exception) -> str:
    """One line on what went wrong: that the service ended, if it did, explains every other error."""
    if process.exit_code is not None:
        return f"the service ended by itself with exit status {process.exit_code}"
    return str(error) if isinstance(error, DemoFailed) else f"{type(error).__name__}: {error}"


def _requests(scrape: Scrape, endpoint: str) -> float:
    return scrape.value("api_requests_total", endpoint=endpoint)


def _lines_of(process: ServiceProcess, request_id: str) -> tuple[LogLine, ...]:
    return tuple(line for line in process.log() if line.get("request_id") == request_id)


def _has_access_line(log: tuple[LogLine, ...]) -> bool:
    return any(line.get("endpoint") == _EXTRACT for line in log)


def _require_every_signal(story: Story) -> None:
    signals = {
        "features": story.result.features,
        "spans": story.trace,
        "log lines": story.log,
        "metrics": story.metrics,
        "exemplars": story.exemplars,
        "rows of the feature table": story.table[1:],
    }
    missing = [name for name, found in signals.items() if not found]
    if missing:
        raise DemoFailed(f"the request left no {', no '.join(missing)}")
