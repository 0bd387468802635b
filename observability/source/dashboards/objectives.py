"""Panels about objectives that several boards show."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.names import SERVICE, SLO
from observability.source.dashboards.panels import Column, Look, Query, lines, number, rows

DETAIL = links.board("This objective in detail", SLO, variables="var-slo=${__field.labels.slo}")
BURN_STEPS = {1.0: "orange", 6.0: "red"}
NO_RULES = "The recording rules have not run yet"


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
            6,
            thresholds={0.0: "orange", 0.25: "green"},
            base="red",
            least=None,
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
        Look(units.Short, width, 6, thresholds=BURN_STEPS, links=[DETAIL], empty=NO_RULES),
    )


def alerts_firing(width: int, *matchers: str) -> model.Panel:
    """What fires now."""
    chosen = ",".join(('alertstate="firing"', 'severity=~"critical|warning"', *matchers))
    return rows(
        "Alerts firing",
        "Critical alerts and warnings that fire now, with the number of things each fires for. Click one for its rule.",
        [
            Column("Severity", label="severity"),
            Column("Alert", label="alertname", links=[_rule()]),
            Column("Service", label="service"),
            Column("Objective", label="slo"),
            Column("Firing", f"count by (severity, alertname, service, slo) (ALERTS{{{chosen}}})", unit=units.Short),
        ],
        Look(width=width, height=6, empty="No alert fires"),
    )


def _rule() -> links.Link:
    """Explore, on the course of the alert."""
    return links.metrics("When it fired", 'ALERTS{alertname="${__value.text}"}')
