"""Define the events that the domain reports; `telemetry/observer.py` turns them into metrics and logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from service.features.delivery import AttemptOutcome
from service.features.identity import ShareKind
from service.features.model import Lane, Quota, RejectionReason, Stage, Status, Threshold


class ExtractionStarted(Struct, frozen=True):
    """An attempt at an extraction began to run."""

    extraction_id: str
    threshold: Threshold
    waited: float | None = None
    """Seconds since it was accepted, on its first attempt; None on later ones."""
    attempt: int = 1


class ExtractionFinished(Struct, frozen=True):
    """An extraction reached a terminal status."""

    extraction_id: str
    threshold: Threshold
    status: Status
    seconds: float
    failure_code: str | None = None


class ExtractionRepeated(Struct, frozen=True):
    """An extraction was completed at once with the result of an equal one."""

    extraction_id: str
    threshold: Threshold


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


class ModelRetried(Struct, frozen=True):
    """A failed request to a model is about to be repeated."""

    model: str
    reason: Literal["rate_limited", "timeout", "connection", "server_error"]


class ModelFellBack(Struct, frozen=True):
    """`model` could not plan, so the next one, `to`, does."""

    model: str
    to: str
    error_code: str


class BreakerChanged(Struct, frozen=True):
    """A model's circuit breaker changed its state, as seen by this process."""

    model: str
    state: Literal["closed", "half_open", "open"]


class PlanningAdmitted(Struct, frozen=True):
    """A request asked for a planning place; "expired" means that its time ran out while it waited."""

    decision: Literal["admitted", "queued", "refused", "expired"]


class PlanningLoad(Struct, frozen=True):
    """How many requests are planning, and how many wait for a place, in this process now."""

    running: int
    waiting: int


class CacheLooked(Struct, frozen=True):
    """A cache was queried.

    "bypassed" means that the client wanted a fresh answer, "joined" that it shared an equal request's answer.
    """

    cache: Literal["plan", "result"]
    level: Literal["memory", "redis"]
    result: Literal["hit", "miss", "bypassed", "joined"]


class BudgetChecked(Struct, frozen=True):
    """A principal's budget was checked before planning; "unchecked" means that it could not be read."""

    decision: Literal["allowed", "refused", "unchecked"]


class BudgetWarned(Struct, frozen=True):
    """A principal's spending crossed a share of its day's budget."""

    principal: str
    unit: Literal["tokens", "usd"]
    level: Literal["80", "95", "100"]
    """Percent."""


class OutputRetried(Struct, frozen=True):
    """A model's answer was sent back to it."""

    reason: Literal[
        "schema", "unknown_tool", "unknown_column", "type_mismatch", "leakage", "cost", "name", "grain", "other"
    ]  # fmt: skip


class FeatureAssessed(Struct, frozen=True):
    """A computed feature was scored; `rejected` is None when it was accepted."""

    score: float
    rejected: RejectionReason | None = None


class JobAttempted(Struct, frozen=True):
    """A job's attempt at an extraction ended: as `run.Ending` says, or "crashed" with its worker or the database."""

    extraction_id: str
    outcome: Literal[
        "completed", "failed", "cancelled", "retried", "handed_back", "superseded", "gone", "crashed"
    ]  # fmt: skip


class QueueMeasured(Struct, frozen=True):
    """The state of the whole job queue, as every process sees it."""

    queued: int
    """Jobs that could run now."""
    scheduled: int
    """Jobs scheduled for later."""
    running: int
    oldest_seconds: float
    """How long the oldest job that could run has waited; 0 without one."""
    workers: int
    """Living workers, two for each worker process: one for each lane."""
    crashes: int
    """Attempts at extractions that ended with their worker, since the database was created."""


class WebhookAttempted(Struct, frozen=True):
    """A webhook was attempted and the attempt recorded."""

    delivery_id: str
    extraction_id: str
    url: str
    outcome: Literal["delivered", "retried", "failed"]
    """The delivery's state after the attempt: `retried` is tried again later, `failed` is given up."""
    reason: AttemptOutcome
    """The attempt's outcome."""
    seconds: float
    status_code: int | None = None


class RateLimitDecided(Struct, frozen=True):
    """The rate limiter answered; "degraded" means that it let the request pass because its store is unreachable."""

    decision: Literal["allowed", "limited", "degraded"]


class AuthenticationFailed(Struct, frozen=True):
    """A request was refused for its credentials."""

    reason: Literal["missing", "invalid", "expired", "revoked", "scope"]


class EngineTurnTaken(Struct, frozen=True):
    """A request got a place of the engine."""

    lane: Lane
    seconds: float
    """Time that it waited."""


class EngineProcessesCounted(Struct, frozen=True):
    """The number of this process's engine processes in each state changed."""

    busy: int
    idle: int
    lost: int
    """Killed, and not ended after some seconds: each takes a place away."""


class EngineProcessKilled(Struct, frozen=True):
    """An engine process ended before its request did, or was killed over it."""

    reason: Literal["deadline", "cancelled", "crashed"]


class QuotaRefused(Struct, frozen=True):
    """An upload or an extraction was refused because its principal keeps as much as it may."""

    quota: Quota


ConnectionRefusal = Literal[
    "url_too_long", "headers_too_large", "too_many_headers", "malformed", "ambiguous", "header_timeout", "body_timeout",
    "send_timeout", "too_many_connections", "too_many_connections_of_address", "evicted",
]  # fmt: skip
"""Why a connection was refused or closed; "evicted" was idle, and another needed its place."""


class ConnectionsMeasured(Struct, frozen=True):
    """A process's open connections to its API, and those refused or closed since it said so last."""

    open: int
    limit: int
    refused: Mapping[ConnectionRefusal, int]


class AuthenticationThrottled(Struct, frozen=True):
    """A request was refused unread, because of the failed authentications of its address."""


class RequestOverShare(Struct, frozen=True):
    """A principal had so many requests of a kind open that one more was refused, or for `wait` answered 202 at once."""

    kind: ShareKind


Event = (
    ExtractionStarted | ExtractionFinished | ExtractionRepeated | StageFinished | ModelCalled | ModelRetried
    | ModelFellBack | BreakerChanged | PlanningAdmitted | PlanningLoad | CacheLooked | BudgetChecked | BudgetWarned
    | OutputRetried | FeatureAssessed | JobAttempted | QueueMeasured | WebhookAttempted | RateLimitDecided
    | AuthenticationFailed | AuthenticationThrottled | RequestOverShare | QuotaRefused | ConnectionsMeasured
    | EngineTurnTaken | EngineProcessesCounted | EngineProcessKilled
)  # fmt: skip
