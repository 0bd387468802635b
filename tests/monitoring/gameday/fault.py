"""What a fault is: done to a stand, undone again, and what has to be told meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from msgspec import Struct, field

from tests.monitoring.gameday.stand import Stand
from tests.monitoring.gameday.watch import Watch

Do = Callable[[Stand, Watch], AbstractContextManager[None]]
"""Inflicts the fault on entry and mends it on exit."""
Steps = Iterator[None]


class Expect(Struct, frozen=True, kw_only=True):
    """One alert that has to come."""

    alert: str
    receiver: str = "chat"
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    within: float = 90.0
    """Seconds from the fault to the notification."""
    clears: float = 180.0
    """Seconds from the mending to the notification that it is over."""


class Fault(Struct, frozen=True, kw_only=True):
    """One fault."""

    name: str
    does: str
    """In words, for the table."""
    do: Do
    expect: tuple[Expect, ...]
    may_page: frozenset[str] = frozenset()
    """Pages that would be right as well: users feel the fault there too."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    """Requests a second, beside the usual."""
    warm_up: float = 12.0
    """Seconds of health before."""
    needs_root: bool = False
