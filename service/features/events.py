"""What the domain tells its observer: frozen facts. `telemetry/observer.py` decides which metrics and lines move."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from service.features.model import RejectionReason, Stage, Status, Threshold


class ExtractionStarted(Struct, frozen=True):
    """An extraction began to run."""

    extraction_id: str
    threshold: Threshold


class ExtractionFinished(Struct, frozen=True):
    """An extraction reached a terminal status."""

    extraction_id: str
    threshold: Threshold
    status: Status
    seconds: float
    failure_code: str | None = None


class StageFinished(Struct, frozen=True):
    """One stage of an extraction ended well."""

    extraction_id: str
    stage: Stage
    seconds: float


class ModelCalled(Struct, frozen=True):
    """One request to a model ended."""

    model: str
    status: Literal["success", "error", "timeout", "rate_limited"]
    seconds: float
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """None when the price is not known."""


class OutputRetried(Struct, frozen=True):
    """A model's answer was sent back to it."""

    reason: Literal["schema", "unknown_column", "type_mismatch", "leakage", "cost", "name", "grain", "other"]


class FeatureAssessed(Struct, frozen=True):
    """A computed feature was scored; `rejected` is None when it was accepted."""

    score: float
    rejected: RejectionReason | None = None


class RateLimitDecided(Struct, frozen=True):
    """The rate limiter answered; "degraded" means that it let the request pass because its store is away."""

    decision: Literal["allowed", "limited", "degraded"]


class AuthenticationFailed(Struct, frozen=True):
    """A request was refused for its credentials."""

    reason: Literal["missing", "invalid", "expired", "revoked", "scope"]


Event = (
    ExtractionStarted | ExtractionFinished | StageFinished | ModelCalled | OutputRetried | FeatureAssessed
    | RateLimitDecided | AuthenticationFailed
)  # fmt: skip
