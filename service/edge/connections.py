"""All open connections of a process: how many there may be, whose is closed for another, and which take too long.

A connection beyond a bound is held in reserve: its header is read, a health probe is answered, and anything else is
refused. So a probe is answered although all places are taken, and a refused client has sent its request when it is
answered.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address
from typing import Protocol

from service.edge.limits import EdgeLimits
from service.features.events import ConnectionRefusal, ConnectionsMeasured

SWEEP_SECONDS = 1.0
"""Between two looks at all connections: a timer for each would cost every request, a look costs nothing until then."""
RESERVED_CONNECTIONS = 64
"""Beyond the bounds; when more come, the oldest of them is closed."""
EVICTED_SHARE = 100
"""One in so many places is freed at once when all are taken, so that a flood does not search for each connection."""

Answer = tuple[int, Sequence[tuple[bytes, bytes]], bytes]
"""Status, header fields without the connection's own, and body."""


class Connection(Protocol):
    """What is needed of a connection."""

    network: str
    """Whose connections are counted together."""

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for its client, by the loop's clock; None while a request is being served."""
        ...

    def give_way(self) -> None:
        """Close it, so that another has room."""
        ...

    def sweep(self, now: float) -> None:
        """Close it when it takes too long."""
        ...


class Connections:
    """Admit and count connections, and sweep them once a second; for one event loop."""

    def __init__(
        self,
        limits: EdgeLimits,
        render: Callable[[ConnectionRefusal, str], Answer],
        report: Callable[[ConnectionsMeasured], None],
    ) -> None:
        """Render a refusal of a request to a path with `render`; `report` gets the numbers of each second."""
        self.limits = limits
        self.render = render
        self._report = report
        self._open: set[Connection] = set()
        self._reserve: dict[Connection, None] = {}
        """In the order in which they came."""
        self._of_network: Counter[str] = Counter()
        self._refused: Counter[ConnectionRefusal] = Counter()
        """Since the last report."""
        self._timer: asyncio.TimerHandle | None = None
        self._measure()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> ConnectionRefusal | None:
        """Count a new connection. Returns why it is in reserve, where only health probes are answered; None mostly."""
        self._start_timer()
        beyond = self._beyond(connection.network)
        if beyond is None:
            self._open.add(connection)
            self._of_network[connection.network] += 1
            return None
        self._reserve[connection] = None
        if len(self._reserve) > RESERVED_CONNECTIONS:
            oldest = next((held for held in self._reserve if held.waiting_since is not None), next(iter(self._reserve)))
            self._make_give_way(oldest)
        return beyond

    def remove(self, connection: Connection) -> None:
        """Count it no more; nothing for one that has gone already."""
        self._reserve.pop(connection, None)
        if connection not in self._open:
            return
        self._open.discard(connection)
        self._of_network[connection.network] -= 1
        if self._of_network[connection.network] <= 0:
            del self._of_network[connection.network]

    def refused(self, refusal: ConnectionRefusal) -> None:
        """Count a connection that was refused or closed."""
        self._refused[refusal] += 1
        self._start_timer()

    def _beyond(self, network: str) -> ConnectionRefusal | None:
        limits = self.limits
        if 0 < limits.max_connections_per_address <= self._of_network[network]:
            return "too_many_connections_of_address"
        if len(self._open) >= limits.max_connections and not self._make_room(network):
            return "too_many_connections"
        return None

    def _make_room(self, network: str) -> bool:
        """Close connections that wait for their clients: of those with most connections first, longest waits first.

        Clients with fewer connections than the one that wants room are left alone.
        """
        counts = self._of_network
        own = counts[network]
        waiting = [
            (-counts[one.network], since, id(one), one)
            for one in self._open
            if (since := one.waiting_since) is not None and counts[one.network] >= own
        ]
        for *_, one in heapq.nsmallest(1 + self.limits.max_connections // EVICTED_SHARE, waiting):
            self._make_give_way(one)
        return bool(waiting)

    def _make_give_way(self, connection: Connection) -> None:
        self.remove(connection)  # at once: the transport closes later
        connection.give_way()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in (*self._open, *self._reserve):
            connection.sweep(now)
        self._measure()
        if self._open or self._reserve:
            self._start_timer()

    def _measure(self) -> None:
        refused, self._refused = self._refused, Counter()
        self._report(ConnectionsMeasured(len(self._open), self.limits.max_connections, dict(refused)))


def network_of(address: str) -> str:
    """Return whose connections an address's are counted with: itself, or its network of 64 bits in IPv6.

    One client there has a whole network; an IPv4 address in IPv6's notation is itself.
    """
    if ":" not in address:
        return address
    found = IPv6Address(address.partition("%")[0])
    return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
