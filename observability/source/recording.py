"""Recording rules: each objective's bad and all events in each window, their ratio, and what is left of the budget.

Before traffic a ratio is 0, not empty. Where events come too late to be counted (`waiting`), minutes stand for them.
Windows of a day and more are summed from the five-minute rates: that weighs events, not minutes, and need not read a
month of raw samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from observability.source.durations import seconds_of
from observability.source.promql import selected, suffixed
from observability.source.rule_files import Group, Recording, rule_file
from observability.source.slo import Objectives, Slo

INTERVAL = "30s"
BASE = "5m"
SUMMED_FROM_SECONDS = 86_400.0
LATE = "slo:late:bool"
"""Whether something has waited too long at this moment."""


def render(objectives: Objectives) -> Mapping[str, str]:
    """A file of recording rules for each objective."""
    return {
        f"observability/prometheus/rules/slo-{slo.name}.yml": rule_file([_group(slo, objectives)])
        for slo in objectives.slos
    }


def _group(slo: Slo, objectives: Objectives) -> Group:
    return Group(f"slo-{slo.name}", objectives.scale.interval(INTERVAL), list(_rules(slo, objectives)))


def _rules(slo: Slo, objectives: Objectives) -> Iterator[Recording]:
    labels = {"slo": slo.name, "service": objectives.service}
    own = f'slo="{slo.name}"'

    def rule(record: str, expr: str) -> Recording:
        return Recording(record, objectives.scale.query(expr), labels)

    if slo.sli.waiting is not None:
        late = f"max({selected(slo.sli.waiting, objectives.selector)}) > bool {slo.sli.within:g}"
        yield rule(LATE, late)
    for window in objectives.windows():
        yield rule(f"slo:errors:rate{window}", _events("errors", slo, objectives, window))
        yield rule(f"slo:requests:rate{window}", _events("requests", slo, objectives, window))
        requests = f"slo:requests:rate{window}{{{own}}}"
        ratio = f"slo:errors:rate{window}{{{own}}} / ({requests} > 0) or 0 * {requests}"
        yield rule(f"slo:sli_error:ratio_rate{window}", ratio)
    yield rule("slo:objective:ratio", f"vector({slo.objective / 100:.6g})")
    yield rule("slo:error_budget:ratio", f"vector({slo.budget:.6g})")
    yield rule("slo:current_burn_rate:ratio", f"slo:sli_error:ratio_rate1h{{{own}}} / slo:error_budget:ratio{{{own}}}")
    spent = f"slo:sli_error:ratio_rate{objectives.window}{{{own}}} / slo:error_budget:ratio{{{own}}}"
    yield rule("slo:error_budget_remaining:ratio", f"1 - {spent}")


def _events(kind: str, slo: Slo, objectives: Objectives, window: str) -> str:
    """Events a second."""
    if seconds_of(window) < SUMMED_FROM_SECONDS and slo.sli.waiting is not None:
        return _minutes(kind, slo, objectives, window)
    if seconds_of(window) < SUMMED_FROM_SECONDS:
        return _bad(slo, objectives.selector, window) if kind == "errors" else _all(slo, objectives.selector, window)
    # What a window lacks, such as right after the start, counts as no events rather than as more of the same.
    sums = f'sum_over_time(slo:{kind}:rate{BASE}{{slo="{slo.name}"}}[{window}])'
    return f"{sums} * {seconds_of(objectives.scale.interval(INTERVAL)):g} / <{window}>"


def _minutes(kind: str, slo: Slo, objectives: Objectives, window: str) -> str:
    """Minutes a second, bad ones or all that were measured."""
    over = "sum_over_time" if kind == "errors" else "count_over_time"
    share = seconds_of(objectives.scale.interval(INTERVAL)) / seconds_of(objectives.scale.interval("1m"))
    return f'{over}({LATE}{{slo="{slo.name}"}}[{window}]) * {share:g} / <{window}>'


def _all(slo: Slo, selector: str, window: str) -> str:
    series = slo.sli.total or suffixed(str(slo.sli.histogram), "_count")
    return f"sum(rate({selected(series, selector)}[{window}]))"


def _bad(slo: Slo, selector: str, window: str) -> str:
    if slo.sli.bad is not None:
        return f"sum(rate({selected(slo.sli.bad, selector)}[{window}]))"
    within = f'le="{float(slo.sli.within or 0)}",{selector}'
    good = selected(suffixed(str(slo.sli.histogram), "_bucket"), within)
    return f"clamp_min({_all(slo, selector, window)} - sum(rate({good}[{window}])), 0)"
