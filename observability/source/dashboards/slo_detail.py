"""One objective in detail: how it stands, how fast its budget goes, and which alert that means."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.board import Board, Row, variable
from observability.source.dashboards.names import SLO
from observability.source.dashboards.objectives import NO_POINT, NO_RULES, alerts_firing, recorded
from observability.source.dashboards.panels import Look, Query, lines, number
from observability.source.slo import Objectives

KEPT = "kept"
MISSED = "missed"
CHOSEN = 'slo="$slo"'
LOOK_THERE = (*links.FAILURES, links.traces("Slow traces", slower="2500ms"))


def board(objectives: Objectives) -> Board:
    """The board."""
    return Board(
        SLO,
        "Objectives and error budgets",
        "One objective: what it promises, what is left of its error budget, and how fast that is spent.",
        [
            Row("Now", [*headline()]),
            Row("Error budget", [remaining(), errors(objectives)]),
            Row("Burn", [burn(objectives), requests(), alerts_firing(12, CHOSEN)]),
        ],
        since="30d",
        variables=[variable("slo", "Objective", "label_values(slo:objective:ratio, slo)", several=False)],
    )


def headline() -> list[model.Panel]:
    """Build the six tiles: promise, what was kept, budget, what is left, its pace, how long it lasts."""
    return [objective(), good_events(), allowed(), left(), burn_rate(), lasts()]


def _tile(unit: str, decimals: int, *, empty: str = NO_RULES) -> Look:
    return Look(unit, 4, 5, decimals=decimals, empty=empty, links=LOOK_THERE)


def objective() -> model.Panel:
    """Build the promise."""
    return number(
        "Objective",
        "Share of good events that is promised over 30 days.",
        [Query(recorded("slo:objective:ratio", CHOSEN), "objective")],
        _tile(units.PercentUnit, 2),
    )


def good_events() -> model.Panel:
    """Build what was kept of the promise."""
    good = f"1 - {recorded('slo:sli_error:ratio_rate30d', CHOSEN)}"
    promised = f"on (slo, service) {recorded('slo:objective:ratio', CHOSEN)}"
    return number(
        "Good events, 30 days",
        "Share of good events over the last 30 days, or since there are data: red while it is below the objective.",
        [Query(f"{good} >= {promised}", KEPT), Query(f"{good} < {promised}", MISSED)],
        replace(_tile(units.PercentUnit, 3), colours={KEPT: "green", MISSED: "red"}),
    )


def allowed() -> model.Panel:
    """Build the error budget."""
    return number(
        "Allowed to fail",
        "The error budget: the share of events that may be bad.",
        [Query(recorded("slo:error_budget:ratio", CHOSEN), "allowed")],
        _tile(units.PercentUnit, 2),
    )


def left() -> model.Panel:
    """Build the rest of the error budget."""
    return number(
        "Budget left",
        "Share of the error budget that is left. Below 0 the objective is missed.",
        [Query(recorded("slo:error_budget_remaining:ratio", CHOSEN), "left")],
        replace(_tile(units.PercentUnit, 1), thresholds={0.0: "orange", 0.25: "green"}, base="red", minimum=None),
    )


def burn_rate() -> model.Panel:
    """Build the pace at which the budget is spent."""
    return number(
        "Burn rate",
        "How many times as fast as it may be the budget is spent now.",
        [Query(recorded("slo:current_burn_rate:ratio", CHOSEN), "burn rate")],
        replace(_tile(units.Short, 2), thresholds={1: "orange", 6: "red"}),
    )


def lasts() -> model.Panel:
    """Build the time that the rest of the budget lasts."""
    rest = f"clamp_min({recorded('slo:error_budget_remaining:ratio', CHOSEN)}, 0) * 30 * 86400"
    return number(
        "Budget lasts",
        "How long the rest of the budget lasts at the pace of now; empty while none is spent.",
        [Query(f"{rest} / ({recorded('slo:current_burn_rate:ratio', CHOSEN)} > 0)", "lasts")],
        replace(
            _tile(units.Seconds, 1, empty="Nothing of it is being spent"),
            thresholds={259200: "orange", 1209600: "green"},
            base="red",
        ),
    )


def remaining() -> model.Panel:
    """The budget over time."""
    return lines(
        "Error budget left",
        "What is left of the error budget of the 30 days before each moment. It comes back as bad times fall out of "
        "the window.",
        [Query(recorded("slo:error_budget_remaining:ratio", CHOSEN), "{{slo}}")],
        Look(units.PercentUnit, 12, 8, minimum=None, empty=NO_POINT, links=LOOK_THERE, since="30d"),
    )


def windows(objectives: Objectives) -> list[str]:
    """The windows that alerts look at, the shortest first."""
    found = {window for pair in objectives.burn_alerts for window in (pair.short, pair.long)}
    return [window for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d") if window in found]


def errors(objectives: Objectives) -> model.Panel:
    """Bad events by window."""
    return lines(
        "Share of bad events",
        "Share of events that were bad, over each window that an alert looks at, beside what the budget allows.",
        [
            *(Query(recorded(f"slo:sli_error:ratio_rate{window}", CHOSEN), window) for window in windows(objectives)),
            Query(recorded("slo:error_budget:ratio", CHOSEN), "allowed"),
        ],
        Look(units.PercentUnit, 12, 8, colours={"allowed": "red"}, empty=NO_POINT, links=LOOK_THERE),
    )


def burn(objectives: Objectives) -> model.Panel:
    """Burn rate by window, beside what pages."""
    budget = f"on (slo, service) {recorded('slo:error_budget:ratio', CHOSEN)}"
    pairs = sorted(objectives.burn_alerts, key=lambda pair: -pair.factor)
    steps = {pair.factor: "red" if pair.severity == "critical" else "orange" for pair in pairs}
    return lines(
        "Burn rate by window",
        "An alert fires when both of its windows are above its factor: "
        + "; ".join(f"{pair.long} and {pair.short} at {pair.factor:g} ({pair.severity})" for pair in pairs)
        + ".",
        [
            Query(f"{recorded(f'slo:sli_error:ratio_rate{window}', CHOSEN)} / {budget}", window)
            for window in windows(objectives)
        ],
        Look(units.Short, 24, 8, thresholds=steps, empty=NO_POINT, links=LOOK_THERE),
    )


def requests() -> model.Panel:
    """Events a second."""
    return lines(
        "Events",
        "Events a minute that this objective counts. With few of them a single bad one weighs much, and nothing fires "
        "below the traffic floor.",
        [Query(f"60 * {recorded('slo:requests:rate5m', CHOSEN)}", "{{slo}}")],
        Look(units.OpsPerMinute, 12, 12, empty=NO_POINT, links=LOOK_THERE),
    )
