"""Links from an alert: to its runbook, and to its dashboard over a time that shows the beginning."""

from __future__ import annotations

from collections.abc import Mapping

from observability.source.slo import Objectives


def links(objectives: Objectives, alert: str, dashboard: str, *, since: str) -> Mapping[str, str]:
    """The two annotations; `since` is how far back the dashboard looks. Notifications put fixed times in its place."""
    base = objectives.links
    return {
        "runbook_url": f"{base.runbooks}/{alert}.md",
        "dashboard_url": f"{base.dashboards}/{dashboard}?from=now-{since}&to=now",
    }
