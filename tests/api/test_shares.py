"""What one principal may have open at once, over real sockets: the refusal, and the place that comes back."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from service.features.events import RequestOverShare
from service.features.identity import ShareKind
from service.security.shares import Shares
from tests.api.conftest import World, caller, calling, extract, upload
from tests.doubles import Gate

ASYNC = {"Prefer": "respond-async"}
LINGER_NOTHING = struct.pack("ii", 1, 0)
"""SO_LINGER by which a close resets the connection."""
LARGE = 64 * 2**20
"""Bytes that no socket buffers for a client that does not read."""


@asynccontextmanager
async def opened(world: World, request: str) -> AsyncGenerator[socket.socket]:
    """Send a request's first bytes on a socket of its own; reset the connection at the block's end."""
    address = urlsplit(world.url)
    assert address.hostname is not None
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    try:
        connection.sendall(request.encode())
        yield connection
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOTHING)
        connection.close()


def head(method: str, path: str, key: str, *lines: str) -> str:
    """Write a request's header."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *lines, "", ""])


def half_an_upload(key: str, name: str) -> str:
    """Write an upload whose body does not end."""
    path = f"/api/v1/datasets?dataset_id={name}"
    return head("POST", path, key, "Content-Type: text/csv", "Content-Length: 1000") + "a\n1\n"


