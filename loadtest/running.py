"""`python -m loadtest run`: send the load, measure the service and the machine, and leave run.json in a folder."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.errors import BadInput, NotMeasured
from loadtest.locust_processes import Say, Target, generate, outcome_of
from loadtest.measure.api import Api
from loadtest.measure.audit import audit
from loadtest.measure.cgroup import Throttling, throttling_of
from loadtest.measure.indicators import Slo, metrics_of, of_clients, of_service
from loadtest.measure.machine import MachineWatch, cpu_pressure, listeners
from loadtest.measure.selector import Selector, Values
from loadtest.measure.watch import Watch
from loadtest.results import RUN_FILE, WARM_UP, Indicator, Run, Service, write_record
from loadtest.traffic.plan import (
    PROGRESS_FILE,
    STOP_FILE,
    TALLY_FILE,
    Options,
    Plan,
    make_plan,
)
from loadtest.traffic.tally import Tally

VERSION = 1
LOOK_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
REQUESTS_OF_A_CLIENT = 4
"""At most, on average over the mix: what a key has to be allowed."""
MAX_PRESSURE = 30.0
"""Percent of 10 s in which something waits for a CPU, above which nothing is measured."""
QUIET_TIMEOUT_SECONDS = 45.0
"""For the machine to become quiet, after a service was started on it."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


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
        stopped = generate(target, plan, folder, say)
        time.sleep(LOOK_SECONDS)  # what was answered last is counted when its last byte is out
        watch.look()
        counted = watch.counted()
    outcome = outcome_of(folder)
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
