"""Report an extraction's progress, and wait for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from service.api.decoding import ApiRequest
from service.api.errors import MalformedRequest
from service.api.extraction_schemas import StatusView
from service.api.services import ApiServices
from service.api.views import has_ended, status_view
from service.features.errors import DependencyUnavailable
from service.features.model import Extraction, ExtractionState

T = TypeVar("T")
POLL_SECONDS = 1.0
"""Seconds after which a change without a notice is seen."""


async def status_of(services: ApiServices, extraction: Extraction | ExtractionState) -> StatusView:
    """Return its status, with an estimate from recent extractions of the same lane."""
    usual = None if has_ended(extraction) else await services.store.usual_seconds(extraction.lane)
    return status_view(extraction, services.clock.now(), usual)


async def until_ended(
    services: ApiServices, extraction: Extraction, seconds: float, leave: Callable[[Extraction], bool] = has_ended
) -> Extraction:
    """Wait until the extraction has ended, `seconds` are over, or `leave` returns True; returns it as last seen.

    An unreachable database does not end the wait. Raises ExtractionNotFound if the extraction is deleted.
    """
    loop = asyncio.get_running_loop()
    last = loop.time() + seconds
    with services.notices.watch(extraction.id) as watch:
        while True:
            with suppress(DependencyUnavailable):
                async with services.store.begin(watching=True) as work:
                    extraction = await work.extractions.get(extraction.owner, extraction.id)
            left = last - loop.time()
            if left <= 0 or has_ended(extraction) or leave(extraction):
                return extraction
            await watch.changed(min(left, POLL_SECONDS))


async def wait_or_detach(
    services: ApiServices, request: ApiRequest, extraction: Extraction, seconds: float
) -> Extraction:
    """Wait for the end for at most `seconds`; otherwise note that the caller no longer waits.

    The wait also ends when the client disconnects, when the process is stopping, and when the extraction failed and
    will be retried later.
    """
    with _disconnection(request) as gone:

        def leave(current: Extraction) -> bool:
            return services.lifecycle.draining or gone() or _will_be_retried(current)

        extraction = await until_ended(services, extraction, seconds, leave)
    if has_ended(extraction) or extraction.detached:
        return extraction
    async with services.store.begin() as work:
        await work.extractions.mark_detached(extraction.owner, extraction.id)
        return await work.extractions.get(extraction.owner, extraction.id)  # it may have ended at the last moment


def _will_be_retried(extraction: Extraction) -> bool:
    return extraction.status == "queued" and extraction.failure is not None


async def while_connected(request: ApiRequest, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; the request's body must have been read.

    Raises MalformedRequest if the client disconnects first; the work is cancelled, and has ended by then.
    """
    working, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise MalformedRequest("The client disconnected before its upload was read.")
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.wait({working, gone})


@contextmanager
def _disconnection(request: ApiRequest) -> Generator[Callable[[], bool]]:
    """Yield a function that checks whether the client has disconnected; the request's body must have been read."""
    listening = asyncio.create_task(_disconnected(request))
    try:
        yield listening.done
    finally:
        listening.cancel()


async def _disconnected(request: ApiRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
