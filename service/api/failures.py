"""Record failed requests in logs, span events and metrics; the client's part is in `problems`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from litestar.types import Scope
from opentelemetry import trace

from service.api.errors import translate
from service.api.problems import PROBLEMS
from service.features.errors import (
    NotAuthenticated,
    NotAuthorized,
    QuotaExceeded,
    TooManyAtOnce,
    TooManyFailures,
)
from service.features.events import AuthenticationFailed, AuthenticationThrottled, QuotaRefused, RequestOverShare
from service.features.ports import Observer

_LOG = logging.getLogger(__name__)


def observe_failures(observer: Observer) -> Callable[[Exception, Scope], Awaitable[None]]:
    """Return Litestar's `after_exception` hook: count refusals, and log failures of the service itself."""

    async def observe(error: Exception, _: Scope) -> None:
        if isinstance(error, NotAuthenticated):
            observer.record(AuthenticationFailed(error.reason))
        elif isinstance(error, NotAuthorized):
            observer.record(AuthenticationFailed("scope"))
        elif isinstance(error, QuotaExceeded):
            observer.record(QuotaRefused(error.quota))
        elif isinstance(error, TooManyFailures):
            observer.record(AuthenticationThrottled())
        elif isinstance(error, TooManyAtOnce):
            observer.record(RequestOverShare(error.kind))
        else:
            _log_failure(error)

    return observe


def _log_failure(error: Exception) -> None:
    """Log errors of the service itself with their stack; a dependency's failure needs none."""
    known = translate(error)
    kind = PROBLEMS.get(known.code, PROBLEMS["internal_error"])
    if kind.severity == "critical":
        _LOG.error("request failed: %s", known.code, exc_info=error)
    elif kind.severity == "high":
        _LOG.warning("request failed: %s: %s", known.code, known.message)
    else:
        return
    trace.get_current_span().record_exception(error)
