"""Connections that send too much, too slowly or too ambiguously are refused, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.refusals import answer_refusal
from service.edge.connections import RESERVED_CONNECTIONS, Connections, network_of
from service.edge.limits import EdgeLimits
from service.edge.protocol import LimitedHttpProtocol, limited_protocol
from service.features.events import ConnectionRefusal, ConnectionsMeasured

LIMITS = EdgeLimits(
    max_url_bytes=200,
    max_header_bytes=2000,
    max_headers=20,
    header_timeout_seconds=1.0,
    body_grace_seconds=2.0,
    min_body_bytes_per_second=1000.0,
    send_timeout_seconds=2.0,
    max_connections=6,
    max_connections_per_address=4,
)
GOOD = b"GET /a?b=c HTTP/1.1\r\nHost: here\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer its length; `/large` answers 30 MB, `/later` reads after a while."""
    size, more = 0, True
    if scope["path"] == "/later":
        await asyncio.sleep(2.5)
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
    connections: Noted
    refusals: list[ConnectionRefusal] = field(default_factory=list)

    @asynccontextmanager
    async def client(self, source: str = "127.0.0.1") -> AsyncIterator[Client]:
        """A raw connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
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

    async def ended(self) -> bool:
        """Whether the server closes the connection without a word within two seconds."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(2):
                return await self.reader.read() == b""
        return False


class Noted(Connections):
    """Connections that note each refusal at once."""

    def __init__(self, refusals: list[ConnectionRefusal]) -> None:
        self.reports: list[ConnectionsMeasured] = []
        super().__init__(LIMITS, answer_refusal, self.reports.append)
        self._noted = refusals

    def refused(self, refusal: ConnectionRefusal) -> None:
        """Note it."""
        self._noted.append(refusal)
        super().refused(refusal)


@pytest.fixture
async def served() -> AsyncGenerator[Served]:
    """A server with small limits."""
    refusals: list[ConnectionRefusal] = []
    connections = Noted(refusals)
    config = uvicorn.Config(
        application,
        port=0,
        http=limited_protocol(connections),
        log_config=None,
        lifespan="off",
        ws="none",
        timeout_keep_alive=4,
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
        (b"CONNECT evil:443 HTTP/1.1\r\nHost: here\r\n\r\n", 400, "ambiguous"),
        (b"OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\n", 400, "ambiguous"),
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed"),
        (
            b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "malformed",
        ),
    ],
)
async def test_a_header_that_is_refused(served: Served, data: bytes, status: int, refusal: ConnectionRefusal) -> None:
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
    """A body below the least rate is answered with 408, and the application sees a disconnect."""
    async with served.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100):
            await client.send(b"a")
            await asyncio.sleep(0.1)
            if served.refusals:
                break
        assert served.refusals == ["body_timeout"]
        assert (await client.answer())[0] == 408


