"""What a failed request to a model means: whether to repeat it, whose fault it is, and what the client is told.

The provider's own words go nowhere: they may quote the request or a key.
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
from service.features.errors import FeatureAgentError, ModelOutputInvalid, ModelTimeout, ModelUnavailable
from service.features.model import FieldError
from service.features.plan import Fault

MAX_RETRY_AFTER_SECONDS = 3_600.0
"""What is passed on of a provider's wish to be left alone; one in a thousand years helps nobody."""
MAX_FAULTS = 40
"""Faults told to the model, and to the client, at once."""

Outcome = Literal["success", "error", "timeout", "rate_limited"]
RetryReason = Literal["rate_limited", "timeout", "connection", "server_error"]


class AnswerTooLarge(Exception):
    """A provider sent more than an answer can be."""


class Trouble(Struct, frozen=True):
    """One kind of failed request."""

    words: str
    """What the model did, for a sentence that begins with its name."""
    outcome: Outcome = "error"
    reason: RetryReason | None = None
    """Why repeating the request may help; None when it does not."""
    counts: bool = True
    """Whether it is a failure of the model's, which its circuit breaker counts."""
    status_code: int | None = None
    retry_after: float | None = None
    """Seconds that the provider asks to be left alone."""


_UNREADABLE = Trouble("gave an answer that cannot be read", counts=False)
_TIMED_OUT = Trouble("did not answer in time", "timeout", "timeout")
_ABANDONED = Trouble("was not waited for", counts=False)
_KINDS: tuple[tuple[tuple[type[BaseException], ...], Trouble], ...] = (
    ((AnswerTooLarge,), _UNREADABLE),
    ((ModelTimeoutError, ModelRequestTimeout, TimeoutError), _TIMED_OUT),
    ((ModelAuthenticationError,), Trouble("refused the service's credentials")),
    ((ModelQuotaExceededError,), Trouble("has no quota left for the service", "rate_limited")),
    ((ModelRateLimitError,), Trouble("is limiting the service's requests", "rate_limited", "rate_limited")),
    ((ModelConnectionError, OSError), Trouble("could not be reached", reason="connection")),
    ((ModelServerError, ModelUnavailableError), Trouble("did not answer", reason="server_error")),
    ((ContentFilterError,), Trouble("refused the request by its content filter", counts=False)),
)
"""The first that fits; an exception that nobody expects is unreadable content."""


def trouble_of(error: BaseException) -> Trouble:
    """What kind of failure an exception of a model's request is.

    Provider errors beyond the listed ones (other 4xx) are faults of the request. A request that was cut off failed when
    its time was up, and says nothing when its caller went away.
    """
    if isinstance(error, asyncio.CancelledError):
        return _TIMED_OUT if is_over() else _ABANDONED
    kind = next((trouble for types, trouble in _KINDS if isinstance(error, types)), _UNREADABLE)
    if any(isinstance(cause, AnswerTooLarge) for cause in _causes(error)):
        kind = _UNREADABLE
    return _as_told(kind, error) if isinstance(error, ModelAPIError) else kind


def _as_told(kind: Trouble, error: ModelAPIError) -> Trouble:
    """The kind with what the provider said in numbers."""
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
    """The exception and what it came from; SDKs wrap what their connection raises, twice."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def failed(name: str, error: Exception) -> FeatureAgentError:
    """The domain's error for a model request that is given up."""
    trouble = trouble_of(error)
    words = f"The model {name} {trouble.words}."
    if isinstance(error, ContentFilterError):
        return ModelOutputInvalid(words)
    if trouble.outcome == "timeout":
        return ModelTimeout(words)
    return ModelUnavailable(words, retry_after=trouble.retry_after)


def out_of_time(name: str, seconds: float) -> ModelTimeout:
    """The error for a run that was cut off after so many seconds."""
    return ModelTimeout(f"The model {name} did not plan within {round(seconds, 1):g} seconds.")


def invalid(name: str, faults: Iterable[Fault]) -> ModelOutputInvalid:
    """The error for a model whose answers were rejected to the last."""
    return ModelOutputInvalid(
        f"The model {name} did not propose a valid plan.",
        errors=[FieldError(fault.field, fault.message) for fault in faults][:MAX_FAULTS],
    )
