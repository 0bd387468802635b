"""`GET /api/v1/extraction/{id}/events`: progress as server-sent events, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from msgspec import Struct

from service.store.extractions import CHANNEL
from tests.api.conftest import World, calling, extract, until
from tests.doubles import Gate

ASYNC = {"Prefer": "respond-async"}


class Event(Struct, frozen=True):
    """One event, or a comment."""

    name: str
    id: int = -1
    data: Any = None


async def read(answer: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream, as a browser reads them (WHATWG HTML §9.2.6)."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "" in fields:
            yield Event("comment", data=fields[""])
        elif "retry" in fields:
            yield Event("retry", data=int(fields["retry"]))
        else:
            yield Event(fields["event"], int(fields["id"]), json.loads(fields["data"]))
        fields = {}


@asynccontextmanager
async def following(
    client: httpx.AsyncClient, identity: str, last: object = None
) -> AsyncGenerator[tuple[httpx.Response, AsyncIterator[Event]]]:
    """A stream that is being read."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with client.stream("GET", f"/api/v1/extraction/{identity}/events", headers=headers) as answer:
        yield answer, read(answer)


async def accepted(client: httpx.AsyncClient) -> str:
    """The id of a new extraction."""
    return (await extract(client, ASYNC)).json()["data"]["extraction_id"]


async def test_every_change_is_told_and_the_end(serve: Callable[..., World]) -> None:
    """The state at once, each change as it comes, whoever makes it, then `end`; and the stream is over."""
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        identity = await accepted(client)
        async with following(client, identity) as (answer, events):
            hint = await anext(events)
            first = await anext(events)
            status = (await client.get(f"/api/v1/extraction/{identity}/status")).json()["data"]
            await world.change(identity, status="processing", stage="plan", progress=7)
            second = await anext(events)
            ended = await world.change(identity, status="cancelled", stage=None, progress=100)
            rest = [event async for event in events]

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert hint == Event("retry", data=2000)
    assert first == Event("status", 0, status)
    assert (second.name, second.id, second.data["stage"], second.data["progress"]) == ("status", 1, "plan", 7)
    assert [(event.name, event.id, event.data["status"]) for event in rest] == [("end", ended.version, "cancelled")]
    assert world.notices.watches == {}


async def test_a_real_run_is_followed_to_its_end(serve: Callable[..., World]) -> None:
    """The ids grow, and the end has the status that the extraction has."""
    world = serve()
    world.planner.gate = Gate()
    async with calling(world) as client:
        identity = await accepted(client)
        seen: list[Event] = []
        async with following(client, identity) as (_, events):
            async for event in events:
                seen.append(event)
                if event.name == "status" and event.data["stage"] == "plan":
                    world.planner.gate.set()
        status = (await client.get(f"/api/v1/extraction/{identity}/status")).json()["data"]

    told = seen[1:]
    assert [event.name for event in told] == ["status"] * (len(told) - 1) + ["end"]
    assert [event.id for event in told] == sorted({event.id for event in told})
    assert told[-1].data == status
    assert status["status"] == "completed"


async def test_a_stream_is_resumed_where_it_broke(serve: Callable[..., World]) -> None:
    """With Last-Event-ID what was read is not sent again; what changed since is sent at once."""
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        identity = await accepted(client)
        row = await world.change(identity, status="processing", progress=5)
        async with following(client, identity, row.version) as (_, events):
            assert (await anext(events)).name == "retry"
            newer = await world.change(identity, progress=6)
            event = await anext(events)
        async with following(client, identity, row.version) as (_, events):
            assert (await anext(events)).name == "retry"
            missed = await anext(events)

    assert (event.id, event.data["progress"]) == (newer.version, 6)
    assert missed == event


@pytest.mark.parametrize("last", ["", "x", "-1", "1.5", "٣", "9" * 5000])
async def test_an_id_that_was_never_given_is_ignored(serve: Callable[..., World], last: str) -> None:
    """The stream begins at the beginning."""
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        identity = await accepted(client)
        path = f"/api/v1/extraction/{identity}/events"
        async with client.stream("GET", path, headers=[("Last-Event-ID", last.encode())]) as answer:
            events = read(answer)
            await anext(events)
            event = await anext(events)

    assert (event.name, event.id) == ("status", 0)


