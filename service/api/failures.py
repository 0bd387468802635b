"""What becomes known inside of a failed request: log lines, span events, metrics. The client's part is `problems`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from litestar.types import Scope
from opentelemetry import trace

from service.api.errors import translate
from service.api.problems import PROBLEMS
from service.features.errors import NotAuthenticated, NotAuthorized
from service.features.events import AuthenticationFailed
from service.features.ports import Observer

_LOG = logging.getLogger(__name__)


def observe_failures(observer: Observer) -> Callable[[Exception, Scope], Awaitable[None]]:
    """Litestar's `after_exception`: counts refused credentials, and tells of failures that are the service's own."""

    async def observe(error: Exception, _: Scope) -> None:
        if isinstance(error, NotAuthenticated):
            observer.record(AuthenticationFailed(error.reason))
        elif isinstance(error, NotAuthorized):
            observer.record(AuthenticationFailed("scope"))
        else:
            _tell(error)

    return observe


def _tell(error: Exception) -> None:
    """Errors of the service's own are logged with their stack; a dependency's trouble needs no stack."""
    known = translate(error)
    kind = PROBLEMS.get(known.code, PROBLEMS["internal_error"])
    if kind.severity == "critical":
        _LOG.error("request failed: %s", known.code, exc_info=error)
    elif kind.severity == "high":
        _LOG.warning("request failed: %s: %s", known.code, known.message)
    else:
        return
    trace.get_current_span().record_exception(error)
