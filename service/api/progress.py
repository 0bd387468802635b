"""How far an extraction has come, and the wait for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from service.api.decoding import ApiRequest
from service.api.extraction_schemas import StatusView
from service.api.services import ApiServices
from service.api.views import has_ended, status_view
from service.features.errors import DependencyUnavailable
from service.features.model import Extraction, ExtractionState

LOOK_SECONDS = 1.0
"""A change that no notice told of is seen after so long."""


async def status_of(services: ApiServices, extraction: Extraction | ExtractionState) -> StatusView:
    """How far it has come, with an estimate from what others of its lane took."""
    usual = None if has_ended(extraction) else await services.store.usual_seconds(extraction.lane)
    return status_view(extraction, services.clock.now(), usual)


async def until_ended(
    services: ApiServices, extraction: Extraction, seconds: float, leave: Callable[[Extraction], bool] = has_ended
) -> Extraction:
    """The extraction as it was last seen: ended, or when `seconds` were over, or when there was a reason to `leave`.

    A database that is away does not end the wait. Raises ExtractionNotFound when it is deleted meanwhile.
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
            await watch.changed(min(left, LOOK_SECONDS))


async def answered_or_sent_away(
    services: ApiServices, request: ApiRequest, extraction: Extraction, seconds: float
) -> Extraction:
    """Wait for the end at most so long; unless it has ended then, it is noted that nobody waits any more.

    Nobody waits either when the client has gone, when the process is asked to stop, and when the extraction failed and
    is to be tried again later.
    """
    with _disconnection(request) as gone:

        def leave(seen: Extraction) -> bool:
            return services.lifecycle.draining or gone() or _waits_to_be_retried(seen)

        extraction = await until_ended(services, extraction, seconds, leave)
    if has_ended(extraction) or extraction.detached:
        return extraction
    async with services.store.begin() as work:
        await work.extractions.mark_detached(extraction.owner, extraction.id)
        return await work.extractions.get(extraction.owner, extraction.id)  # it may have ended at the last moment


def _waits_to_be_retried(extraction: Extraction) -> bool:
    return extraction.status == "queued" and extraction.failure is not None


@contextmanager
def _disconnection(request: ApiRequest) -> Generator[Callable[[], bool]]:
    """Tells whether the client has gone; the request's body has been read."""
    listening = asyncio.create_task(_disconnected(request))
    try:
        yield listening.done
    finally:
        listening.cancel()


async def _disconnected(request: ApiRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
