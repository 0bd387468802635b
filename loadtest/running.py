"""`python -m loadtest run`: send the load, measure the service and the machine, and leave run.json in a folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from loadtest.errors import BadInput, NotMeasured
from loadtest.local import free_port
from loadtest.measure.api import Api
from loadtest.measure.audit import audit
from loadtest.measure.cgroup import Throttling, throttling_of
from loadtest.measure.indicators import Slo, metrics_of, of_clients, of_service
from loadtest.measure.machine import MachineWatch, cpu_pressure, listeners
from loadtest.measure.selector import Selector, Values
from loadtest.measure.watch import Watch
from loadtest.results import RUN_FILE, WARM_UP, Indicator, Run, Service, write_record
from loadtest.traffic.arrivals import total_seconds
from loadtest.traffic.plan import (
    DRAIN_TIMEOUT_SECONDS,
    PROGRESS_FILE,
    STOP_FILE,
    TALLY_FILE,
    Options,
    Outcome,
    Plan,
    Progress,
    make_plan,
)
from loadtest.traffic.shapes import UNTIL_IT_BREAKS
from loadtest.traffic.tally import Tally

ROOT = Path(__file__).parents[1]
LOCUST_FILE = ROOT / "loadtest" / "locustfile.py"
LOG_FILE = "locust.log"
VERSION = 1
LOOK_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
START_TIMEOUT_SECONDS = 60.0
"""For the generators to start and to upload the data pool, beside the length of the run."""
STOP_TIMEOUT_SECONDS = 20.0
REQUESTS_OF_A_CLIENT = 4
"""At most, on average over the mix: what a key has to be allowed."""
MAX_PRESSURE = 30.0
"""Percent of 10 s in which something waits for a CPU, above which nothing is measured."""
QUIET_TIMEOUT_SECONDS = 45.0
"""For the machine to become quiet, after a service was started on it."""
BREAK_SHARE = 0.1
BREAK_SECONDS = 10.0
"""A run until it breaks ends once a tenth of the clients or reads of so many seconds failed or took over 1 s."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


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


def run(target: Target, options: Options, slos: Sequence[Slo], folder: Path, say: Say) -> Run:
    """Carry out one run. Raises BadInput before it begins, and NotMeasured when it cannot be finished."""
    plan = make_plan(options)
    api = Api(target.host, target.key)
    api.require_ready(max(step.mean for step in plan.steps) * 60 * REQUESTS_OF_A_CLIENT)
    folder = make_folder(folder)
    for name in (TALLY_FILE, PROGRESS_FILE, STOP_FILE, RUN_FILE):
        (folder / name).unlink(missing_ok=True)
    pids = _service_pids(target.host)
    await_quiet(say)
    before = [throttling_of(pid) for pid in pids]
    with MachineWatch(pids) as machine, Watch(target.metrics_urls(), metrics_of(slos)) as watch:
        stopped = _generate(target, plan, folder, say)
        time.sleep(LOOK_SECONDS)  # what was answered last is counted when its last byte is out
        watch.look()
        counted = watch.counted()
    outcome = _outcome(folder)
    tally = Tally(len(plan.steps))
    tally.add(outcome.tally)
    stages = [stage for stage in tally.results(plan.steps, outcome.began) if stage.arrivals or not stopped]
    say("looking for lost and doubled extractions")
    extractions = audit(api, tally.ledger, plan.datasets)
    judged = [stage for stage in stages if stage.name != WARM_UP]
    throttled = _throttled(before, [throttling_of(pid) for pid in pids])
    indicators = [*of_service(slos, counted), *of_clients(slos, judged)]
    service = _service(watch, counted, indicators, tally.prepared, throttled)
    _clean_up(api, plan)
    found = Run(
        version=VERSION,
        id=options.run_id,
        host=target.host,
        service_version=watch.version,
        shape=options.shape,
        scenario=Path(options.scenario).name,
        scenario_digest=plan.scenario_digest,
        began=outcome.began,
        ended=outcome.ended,
        workers=outcome.workers,
        stages=stages,
        extractions=extractions,
        service=service,
        machine=machine.result(outcome.generator_cores),
        failures=dict(sorted(tally.failures.items(), key=lambda item: -item[1])),
        stopped_early=stopped,
    )
    write_record(folder / RUN_FILE, found)
    return found


