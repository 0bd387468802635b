"""The service with parts taken out: `python -m loadtest.benchmarks.api.ours PART … -- serve`.

The command that runs is the product's own; a part is replaced before it starts. What a part costs is what the service
costs with it less what it costs without.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

import service.app
from service.__main__ import run
from service.features.context import CURRENT, RequestContext
from service.features.identity import SCOPES, Principal
from service.security.authenticator import Authenticator
from service.telemetry.metrics import Family
from service.telemetry.observer import TelemetryObserver


class _Unobserved:
    """In place of the outer observer: the ids that answers carry, and nothing that anybody could look at later."""

    def __init__(self, app: Any, **_: Any) -> None:
        self._app = app
        self._ids = RandomIdGenerator()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, trace_id = (f"{self._ids.generate_trace_id():032x}" for _ in range(2))
        token = CURRENT.set(RequestContext(request_id, trace_id, started=perf_counter()))
        try:
            await self._app(scope, receive, send)
        finally:
            CURRENT.reset(token)


class _Still:
    """A metric that does not move."""

    def inc(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    dec = set = observe = inc


def _without_telemetry() -> None:
    service.app.HttpObserver = _Unobserved  # type: ignore[misc,assignment]
    TelemetryObserver.record = lambda *_: None  # type: ignore[method-assign,assignment]


def _without_metrics() -> None:
    still = _Still()
    Family.child = lambda *_: still  # type: ignore[method-assign,assignment]


def _without_authentication() -> None:
    principal = Principal("development", frozenset(SCOPES))

    async def authenticate(*_: Any) -> Principal:
        return principal

    Authenticator.authenticate = authenticate  # type: ignore[method-assign,assignment]


PARTS: dict[str, Callable[[], None]] = {
    "telemetry": _without_telemetry,
    "metrics": _without_metrics,
    "authentication": _without_authentication,
}

if __name__ == "__main__":
    parts, _, command = " ".join(sys.argv[1:]).partition("--")
    for part in parts.split():
        PARTS[part]()
    sys.argv = ["feature-agent", *command.split()]
    run()
