"""Define webhook deliveries: their data, and the ports that store and send them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct

EventType = Literal["extraction.completed", "extraction.failed", "extraction.cancelled"]
DeliveryState = Literal["pending", "delivered", "failed"]
"""`failed` means given up: it is not tried again by itself."""
AttemptOutcome = Literal["delivered", "rejected", "gone", "timeout", "unreachable", "refused", "interrupted"]
"""delivered: a 2xx came back; rejected: another status; gone: 410, the receiver wants no more; refused: its address is
one that is not called; interrupted: the worker ended first, and what the receiver answered is not known."""


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
