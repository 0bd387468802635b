"""The first row of the home board: does the service answer, what fires, what does it lack, which versions run."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.names import EXTRACTIONS, SATURATION, TELEMETRY
from observability.source.dashboards.panels import NO_DATA_FOR, Column, Look, Query, rows, verdict
from observability.source.dashboards.promql import process, series, total, unseen

ANSWERING = {"0": ("down", "red"), "0.001..0.999": ("partly up", "orange"), "1": ("up", "green")}
"""What the share of targets that answer means."""
UNKNOWN_UP = "Not known: no process answers"


def is_it_up() -> list[model.Panel]:
    """Build the four states: API, workers, alerts and dependencies, a word on a colour each."""
    return [api(), workers(), worst_alert(), worst_dependency()]


def _answering(job: str) -> list[Query]:
    """Targets that answer beside those expected, and since when none does."""
    return [
        Query(f'sum(up{{job="{job}"}})', "up"),
        Query(f'count(up{{job="{job}"}})', "expected"),
        Query(unseen(job), NO_DATA_FOR),
    ]


def api() -> model.Panel:
    """Whether the API is there."""
    state = 'avg(up{job="feature-agent"}) or vector(0)'
    return verdict(
        "API processes",
        "Whether the API's processes answer Prometheus: how many of those expected, and for how long none has.",
        [Query(state, "API"), *_answering("feature-agent")],
        Look(units.Short, 7, 5, words=ANSWERING, links=[links.board("Targets", TELEMETRY)], empty=UNKNOWN_UP),
    )


def workers() -> model.Panel:
    """Whether anything computes."""
    state = f'avg(up{{job="feature-agent-worker"}}) or clamp_max(max({series("extraction_workers")}), 1)'
    return verdict(
        "Worker processes",
        "Whether the workers' processes answer Prometheus; where the API's do the work, whether the queue has a "
        "live worker.",
        [Query(state, "Workers"), *_answering("feature-agent-worker")],
        Look(units.Short, 7, 5, words=ANSWERING, links=[links.board("Extractions", EXTRACTIONS)], empty=UNKNOWN_UP),
    )


def worst_alert() -> model.Panel:
    """The worst alert that fires."""
    fires = 'ALERTS{{alertstate="firing",severity="{}"}}'
    critical, warning = fires.format("critical"), fires.format("warning")
    watched = 'ALERTS{alertname="Watchdog",alertstate="firing"}'
    return verdict(
        "Worst alert",
        "Severity of the worst alert that fires, and how many do. None is green only while Prometheus evaluates its "
        "rules, as the Watchdog that always fires shows.",
        [
            Query(f"max(2 * {critical} or {warning} or 0 * {watched})", "worst"),
            Query(f"count({critical}) or vector(0)", "critical"),
            Query(f"count({warning}) or vector(0)", "warnings"),
        ],
        Look(
            units.Short,
            6,
            5,
            words={"0": ("none", "green"), "1": ("warning", "orange"), "2": ("critical", "red")},
            links=[links.metrics("Alerts", "ALERTS")],
            empty="Not known: no rule is evaluated",
        ),
    )


def worst_dependency() -> model.Panel:
    """The worst of the dependencies."""
    database = "1 - " + series("dependency_up", 'dependency="database"')
    left_alone = f"({series('model_breaker_state')} == 2) - 1"
    others = "1 - " + series("dependency_up", 'dependency!="database"')
    return verdict(
        "Dependencies now",
        "Whether the database answers, without which nothing works, and the others, without which the service is "
        "degraded; so it is while a model's circuit breaker is open.",
        [Query(f"max(2 * ({database}) or {others} or {left_alone})", "worst")],
        Look(
            units.Short,
            4,
            5,
            words={"0": ("all up", "green"), "1": ("degraded", "orange"), "2": ("no database", "red")},
            links=[links.board("Dependencies", SATURATION)],
            empty="Not known: no process says",
        ),
    )


def versions() -> model.Panel:
    """Which builds run."""
    running = total(series("application_info"), "version", "environment")
    started = f"max by (version, environment) ({process('process_start_time_seconds')} * 1000 * on (job, instance) "
    started += f"group_left (version, environment) {series('application_info')})"
    return rows(
        "Versions",
        "Processes by the version they run, and when the youngest of them started. Two versions for longer than a "
        "rollout takes mean that it is stuck.",
        [
            Column("Version", label="version"),
            Column("Environment", label="environment", width=110),
            Column("Processes", running, unit=units.Short, width=90),
            Column("Last start", started, unit="dateTimeFromNow", width=130),
        ],
        Look(width=8, height=12, empty="No process of the service answers Prometheus", minimum=None),
    )