async def test_a_body_that_was_not_asked_for_yet(served: Served) -> None:
    """While a client waits for `100 Continue`, which the application gives, the time for its body does not run."""
    async with served.client() as client:
        await client.send(b"POST /later HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await client.send(b"hello")
        assert await client.answer() == (200, 5)
    assert served.refusals == []


async def test_a_refused_client_may_finish_what_it_sends(served: Served) -> None:
    """A client that sends all of a long header before it reads is not reset: it sees why it was refused."""
    async with served.client() as client:
        for _ in range(20):
            await client.send(b"GET /" + b"a" * 5000)
            await asyncio.sleep(0.01)
        assert (await client.answer())[0] == 414


async def test_what_follows_a_request_that_is_being_served(served: Served) -> None:
    """While a request is served, the time for the next header does not run: its answer is not cut off."""
    async with served.client() as client:
        await client.send(b"POST /later HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello")
        await asyncio.sleep(0.1)
        await client.send(b"\r\n")
        assert await client.answer() == (200, 5)
        await client.send(GOOD)
        assert await client.answer() == (200, 0)
    assert served.refusals == []


async def test_an_upgrade_is_ignored(served: Served) -> None:
    """Nobody gets a WebSocket, which would have no limits: the request is answered as HTTP, and so is the next one."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    async with served.client() as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: here\r\n" + upgrade + GOOD)
        assert await client.answer() == (200, 0)
        assert await client.answer() == (200, 0)
    assert served.refusals == []


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


async def test_an_idle_connection_is_closed(served: Served) -> None:
    """After the time for which it is kept it is closed without a word, and that is no refusal."""
    async with served.client() as client:
        await client.send(GOOD)
        assert (await client.answer())[0] == 200
        async with asyncio.timeout(10):
            assert await client.reader.read() == b""
    assert served.refusals == []


async def test_one_address_has_its_share(served: Served) -> None:
    """The fifth connection of an address is refused but for a probe; a place that is given back can be taken again."""
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(served.client()) for _ in range(4)]
        async with served.client() as client:
            await client.send(GOOD)
            status, problem = await client.answer()
            assert (status, problem["error_code"]) == (429, "too_many_connections_of_address")
            assert (problem["retry_after"], problem["instance"]) == (1, "/a")
        assert served.refusals == ["too_many_connections_of_address"]
        async with served.client() as probe:
            await probe.send(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
            assert await probe.answer() == (200, 0)
            assert await probe.ended()
        async with served.client("127.0.0.2") as other:
            await other.send(GOOD)
            assert await other.answer() == (200, 0)
        held[0].writer.close()
        await asyncio.sleep(0.1)
        async with served.client() as client:
            await client.send(GOOD)
            assert (await client.answer())[0] == 200
    assert served.refusals == ["too_many_connections_of_address"]


async def test_when_all_places_are_taken_one_that_waits_is_closed(served: Served) -> None:
    """It is the one that waits for longest, of the address with most connections; others are left alone."""
    async with AsyncExitStack() as stack:

        async def client(source: str) -> Client:
            found = await stack.enter_async_context(served.client(source))
            await asyncio.sleep(0.02)
            return found

        lone = await client("127.0.0.3")
        first, second = await client("127.0.0.2"), await client("127.0.0.2")
        await first.send(GOOD)
        assert (await first.answer())[0] == 200
        for number in range(3):
            await client(f"127.0.0.{10 + number}")
        newcomer = await client("127.0.0.4")
        await newcomer.send(GOOD)
        assert await newcomer.answer() == (200, 0)
        assert await second.ended()
        await lone.send(GOOD)
        assert (await lone.answer())[0] == 200
    assert served.refusals == ["evicted"]


async def test_when_all_places_are_busy_only_probes_are_answered(served: Served) -> None:
    """A connection whose request is being served is not closed for another one."""
    body = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhel"
    async with AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(served.client(f"127.0.0.{number}")) for number in range(2, 8)]
        for client in busy:
            await client.send(body)
        await asyncio.sleep(0.1)
        async with served.client() as client:
            await client.send(GOOD)
            status, problem = await client.answer()
            assert (status, problem["error_code"]) == (503, "too_many_connections")
        async with served.client() as probe:
            await probe.send(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
            assert await probe.answer() == (200, 0)
        for client in busy:
            await client.send(b"lo")
            assert await client.answer() == (200, 5)
    assert served.refusals == ["too_many_connections"]


async def test_the_reserve_is_bounded(served: Served) -> None:
    """Of more connections than the reserve has, the oldest are closed, and a probe still gets through."""
    async with AsyncExitStack() as stack:
        for _ in range(4 + RESERVED_CONNECTIONS + 10):
            await stack.enter_async_context(served.client())
        await asyncio.sleep(0.1)
        assert served.refusals == ["too_many_connections_of_address"] * 10
        async with served.client() as probe:
            await probe.send(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
            assert await probe.answer() == (200, 0)


async def test_refusals_are_reported_once_a_second(served: Served) -> None:
    """A report has the open connections, their limit, and how many were refused for which reason since the last."""
    async with served.client() as idle:
        await idle.send(GOOD)
        assert (await idle.answer())[0] == 200
        for _ in range(3):
            async with served.client() as client:
                await client.send(b"nonsense\r\n\r\n")
                assert (await client.answer())[0] == 400
        await asyncio.sleep(1.5)
    refused = [report.refused for report in served.connections.reports if report.refused]
    assert refused == [{"malformed": 3}]
    assert (served.connections.reports[0].open, served.connections.reports[0].limit) == (0, 6)
    assert max(report.open for report in served.connections.reports) >= 1
    async with asyncio.timeout(5):
        while served.connections.reports[-1].open:  # noqa: ASYNC110 -- the last report says that all have gone
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_whose_connections_count_together(address: str, network: str) -> None:
    """An IPv4 address counts for itself, in whichever notation; in IPv6 a network of 64 bits counts together."""
    assert network_of(address) == network


USED = {
    HttpToolsProtocol: (
        "connection_made", "connection_lost", "data_received", "on_headers_complete", "on_message_complete",
        "on_response_complete",
        "_start_asgi_task",
    ),
    RequestResponseCycle: ("run_asgi", "receive", "send"),
}  # fmt: skip
SET = {
    "client", "cycle", "flow", "headers", "loop", "parser", "pipeline", "server_state", "timeout_keep_alive",
    "transport", "url",
}  # fmt: skip


async def test_uvicorn_is_as_the_limits_expect_it(served: Served) -> None:
    """The limits override and read uvicorn's internals: an update that renames one must not turn a limit off."""
    for kind, names in USED.items():
        missing = [name for name in names if name not in vars(kind)]
        assert not missing, f"uvicorn's {kind.__name__} has no {missing} any more: see service/edge/protocol.py"
    async with served.client() as client:
        await client.send(GOOD)
        await client.answer()
        (protocol,) = served.connections._open
        assert isinstance(protocol, LimitedHttpProtocol)
        assert vars(protocol).keys() >= SET
        assert vars(protocol.cycle).keys() >= {
            "disconnected", "keep_alive", "message_event", "response_complete", "response_started",
            "waiting_for_100_continue",
        }  # fmt: skip
        assert not protocol.flow.read_paused
        assert isinstance(protocol.server_state.default_headers, list)
