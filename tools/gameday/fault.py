"""What a fault is: done to a stand, undone again, what has to be sent and what has to be seen in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from msgspec import Struct, field

from tools.gameday.monitoring import Watch
from tools.gameday.system import Stand

Do = Callable[[Stand, Watch], AbstractContextManager[None]]
"""Inflicts the fault on entry and ends it on exit."""
Steps = Iterator[None]


class Expect(Struct, frozen=True, kw_only=True):
    """One alert that has to come."""

    alert: str
    receiver: str = "chat"
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    within: float = 90.0
    """Seconds from the fault to the notification."""
    clears: float = 180.0
    """Seconds from the fault's end to the notification that it is over."""


class Shows(Struct, frozen=True, kw_only=True):
    """What has to change on the overview."""

    panel: str
    of: str
    """The series, or any cell of the row."""
    colour: str
    within: float = 60.0
    """Seconds from when the fault is there."""


def firing(alert: str, colour: str = "orange") -> tuple[Shows, ...]:
    """The alert is in the table, and none is worse."""
    worst = {"red": "critical", "orange": "warning"}[colour]
    return (
        Shows(panel="Worst alert", of=worst, colour=colour),
        Shows(panel="Alerts firing", of=alert, colour=colour),
    )


class Fault(Struct, frozen=True, kw_only=True):
    """One fault."""

    name: str
    does: str
    """In words, for the table."""
    do: Do
    expect: tuple[Expect, ...]
    shows: tuple[Shows, ...]
    """What the overview shows that it did not show before."""
    may_page: frozenset[str] = frozenset()
    """Pages that would be right as well: users feel the fault there too."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    """Requests a second, beside the usual."""
    warm_up: float = 12.0
    """Seconds of health before."""
    needs_root: bool = False
