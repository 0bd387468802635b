"""Where a panel leads: traces, log lines and other boards, with the panel's own time range."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from observability.source.dashboards.names import JAEGER, LOKI, PROMETHEUS, SERVICE

API, WORKER = f"{SERVICE}-api", f"{SERVICE}-worker"
"""The services that traces know."""
STREAM = f'{{service="{SERVICE}",component=~"api|worker"}}'
"""The service's own log lines, as Alloy labels them."""
Link = dict[str, object]
"""A data link as Grafana's field configuration has it."""


def _explore(uid: str, kind: str, query: dict[str, object]) -> str:
    """An address of Explore; Grafana's `${…}` stay as they are, to be filled in when the link is clicked."""
    pane = {
        "datasource": uid,
        "queries": [{"refId": "A", "datasource": {"type": kind, "uid": uid}, **query}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"p": pane}, separators=(",", ":")), safe="")
    panes = re.sub(r"%24%7B([A-Za-z0-9_.]+)%7D", r"${\1}", panes)
    return f"/explore?schemaVersion=1&orgId=1&panes={panes}"


def logs(title: str, pipeline: str = "") -> Link:
    """Log lines of the service; `pipeline` is LogQL after the stream selector."""
    expression = f"{STREAM} {pipeline}".strip()
    return {"title": title, "url": _explore(LOKI, "loki", {"expr": expression}), "targetBlank": True}


def search(
    *, service: str = API, operation: str | None = None, tags: str | None = None, slower: str | None = None
) -> dict[str, object]:
    """A search for spans of one of the services: of one operation, with tags (logfmt), or lasting longer."""
    wanted = {"operation": operation, "tags": tags, "minDuration": slower}
    query: dict[str, object] = {"queryType": "search", "service": service, "limit": 20}
    return query | {name: value for name, value in wanted.items() if value is not None}


def traces(
    title: str, *, service: str = API, operation: str | None = None, tags: str | None = None, slower: str | None = None
) -> Link:
    """A search for traces in Explore."""
    query = search(service=service, operation=operation, tags=tags, slower=slower)
    return {"title": title, "url": _explore(JAEGER, "jaeger", query), "targetBlank": True}


def metrics(title: str, expression: str) -> Link:
    """An expression in Explore."""
    return {"title": title, "url": _explore(PROMETHEUS, "prometheus", {"expr": expression}), "targetBlank": True}


def board(title: str, uid: str, *, variables: str = "", since: str = "") -> Link:
    """Another board, with the time range or one of its own and, as `var-name=value`, the variables given."""
    span = f"from=now-{since}&to=now" if since else "${__url_time_range}"
    address = f"/d/{uid}?{span}&${{datasource:queryparam}}"
    return {"title": title, "url": f"{address}&{variables}" if variables else address, "targetBlank": False}


FAILURES = (
    traces("Traces with errors", tags="error=true"),
    logs("Log lines of failures", "| level=~`error|warning`"),
)
"""For panels that count what went wrong."""
SLOW = (
    traces("Slow traces", slower="2500ms"),
    logs("Log lines of slow requests", "| json | duration_ms > 2500"),
)
"""For panels of durations."""
