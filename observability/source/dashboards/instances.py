"""The table of instances: every target of Prometheus with its state, its age and its restarts."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.fields import Steps
from observability.source.dashboards.names import TELEMETRY
from observability.source.dashboards.panels import Column, Look, rows
from observability.source.dashboards.promql import series

BY = "max by (job, instance)"
UP = {"0": ("down", "red"), "1": ("up", "green")}
RESTARTS: Steps = {1: "orange", 3: "red"}
"""Three within 15 minutes is a crash loop."""


def instances() -> model.Panel:
    """Every process that has metrics, those that restarted most first."""
    started = series("process_start_time_seconds")
    return rows(
        "Instances",
        "Every process that Prometheus knows: whether it answers, when it started, how often it restarted in the time "
        "range, its processor time and memory now. A process that comes and goes is a crash loop, wherever it runs.",
        [
            Column("Job", label="job", width=200),
            Column("Instance", label="instance", links=[links.board("Targets", TELEMETRY)]),
            Column("State", f"{BY} ({series('up')})", words=UP, width=90),
            Column("Last start", f"{BY} ({started}) * 1000", unit="dateTimeFromNow", width=150),
            Column(
                "Restarts",
                f"{BY} (changes({started}[$__range]))",
                unit=units.Short,
                thresholds=RESTARTS,
                width=100,
            ),
            Column("Cores", _cores(), unit=units.Short, width=100),
            Column("Memory", _memory(), unit=units.BytesIEC, width=110),
        ],
        Look(width=24, height=10, empty="Prometheus knows no target", minimum=None),
        highest="Restarts",
    )


def _cores() -> str:
    return f"sum by (job, instance) (rate({series('process_cpu_seconds_total')}[$__rate_interval]))"


def _memory() -> str:
    return f"sum by (job, instance) ({series('process_resident_memory_bytes')})"
