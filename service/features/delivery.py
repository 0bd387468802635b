"""Define webhook deliveries: their data, and the ports that store and send them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct

EventType = Literal["extraction.completed", "extraction.failed", "extraction.cancelled"]
DeliveryState = Literal["pending", "delivered", "failed"]
"""`failed` is final: it is not retried automatically."""
AttemptOutcome = Literal["delivered", "rejected", "gone", "timeout", "unreachable", "refused", "interrupted"]
"""delivered: a 2xx answer; rejected: another status; gone: 410, the receiver wants no more; refused: its address may
not be called; interrupted: the worker stopped first, so the receiver's answer is not known."""


class DeliveryAttempt(Struct, frozen=True):
    """One attempt to deliver."""

    number: int
    outcome: AttemptOutcome
    at: datetime | None = None
    """When it was made; None if its worker died before recording it."""
    seconds: float | None = None
    status_code: int | None = None


class DeliveryLog(Struct, frozen=True):
    """All attempts, oldest first."""

    attempts: tuple[DeliveryAttempt, ...] = ()


class Delivery(Struct, frozen=True):
    """One message to one address, with the same id and the same bytes at each attempt."""

    id: str
    """The `webhook-id`, by which a receiver recognises duplicates."""
    extraction_id: str
    owner: str
    url: str
    event_type: EventType
    body: str
    """JSON, as it is signed and sent."""
    created_at: datetime
    state: DeliveryState = "pending"
    attempt: int = 0
    """Attempts begun. Every write names its attempt; one of an older attempt changes nothing."""
    log: DeliveryLog = DeliveryLog()
    next_attempt_at: datetime | None = None
    """When it is due; None after the end."""
    finished_at: datetime | None = None


class Sent(Struct, frozen=True):
    """The outcome of sending once."""

    outcome: AttemptOutcome
    status_code: int | None = None
    retry_after: float | None = None
    """Seconds that the receiver asked to wait."""


class WebhookSender(Protocol):
    """Send one message."""

    async def send(self, delivery: Delivery, now: datetime) -> Sent:
        """Sign and send it, within a time limit; every failure is an outcome."""
        ...


class Deliveries(Protocol):
    """Store webhook deliveries: of one owner for clients, of all owners for workers and operators."""

    async def add(self, delivery: Delivery) -> bool:
        """Store a new delivery; False, without a change, if it is already stored."""
        ...

    async def claim(self, delivery_id: str) -> Delivery | None:
        """Begin the next attempt; None if the delivery does not exist or has ended."""
        ...

    async def save(self, delivery: Delivery) -> None:
        """Store an attempt's outcome. Raises AttemptSuperseded if another attempt has begun."""
        ...

    async def find(self, delivery_id: str) -> Delivery | None:
        """Return the delivery of any owner."""
        ...

    async def of_extraction(self, extraction_id: str) -> tuple[Delivery, ...]:
        """Return all of an extraction's, oldest first."""
        ...

    async def newest(self, limit: int, state: DeliveryState | None = None) -> tuple[Delivery, ...]:
        """Return the newest of all owners, for operators."""
        ...

    async def revive(self, delivery_id: str, now: datetime) -> Delivery | None:
        """Restart a failed delivery from its first attempt; None if it has not failed. The caller enqueues it."""
        ...
