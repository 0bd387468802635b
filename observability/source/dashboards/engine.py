"""Panels about the engine's processes, which read files and compute features."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.panels import Look, Query, lines
from observability.source.dashboards.promql import counted, quantile, series, total

LOGS = links.logs("Log lines of engine processes", "|~ `engine process`")


def engine() -> list[model.Panel]:
    """The panels, side by side."""
    return [processes(), killed(), waits()]


def processes() -> model.Panel:
    """Engine processes by state."""
    return lines(
        "Engine processes",
        "Child processes that read files and compute, over all processes of the service. A lost one was killed and "
        "does not end: its place is gone until it does.",
        [Query(total(series("engine_processes"), "state"), "{{state}}")],
        Look(units.Short, 8, 8, colours={"lost": "red"}, links=[LOGS]),
    )


def killed() -> model.Panel:
    """Engine processes that ended before their request."""
    return lines(
        "Engine processes killed",
        "A minute, by reason: cancelled by a client, killed at the deadline because the engine did not stop by "
        "itself, or crashed over a file or plan.",
        [Query(counted("engine_processes_killed_total", by=("reason",)), "{{reason}}")],
        Look(units.OpsPerMinute, 8, 8, colours={"deadline": "orange", "crashed": "red"}, links=[LOGS]),
    )


def waits() -> model.Panel:
    """How long requests wait for a place of the engine."""
    return lines(
        "Wait for the engine, p95",
        "19 of 20 requests got a place of the engine within this time, by the size of their work. Small work has a "
        "place kept for it.",
        [Query(quantile(0.95, "engine_turn_wait_seconds", by=("lane",)), "{{lane}}")],
        Look(units.Seconds, 8, 8, thresholds={30: "orange"}, links=[links.traces("Slow traces", slower="2500ms")]),
    )
