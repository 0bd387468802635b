"""`GET /extraction/{id}/events`: progress as server-sent events (WHATWG HTML §9.2)."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec
from litestar import get
from litestar.background_tasks import BackgroundTask
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.response import Stream

from service.api.decoding import ApiRequest
from service.api.extraction_schemas import StatusView
from service.api.feed import Follower
from service.api.guards import reads_extractions, takes
from service.api.parameters import ExtractionIdPath, LastEventId
from service.api.problems import PROTECTED, documented
from service.api.services import ApiServices, Services
from service.api.streams import begun
from service.api.views import has_ended, status_view
from service.features.model import ExtractionState

EVENT_STREAM = "text/event-stream"
RECONNECT_MILLISECONDS = 2000
"""Milliseconds after which a disconnected client should reconnect."""
HEARTBEAT_SECONDS = 15.0
"""Seconds of silence after which a comment keeps proxies from closing the connection."""
_VERSION = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass
class EventsOperation(Operation):
    """Document the stream; the framework would call it binary."""

    def __post_init__(self) -> None:
        content = {EVENT_STREAM: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))}
        self.responses = dict(self.responses or {})
        self.responses["200"] = OpenAPIResponse(
            description="Events `status`, and `end` as the last; the data of each is a StatusView, its id grows.",
            content=content,
        )


@get(
    "/extraction/{extraction_id:str}/events",
    operation_id="stream_extraction_events",
    operation_class=EventsOperation,
    tags=["extractions"],
    summary="Follow an extraction",
    opt=reads_extractions | takes("stream"),
    responses=documented(*PROTECTED, "extraction_not_found", "too_many_at_once"),
)
async def stream_events(
    request: ApiRequest, services: Services, extraction_id: ExtractionIdPath, last_event_id: LastEventId = None
) -> Stream:
    """An event for each change, until the extraction has ended: close the connection then, there will be no more.

    A stream may stop before, when the service restarts; connect again with `Last-Event-ID`, as browsers do.
    """
    seen = int(last_event_id) if last_event_id and _VERSION.fullmatch(last_event_id) else -1
    events = _events(services, request.user.id, extraction_id, seen)
    chunks = await begun(events)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold the events back
    return Stream(chunks, media_type=EVENT_STREAM, headers=headers, background=BackgroundTask(events.aclose))


async def _events(services: ApiServices, owner: str, extraction_id: str, seen: int) -> AsyncGenerator[bytes]:
    """Yield the stream's bytes, from the first change after the version `seen`; the end is always sent.

    Ends without it when the extraction is deleted or the process is stopping. Raises ExtractionNotFound at its start.
    """
    with services.feed.follow(extraction_id) as follower:
        state = await services.store.state_of(owner, extraction_id)
        usual = None if has_ended(state) else await services.store.usual_seconds(state.lane)
        follower.offer(state)
        yield b"retry: %d\n\n" % RECONNECT_MILLISECONDS
        async for news in _news(follower):
            if news is None:
                yield b": still here\n\n"
            elif has_ended(news) or news.version > seen:
                seen = news.version
                yield _event(news, status_view(news, services.clock.now(), usual))


async def _news(follower: Follower) -> AsyncGenerator[ExtractionState | None]:
    """Yield the state at once and after each change, and None after each silence, until the extraction has ended."""
    while True:
        changed = await follower.changed(HEARTBEAT_SECONDS)
        if follower.closed:
            return
        yield follower.state if changed else None
        if follower.state is not None and has_ended(follower.state):
            return


def _event(state: ExtractionState, status: StatusView) -> bytes:
    """Encode an event. JSON escapes line breaks, so one `data` line holds it."""
    name = b"end" if has_ended(state) else b"status"
    return b"event: %s\nid: %d\ndata: %s\n\n" % (name, state.version, msgspec.json.encode(status))
