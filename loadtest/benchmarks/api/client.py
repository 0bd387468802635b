"""The load client: raw keep-alive connections, so that asking costs a fraction of answering."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
GRACE_SECONDS = 30.0
"""For answers that are still due when the time is up."""
SLOWEST_SECONDS = 0.02
"""For each of a number of requests, until the server is taken to answer no more."""

NextRequest = Callable[[], bytes]
Record = Callable[[int, float, bytes], None]


class BrokenAnswer(RuntimeError):
    """The server closed a connection, or answered without a length."""


@dataclass
class Load:
    """What came of some load."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list[float])
    """Seconds, in order of arrival."""
    statuses: Counter[int] = field(default_factory=Counter[int])
    last: bytes = b""
    """Body of the last answer."""

    @property
    def requests(self) -> int:
        """Answers received."""
        return len(self.latencies)

    def percentile(self, share: float) -> float:
        """The latency that this share of requests did not exceed, in seconds; 0 without any."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0

    def note(self, status: int, seconds: float, body: bytes) -> None:
        """Record one answer."""
        self.latencies.append(seconds)
        self.statuses[status] += 1
        self.last = body


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, record: Record, done: Callable[[Connection], None]) -> None:
        self._record = record
        self._done = done
        self._buffer = b""
        self._since = 0.0
        self._transport: asyncio.Transport | None = None
        self.broken: BrokenAnswer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport  # type: ignore[assignment]

    def ask(self, request: bytes, since: float) -> None:
        """Send a request whose latency counts from `since`."""
        self._since = since
        self._transport.write(request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        buffer = self._buffer = self._buffer + data if self._buffer else data
        end = buffer.find(HEAD_END)
        if end < 0:
            return
        total = end + len(HEAD_END) + _length(buffer[:end], int(buffer[9:12]))
        if len(buffer) < total:
            return
        self._buffer = b""
        self._record(int(buffer[9:12]), perf_counter() - self._since, buffer[end + len(HEAD_END) :])
        self._done(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.broken = BrokenAnswer(f"the server closed the connection ({exc})")

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


def _length(head: bytes, status: int) -> int:
    found = head.lower().find(LENGTH)
    if found < 0:
        if status == 204:  # noqa: PLR2004 -- it has no body
            return 0
        raise BrokenAnswer("an answer has no content-length")
    return int(head[found + len(LENGTH) :].partition(b"\r\n")[0])


async def closed_loop(
    host: str, port: int, request: NextRequest, *, connections: int, seconds: float = 0.0, count: int = 0
) -> Load:
    """As many requests as the server answers, one after another on each connection.

    Ends after `seconds`, or once `count` requests were sent. Raises BrokenAnswer.
    """
    load, over, left = Load(), asyncio.Event(), count
    began = perf_counter()
    last = began + seconds if seconds else float("inf")
    busy = 0

    def done(connection: Connection) -> None:
        nonlocal left, busy
        now = perf_counter()
        busy -= 1
        if now < last and (not count or left > 0):
            left, busy = left - 1, busy + 1
            connection.ask(request(), now)
        elif not busy:
            over.set()

    opened = await _open(host, port, connections, load.note, done)
    try:
        for connection in opened:
            if not count or left > 0:
                left, busy = left - 1, busy + 1
                connection.ask(request(), perf_counter())
        await _wait(over, opened, seconds or count * SLOWEST_SECONDS)
    finally:
        _close(opened)
    load.seconds = perf_counter() - began
    return load


async def open_loop(
    host: str, port: int, request: NextRequest, *, connections: int, seconds: float, rate: float
) -> Load:
    """`rate` requests a second, evenly, whatever the server does; latency counts from when each was due.

    Raises BrokenAnswer.
    """
    load, over = Load(), asyncio.Event()
    free: deque[Connection] = deque()
    due: deque[float] = deque()
    total = int(rate * seconds)

    def done(connection: Connection) -> None:
        if due:
            connection.ask(request(), due.popleft())
        else:
            free.append(connection)
        if load.requests >= total:
            over.set()

    opened = await _open(host, port, connections, load.note, done)
    free.extend(opened)
    began = perf_counter()
    try:
        sent = 0
        while sent < total:
            now = perf_counter()
            while sent < total and began + sent / rate <= now:
                due.append(began + sent / rate)
                sent += 1
            while due and free:
                free.popleft().ask(request(), due.popleft())
            await asyncio.sleep(max(0.0, began + sent / rate - perf_counter()))
        await _wait(over, opened, seconds)
    finally:
        _close(opened)
    load.seconds = perf_counter() - began
    return load


async def _open(
    host: str, port: int, count: int, record: Record, done: Callable[[Connection], None]
) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(lambda: Connection(record, done), host, port))[1] for _ in range(count)]


async def _wait(over: asyncio.Event, opened: list[Connection], seconds: float) -> None:
    last = perf_counter() + seconds + GRACE_SECONDS
    while not over.is_set():
        broken = next((connection.broken for connection in opened if connection.broken), None)
        if broken is not None:
            raise broken
        if perf_counter() > last:
            raise BrokenAnswer("answers are still due")
        try:
            async with asyncio.timeout(0.5):
                await over.wait()
        except TimeoutError:
            continue


def _close(opened: list[Connection]) -> None:
    for connection in opened:
        connection.broken = None
        connection.close()
