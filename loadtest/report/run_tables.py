"""Tables of one run: routes, SLOs, stages, extractions, the machine, failures."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.report.document import Block, Bullets, Cell, Column, Section, Table, Text
from loadtest.report.formats import NOTHING, duration_ms, number, percent, share, span
from loadtest.report.objectives import Objective, percent_of
from loadtest.report.percentiles import longest, percentile
from loadtest.report.routes import by_route, judged
from loadtest.results import WARM_UP, Indicator, Run, Stage

MAX_IDS = 20
MAX_SENTENCES = 40
WHOLE_RUN = "whole run"


def routes_section(run: Run) -> Section:
    """List the routes with their latency, as clients saw it."""
    rows = tuple(
        (
            Cell(route.name, code=True),
            number(route.count),
            number(route.failures),
            *(duration_ms(percentile(route.durations, part)) for part in (50, 95, 99)),
            duration_ms(longest(route.durations)),
        )
        for route in by_route(judged(run))
    )
    heads = ("Requests", "Failures", "p50", "p95", "p99", "Longest")
    table = Table(
        "Requests by route, client side",
        (Column("Route"), *(Column(head, numeric=True) for head in heads)),
        rows,
        empty="no stage but the warm-up had a request.",
        note="Without the warm-up. Failures: answers other than 2xx and 3xx, and requests without an answer.",
    )
    return Section("Requests by route", (table,))


def slo_section(run: Run, objectives: Sequence[Objective]) -> Section:
    """List what each SLO came to, by the service's metrics and by the clients."""
    keys = dict.fromkeys((found.slo, found.stage) for found in run.service.indicators)
    rows = [(stage, _slo_row(run.service.indicators, slo, stage, objectives)) for slo, stage in keys]
    heads = ("Objective", "Service", "Events", "Clients", "Requests")
    columns = (Column("SLO"), Column("Stage"), *(Column(head, numeric=True) for head in heads))
    note = "Good events in percent, rounded down, of all events: by the service's metrics, and as clients saw it."
    whole, parts = (tuple(row for stage, row in rows if bool(stage) == part) for part in (False, True))
    tables = [Table("SLOs over the whole run", columns, whole, "no SLO had an event.", note)]
    tables += [Table("SLOs by stage", columns, parts)] if parts else []
    return Section("SLOs", tuple(tables))


def stages_section(run: Run) -> Section:
    """List the stages with the clients that were due and what became of them."""
    heads = (
        "Length", "Asked", "Achieved", "Due", "Started", "Completed", "Failed", "Start lag p50", "Start lag p99",
    )  # fmt: skip
    columns = (Column("Stage"), *(Column(head, numeric=True) for head in heads))
    note = (
        "Rates in clients a second. Start lag: how much later than due the generator started a client. "
        f"Nothing is judged by the stage {WARM_UP}."
    )
    blocks: list[Block] = [Text(f"The run ended early: {run.stopped_early}")] if run.stopped_early else []
    rows = tuple(_stage_row(stage) for stage in run.stages)
    return Section("Stages", (*blocks, Table("Clients by stage", columns, rows, "no stage began.", note)))


def extractions_section(run: Run) -> Section:
    """List what became of the extractions."""
    found = run.extractions
    counts = (
        ("Accepted", found.accepted), ("Completed", found.completed), ("Failed", found.failed),
        ("Lost", len(found.lost)), ("Doubled", len(found.doubled)),
    )  # fmt: skip
    columns = (Column("Extractions"), Column("Count", numeric=True))
    table = Table("Audit of extractions", columns, tuple((name, number(count)) for name, count in counts))
    blocks: list[Block] = [table]
    for name, ids in (("Lost", found.lost), ("Doubled", found.doubled)):
        if ids:
            blocks += [Text(f"{name}:"), Bullets(_first(ids, MAX_IDS))]
    return Section("Extractions", tuple(blocks))


def machine_section(run: Run) -> Section:
    """List what else the machines did: the generator's own load, and the service's state."""
    rows = (*_machine_rows(run), *_service_rows(run))
    columns = (Column("What"), Column("Value", wide=True))
    return Section("Machine and service", (Table("Conditions of the measurement", columns, rows),))


