"""Build the message that a webhook sends when an extraction ends."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec
from msgspec import Struct

from service.features.delivery import Delivery, EventType
from service.features.model import Extraction, Stage, Status
from service.webhooks.links import dataset_path, deliveries_path, extraction_path

EVENTS: dict[Status, EventType] = {
    "completed": "extraction.completed",
    "failed": "extraction.failed",
    "cancelled": "extraction.cancelled",
}


class EventLinks(Struct, frozen=True):
    """Paths to follow, below the address at which the service is called."""

    self: str
    status: str
    events: str
    dataset: str
    features: str | None
    """The feature table; null unless the extraction is completed."""
    deliveries: str


class EventData(Struct, frozen=True):
    """The extraction's status as `GET /extraction/{id}/status` answers it, and where the rest is found."""

    extraction_id: str
    dataset_id: str
    status: Status
    progress: int
    stage: Stage | None
    estimated_completion: datetime | None
    """When it ended."""
    error_message: str | None
    error_code: str | None
    links: EventLinks


class WebhookEvent(Struct, frozen=True):
    """The body of a webhook (Standard Webhooks): no value of a cell is in it."""

    type: EventType
    timestamp: datetime
    """When it happened; each try says in its headers when it was made."""
    data: EventData


def delivery_of(ended: Extraction) -> Delivery | None:
    """Build the delivery that reports this end; None without a `callback_url`.

    Its id is a hash of the end, so storing the same end twice gives one delivery. An extraction that ends, is revived
    and ends again gets another one.
    """
    url = ended.request.callback_url
    if url is None or ended.finished_at is None:
        return None
    end = f"{ended.id}\n{ended.attempt}\n{ended.status}\n{ended.finished_at.isoformat()}"
    event = WebhookEvent(EVENTS[ended.status], ended.finished_at, _data(ended))
    return Delivery(
        id=f"msg_{hashlib.sha256(end.encode()).hexdigest()[:32]}",
        extraction_id=ended.id,
        owner=ended.owner,
        url=url,
        event_type=event.type,
        body=msgspec.json.encode(event).decode(),
        created_at=ended.finished_at,
        next_attempt_at=ended.finished_at,
    )


def _data(ended: Extraction) -> EventData:
    path = extraction_path(ended.id)
    return EventData(
        extraction_id=ended.id,
        dataset_id=ended.request.dataset_id,
        status=ended.status,
        progress=ended.progress,
        stage=ended.stage,
        estimated_completion=ended.finished_at,
        error_message=ended.failure.message if ended.failure else None,
        error_code=ended.failure.code if ended.failure else None,
        links=EventLinks(
            self=path,
            status=f"{path}/status",
            events=f"{path}/events",
            dataset=dataset_path(ended.request.dataset_id),
            features=f"{path}/features" if ended.status == "completed" else None,
            deliveries=deliveries_path(ended.id),
        ),
    )
