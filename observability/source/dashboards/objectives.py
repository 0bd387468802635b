"""Panels about objectives that several boards show."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.names import SERVICE, SLO
from observability.source.dashboards.panels import Column, Look, Query, lines, number, rows

DETAIL = links.board("This objective in detail", SLO, variables="var-slo=${__field.labels.slo}", since="30d")
BURN_STEPS = {1.0: "orange", 6.0: "red"}
SEVERITIES = {"critical": ("critical", "red"), "warning": ("warning", "orange")}
NO_RULES = "The recording rules have not run yet"
NO_ALERT = "No alert fires, or no rule is evaluated: Worst alert on the overview tells which"
NO_POINT = "No point yet in this time range, or the recording rules do not run"


def recorded(name: str, *matchers: str) -> str:
    """A recorded series of this service's objectives."""
    chosen = ",".join((f'service="{SERVICE}"', *matchers))
    return f"{name}{{{chosen}}}"


def budget_left(width: int) -> model.Panel:
    """Error budget left, by objective."""
    return number(
        "Error budget left",
        "Share of each objective's error budget that is left of the 30 days. Below 0 the objective is missed.",
        [Query(recorded("slo:error_budget_remaining:ratio"), "{{slo}}")],
        Look(
            units.PercentUnit,
            width,
            8,
            thresholds={0.0: "orange", 0.25: "green"},
            base="red",
            minimum=None,
            decimals=1,
            links=[DETAIL],
            empty=NO_RULES,
        ),
    )


def burning(width: int) -> model.Panel:
    """Burn rate of each objective."""
    return lines(
        "Burn rate",
        "How many times as fast as it may be each error budget is spent now: at 1 it lasts the 30 days, at 14.4 it is "
        "gone in two. 14.4 for an hour and 6 for six hours page.",
        [Query(recorded("slo:current_burn_rate:ratio"), "{{slo}}")],
        Look(units.Short, width, 8, thresholds=BURN_STEPS, links=[DETAIL], empty=NO_POINT),
    )


def alerts_firing(width: int, *matchers: str) -> model.Panel:
    """What fires now, critical alerts first."""
    by = "by (severity, alertname, slo)"
    chosen = ",".join(('alertstate="firing"', 'severity=~"critical|warning"', *matchers))
    firing = f"count {by} (ALERTS{{{chosen}}})"
    active = ",".join(('severity=~"critical|warning"', *matchers))
    began = f"min {by} (ALERTS_FOR_STATE{{{active}}})"
    return rows(
        "Alerts firing",
        "Critical alerts, then warnings, that fire now: since when, and for how many things. Click one for when it "
        "fired.",
        [
            Column("Severity", label="severity", words=SEVERITIES, width=90),
            Column("Alert", label="alertname", links=[_rule()]),
            Column("Objective", label="slo", width=170),
            Column("Since", f"time() - {began} and {firing}", unit=units.Seconds, width=110),
            Column("Firing", firing, unit=units.Short, width=80),
        ],
        Look(width=width, height=12, empty=NO_ALERT),
        first="Severity",
    )


def _rule() -> links.Link:
    """Explore, on the course of the alert."""
    return links.metrics("When it fired", 'ALERTS{alertname="${__value.text}"}')
