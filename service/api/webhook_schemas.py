"""Define the wire structs of webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from service.api.schemas import Success
from service.features.delivery import AttemptOutcome, Delivery, DeliveryState, EventType


class SecretsView(Struct, frozen=True):
    """What to verify webhooks with."""

    secrets: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Yours alone, newest first; a webhook carries a signature with each of them, so that one may replace "
                "another. Empty when this deployment delivers no webhooks."
            ),
        ),
    ]


class AttemptView(Struct, frozen=True):
    """One try."""

    number: int
    at: Annotated[datetime | None, Meta(description="Null when the process died before recording it.")]
    outcome: AttemptOutcome
    status_code: Annotated[int | None, Meta(description="What the receiver answered; null when it did not.")]
    seconds: float | None


class DeliveryView(Struct, frozen=True):
    """A webhook, and what has become of it."""

    webhook_id: Annotated[str, Meta(description="The same in each try: a receiver knows by it what it has had.")]
    type: EventType
    url: str
    state: Annotated[DeliveryState, Meta(description="`failed` is not tried again.")]
    created_at: datetime
    next_attempt_at: Annotated[datetime | None, Meta(description="Null once it has ended.")]
    finished_at: datetime | None
    attempts: tuple[AttemptView, ...]


class DeliveriesView(Struct, frozen=True):
    """An extraction's webhooks, oldest first: one for each of its ends."""

    deliveries: tuple[DeliveryView, ...]


class SecretsAnswer(Success[SecretsView], frozen=True):
    """Answer of `GET /webhooks/secrets`."""


class DeliveriesAnswer(Success[DeliveriesView], frozen=True):
    """Answer of `GET /extraction/{id}/deliveries`."""


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Convert a delivery for its owner."""
    return DeliveryView(
        webhook_id=delivery.id,
        type=delivery.event_type,
        url=delivery.url,
        state=delivery.state,
        created_at=delivery.created_at,
        next_attempt_at=delivery.next_attempt_at,
        finished_at=delivery.finished_at,
        attempts=tuple(
            AttemptView(tried.number, tried.at, tried.outcome, tried.status_code, tried.seconds)
            for tried in delivery.log.attempts
        ),
    )
