"""Connections that send too much, too slowly or too ambiguously are refused, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from service.edge.connections import Connections
from service.edge.limits import EdgeLimits, Refusal
from service.edge.protocol import limited_protocol

LIMITS = EdgeLimits(
    max_url_bytes=200,
    max_header_bytes=2000,
    max_headers=20,
    header_timeout_seconds=1.0,
    body_grace_seconds=1.0,
    min_body_bytes_per_second=1000.0,
    send_timeout_seconds=2.0,
    max_connections=6,
    max_connections_per_address=4,
)
GOOD = b"GET /a?b=c HTTP/1.1\r\nHost: here\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer its length; `/large` answers 30 MB."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = bytes(30_000_000) if scope["path"] == "/large" else str(size).encode()
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Served:
    """A server under test."""

    port: int
    connections: Connections
    refusals: list[Refusal] = field(default_factory=list)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A raw connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()


@dataclass
class Client:
    """A raw connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send bytes; a connection that the server has closed takes them silently."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def answer(self) -> tuple[int, Any]:
        """The next answer's status and body; (0, None) when the connection ends without one."""
        async with asyncio.timeout(10):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0, None
            lines = head.decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
            return int(head.split()[1]), json.loads(await self.reader.readexactly(length))


@pytest.fixture
async def served() -> AsyncGenerator[Served]:
    """A server with small limits."""
    refusals: list[Refusal] = []
    connections = Connections(LIMITS, refusals.append)
    config = uvicorn.Config(
        application, port=0, http=limited_protocol(connections), log_config=None, lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Served(port, connections, refusals)
    server.should_exit = server.force_exit = True
    await running


async def test_plain_requests_pass(served: Served) -> None:
    """Two requests on one connection, with and without a body, are answered."""
    async with served.client() as client:
        await client.send(GOOD)
        assert await client.answer() == (200, 0)
        await client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello")
        assert await client.answer() == (200, 5)
    assert served.refusals == []


@pytest.mark.parametrize(
    ("data", "status", "refusal"),
    [
        (b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: here\r\n\r\n", 414, "url_too_long"),
        (b"GET /" + b"a" * 3000, 414, "url_too_long"),
        (b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"a" * 3000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"a" * 1990 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 22, 431, "too_many_headers"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: here\r\nHost: there\r\n\r\n", 400, "ambiguous"),
        (b"GET / HTTP/1.1\r\nHost: here\r\nAuthorization: a\r\nauthorization: b\r\n\r\n", 400, "ambiguous"),
        (b"GET http://evil/ HTTP/1.1\r\nHost: here\r\n\r\n", 400, "ambiguous"),
    ],
)
async def test_a_header_that_is_refused(served: Served, data: bytes, status: int, refusal: Refusal) -> None:
    """The client gets a problem document, the connection is closed, and the reason is counted once."""
    async with served.client() as client:
        await client.send(data)
        found, problem = await client.answer()
        assert (found, problem["status"]) == (status, status)
        assert problem["detail"]
        assert await client.reader.read() == b""
    assert served.refusals == [refusal]


async def test_an_endless_header_is_cut_off(served: Served) -> None:
    """Of 60 MiB of one header line, no more is read than the limit and what the kernel had taken."""
    async with served.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(960):
            await client.send(b"a" * 65536)
            if client.writer.is_closing():
                break
        assert served.refusals == ["headers_too_large"]


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: he"])
async def test_a_header_in_no_hurry(served: Served, start: bytes) -> None:
    """A connection that sends nothing, or half a header, is closed with 408."""
    async with served.client() as client:
        await client.send(start)
        status, _ = await client.answer()
        assert status == 408
    assert served.refusals == ["header_timeout"]


async def test_a_header_that_drips_is_closed_too(served: Served) -> None:
    """A byte now and then does not extend the time."""
    async with served.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: here\r\nX: ")
        for _ in range(30):
            await client.send(b"a")
            await asyncio.sleep(0.1)
        assert served.refusals == ["header_timeout"]


async def test_a_body_that_drips(served: Served) -> None:
    """A body below the least rate ends with the connection, and the application sees a disconnect."""
    async with served.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(35):
            await client.send(b"a")
            await asyncio.sleep(0.1)
        assert served.refusals == ["body_timeout"]
        assert await client.answer() == (0, None)


async def test_an_answer_that_nobody_takes(served: Served) -> None:
    """A client that reads nothing of a large answer is closed."""
    async with served.client() as client:
        await client.send(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        async with asyncio.timeout(10):
            while "send_timeout" not in served.refusals:  # noqa: ASYNC110 -- nothing that a client sees says it
                await asyncio.sleep(0.05)


async def test_a_kept_connection_may_be_idle(served: Served) -> None:
    """Between two requests the time for a header does not run."""
    async with served.client() as client:
        await client.send(GOOD)
        assert (await client.answer())[0] == 200
        await asyncio.sleep(2.5)
        await client.send(GOOD)
        assert (await client.answer())[0] == 200
    assert served.refusals == []


async def test_one_address_has_its_share(served: Served) -> None:
    """The fifth connection of an address is refused; a place that is given back can be taken again."""
    writers = [(await asyncio.open_connection("127.0.0.1", served.port))[1] for _ in range(4)]
    await asyncio.sleep(0.1)
    async with served.client() as client:
        status, problem = await client.answer()
        assert (status, problem["error_code"], problem["retry_after"]) == (429, "too_many_connections", 1)
    writers[0].close()
    await asyncio.sleep(0.1)
    async with served.client() as client:
        await client.send(GOOD)
        assert (await client.answer())[0] == 200
    for writer in writers[1:]:
        writer.close()


def test_all_addresses_together_have_a_limit() -> None:
    """Beyond all places, every address is refused."""
    connections = Connections(LIMITS, lambda _: None)
    connections._timer = object()  # type: ignore[assignment] -- no loop runs
    for number in range(6):
        connections.add(_Closed(), f"10.0.0.{number}")
    assert connections.refusal("10.0.0.99") == "too_many_connections"


class _Closed:
    def sweep(self, now: float) -> None:
        """Nothing to close."""
