"""What an alert beside the objectives says, before it is rendered."""

from __future__ import annotations

from msgspec import Struct

OWN = "@own"
"""Stands in a query for the matchers of the service's own series."""


OUTLASTS_BURNS = "6m"
"""Longer than the 5 min in which budgets go on burning after an outage: what held their pages back stays till then."""
COUNT = '{{ $value | printf "%.0f" }}'
"""A whole number in a description."""
RATE = '{{ if lt $value 10.0 }}{{ $value | printf "%.1f" }}{{ else }}{{ $value | printf "%.0f" }}{{ end }}'
"""A number of things a minute in a description: `humanize` would write a third of one as 333.3m."""


class Cause(Struct, frozen=True, kw_only=True):
    """One alert. Durations in the query are written `[5m]` as ranges and `<5m>` as seconds."""

    alert: str
    group: str
    """Alerts about one thing: a critical one silences its warnings."""
    query: str
    pending: str
    keep: str | None = None
    """How long it goes on firing after its condition has ended, so that what followed from it is over by then."""
    severity: str = "warning"
    """`critical` pages: users feel it. `warning` can wait for the morning. `none` is for the heartbeat."""
    slo: str | None = None
    """The objective that it threatens, where there is one."""
    summary: str
    description: str
    dashboard: str
    since: str = "3h"
    """How far back its dashboard looks."""
