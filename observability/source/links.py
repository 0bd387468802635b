"""Links from an alert: to its runbook, and to its panel or board over a time that shows the beginning."""

from __future__ import annotations

from collections.abc import Mapping

from observability.source.dashboards.alerted import panel_of
from observability.source.slo import Objectives


def links(objectives: Objectives, alert: str, dashboard: str, *, since: str) -> Mapping[str, str]:
    """The two annotations; `since` is how far back the dashboard looks. Notifications put fixed times in its place."""
    base = objectives.links
    panel = panel_of(objectives, alert, dashboard)
    shown = "" if panel is None else f"viewPanel=panel-{panel}&"
    return {
        "runbook_url": f"{base.runbooks}/{alert}.md",
        "dashboard_url": f"{base.dashboards}/{dashboard}?{shown}from=now-{since}&to=now",
    }
