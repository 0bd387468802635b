"""Panels about the service's processes that several boards show."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.names import SATURATION
from observability.source.dashboards.panels import NARROW, Look, Query, lines, percentiles
from observability.source.dashboards.promql import OWN_JOBS, process, quantile, rate, series, total

LIMIT = "memory limit"
DETAIL = links.board("Saturation", SATURATION)


def cpu(width: int) -> model.Panel:
    """CPU of each process."""
    return lines(
        "CPU",
        "Cores that each process uses. Python computes on one core at a time; the engine's threads come on top.",
        [Query(rate("process_cpu_seconds_total", OWN_JOBS), "{{instance}} {{job}}")],
        Look(units.Short, width, 8, thresholds={1: "orange"}, links=[DETAIL]),
    )


def memory(width: int) -> model.Panel:
    """Resident memory of each process."""
    used = process("process_resident_memory_bytes")
    return lines(
        "Memory",
        "Resident memory of each process, and the least that any of them may use before it is killed, once a tenth of "
        "it is used: a machine's own memory would flatten the rest. A line that only climbs is a leak.",
        [
            Query(used, "{{instance}} {{job}}"),
            Query(f"min({series('memory_limit_bytes')}) < 10 * max({used})", LIMIT),
        ],
        Look(units.BytesIEC, width, 8, colours={LIMIT: "red"}, links=[DETAIL]),
    )


def event_loop(width: int) -> model.Panel:
    """Lag of the event loop; a narrow panel has room for its highest quantile alone."""
    quantiles = (0.99,) if width <= NARROW else (0.5, 0.99)
    return lines(
        "Event loop lag",
        "How much later than asked the event loop woke a sleeping task: every request of the process waits that long. "
        "Above 0.1 s something computes where it must not.",
        percentiles(
            lambda q: quantile(q, "event_loop_lag_seconds", by=("job",)), *quantiles, of="{{job}}", exemplars=False
        ),
        Look(units.Seconds, width, 8, thresholds={0.1: "orange"}, links=[DETAIL]),
    )


def pool(width: int) -> model.Panel:
    """Connections of the database pools."""
    return lines(
        "Database connections",
        "Connections of the processes' pools by state. All in use and none idle for long: requests wait, then get 503.",
        [Query(total(series("db_pool_connections"), "state"), "{{state}}")],
        Look(units.Short, width, 8, stacked=True, links=[DETAIL]),
    )