def new_run_id() -> str:
    """Make an id that no other run has."""
    return f"load-{uuid.uuid4().hex[:8]}"


def await_quiet(say: Say, read: Callable[[], float | None] = cpu_pressure) -> None:
    """Wait until the machine is quiet. Raises NotMeasured when it does not become so."""
    last = time.monotonic() + QUIET_TIMEOUT_SECONDS
    while (pressure := read()) is not None and pressure > MAX_PRESSURE:
        if time.monotonic() > last:
            raise NotMeasured(
                f"the machine is busy with something else: in {pressure:.0f} % of the last 10 s something waited for a "
                f"CPU (/proc/pressure/cpu; allowed: {MAX_PRESSURE:.0f} %); end what else runs, and measure again"
            )
        say(f"waiting for the machine to become quiet ({pressure:.0f} % of the time something waits for a CPU)")
        time.sleep(PROGRESS_SECONDS)


def _service_pids(host: str) -> list[int]:
    parts = urlsplit(host)
    return listeners(parts.port or 80) if parts.hostname in LOOPBACK else []


def _clean_up(api: Api, plan: Plan) -> None:
    """Delete the data pool; extractions stay until the service's own retention."""
    with contextlib.suppress(OSError):
        for dataset_id in plan.datasets:
            api.remove_dataset(dataset_id)


# -- Locust ------------------------------------------------------------------------------------------------------


def _generate(target: Target, plan: Plan, folder: Path, say: Say) -> str:
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


BAD_INPUT_STATUS = 2


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


def _outcome(folder: Path) -> Outcome:
    try:
        return msgspec.json.decode((folder / TALLY_FILE).read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        kept = folder / LOG_FILE
        raise NotMeasured(f"the load generator left no counts; see {kept}: {_last_line(kept)}") from None


# -- the service's own view --------------------------------------------------------------------------------------


def _service(
    watch: Watch,
    counted: Values,
    indicators: list[Indicator],
    prepared: Mapping[str, int],
    throttled: tuple[float | None, float | None],
) -> Service:
    return Service(
        points=watch.points,
        requests=_requests(counted, prepared),
        indicators=indicators,
        restarts=watch.restarts,
        memory_limit_mib=watch.memory_limit_mib,
        cpu_seconds=Selector("process_cpu_seconds_total").total(counted),
        cache_hits=watch.cache_share(),
        throttled_share=throttled[0],
        cpu_limit_cores=throttled[1],
        spans_dropped=Selector("telemetry_spans_dropped_total").total(counted),
    )


def _requests(counted: Values, prepared: Mapping[str, int]) -> dict[str, float]:
    """Count the requests by method and route, without scrapes, probes and what prepared the data pool."""
    found = {name: -float(count) for name, count in prepared.items()}
    for series, value in counted.items():
        labels = dict(series.labels)
        endpoint = labels.get("endpoint", "")
        if series.name == "api_requests_total" and endpoint != "/metrics" and not endpoint.startswith("/health"):
            name = f"{labels.get('method', '')} {endpoint}"
            found[name] = found.get(name, 0.0) + value
    return {name: count for name, count in sorted(found.items()) if count > 0}


def _throttled(
    before: Sequence[Throttling | None], after: Sequence[Throttling | None]
) -> tuple[float | None, float | None]:
    """Give the share of throttled periods and the CPU limit of the process that was stopped most."""
    found = [
        ((last.throttled - first.throttled) / max(1, last.periods - first.periods), last.limit_cores)
        for first, last in zip(before, after, strict=True)
        if first is not None and last is not None and last.limit_cores is not None
    ]
    return max(found, default=(None, None), key=lambda one: one[0])


def make_folder(folder: Path) -> Path:
    """Make the folder for the results. Raises BadInput when that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROGRESS_FILE).touch()
        (folder / PROGRESS_FILE).unlink()
    except OSError as error:
        raise BadInput(f"--out {folder}: cannot be written: {error.strerror}") from None
    return folder.absolute()  # Locust runs in another folder
