"""Define the errors of the domain, without HTTP (`api/problems.py` maps categories and codes to statuses).

FeatureAgentError
├── InvalidRequest            the client can correct it
│   ├── DatasetUnreadable     the bytes are not the table they claim to be
│   ├── CompletionDateUnreachable
│   ├── IdempotencyKeyReused
│   ├── RequestImpossible     the dataset cannot give what the sentence asks for
│   └── QualityTooLow         no feature passed the threshold
├── PayloadTooLarge
│   └── DatasetTooLarge       more rows or cells than a dataset may have
├── DatasetNotFound, ExtractionNotFound
├── DatasetExists, DatasetChanged, OriginalMissing, ExtractionNotReady, ExtractionEnded
├── ModelUnavailable          no model answers
│   └── PlanningBusy          too many requests already wait for a model
├── ModelTimeout, ModelOutputInvalid
├── WorkerLost
├── ComputeFailed, ComputeOutOfMemory, DeadlineExceeded
├── DependencyUnavailable
└── NotAuthenticated, NotAuthorized, RateLimited, TooManyAtOnce, TooManyFailures, BudgetExceeded, QuotaExceeded
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from service.features.identity import ShareKind
from service.features.model import Failure, FieldError, Quota, StorageLimits, StorageUse

Category = Literal[
    "malformed", "validation", "quality", "authentication", "authorization", "not_found", "conflict",
    "too_large", "media_type", "rate_limit", "budget", "quota", "model", "dependency", "timeout", "internal",
]  # fmt: skip


class FeatureAgentError(Exception):
    """Root of all errors that a client may see; the message is written for the client and holds no secret."""

    code: ClassVar[str] = "internal_error"
    category: ClassVar[Category] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, errors: Iterable[FieldError] = (), retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.errors = tuple(errors)
        self.retry_after = retry_after
        """Seconds after which the same request may succeed; None if waiting does not help."""

    def failure(self) -> Failure:
        """Convert the error to an extraction's stored failure."""
        return Failure(self.code, self.category, self.message, self.retryable, self.errors, self.retry_after)


class InvalidRequest(FeatureAgentError):
    """The request is well-formed but its content cannot be used; `errors` names each field."""

    code = "request_invalid"
    category = "validation"


class DatasetUnreadable(InvalidRequest):
    """The upload cannot be read as a table; `errors` names row and column where they are known."""

    code = "dataset_unreadable"


class CompletionDateUnreachable(InvalidRequest):
    """By the time that such extractions take, the result cannot be ready by its completion date."""

    code = "completion_date_unreachable"


class IdempotencyKeyReused(InvalidRequest):
    """The caller used this Idempotency-Key for another request."""

    code = "idempotency_key_reused"


class RequestImpossible(InvalidRequest):
    """The dataset has nothing that the description could be computed from; the message lists its columns."""

    code = "request_impossible"


class QualityTooLow(InvalidRequest):
    """Every computed feature fell below the quality threshold; `errors` gives the reason for each."""

    code = "quality_too_low"
    category = "quality"


class PayloadTooLarge(FeatureAgentError):
    """The body is over the configured limit."""

    code = "payload_too_large"
    category = "too_large"


class DatasetTooLarge(PayloadTooLarge):
    """The dataset has more rows or cells than the configured limits allow."""

    code = "dataset_too_large"


class DatasetNotFound(FeatureAgentError):
    """No such dataset among the caller's."""

    code = "dataset_not_found"
    category = "not_found"


class ExtractionNotFound(FeatureAgentError):
    """No such extraction among the caller's."""

    code = "extraction_not_found"
    category = "not_found"


class DatasetExists(FeatureAgentError):
    """The caller already has a dataset of that id."""

    code = "dataset_exists"
    category = "conflict"


class DatasetChanged(FeatureAgentError):
    """Another request made a new version of the dataset, or deleted it, before this one was done."""

    code = "dataset_changed"
    category = "conflict"


