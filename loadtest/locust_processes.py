"""Locust as processes: one, or a master and its workers, from their start to what they counted."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from loadtest.errors import BadInput, NotMeasured
from loadtest.local import free_port
from loadtest.traffic.arrivals import total_seconds
from loadtest.traffic.plan import (
    DRAIN_TIMEOUT_SECONDS,
    PROGRESS_FILE,
    STOP_FILE,
    TALLY_FILE,
    Outcome,
    Plan,
    Progress,
)
from loadtest.traffic.shapes import UNTIL_IT_BREAKS

ROOT = Path(__file__).parents[1]
LOCUST_FILE = ROOT / "loadtest" / "locustfile.py"
LOG_FILE = "locust.log"
PROGRESS_SECONDS = 5.0
START_TIMEOUT_SECONDS = 60.0
"""For the generators to start and to upload the data pool, beside the length of the run."""
STOP_TIMEOUT_SECONDS = 20.0
BREAK_SHARE = 0.1
BREAK_SECONDS = 10.0
"""A run until it breaks ends once a tenth of the clients or reads of so many seconds failed or took over 1 s."""
BAD_INPUT_STATUS = 2
LOOK_SECONDS = 1.0


class Target(Struct, frozen=True):
    """The service under test."""

    host: str
    key: str
    metrics: tuple[str, ...] = ()
    """Addresses of the metrics of all its processes; empty takes the host's own."""

    def metrics_urls(self) -> tuple[str, ...]:
        """Give the addresses of its metrics."""
        return self.metrics or (f"{self.host.rstrip('/')}/metrics",)


Say = Callable[[str], object]


def generate(target: Target, plan: Plan, folder: Path, say: Say) -> str:
    """Run Locust to its end; gives why a run until it breaks was ended early."""
    limit = total_seconds(plan.steps) + DRAIN_TIMEOUT_SECONDS + START_TIMEOUT_SECONDS
    last = time.monotonic() + limit
    with _processes(target, plan, folder) as processes:
        leader = processes[0]
        shown, stopped, history = 0.0, "", list[Progress]()
        while leader.poll() is None:
            time.sleep(LOOK_SECONDS)
            if time.monotonic() > last:
                raise NotMeasured(f"the run was not over after {limit:.0f} s; see {folder / LOG_FILE}")
            progress = _progress(folder)
            if progress is None:
                continue
            if time.monotonic() - shown >= PROGRESS_SECONDS:
                shown = time.monotonic()
                say(_words(progress, plan))
            history = [*history[-round(BREAK_SECONDS / LOOK_SECONDS) :], progress]
            why = _broken(history) if plan.options.shape in UNTIL_IT_BREAKS and not stopped else ""
            if why:
                say(f"ending the run: {why}")
                (folder / STOP_FILE).touch()
                stopped = stopped or why
        if leader.returncode == BAD_INPUT_STATUS:
            raise BadInput(_last_line(folder / LOG_FILE))
    return stopped


@contextlib.contextmanager
def _processes(target: Target, plan: Plan, folder: Path) -> Generator[list[subprocess.Popen[bytes]]]:
    """Start Locust: one process, or a master and its workers; the first is the one to wait for."""
    options = plan.options
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(LOCUST_FILE),
        "--host",
        target.host,
        "--headless",
        "--only-summary",
    ]
    asked = [
        *("--shape", options.shape, "--scenario", options.scenario, "--run-id", options.run_id),
        *("--warm-up-seconds", str(options.warm_up_seconds), "--seed", str(options.seed)),
        *("--generators", str(options.generators), "--out", str(folder), "--stop-timeout", "1"),
        *(("--rate", str(options.rate)) if options.rate is not None else ()),
        *(("--stage-seconds", str(options.stage_seconds)) if options.stage_seconds is not None else ()),
    ]
    workers = options.generators if options.generators > 1 else 0
    port = str(free_port())
    master = [
        *("--master", "--expect-workers", str(workers), "--master-bind-host", "127.0.0.1", "--master-bind-port", port)
    ]
    worker = ["--worker", "--master-port", port]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "FEATURE_AGENT_KEY_FILE"},
        "FEATURE_AGENT_KEY": target.key,
        "PYTHONPATH": str(ROOT),
        "LOCUST_METRICS_PORT": os.environ.get("LOCUST_METRICS_PORT", "0"),
    }
    started: list[subprocess.Popen[bytes]] = []
    with (folder / LOG_FILE).open("wb") as log:
        try:
            for arguments in [[*command, *asked, *(master if workers else [])], *[[*command, *worker]] * workers]:
                process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
                started.append(process)
            yield started
        finally:
            for process in started:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _progress(folder: Path) -> Progress | None:
    try:
        return msgspec.json.decode((folder / PROGRESS_FILE).read_bytes(), type=Progress)
    except (OSError, msgspec.DecodeError):
        return None


def _words(progress: Progress, plan: Plan) -> str:
    rate = next((f" ({step.mean:g}/s)" for step in plan.steps if step.name == progress.stage), "")
    whole = total_seconds(plan.steps)
    return (
        f"{min(progress.at, whole):4.0f} of {whole:.0f} s  {progress.stage}{rate}: {progress.arrivals} clients came, "
        f"{progress.ended} left, {progress.failed} without what they wanted; {progress.requests} requests"
    )


def _broken(history: Sequence[Progress]) -> str:
    if len(history) <= BREAK_SECONDS / LOOK_SECONDS:
        return ""
    first, last = history[0], history[-1]
    ended, requests = last.ended - first.ended, last.requests - first.requests
    came = last.arrivals - first.arrivals
    if ended and (last.failed - first.failed) / ended > BREAK_SHARE:
        return f"in {last.stage} {last.failed - first.failed} of {ended} clients did not get what they wanted"
    if requests and (last.slow_requests - first.slow_requests) / requests > BREAK_SHARE:
        return f"in {last.stage} {last.slow_requests - first.slow_requests} of {requests} requests took over 1 s"
    if came and ended / came < 1 - 2 * BREAK_SHARE:
        return f"in {last.stage} {came} clients came in {BREAK_SECONDS:.0f} s and {ended} left"
    return ""


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return next((line for line in reversed(lines) if line and not line.startswith("[")), "Locust did not start")


def outcome_of(folder: Path) -> Outcome:
    """Read what Locust counted. Raises NotMeasured when it left nothing."""
    try:
        return msgspec.json.decode((folder / TALLY_FILE).read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        kept = folder / LOG_FILE
        raise NotMeasured(f"the load generator left no counts; see {kept}: {_last_line(kept)}") from None
