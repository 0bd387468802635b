"""`GET /extraction/{id}/events`: progress as server-sent events (WHATWG HTML §9.2)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import msgspec
from litestar import get
from litestar.background_tasks import BackgroundTask
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.response import Stream

from service.api.decoding import ApiRequest
from service.api.extraction_schemas import StatusView
from service.api.guards import reads_extractions
from service.api.parameters import ExtractionIdPath, LastEventId
from service.api.problems import PROTECTED, documented
from service.api.progress import POLL_SECONDS
from service.api.services import ApiServices, Services
from service.api.views import has_ended, status_view
from service.features.errors import DependencyUnavailable, ExtractionNotFound
from service.features.model import Extraction

EVENT_STREAM = "text/event-stream"
RECONNECT_MILLISECONDS = 2000
"""Milliseconds after which a disconnected client should reconnect."""
HEARTBEAT_SECONDS = 15.0
"""Seconds of silence after which a comment keeps proxies from closing the connection."""
MAX_STALENESS_SECONDS = 5.0
"""Seconds after which a change without a notice is seen."""
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
    opt=reads_extractions,
    responses=documented(*PROTECTED, "extraction_not_found"),
)
async def stream_events(
    request: ApiRequest, services: Services, extraction_id: ExtractionIdPath, last_event_id: LastEventId = None
) -> Stream:
    """An event for each change, until the extraction has ended: close the connection then, there will be no more.

    A stream may stop before, when the service restarts; connect again with `Last-Event-ID`, as browsers do.
    """
    async with services.store.begin() as work:
        extraction = await work.extractions.get(request.user.id, extraction_id)
        usual = await work.extractions.usual_seconds(extraction.lane)
    seen = int(last_event_id) if last_event_id and _VERSION.fullmatch(last_event_id) else -1
    events = _events(services, extraction, usual, seen)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold the events back
    return Stream(events, media_type=EVENT_STREAM, headers=headers, background=BackgroundTask(events.aclose))


async def _events(
    services: ApiServices, extraction: Extraction, usual: float | None, seen: int
) -> AsyncGenerator[bytes]:
    """Yield the stream's bytes, from the first change after the version `seen`; the end is always sent."""
    loop = asyncio.get_running_loop()
    yield b"retry: %d\n\n" % RECONNECT_MILLISECONDS
    sent_at = loop.time()
    async for state in _states(services, extraction):
        if state is not None and (has_ended(state) or state.version > seen):
            yield _event(
                "end" if has_ended(state) else "status", state, status_view(state, services.clock.now(), usual)
            )
            seen, sent_at = state.version, loop.time()
        elif loop.time() - sent_at >= HEARTBEAT_SECONDS:
            yield b": still here\n\n"
            sent_at = loop.time()


async def _states(services: ApiServices, extraction: Extraction) -> AsyncGenerator[Extraction | None]:
    """Yield the row now and after each notice, and None at intervals, until it has ended or was deleted.

    It also ends when the process is stopping. An unreachable database is waited for.
    """
    loop = asyncio.get_running_loop()
    with services.notices.watch(extraction.id) as watch:
        read_at = changed = None
        while True:
            state = None
            if read_at is None or changed or loop.time() - read_at >= MAX_STALENESS_SECONDS:
                read_at = loop.time()
                try:
                    state = await _read(services, extraction)
                except ExtractionNotFound:
                    return
            yield state
            if services.lifecycle.draining or (state is not None and has_ended(state)):
                return
            changed = await watch.changed(POLL_SECONDS)


async def _read(services: ApiServices, extraction: Extraction) -> Extraction | None:
    with suppress(DependencyUnavailable):
        async with services.store.begin(watching=True) as work:
            return await work.extractions.get(extraction.owner, extraction.id)
    return None


def _event(name: Literal["status", "end"], state: Extraction, status: StatusView) -> bytes:
    """Encode an event. JSON escapes line breaks, so one `data` line holds it."""
    return b"event: %s\nid: %d\ndata: %s\n\n" % (name.encode(), state.version, msgspec.json.encode(status))
