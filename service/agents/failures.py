"""Classify failed requests to models: whether to repeat one, whether the model is at fault, and the client's error.

The provider's own message is never passed on: it may quote the request or a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
)

from service.concurrency.deadline import is_over
from service.features.errors import (
    DeadlineExceeded,
    FeatureAgentError,
    ModelOutputInvalid,
    ModelTimeout,
    ModelUnavailable,
)
from service.features.faults import Fault
from service.features.model import FieldError

MAX_RETRY_AFTER_SECONDS = 3_600.0
"""A longer Retry-After of a provider is passed on as this."""
MAX_FAULTS = 40
"""Faults listed at once, for the model and for the client."""

Outcome = Literal["success", "error", "timeout", "rate_limited"]
RetryReason = Literal["rate_limited", "timeout", "connection", "server_error"]


class AnswerTooLarge(Exception):
    """Raised when a provider sends more than an answer can be."""


class FailureKind(Struct, frozen=True):
    """One kind of failed request."""

    words: str
    """What the model did: the predicate of a sentence that begins with its name."""
    outcome: Outcome = "error"
    reason: RetryReason | None = None
    """Why repeating the request may help; None when it does not."""
    counts: bool = True
    """Whether the model is at fault, so that its circuit breaker counts it."""
    status_code: int | None = None
    retry_after: float | None = None
    """The provider's Retry-After, in seconds."""


_UNREADABLE = FailureKind("gave an answer that cannot be read", counts=False)
_TIMED_OUT = FailureKind("did not answer in time", "timeout", "timeout")
_ABANDONED = FailureKind("was not waited for", counts=False)
_KINDS: tuple[tuple[tuple[type[BaseException], ...], FailureKind], ...] = (
    ((AnswerTooLarge,), _UNREADABLE),
    ((ModelTimeoutError, ModelRequestTimeout, TimeoutError, DeadlineExceeded), _TIMED_OUT),
    ((ModelAuthenticationError,), FailureKind("refused the service's credentials")),
    ((ModelQuotaExceededError,), FailureKind("has no quota left for the service", "rate_limited")),
    ((ModelRateLimitError,), FailureKind("is limiting the service's requests", "rate_limited", "rate_limited")),
    ((ModelConnectionError, OSError), FailureKind("could not be reached", reason="connection")),
    ((ModelServerError, ModelUnavailableError), FailureKind("did not answer", reason="server_error")),
    ((ContentFilterError,), FailureKind("refused the request by its content filter", counts=False)),
)
"""The first that matches; any other exception means unreadable content."""


def kind_of(error: BaseException) -> FailureKind:
    """Classify an exception of a model's request.

    Provider errors beyond the listed ones (other 4xx) are faults of the request. A request that was cut off failed when
    its time was up, and says nothing when its caller went away.
    """
    if isinstance(error, asyncio.CancelledError):
        return _TIMED_OUT if is_over() else _ABANDONED
    kind = next((kind for types, kind in _KINDS if isinstance(error, types)), _UNREADABLE)
    if any(isinstance(cause, AnswerTooLarge) for cause in _causes(error)):
        kind = _UNREADABLE
    return _with_answer(kind, error) if isinstance(error, ModelAPIError) else kind


def _with_answer(kind: FailureKind, error: ModelAPIError) -> FailureKind:
    """Add the status code and Retry-After of the provider's answer."""
    after = None if error.retry_after is None else min(error.retry_after, MAX_RETRY_AFTER_SECONDS)
    if not isinstance(error, ModelHTTPError):
        return replace(kind, retry_after=after)
    status = error.status_code
    if status == HTTPStatus.REQUEST_TIMEOUT:
        kind = _TIMED_OUT
    plain = kind is _UNREADABLE or kind.reason == "server_error"
    words = f"answered with HTTP status {status}" if plain else kind.words
    return replace(kind, words=words, status_code=status, retry_after=after)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and its causes; SDKs wrap what their connection raises, twice."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def failed(name: str, error: Exception) -> FeatureAgentError:
    """Return the domain's error for a model request that is given up."""
    kind = kind_of(error)
    words = f"The model {name} {kind.words}."
    if isinstance(error, ContentFilterError):
        return ModelOutputInvalid(words)
    if kind.outcome == "timeout":
        return ModelTimeout(words)
    return ModelUnavailable(words, retry_after=kind.retry_after)


def out_of_time(name: str, seconds: float) -> ModelTimeout:
    """Return the error for a run that was cut off after so many seconds."""
    return ModelTimeout(f"The model {name} did not plan within {round(seconds, 1):g} seconds.")


def invalid(name: str, faults: Iterable[Fault]) -> ModelOutputInvalid:
    """Return the error for a model whose answers were all rejected."""
    return ModelOutputInvalid(
        f"The model {name} did not propose a valid plan.",
        errors=[FieldError(fault.field, fault.message) for fault in faults][:MAX_FAULTS],
    )
