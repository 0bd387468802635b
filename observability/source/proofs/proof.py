"""How an alert is proven: samples over which it fires, clears, and others, just below, over which it stays silent."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

Samples = Mapping[str, str]
"""Series → its values at each interval, in promtool's notation."""


class Expected(Struct, frozen=True, kw_only=True):
    """One firing alert, but for what its rule says by itself."""

    description: str | None
    """None where it depends on how a version of Prometheus cuts its windows: then it is only seen that it fires."""
    severity: str = "warning"
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the query's result brings, and the windows of a burn alert."""


class Proof(Struct, frozen=True, kw_only=True):
    """Samples, and what has to be seen when."""

    alert: str
    what: str = ""
    """Which of several proofs of the alert it is."""
    fires: Samples
    pending: str | None = None
    """When the condition holds, but not long enough yet; None for an alert that waits for nothing."""
    at: str
    """When it fires."""
    expect: tuple[Expected, ...]
    clear: str | None
    """When it has cleared; None for the heartbeat."""
    kept: str | None = None
    """When it still fires although the condition has ended."""
    below: Samples | None = None
    """Samples just short of the condition: nothing fires until `at`, nor until `clear`."""
    quiet: str | None = None
    """Until when none of its rules of the same severity fires, from `clear` on."""
    interval: str = "1m"
