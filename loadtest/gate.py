"""Judge runs: every gate that a release has to get through, the number that decided, and why in a sentence."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from loadtest.measure.indicators import Slo
from loadtest.regression import Baseline, cost_of
from loadtest.results import WARM_UP, Indicator, Run, Stage
from loadtest.running import MAX_PRESSURE
from loadtest.verdict import Check, Outcome, Reason, Verdict

MIN_ACHIEVED = 0.95
"""Of the arrival rate that was asked for."""
MAX_DISAGREEMENT = 0.01
MIN_COMPARED = 100
"""Requests to a route below which one lost count would already be a disagreement."""
MAX_FAILED_CLIENTS = 0.005
"""Share of clients that did not get what they came for."""
MAX_LAG_MS = 100.0
"""p99 of the time by which the generator starts clients late."""
MAX_GENERATOR_CORES = 0.9
MAX_FOREIGN_SHARE = 0.15
"""Of the machine's cores, busy with something else."""
MAX_REGRESSION = 1.10
MAX_THROTTLED = 0.25
"""Of the scheduler's periods; the alert CpuThrottled has the same bound."""
MAX_MEMORY_SHARE = 0.9
"""Of the limit; the alert MemoryNearLimit has the same bound."""
MAX_GROWTH_MIB = 32.0
"""In the second half of a run, when what is needed has been loaded."""
MIN_POINTS = 12
"""Looks at the memory below which growth is not judged."""
DECISIVE = frozenset({"lost", "doubled", "restarts"})
"""Gates that fail a run however busy the machine was."""


def judge(runs: Sequence[Run], slos: Sequence[Slo], baseline: Baseline | None) -> Verdict:
    """Judge one or several runs of the same service together."""
    checks = [check for run in runs for check in _of_run(run, slos)]
    checks += _samples(runs, slos)
    checks += [_regression(run, baseline) for run in runs if baseline is not None]
    outcome = outcome_of(checks)
    return Verdict(
        verdict=outcome,
        reasons=[Reason(c.gate, c.measured, c.allowed, c.sentence) for c in checks if c.outcome != "pass"],
        checks=checks,
        shape=",".join(run.shape for run in runs),
        host=runs[0].host,
        run_id=runs[0].id,
        began=runs[0].began,
        ended=runs[-1].ended,
    )


def outcome_of(checks: Sequence[Check]) -> Outcome:
    """Give the verdict: what was lost was lost on a busy machine too; anything else needs a sound measurement."""
    if any(check.gate in DECISIVE and check.outcome == "fail" for check in checks):
        return "fail"
    if any(check.gate != "samples" and check.outcome == "not_measured" for check in checks):
        return "not_measured"
    for outcome in ("fail", "not_measured"):  # what failed on few samples failed
        if any(check.outcome == outcome for check in checks):
            return outcome
    return "pass"


def _of_run(run: Run, slos: Sequence[Slo]) -> Iterable[Check]:
    judged = [stage for stage in run.stages if stage.name != WARM_UP]
    yield _none("lost", run, run.extractions.lost, "every accepted extraction is there, has ended and has its table")
    yield _none("doubled", run, run.extractions.doubled, "no extraction was made twice")
    restarts = run.service.restarts
    yield _check(
        "restarts", restarts, 0, f"{run.shape}: {restarts} processes of the service ended and came back", restarts == 0
    )
    yield from _machine(run)
    yield _generator(run, judged)
    for slo in slos:
        yield from _slo(run, slo, judged)
    yield from (_achieved(run, stage) for stage in judged)
    yield _clients(run, judged)
    yield _agreement(run)
    yield from _limits(run)


def _check(
    gate: str,
    measured: float | None,
    allowed: float | None,
    sentence: str,
    good: bool,  # noqa: FBT001 - the sentence before it says of what
    bad: Outcome = "fail",
) -> Check:
    return Check(gate, "pass" if good else bad, measured, allowed, sentence)


def _none(gate: str, run: Run, found: Sequence[str], well: str) -> Check:
    sentence = (
        f"{run.shape}: {'; '.join(found[:3])}"
        if found
        else f"{run.shape}: {well} ({run.extractions.accepted} accepted)"
    )
    return _check(gate, len(found), 0, sentence, not found)


# -- was it a measurement ----------------------------------------------------------------------------------------


