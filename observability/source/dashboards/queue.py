"""Panels about the queue that several boards show."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.names import EXTRACTIONS
from observability.source.dashboards.panels import Look, Query, lines
from observability.source.dashboards.promql import series

DETAIL = links.board("Extractions", EXTRACTIONS)


def waiting(width: int) -> model.Panel:
    """Jobs of the queue by state."""
    return lines(
        "Jobs in the queue",
        "Jobs that could run now (queued), wait for their next attempt (scheduled) or run. Every process tells of the "
        "whole queue, so this is the highest of them, not their sum.",
        [Query(f"max by (state) ({series('extraction_queue_jobs')})", "{{state}}")],
        Look(units.Short, width, 8, links=[DETAIL]),
    )


def oldest(width: int) -> model.Panel:
    """Age of the oldest job that could run."""
    return lines(
        "Oldest waiting job",
        "How long the oldest job that could run has waited for a worker. The freshness objective allows 30 s.",
        [Query(f"max({series('extraction_queue_oldest_seconds')})", "oldest")],
        Look(
            units.Seconds,
            width,
            8,
            thresholds={30: "red"},
            links=[DETAIL, links.logs("Log lines of workers", "| json | logger =~ `service.jobs.*`")],
        ),
    )
