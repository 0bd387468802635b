"""All open connections of a process: how many there may be, and the sweep that closes those that take too long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from service.edge.limits import EdgeLimits, Refusal

SWEEP_SECONDS = 1.0
"""Between two looks at all connections: a timer for each would cost every request, a look costs nothing until then."""


class Connection(Protocol):
    """What the sweep needs of a connection."""

    def sweep(self, now: float) -> None:
        """Close it when it takes too long."""
        ...


class Connections:
    """Count connections by address and sweep them once a second; for one event loop."""

    def __init__(self, limits: EdgeLimits, refused: Callable[[Refusal], None]) -> None:
        """`refused` is called for each connection that was refused or closed for taking too much."""
        self.limits = limits
        self.refused = refused
        self._open: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def refusal(self, address: str) -> Refusal | None:
        """Return why one more connection from the address is too much; None when it is not."""
        limits = self.limits
        if limits.max_connections and len(self._open) >= limits.max_connections:
            return "too_many_connections"
        most = limits.max_connections_per_address
        if address and most and self._of_address[address] >= most:
            return "too_many_connections_of_address"
        return None

    def add(self, connection: Connection, address: str) -> None:
        """Count an accepted connection."""
        self._open.add(connection)
        self._of_address[address] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def remove(self, connection: Connection, address: str) -> None:
        """Count it no more; nothing for one that was not accepted."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        self._of_address[address] -= 1
        if self._of_address[address] <= 0:
            del self._of_address[address]

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._open):
            connection.sweep(now)
        again = bool(self._open)
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep) if again else None