def _machine(run: Run) -> Iterable[Check]:
    machine = run.machine
    if machine.pressure_before is not None:
        sentence = (
            f"{run.shape}: before the run something waited for a CPU in {machine.pressure_before:.0f} % of the time "
            f"(/proc/pressure/cpu)"
        )
        good = machine.pressure_before <= MAX_PRESSURE
        yield _check("machine", machine.pressure_before, MAX_PRESSURE, sentence, good, "not_measured")
    allowed = MAX_FOREIGN_SHARE * machine.cores
    good = machine.foreign_cores <= allowed
    others = "" if good else f", most of all {', '.join(machine.foreign_names)}: end them and measure again"
    sentence = (
        f"{run.shape}: other programs used {machine.foreign_cores:.2f} of {machine.cores} cores of the machine that "
        f"generated the load{others}"
    )
    yield _check("machine", machine.foreign_cores, round(allowed, 2), sentence, good, "not_measured")


def _generator(run: Run, judged: Sequence[Stage]) -> Check:
    worst = max(judged, key=lambda stage: stage.lag_p99_ms, default=None)
    if run.machine.generator_cores > MAX_GENERATOR_CORES:
        sentence = (
            f"{run.shape}: a generator used {run.machine.generator_cores:.2f} of the one core that it can use; "
            f"add generators (--generators) or machines"
        )
        return Check("generator", "not_measured", run.machine.generator_cores, MAX_GENERATOR_CORES, sentence)
    lag = worst.lag_p99_ms if worst is not None else 0.0
    sentence = (
        f"{run.shape}: clients were started at most {lag:.0f} ms late (p99 of {worst.name if worst else 'no stage'}); "
        f"the generator used {run.machine.generator_cores:.2f} cores"
    )
    return _check("generator", lag, MAX_LAG_MS, sentence, lag <= MAX_LAG_MS, "not_measured")


def _samples(runs: Sequence[Run], slos: Sequence[Slo]) -> Iterable[Check]:
    for slo in slos:
        needed = slo.min_total / 2
        total = sum(_whole(run, slo, "service").total for run in runs)
        sentence = f"{slo.name}: {total:.0f} events were seen; fewer than {needed:.0f} would decide nothing"
        if total < needed:
            sentence += "; run a longer shape, or give --stage-seconds"
        yield _check("samples", total, round(needed), sentence, total >= needed, "not_measured")


# -- the objectives ----------------------------------------------------------------------------------------------


def _whole(run: Run, slo: Slo, side: str) -> Indicator:
    found = [one for one in run.service.indicators if (one.slo, one.side, one.stage) == (slo.name, side, "")]
    return found[0] if found else Indicator(slo.name, "", side, 0, 0)


def _slo(run: Run, slo: Slo, judged: Sequence[Stage]) -> Iterable[Check]:
    """Judge an objective over the whole run from both sides, and each stage that has events enough by its clients."""
    yield _objective(run, slo, _whole(run, slo, "service"), "by the service's metrics")
    client = _whole(run, slo, "client")
    if client.total:
        yield _objective(run, slo, client, "as its clients saw it")
    names = {stage.name for stage in judged}
    for one in run.service.indicators:
        if (one.slo, one.side) == (slo.name, "client") and one.stage in names and one.total >= slo.min_total:
            check = _objective(run, slo, one, f"as its clients saw it in {one.stage}")
            if check.outcome != "pass":
                yield check


def _objective(run: Run, slo: Slo, seen: Indicator, how: str) -> Check:
    bad = seen.total - seen.good
    share = 100 * seen.good / seen.total if seen.total else 100.0
    good = share >= slo.objective or (bad <= 1 and seen.total < slo.min_total)
    sentence = (
        f"{run.shape}: {bad:.0f} of {seen.total:.0f} events were bad {how}, {share:.2f} % good of {slo.objective:g} %"
    )
    if not good:
        sentence += f". Good is: {slo.good}"
    return _check(f"slo:{slo.name}", round(share, 3), slo.objective, sentence, good)


# -- the load and the answers ------------------------------------------------------------------------------------


def _achieved(run: Run, stage: Stage) -> Check:
    asked = stage.arrivals / (stage.ended - stage.began)
    share = stage.achieved_rate / asked if asked else 1.0
    good = share >= MIN_ACHIEVED
    sentence = (
        f"{run.shape}: in {stage.name} {asked:.1f} clients a second came and {stage.achieved_rate:.1f} a second left"
    )
    if not good:
        sentence += ": the service did not keep up"
    return _check("achieved_rate", round(share, 3), MIN_ACHIEVED, sentence, good)


