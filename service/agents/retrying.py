"""A model whose requests are repeated when that may help, each attempt under its circuit breaker and its own span.

stamina loops and sleeps; whether and how long is decided here. This is the only importer of stamina, whose own
counters and log lines are switched off where it is imported: metrics are the catalog's, told by the observer.
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

from service.agents.breaker import Breaker, CircuitOpen, Permit
from service.agents.failures import RetryReason, failed, trouble_of
from service.agents.gate import left_alone
from service.agents.measured import MeasuredModel
from service.concurrency.deadline import remaining
from service.features.events import ModelRetried
from service.features.ports import Observer

ATTEMPTS = 3
"""Requests that one call may become. A fault that outlasts two waits of about a second is the breaker's business."""
WAIT_FIRST_SECONDS = 0.25
WAIT_MOST_SECONDS = 4.0
"""The wait doubles from the first to the most, each time with a random part on top, so that callers spread out."""
WAIT_JITTER_SECONDS = 0.25
ASKED_WAIT_MOST_SECONDS = 10.0
"""A provider's Retry-After beyond it is not waited for: the next model, or the client, is better asked meanwhile."""

FAIR_SECONDS = 1.0
"""A model that did not answer within less says nothing of its health: the time was spent elsewhere, as in a queue."""

set_on_retry_hooks(())


class Patience:
    """Says after each failed attempt of one call whether another is worth its wait; stamina asks it."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self.reason: RetryReason | None = None
        """Why the last attempt is repeated."""
        self.previous: SpanContext | None = None
        """The span of the last attempt."""
        self.longest = 0.0
        """Seconds that the backoff after the present attempt takes at most."""

    def __call__(self, error: BaseException) -> bool | float:
        """True to wait as usual, seconds to wait as the provider asks, False to give up. A refusal is no attempt."""
        if not isinstance(error, Exception) or isinstance(error, CircuitOpen):
            return False
        if self._breaker.state == "open":
            return False  # this failure was one too many: waiting would end in a refusal
        trouble = trouble_of(error)
        self.reason = trouble.reason
        asked = trouble.retry_after or 0.0
        if trouble.reason is None or asked > ASKED_WAIT_MOST_SECONDS:
            return False
        if asked <= self.longest:
            return self.longest < remaining()
        wait = asked + random.uniform(0, WAIT_JITTER_SECONDS)  # noqa: S311 -- spreads callers out, hides nothing
        return wait if wait < remaining() else False


class RetryingModel(WrapperModel):
    """Wraps the measured model of one planning run; the deadline around the run bounds attempts and waits."""

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
        """Ask the model, at most ATTEMPTS times. Raises ModelUnavailable, ModelTimeout or ModelOutputInvalid."""
        try:
            return await self._persist(messages, model_settings, model_request_parameters)
        except CircuitOpen as refusal:
            raise left_alone(self._name, refusal.retry_after) from refusal
        except Exception as error:
            failure = failed(self._name, error)
            if self._breaker.state == "open":
                failure.retry_after = max(failure.retry_after or 0.0, self._breaker.retry_after or 0.0)
            raise failure from error

    async def _persist(self, *request: Any) -> ModelResponse:
        patience = Patience(self._breaker)
        async for attempt in retry_context(
            patience,
            attempts=ATTEMPTS,
            timeout=None,  # the deadline's business
            wait_initial=WAIT_FIRST_SECONDS,
            wait_max=WAIT_MOST_SECONDS,
            wait_jitter=WAIT_JITTER_SECONDS,
        ):
            patience.longest = attempt.next_wait + WAIT_JITTER_SECONDS
            with attempt:
                return await self._attempt(attempt.num, patience, *request)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _attempt(self, number: int, patience: Patience, *request: Any) -> ModelResponse:
        permit, given = await self._breaker.admit(), remaining()
        if patience.reason is not None:
            self._observer.record(ModelRetried(self._name, patience.reason))
        try:
            with self._span(number, patience):
                response = await self.wrapped.request(*request)
        except BaseException as error:
            await _undisturbed(_settle(permit, error, given))
            raise
        await _undisturbed(permit.succeeded())
        return response

    @contextmanager
    def _span(self, number: int, patience: Patience) -> Generator[None]:
        attributes = {
            "gen_ai.request.model": self.wrapped.model_name,
            "feature_agent.model": self._name,
            "feature_agent.attempt": number,
        }
        with self._tracer.start_as_current_span(
            "model.attempt",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=() if patience.previous is None else (Link(patience.previous),),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            patience.previous = span.get_span_context()
            try:
                yield
            except BaseException as error:
                _mark(span, error)
                raise


def _mark(span: Span, error: BaseException) -> None:
    """The error's type and status only: messages and stacks may quote the request."""
    trouble = trouble_of(error)
    cut_off = isinstance(error, asyncio.CancelledError) and trouble.outcome == "timeout"
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", (TimeoutError if cut_off else type(error)).__qualname__)
    if trouble.status_code is not None:
        span.set_attribute("http.response.status_code", trouble.status_code)


async def _settle(permit: Permit, error: BaseException, given: float) -> None:
    """`given` are the seconds that there were for the attempt."""
    trouble = trouble_of(error)
    hurried = given < FAIR_SECONDS and trouble.outcome == "timeout" and trouble.status_code is None
    await (permit.failed(trouble.retry_after) if trouble.counts and not hurried else permit.released())


async def _undisturbed(settling: Coroutine[Any, Any, None]) -> None:
    """Run to its end even when the run is being cancelled: a probe's place must not be lost."""
    settled = asyncio.ensure_future(settling)
    await asyncio.shield(settled)