def failures_section(run: Run) -> Section:
    """List the sentences about requests that did not get the expected answer, the most frequent first."""
    ordered = sorted(run.failures.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = tuple((sentence, number(count)) for sentence, count in ordered[:MAX_SENTENCES])
    left = ordered[MAX_SENTENCES:]
    note = f"{len(left):,} more sentences, {sum(count for _, count in left):,} times." if left else ""
    columns = (Column("What went wrong", wide=True), Column("Requests", numeric=True))
    table = Table("Failures", columns, rows, "every request got the answer that the test expects.", note)
    return Section("Failures", (table,))


def _slo_row(
    indicators: Sequence[Indicator], slo: str, stage: str, objectives: Sequence[Objective]
) -> tuple[str | Cell, ...]:
    """Write one SLO over one part of the run."""
    wanted = percent_of(objectives, slo)
    sides: list[str] = []
    for side in ("service", "client"):
        found = [one for one in indicators if (one.slo, one.stage, one.side) == (slo, stage, side)]
        good, total = sum(one.good for one in found), sum(one.total for one in found)
        sides += [share(good, total), number(total) if found else NOTHING]
    return (Cell(slo, code=True), stage or WHOLE_RUN, NOTHING if wanted is None else f"{number(wanted)} %", *sides)


def _stage_row(stage: Stage) -> tuple[str, ...]:
    """Write one stage."""
    return (
        stage.name,
        span(stage.ended - stage.began),
        number(stage.rate),
        number(stage.achieved_rate),
        number(stage.arrivals),
        number(stage.started),
        number(stage.completed),
        number(stage.failed),
        duration_ms(stage.lag_p50_ms),
        duration_ms(stage.lag_p99_ms),
    )


def _machine_rows(run: Run) -> tuple[tuple[str, str], ...]:
    """Write the state of the machine that generated the load."""
    machine = run.machine
    names = ", ".join(machine.foreign_names) or "none"
    return (
        ("Generator's machine", f"{machine.system}, {machine.cores} cores, Python {machine.python}"),
        ("Generator's processes", number(run.workers)),
        ("Cores of its busiest process, in its busiest stage", _plain(machine.generator_cores)),
        ("Start lag p99, in the worst stage", duration_ms(max((one.lag_p99_ms for one in judged(run)), default=None))),
        (
            "CPU pressure before and after",
            f"{_pressure(machine.pressure_before)} and {_pressure(machine.pressure_after)}",
        ),
        ("Cores of processes outside of the test", f"{_plain(machine.foreign_cores)}; the busiest: {names}"),
        ("Calibration", f"{_plain(machine.calibration_seconds)} s of CPU, spread {_plain(machine.calibration_spread)}"),
    )


def _service_rows(run: Run) -> tuple[tuple[str, str], ...]:
    """Write the state of the service."""
    service = run.service
    limit = "none" if service.cpu_limit_cores is None else f"{_plain(service.cpu_limit_cores)} cores"
    memory = f"{number(service.memory_limit_mib)} MiB" if service.memory_limit_mib > 0 else "none"
    return (
        ("Service's CPU time", f"{number(round(service.cpu_seconds, 1))} s"),
        ("Service's CPU limit", f"{limit}; stopped by it in {percent(service.throttled_share)} of the periods"),
        ("Service's memory limit", memory),
        ("Restarts of the service", number(service.restarts)),
        ("Extractions answered by a cached result", percent(service.cache_hits)),
        ("Spans dropped", number(service.spans_dropped)),
    )


def _plain(value: float) -> str:
    """Write a number with at most two digits after the point."""
    return number(round(value, 2))


def _pressure(value: float | None) -> str:
    """Write a pressure, which not every system states."""
    return "unknown" if value is None else f"{_plain(value)} %"


def _first(items: Sequence[str], limit: int) -> tuple[str, ...]:
    """Keep the first items and say how many there are besides."""
    kept = tuple(items[:limit])
    return (*kept, f"… and {len(items) - limit:,} more") if len(items) > limit else kept