class OriginalMissing(FeatureAgentError):
    """The uploaded bytes of the dataset are not kept, so that they cannot be read anew."""

    code = "original_missing"
    category = "conflict"


class ExtractionNotReady(FeatureAgentError):
    """The extraction has no feature table (yet, or because it failed)."""

    code = "extraction_not_ready"
    category = "conflict"


class ExtractionEnded(FeatureAgentError):
    """The extraction has ended, so it cannot be cancelled any more."""

    code = "extraction_ended"
    category = "conflict"


class WorkerLost(FeatureAgentError):
    """The extraction's worker died again and again while it ran."""

    code = "worker_lost"
    category = "internal"


class ModelUnavailable(FeatureAgentError):
    """No configured model answered."""

    code = "model_unavailable"
    category = "model"
    retryable = True


class PlanningBusy(ModelUnavailable):
    """Too many requests already wait for a model; `retry_after` says when to try again."""

    code = "planning_busy"


class ModelTimeout(FeatureAgentError):
    """The planning run exceeded its time limit."""

    code = "model_timeout"
    category = "timeout"
    retryable = True


class ModelOutputInvalid(FeatureAgentError):
    """The model never proposed a valid plan within its retries; `errors` holds the last faults."""

    code = "model_output_invalid"
    category = "model"
    retryable = True


class ComputeFailed(FeatureAgentError):
    """The engine could not run a valid plan."""

    code = "compute_failed"
    category = "internal"


class ComputeOutOfMemory(FeatureAgentError):
    """The plan needs more memory and scratch space than the engine may use."""

    code = "compute_out_of_memory"
    category = "validation"


class DeadlineExceeded(FeatureAgentError):
    """The work did not end within its time limit."""

    code = "deadline_exceeded"
    category = "timeout"
    retryable = True


class DependencyUnavailable(FeatureAgentError):
    """The database, Redis or the artifact store does not answer."""

    code = "dependency_unavailable"
    category = "dependency"
    retryable = True


class NotAuthenticated(FeatureAgentError):
    """The request's credentials are missing or refused; `reason` is one of the catalog's, for the metric."""

    code = "not_authenticated"
    category = "authentication"

    def __init__(self, message: str, *, reason: Literal["missing", "invalid", "expired", "revoked"]) -> None:
        super().__init__(message)
        self.reason: Literal["missing", "invalid", "expired", "revoked"] = reason


class NotAuthorized(FeatureAgentError):
    """The credentials are valid but lack the scope that the route needs."""

    code = "scope_missing"
    category = "authorization"


class RateLimited(FeatureAgentError):
    """The principal used up its requests of this minute; `retry_after` says when it may send more."""

    code = "rate_limited"
    category = "rate_limit"
    retryable = True


class TooManyAtOnce(FeatureAgentError):
    """The principal has as many requests of a kind open as it may; one more is served when one of them ends."""

    code = "too_many_at_once"
    category = "rate_limit"
    retryable = True

    def __init__(self, message: str, *, kind: ShareKind, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.kind: ShareKind = kind


class TooManyFailures(FeatureAgentError):
    """Too many credentials from the request's address were refused lately; its own was not looked at."""

    code = "too_many_failures"
    category = "rate_limit"
    retryable = True


class BudgetExceeded(FeatureAgentError):
    """The principal spent its daily tokens or dollars on models; `retry_after` counts to midnight UTC."""

    code = "budget_exceeded"
    category = "budget"
    retryable = True


class QuotaExceeded(FeatureAgentError):
    """The principal keeps as many datasets or bytes as it may; the message says what to delete."""

    code = "quota_exceeded"
    category = "quota"

    def __init__(
        self, message: str, *, quota: Quota, limits: StorageLimits, used: StorageUse, errors: Iterable[FieldError]
    ) -> None:
        super().__init__(message, errors=errors)
        self.quota: Quota = quota
        self.limits = limits
        self.used = used