def _clients(run: Run, judged: Sequence[Stage]) -> Check:
    failed, ended = sum(stage.failed for stage in judged), sum(stage.failed + stage.completed for stage in judged)
    share = failed / ended if ended else 1.0
    sentence = f"{run.shape}: {failed} of {ended} clients did not get what they came for"
    if failed:
        sentence += f", most often: {next(iter(run.failures), 'unknown')}"
    if not ended:
        sentence = f"{run.shape}: no client came at all"
    return _check("clients", round(share, 4), MAX_FAILED_CLIENTS, sentence, share <= MAX_FAILED_CLIENTS)


def _agreement(run: Run) -> Check:
    """Compare what clients and service counted, route by route and altogether."""
    seen: dict[str, float] = {}
    for stage in run.stages:
        for one in stage.requests:
            name = f"{one.method} {one.endpoint}"
            seen[name] = seen.get(name, 0) + one.count
    both = {name: (seen.get(name, 0.0), run.service.requests.get(name, 0.0)) for name in {*seen, *run.service.requests}}
    both = {name: pair for name, pair in both.items() if max(pair) >= MIN_COMPARED}
    both["all requests"] = (sum(seen.values()), sum(run.service.requests.values()))
    name, (client, service) = max(both.items(), key=lambda item: _difference(*item[1]))
    difference = _difference(client, service)
    sentence = f"{run.shape}: {name}: the clients count {client:.0f} and the service {service:.0f}"
    if difference > MAX_DISAGREEMENT:
        sentence += (
            ": its metrics cannot be trusted, are not those of all its processes (--metrics), or others use it too"
        )
    return _check("agreement", round(difference, 4), MAX_DISAGREEMENT, sentence, difference <= MAX_DISAGREEMENT)


def _difference(one: float, other: float) -> float:
    return abs(one - other) / max(one, other, 1)


# -- what the service uses ---------------------------------------------------------------------------------------


def _limits(run: Run) -> Iterable[Check]:
    service = run.service
    if service.throttled_share is not None:
        good = service.throttled_share <= MAX_THROTTLED
        sentence = (
            f"{run.shape}: the CPU limit of {service.cpu_limit_cores or 0:.2f} cores stopped the service in "
            f"{100 * service.throttled_share:.0f} % of the scheduler's periods"
        )
        sentence += "" if good else ": the limit is too small for this load"
        yield _check("cpu_limit", round(service.throttled_share, 3), MAX_THROTTLED, sentence, good)
    peak = max((point.memory_mib for point in service.points), default=0.0)
    if service.memory_limit_mib:
        share = peak / service.memory_limit_mib
        sentence = f"{run.shape}: a process held up to {peak:.0f} of the {service.memory_limit_mib:.0f} MiB that it may"
        good = share <= MAX_MEMORY_SHARE
        sentence += "" if good else ": the limit is too small for this load"
        yield _check("memory_limit", round(share, 3), MAX_MEMORY_SHARE, sentence, good)
    yield _growth(run)


def _growth(run: Run) -> Check:
    held = [point.memory_mib for point in run.service.points]
    if len(held) < MIN_POINTS:
        return Check("memory_growth", "pass", None, MAX_GROWTH_MIB, f"{run.shape}: too short to see memory grow")
    middle = len(held) // 2
    growth = statistics.median(held[-3:]) - statistics.median(held[middle - 1 : middle + 2])
    sentence = f"{run.shape}: in the second half a process's memory went from {held[middle]:.0f} to {held[-1]:.0f} MiB"
    good = growth <= MAX_GROWTH_MIB
    sentence += "" if good else ": it may leak"
    return _check("memory_growth", round(growth, 1), MAX_GROWTH_MIB, sentence, good)


def _regression(run: Run, baseline: Baseline | None) -> Check:
    known = baseline.cost_of(run) if baseline is not None else None
    if known is None:
        sentence = (
            f"{run.shape}: the baseline knows no run like this (shape, scenario, rate); make one with --write-baseline"
        )
        return Check("regression", "pass", None, MAX_REGRESSION, sentence)
    ratio = cost_of(run) / known
    good = ratio <= MAX_REGRESSION
    sentence = (
        f"{run.shape}: a request cost {ratio:.2f} times the CPU time that it did in the baseline, measured in units of "
        f"this machine's speed"
    )
    return _check("regression", round(ratio, 3), MAX_REGRESSION, sentence, good)
