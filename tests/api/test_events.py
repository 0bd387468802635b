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


async def test_every_change_is_an_event_and_the_end_is_the_last(serve: Callable[..., World]) -> None:
    """The state at once, each change whichever process makes it, then `end`, and the stream closes."""
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


async def test_a_stream_resumes_after_last_event_id(serve: Callable[..., World]) -> None:
    """Events up to Last-Event-ID are not sent again; later changes are sent at once."""
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
async def test_an_invalid_last_event_id_is_ignored(serve: Callable[..., World], last: str) -> None:
    """The stream starts with the present state."""
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        identity = await accepted(client)
        path = f"/api/v1/extraction/{identity}/events"
        async with client.stream("GET", path, headers=[("Last-Event-ID", last.encode())]) as answer:
            events = read(answer)
            await anext(events)
            event = await anext(events)

    assert (event.name, event.id) == ("status", 0)


async def test_an_ended_extraction_sends_only_its_end(serve: Callable[..., World]) -> None:
    """Also to a client that has read it before, so that it does not reconnect for ever."""
    world = serve()
    async with calling(world) as client:
        identity = (await extract(client)).json()["data"]["extraction_id"]
        version = (await world.extraction(identity)).version
        streams = []
        for last in (None, version, version + 10):
            async with following(client, identity, last) as (_, events):
                streams.append([(event.name, event.id) async for event in events])

    assert streams == [[("retry", -1), ("end", version)]] * 3


async def test_an_extraction_of_another_principal_is_not_found(serve: Callable[..., World]) -> None:
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


async def test_comments_keep_a_silent_connection_alive(
    serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies see traffic while nothing changes; no event is sent twice."""
    monkeypatch.setattr("service.api.event_routes.HEARTBEAT_SECONDS", 0.01)
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        identity = await accepted(client)
        async with following(client, identity) as (_, events):
            names = [(await anext(events)).name for _ in range(4)]

    assert names == ["retry", "status", "comment", "comment"]


async def test_a_change_whose_notice_is_lost_is_seen(
    serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is read now and then, also after an outage of the database."""
    monkeypatch.setattr("service.api.feed.MAX_STALENESS_SECONDS", 0.0)
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
    """The stream closes without an `end` event."""
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
    """The client reconnects to another process; the service stops at once."""
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


async def test_a_client_that_disconnects_is_no_error(serve: Callable[..., World]) -> None:
    """Its watch is removed at once, and the request is logged as answered, with the route's name."""
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
