"""Multi-window, multi-burn-rate alerts: one a pair of windows, and one for a budget that is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from observability.source.links import links
from observability.source.rule_files import Alerting, Group
from observability.source.slo import BurnAlert, Objectives, Slo

INTERVAL = "30s"
SPENT = "ErrorBudgetSpent"


def groups(objectives: Objectives) -> Mapping[str, Sequence[Group]]:
    """A file for each objective, by its name."""
    return {f"slo-{slo.name}": [_group(slo, objectives)] for slo in objectives.slos}


def _group(slo: Slo, objectives: Objectives) -> Group:
    burning = [_burn(slo, pair, objectives) for pair in objectives.burn_alerts]
    return Group(f"budget-{slo.name}", objectives.scale.interval(INTERVAL), [*burning, _spent(slo, objectives)])


def _burn(slo: Slo, pair: BurnAlert, objectives: Objectives) -> Alerting:
    own, limit = f'slo="{slo.name}"', f"{pair.factor * slo.budget:.6g}"
    burns = " and ".join(f"slo:sli_error:ratio_rate{window}{{{own}}} > {limit}" for window in pair.windows)
    expr = f"{burns} and slo:errors:rate{pair.long}{{{own}}} * <{pair.long}> >= {objectives.traffic_floor}"
    return Alerting(
        slo.alert,
        objectives.scale.query(expr),
        objectives.scale.outlasting(pair.pending),
        {
            "severity": pair.severity,
            "service": objectives.service,
            "alertgroup": f"budget-{slo.name}",
            "slo": slo.name,
            "long": pair.long,
            "short": pair.short,
        },
        {
            "summary": f"The error budget of {slo.name} burns {pair.factor:g} times as fast as it may.",
            "description": (
                f"{{{{ $value | humanizePercentage }}}} of events were bad over {pair.long}, and as many over the last "
                f"{pair.short}; {slo.objective:g} % have to be good. Good: {slo.good}"
            ),
            **links(objectives, slo.alert, slo.dashboard, since=_context(pair)),
        },
    )


def _context(pair: BurnAlert) -> str:
    """Twice the long window, and some."""
    return {"1h": "3h", "6h": "12h", "1d": "2d", "3d": "6d"}[pair.long]


def _spent(slo: Slo, objectives: Objectives) -> Alerting:
    own, window = f'slo="{slo.name}"', objectives.window
    expr = (
        f"1 - slo:error_budget_remaining:ratio{{{own}}} >= 1"
        f" and slo:errors:rate{window}{{{own}}} * <{window}> >= {objectives.traffic_floor}"
    )
    return Alerting(
        SPENT,
        objectives.scale.query(expr),
        objectives.scale.pending("15m"),
        {"severity": "warning", "service": objectives.service, "alertgroup": f"budget-{slo.name}", "slo": slo.name},
        {
            "summary": "The error budget of an objective is spent.",
            "description": f"{slo.name} has spent {{{{ $value | humanizePercentage }}}} of its budget.",
            **links(objectives, SPENT, "feature-agent-slo", since=objectives.window),
        },
    )
