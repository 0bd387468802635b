"""What a fault is: how it is inflicted and ended, which alerts must fire and what the overview must show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from msgspec import Struct, field

from tools.gameday.monitoring import Monitoring
from tools.gameday.system import System

Inflict = Callable[[System, Monitoring], AbstractContextManager[None]]
"""Inflicts the fault when the block begins and ends it when the block ends."""


class ExpectedAlert(Struct, frozen=True, kw_only=True):
    """An alert that must fire, and clear once the fault has ended."""

    alert: str
    receiver: str = "chat"
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    within: float = 90.0
    """Seconds from the fault to the notification."""
    clears: float = 180.0
    """Seconds from the fault's end to the notification that it is over."""


class ExpectedPanel(Struct, frozen=True, kw_only=True):
    """A panel of the overview that must change its colour."""

    panel: str
    of: str
    """The series, or any cell of the row."""
    colour: str
    within: float = 60.0
    """Seconds from the fault."""


def overview_shows(alert: str, colour: str = "orange") -> tuple[ExpectedPanel, ...]:
    """Expect the alert in the overview's table of alerts, and no worse one."""
    worst = {"red": "critical", "orange": "warning"}[colour]
    return (
        ExpectedPanel(panel="Worst alert", of=worst, colour=colour),
        ExpectedPanel(panel="Alerts firing", of=alert, colour=colour),
    )


class Fault(Struct, frozen=True, kw_only=True):
    """One fault."""

    name: str
    description: str
    """What is done, for the table of results."""
    inflict: Inflict
    alerts: tuple[ExpectedAlert, ...]
    panels: tuple[ExpectedPanel, ...]
    """What the overview shows that it did not show before."""
    may_page: frozenset[str] = frozenset()
    """Other alerts that may page: users feel the fault there too."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    """Requests a second by kind of user, in place of the usual."""
    warm_up: float = 12.0
    """Seconds of healthy traffic before the fault."""
    needs_root: bool = False