async def test_an_ended_extraction_tells_its_end_and_no_more(serve: Callable[..., World]) -> None:
    """Also to whoever has read it before: so that nobody connects again and again."""
    world = serve()
    async with calling(world) as client:
        identity = (await extract(client)).json()["data"]["extraction_id"]
        version = (await world.extraction(identity)).version
        streams = []
        for last in (None, version, version + 10):
            async with following(client, identity, last) as (_, events):
                streams.append([(event.name, event.id) async for event in events])

    assert streams == [[("retry", -1), ("end", version)]] * 3


async def test_anothers_extraction_is_not_there(serve: Callable[..., World]) -> None:
    """404, as on every other route; the scope to read is needed."""
    world = serve()
    async with calling(world) as client:
        identity = (await extract(client)).json()["data"]["extraction_id"]
        path = f"/api/v1/extraction/{identity}/events"
        client.headers["Authorization"] = f"Bearer {await world.api_key('bob')}"
        foreign = await client.get(path)
        client.headers["Authorization"] = f"Bearer {await world.api_key('ada', 'datasets:read')}"
        forbidden = await client.get(path)

    assert (foreign.status_code, foreign.json()["error_code"]) == (404, "extraction_not_found")
    assert forbidden.status_code == 403


async def test_silence_is_broken_by_a_comment(serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies see that the connection lives; nothing is sent twice."""
    monkeypatch.setattr("service.api.event_routes.HEARTBEAT_SECONDS", 0.0)
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        identity = await accepted(client)
        async with following(client, identity) as (_, events):
            names = [(await anext(events)).name for _ in range(4)]

    assert names == ["retry", "status", "comment", "comment"]


async def test_a_change_without_a_notice_is_seen_all_the_same(
    serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notices may get lost: the row is looked at now and then, also when the database was away."""
    monkeypatch.setattr("service.api.event_routes.MAX_STALENESS_SECONDS", 0.0)
    world = serve(worker_in_api=False)
    world.notices.deaf = True
    async with calling(world) as client:
        identity = await accepted(client)
        async with following(client, identity) as (_, events):
            assert [(await anext(events)).name for _ in range(2)] == ["retry", "status"]
            world.store.away = True
            await until(lambda: world.store.refused > 0)
            await world.change(identity, status="failed")
            world.store.away = False
            rest = [event.name async for event in events]

    assert rest == ["end"]


async def test_a_deleted_extraction_ends_the_stream(serve: Callable[..., World]) -> None:
    """There is nothing to tell any more."""
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        identity = await accepted(client)
        async with following(client, identity) as (_, events):
            assert [(await anext(events)).name for _ in range(2)] == ["retry", "status"]
            await world.sql("DELETE FROM extractions WHERE id = %(id)s", id=identity)
            await world.sql("SELECT pg_notify(%(channel)s, %(id)s)", channel=CHANNEL, id=identity)
            rest = [event async for event in events]

    assert rest == []


async def test_a_stopping_service_ends_the_stream(serve: Callable[..., World]) -> None:
    """The client connects again, elsewhere; the service stops at once."""
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        identity = await accepted(client)
        async with following(client, identity) as (_, events):
            assert [(await anext(events)).name for _ in range(2)] == ["retry", "status"]
            world.runtime.lifecycle.draining = True
            world.stop()
            rest = [event.name async for event in events]

    assert rest == []
    assert await asyncio.to_thread(world.has_ended)


async def test_a_client_that_leaves_is_no_error_and_leaves_nothing(serve: Callable[..., World]) -> None:
    """Its watch ends at once, and the request is logged as answered, with the route's name."""
    route = "/api/v1/extraction/{extraction_id}/events"
    world = serve(worker_in_api=False, log_format="json", access_log_sample=1.0)

    def logged() -> list[int]:
        lines = (json.loads(line) for line in world.log.getvalue().splitlines())
        return [line["status"] for line in lines if line.get("endpoint") == route]

    async with calling(world) as client:
        identity = await accepted(client)
        async with following(client, identity) as (_, events):
            assert [(await anext(events)).name for _ in range(2)] == ["retry", "status"]
            assert list(world.notices.watches) == [identity]
            assert logged() == []
        await until(lambda: logged() != [])

    assert logged() == [200]
    assert world.notices.watches == {}
