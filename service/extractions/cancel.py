"""Cancel extractions."""

from __future__ import annotations

from datetime import datetime

from service.features.model import Extraction
from service.features.stores import JobQueue, UnitOfWork
from service.webhooks.deliver import announce


async def cancel(work: UnitOfWork, queue: JobQueue, owner: str, extraction_id: str, now: datetime) -> Extraction:
    """End a queued extraction and announce its end; ask a running one to end, which its run does.

    Part of the unit of work's transaction. Raises ExtractionNotFound, ExtractionEnded.
    """
    extraction = await work.extractions.cancel(owner, extraction_id, now)
    if extraction.status == "cancelled":
        await announce(work, queue, extraction)
    return extraction
