"""The words of webhooks: one end of an extraction that is told to its callback, and what has become of the telling."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from service.features.links import dataset_path, deliveries_path, extraction_path
from service.features.model import Extraction, Stage, Status

EventType = Literal["extraction.completed", "extraction.failed", "extraction.cancelled"]
DeliveryState = Literal["pending", "delivered", "failed"]
"""`failed` means given up: it is not tried again by itself."""
AttemptOutcome = Literal["delivered", "rejected", "gone", "timeout", "unreachable", "refused", "interrupted"]
"""delivered: a 2xx came back; rejected: another status; gone: 410, the receiver wants no more; refused: its address is
one that is not called; interrupted: the worker ended first, and what the receiver answered is not known."""

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


class DeliveryAttempt(Struct, frozen=True):
    """One try."""

    number: int
    outcome: AttemptOutcome
    at: datetime | None = None
    """When it was made; None when the worker did not live to tell."""
    seconds: float | None = None
    status_code: int | None = None


class DeliveryLog(Struct, frozen=True):
    """All tries, oldest first."""

    attempts: tuple[DeliveryAttempt, ...] = ()


class Delivery(Struct, frozen=True):
    """One message to one address; the same id and the same bytes however often it is tried."""

    id: str
    """The `webhook-id`, by which a receiver knows what it has had already."""
    extraction_id: str
    owner: str
    url: str
    event_type: EventType
    body: str
    """JSON, as it is signed and sent."""
    created_at: datetime
    state: DeliveryState = "pending"
    attempt: int = 0
    """Tries begun. Every write of a try names its own; an older one changes nothing."""
    log: DeliveryLog = DeliveryLog()
    next_attempt_at: datetime | None = None
    """When it is due; None once it has ended."""
    finished_at: datetime | None = None


class Sent(Struct, frozen=True):
    """What became of sending once."""

    outcome: AttemptOutcome
    status_code: int | None = None
    retry_after: float | None = None
    """Seconds that the receiver asked for."""


class WebhookSender(Protocol):
    """Sends one message."""

    async def send(self, delivery: Delivery, now: datetime) -> Sent:
        """Sign and send it, in a bounded time; every failure is an outcome."""
        ...


class Deliveries(Protocol):
    """Webhooks: of one owner at a time for clients, of all for workers and operators."""

    async def add(self, delivery: Delivery) -> bool:
        """Store a new delivery; False when it is stored already, and then nothing changes."""
        ...

    async def claim(self, delivery_id: str) -> Delivery | None:
        """Begin the next try; None when there is no such delivery or it has ended."""
        ...

    async def save(self, delivery: Delivery) -> None:
        """Store what a try came to. Raises AttemptSuperseded when the row is no longer that try's."""
        ...

    async def find(self, delivery_id: str) -> Delivery | None:
        """Any owner's delivery."""
        ...

    async def of_extraction(self, extraction_id: str) -> tuple[Delivery, ...]:
        """All of an extraction's, oldest first."""
        ...

    async def newest(self, limit: int, state: DeliveryState | None = None) -> tuple[Delivery, ...]:
        """The newest of all owners, for operators."""
        ...

    async def revive(self, delivery_id: str, now: datetime) -> Delivery | None:
        """Have a failed delivery tried again from the beginning; None when it has not failed. The caller enqueues."""
        ...


def delivery_of(ended: Extraction) -> Delivery | None:
    """The message that tells this end; None when nobody asked for one.

    Its id follows from the end, so that an end that is stored twice is told once; an extraction that ends, is revived
    and ends again is told again.
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
