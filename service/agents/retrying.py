"""Repeat a model's failed requests when that may help, each attempt under its circuit breaker and in its own span.

stamina loops and sleeps; whether and how long is decided here. No other module imports stamina, whose own counters and
log lines are switched off below: metrics are the catalog's, recorded by the observer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from stamina import retry_context
from stamina.instrumentation import set_on_retry_hooks

from service.agents.failures import RetryReason, failed, kind_of
from service.agents.measured import MeasuredModel
from service.concurrency.deadline import remaining
from service.features.events import ModelRetried
from service.features.ports import Observer
from service.planning.breaker import Breaker, CircuitOpen, Permit, refused

MAX_ATTEMPTS = 3
"""Requests that one call may become. A fault that outlasts two waits of about a second is left to the breaker."""
INITIAL_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 4.0
"""The wait doubles from the initial to the longest one, each time with jitter on top, so that callers spread out."""
WAIT_JITTER_SECONDS = 0.25
MAX_RETRY_AFTER_WAIT_SECONDS = 10.0
"""A longer Retry-After of a provider is not waited for: another model is asked, or the client asks again later."""

FAIR_SECONDS = 1.0
"""A model that was given less time and did not answer is not at fault: the time was spent elsewhere, as in a queue."""

set_on_retry_hooks(())


class RetryPolicy:
    """Decide after each failed attempt of one call whether another is worth its wait; called by stamina."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self.reason: RetryReason | None = None
        """Why the last attempt is repeated; None before the first."""
        self.previous: SpanContext | None = None
        """The span of the last attempt."""
        self.max_backoff = 0.0
        """The longest backoff after the present attempt, in seconds."""

    def __call__(self, error: BaseException) -> bool | float:
        """Return True to back off as usual, seconds to wait as the provider asks, False to give up."""
        if not isinstance(error, Exception) or isinstance(error, CircuitOpen):
            return False
        if self._breaker.state == "open":
            return False  # this failure opened it: waiting would end in a refusal
        kind = kind_of(error)
        self.reason = kind.reason
        asked = kind.retry_after or 0.0
        if kind.reason is None or asked > MAX_RETRY_AFTER_WAIT_SECONDS:
            return False
        if asked <= self.max_backoff:
            return self.max_backoff < remaining()
        wait = asked + random.uniform(0, WAIT_JITTER_SECONDS)  # noqa: S311 -- spreads callers out, hides nothing
        return wait if wait < remaining() else False


class RetryingModel(WrapperModel):
    """Wrap the measured model of one planning run; the deadline around the run bounds attempts and waits."""

    def __init__(
        self, measured: MeasuredModel, name: str, *, breaker: Breaker, observer: Observer, tracer: Tracer
    ) -> None:
        super().__init__(measured)
        self._name = name
        self._breaker = breaker
        self._observer = observer
        self._tracer = tracer

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask the model, at most MAX_ATTEMPTS times. Raises ModelUnavailable, ModelTimeout or ModelOutputInvalid."""
        try:
            return await self._retry(messages, model_settings, model_request_parameters)
        except CircuitOpen as refusal:
            raise refused(self._name, refusal.retry_after) from refusal
        except Exception as error:
            failure = failed(self._name, error)
            if self._breaker.state == "open":
                failure.retry_after = max(failure.retry_after or 0.0, self._breaker.retry_after or 0.0)
            raise failure from error

    async def _retry(self, *request: Any) -> ModelResponse:
        policy = RetryPolicy(self._breaker)
        async for attempt in retry_context(
            policy,
            attempts=MAX_ATTEMPTS,
            timeout=None,  # the deadline bounds it
            wait_initial=INITIAL_WAIT_SECONDS,
            wait_max=MAX_WAIT_SECONDS,
            wait_jitter=WAIT_JITTER_SECONDS,
        ):
            policy.max_backoff = attempt.next_wait + WAIT_JITTER_SECONDS
            with attempt:
                return await self._attempt(attempt.num, policy, *request)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _attempt(self, number: int, policy: RetryPolicy, *request: Any) -> ModelResponse:
        permit, seconds = await self._breaker.admit(), remaining()
        if policy.reason is not None:
            self._observer.record(ModelRetried(self._name, policy.reason))
        try:
            with self._span(number, policy):
                response = await self.wrapped.request(*request)
        except BaseException as error:
            await _shielded(_report(permit, error, seconds))
            raise
        await _shielded(permit.succeeded())
        return response

    @contextmanager
    def _span(self, number: int, policy: RetryPolicy) -> Generator[None]:
        attributes = {
            "gen_ai.request.model": self.wrapped.model_name,
            "feature_agent.model": self._name,
            "feature_agent.attempt": number,
        }
        with self._tracer.start_as_current_span(
            "model.attempt",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=() if policy.previous is None else (Link(policy.previous),),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            policy.previous = span.get_span_context()
            try:
                yield
            except BaseException as error:
                _mark(span, error)
                raise


def _mark(span: Span, error: BaseException) -> None:
    """Set the error's type and status only: messages and stacks may quote the request."""
    kind = kind_of(error)
    cut_off = isinstance(error, asyncio.CancelledError) and kind.outcome == "timeout"
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", (TimeoutError if cut_off else type(error)).__qualname__)
    if kind.status_code is not None:
        span.set_attribute("http.response.status_code", kind.status_code)


async def _report(permit: Permit, error: BaseException, seconds: float) -> None:
    """Report the end of an attempt that was given so many seconds."""
    kind = kind_of(error)
    hurried = seconds < FAIR_SECONDS and kind.outcome == "timeout" and kind.status_code is None
    await (permit.failed(kind.retry_after) if kind.counts and not hurried else permit.released())


async def _shielded(report: Coroutine[Any, Any, None]) -> None:
    """Run to its end even when the run is being cancelled: a probe's place must not be lost."""
    await asyncio.shield(asyncio.ensure_future(report))
