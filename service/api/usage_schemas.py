"""Define the wire structs of `GET /usage`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from service.api.schemas import Success


class CountAllowance(Struct, frozen=True):
    """How much of a quota is used."""

    used: Annotated[int, Meta(ge=0)]
    limit: Annotated[int | None, Meta(description="Null when there is no limit.")]


class AmountAllowance(Struct, frozen=True):
    """How many US dollars of a quota are used."""

    used: Annotated[float, Meta(ge=0)]
    limit: Annotated[float | None, Meta(description="Null when there is no limit.")]


class RequestAllowance(Struct, frozen=True):
    """How many requests may still be sent, this one counted."""

    limit: Annotated[int | None, Meta(description="Requests a minute; null when there is no limit.")]
    remaining: Annotated[int | None, Meta(description="Null when there is no limit.")]
    reset: Annotated[
        int | None, Meta(description="Seconds until one more is free; null when there is no limit.", examples=[12])
    ]


class ModelAllowance(Struct, frozen=True):
    """What was spent on models on this day (UTC)."""

    tokens: Annotated[CountAllowance, Meta(description="Input and output together.")]
    usd: Annotated[AmountAllowance, Meta(description="Of the calls whose price is known.")]
    resets_at: Annotated[datetime, Meta(description="The next midnight (UTC).", examples=["2030-01-02T00:00:00Z"])]


class UploadLimits(Struct, frozen=True):
    """What one upload may have."""

    bytes: int
    rows: int
    cells: Annotated[int, Meta(description="Rows times columns.")]


class OpenRequests(Struct, frozen=True):
    """What is open at once, in the process that answers."""

    uploads: CountAllowance
    downloads: Annotated[CountAllowance, Meta(description="Downloads of feature tables.")]
    streams: Annotated[CountAllowance, Meta(description="Event streams.")]
    waiting: Annotated[CountAllowance, Meta(description="Requests that wait for their extraction.")]


class UsageView(Struct, frozen=True):
    """What the caller uses, and what it may."""

    datasets: Annotated[CountAllowance, Meta(description="Datasets that are kept.")]
    stored_bytes: Annotated[
        CountAllowance, Meta(description="Bytes that datasets and feature tables take, as they are stored.")
    ]
    upload: UploadLimits
    open: OpenRequests
    requests_per_minute: RequestAllowance
    model_today: ModelAllowance


class UsageAnswer(Success[UsageView], frozen=True):
    """Answer of `GET /usage`."""
