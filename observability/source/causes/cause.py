"""What an alert beside the objectives says, before it is rendered."""

from __future__ import annotations

from msgspec import Struct

OWN = "@own"
"""Stands in a query for the matchers of the service's own series."""


class Cause(Struct, frozen=True, kw_only=True):
    """One alert. Durations in the query are written `[5m]` as ranges and `<5m>` as seconds."""

    alert: str
    group: str
    """Alerts about one thing: a critical one silences its warnings."""
    query: str
    pending: str
    severity: str = "warning"
    """`critical` pages: users feel it. `warning` can wait for the morning. `none` is for the heartbeat."""
    slo: str | None = None
    """The objective that it threatens, where there is one."""
    summary: str
    description: str
    dashboard: str
    since: str = "3h"
    """How far back its dashboard looks."""