def held(world: World, principal: str, kind: ShareKind) -> int:
    """Count what the principal has open."""
    shares: Shares = world.app.state.services.shares
    return shares.use(principal, kind)[0]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fails after ten seconds."""
    last = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < last
        await asyncio.sleep(0.01)


async def until_status(ask: Callable[[], Awaitable[httpx.Response]], status: int) -> httpx.Response:
    """Repeat a request until it is answered with the status; fails after ten seconds."""
    last = time.monotonic() + 10
    while (answer := await ask()).status_code != status:
        assert time.monotonic() < last, answer.text
        await asyncio.sleep(0.02)
    return answer


def assert_refused(answer: httpx.Response, kind: str, limit: int) -> None:
    """Check the problem document of a request beyond the share."""
    problem = answer.json()
    assert answer.status_code == 429
    assert (problem["error_code"], problem["error_category"]) == ("too_many_at_once", "rate_limit")
    assert f"{limit} {kind}" in problem["detail"]
    assert int(answer.headers["retry-after"]) == problem["retry_after"] >= 1


async def test_uploads_beyond_the_share_are_refused(serve: Callable[..., World]) -> None:
    """Before a byte of the body is read; other principals upload, and an aborted upload gives its place back."""
    world = serve(max_uploads_per_principal=2)
    key = await world.api_key("ada")
    async with caller(world, key) as ada, caller(world, await world.api_key("bob")) as bob:

        async def one_more() -> httpx.Response:
            return await ada.post("/api/v1/datasets", content=b"a\n1\n", headers={"Content-Type": "text/csv"})

        async with opened(world, half_an_upload(key, "one")), opened(world, half_an_upload(key, "two")):
            await until(lambda: held(world, "ada", "upload") == 2)
            assert_refused(await until_status(one_more, 429), "uploads", 2)
            await upload(bob)
            consumed = world.artifacts.consumed
            large = await ada.post("/api/v1/datasets", content=b"x" * 150_000, headers={"Content-Type": "text/csv"})
            assert_refused(large, "uploads", 2)
            assert world.artifacts.consumed == consumed
            assert (await ada.get("/api/v1/datasets")).status_code == 200
        await until_status(one_more, 201)

    assert RequestOverShare("upload") in world.recorder.events


async def test_an_upload_that_fails_gives_its_place_back(serve: Callable[..., World]) -> None:
    """Whatever error it ends with: an unreadable file, a wrong type, one too large, a defect."""
    world = serve(max_uploads_per_principal=1)
    async with caller(world, await world.api_key()) as client:
        answers = []
        for content, media_type in [(b"broken", "text/csv"), (b"a", "text/html"), (b"a" * 300_000, "text/csv")] * 2:
            answer = await client.post("/api/v1/datasets", content=content, headers={"Content-Type": media_type})
            answers.append(answer.status_code)
        world.engine.ingest = None  # type: ignore[assignment, method-assign]
        defect = await client.post("/api/v1/datasets", content=b"a\n1\n", headers={"Content-Type": "text/csv"})
        again = await client.post("/api/v1/datasets", content=b"a\n1\n", headers={"Content-Type": "text/csv"})

    assert answers == [422, 415, 413] * 2
    assert (defect.status_code, again.status_code) == (500, 500)


async def test_streams_beyond_the_share_are_refused(serve: Callable[..., World]) -> None:
    """Another principal's are not; a client that is cut off gives its place back, and so does the stream's end."""
    world = serve(max_streams_per_principal=2, worker_in_api=False)
    key = await world.api_key("ada")
    async with caller(world, key) as ada, caller(world, await world.api_key("bob")) as bob:
        paths = []
        for client in (ada, bob):
            await upload(client)
            paths.append(f"/api/v1/extraction/{(await extract(client, ASYNC)).json()['data']['extraction_id']}/events")
        mine, others = paths

        async def one_more() -> httpx.Response:
            async with ada.stream("GET", mine) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                return answer

        async with opened(world, head("GET", mine, key)), opened(world, head("GET", mine, key)) as second:
            await until(lambda: held(world, "ada", "stream") == 2)
            assert b"200" in second.recv(12)
            assert_refused(await until_status(one_more, 429), "event streams", 2)
            async with bob.stream("GET", others) as answer:
                assert answer.status_code == 200
        await until_status(one_more, 200)
        await until(lambda: held(world, "ada", "stream") == 0)
        async with ada.stream("GET", mine) as first, ada.stream("GET", mine) as second_stream:
            assert {first.status_code, second_stream.status_code} == {200}
            await world.change(mine.split("/")[4], status="cancelled", progress=100)
            assert b"event: end" in await first.aread()
            assert b"event: end" in await second_stream.aread()
        await until(lambda: held(world, "ada", "stream") == 0)
        assert [(await one_more()).status_code for _ in range(5)] == [200] * 5
        await until(lambda: not world.notices.watches)


async def test_downloads_beyond_the_share_are_refused(serve: Callable[..., World]) -> None:
    """A client that does not read its download holds a place until it is gone."""
    world = serve(max_downloads_per_principal=1)
    key = await world.api_key("ada")
    async with caller(world, key) as ada, caller(world, await world.api_key("bob")) as bob:
        paths = []
        for client in (ada, bob):
            await upload(client)
            paths.append((await extract(client)).json()["data"]["links"]["features"])
        small = dict(world.artifacts.files)
        world.artifacts.files = dict.fromkeys(small, b"x" * LARGE)

        async def one_more() -> httpx.Response:
            return await ada.get(f"{paths[0]}?format=csv")

        async with opened(world, head("GET", paths[0], key)) as reading:
            assert b"200" in reading.recv(12)
            assert_refused(await until_status(one_more, 429), "downloads", 1)
            assert (await bob.get(f"{paths[1]}?format=csv")).status_code == 200
        await until_status(one_more, 200)
        world.artifacts.files.clear()
        assert [(await ada.get(paths[0])).status_code for _ in range(3)] == [503] * 3
        assert (await one_more()).status_code == 200


async def test_requests_beyond_the_waiting_share_are_answered_202(serve: Callable[..., World]) -> None:
    """At once, accepted as any other; another principal still waits, and so does the next once one has ended."""
    world = serve(max_waiting_per_principal=1, sync_wait_seconds=60)
    world.planner.gate = Gate()
    async with calling(world) as ada, caller(world, await world.api_key("bob")) as bob:
        await upload(bob)
        waiting = asyncio.create_task(extract(ada))
        await asyncio.to_thread(world.planner.started.wait, 10)
        over = await extract(ada, {"Prefer": "wait=50"}, feature_description="Another click rate")
        other = asyncio.create_task(extract(bob))
        detached = await extract(ada, ASYNC, feature_description="A third click rate")
        threading.Timer(0.5, world.planner.gate.set).start()
        whole = [(await task).status_code for task in (waiting, other)]
        next_one = await extract(ada, feature_description="A fourth click rate")

    assert (over.status_code, detached.status_code) == (202, 202)
    assert "preference-applied" not in over.headers
    assert over.headers["location"]
    assert (whole, next_one.status_code) == ([200, 200], 200)
    assert world.recorder.of(RequestOverShare) == [RequestOverShare("wait")]


async def test_a_client_that_gives_up_waiting_leaves_its_share(serve: Callable[..., World]) -> None:
    """The place of a request whose connection was reset is free although its extraction runs on."""
    world = serve(max_waiting_per_principal=1, sync_wait_seconds=60)
    world.planner.gate = Gate()
    key = await world.api_key()
    body = '{"dataset_id": "events", "feature_description": "Click rate of each user"}'
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    async with caller(world, key) as client:
        await upload(client)
        async with opened(world, head("POST", "/api/v1/extract-features", key, *lines) + body):
            await asyncio.to_thread(world.planner.started.wait, 10)
            assert (await extract(client, feature_description="Another rate")).status_code == 202
        last = time.monotonic() + 10
        while world.app.state.services.shares.is_full("ada", "wait"):
            assert time.monotonic() < last
            await asyncio.sleep(0.02)
        world.planner.gate.set()
        assert (await extract(client, feature_description="A third rate")).status_code == 200


async def test_zero_is_no_limit(serve: Callable[..., World]) -> None:
    """As many as there are connections."""
    world = serve(max_streams_per_principal=0, worker_in_api=False)
    async with calling(world) as client:
        path = f"/api/v1/extraction/{(await extract(client, ASYNC)).json()['data']['extraction_id']}/events"
        async with asyncio.timeout(30):
            answers = [client.stream("GET", path) for _ in range(25)]
            statuses = [(await answer.__aenter__()).status_code for answer in answers]
            for answer in answers:
                await answer.__aexit__(None, None, None)

    assert statuses == [200] * 25


@pytest.mark.parametrize("deaf", [True, False])
async def test_all_streams_share_one_look_at_the_database(
    serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch, *, deaf: bool
) -> None:
    """Any number of streams costs a query a tick, none a transaction, and each sees the change once."""
    monkeypatch.setattr("service.api.feed.MAX_STALENESS_SECONDS", 0.0)
    world = serve(max_streams_per_principal=0, worker_in_api=False)
    world.notices.deaf = deaf
    async with calling(world) as client:
        places = [(await extract(client, ASYNC)).json()["data"]["extraction_id"] for _ in range(3)]
        answers = [client.stream("GET", f"/api/v1/extraction/{place}/events") for place in places for _ in range(10)]
        streams = [await answer.__aenter__() for answer in answers]
        before, watching, began = world.store.state_queries, world.store.watching, time.monotonic()
        await asyncio.sleep(2)
        for place in places:
            await world.change(place, status="cancelled", progress=100)
        ends = await asyncio.gather(*(stream.aread() for stream in streams))
        queries, seconds = world.store.state_queries - before, time.monotonic() - began

    assert [text.count(b"event: end") for text in ends] == [1] * 30
    assert [text.count(b"event: status") for text in ends] == [1] * 30
    assert queries <= seconds + len(places) + 1
    assert world.store.watching == watching


async def test_an_upload_is_not_read_on_when_its_client_has_gone(serve: Callable[..., World]) -> None:
    """The engine stops, nothing is kept, and the name is free again."""
    world = serve()
    world.engine.gate = Gate()
    key = await world.api_key()
    body = "a,b\n1,2\n"
    path = "/api/v1/datasets?dataset_id=gone"
    async with opened(world, head("POST", path, key, "Content-Type: text/csv", f"Content-Length: {len(body)}") + body):
        await until(lambda: bool(world.engine.ingested))
    await until(lambda: world.engine.cancelled == 1)

    world.engine.gate = None
    async with caller(world, key) as client:
        await upload(client, dataset_id="gone")
    assert len([name for name in world.artifacts.files if name.startswith("originals/")]) == 1, "that of the second"
