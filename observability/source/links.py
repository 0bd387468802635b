"""Links from an alert: to its runbook, and to its panel or board over a time that shows the beginning."""

from __future__ import annotations

import re
from collections.abc import Mapping

from observability.source.dashboards.alerted import panel_of
from observability.source.durations import seconds_of
from observability.source.slo import Objectives

_MOMENT = re.compile(r'{{ with query "1000 \* \(time\(\) ([+-]) (\d+)\)" }}.+?{{ end }}')
AFTER_SECONDS = 3600
"""How much of what followed is shown."""


def links(objectives: Objectives, alert: str, dashboard: str, *, since: str) -> Mapping[str, str]:
    """The two annotations; `since` is how far back the dashboard looks from the moment at which the alert fires.

    Prometheus fills in fixed times: opened on the next morning, in whatever way the alert was sent, the link still
    shows what it was about.
    """
    base = objectives.links
    panel = panel_of(objectives, alert, dashboard)
    shown = "" if panel is None else f"viewPanel=panel-{panel}&"
    start, end = _milliseconds(f"- {seconds_of(since):.0f}"), _milliseconds(f"+ {AFTER_SECONDS}")
    return {
        "runbook_url": f"{base.runbooks}/{alert}.md",
        "dashboard_url": f"{base.dashboards}/{dashboard}?{shown}from={start}&to={end}",
    }


def filled(text: str, external_url: str, now: float) -> str:
    """An annotation as Prometheus fills it in at that moment, in seconds since the epoch."""
    text = text.replace("{{ $externalURL }}", external_url)
    return _MOMENT.sub(lambda found: f"{1000 * (now + float(found[1] + found[2])):.0f}", text)


def _milliseconds(shift: str) -> str:
    """A template of that many seconds before or after now, as Grafana counts."""
    return f'{{{{ with query "1000 * (time() {shift})" }}}}{{{{ . | first | value | printf "%.0f" }}}}{{{{ end }}}}'
