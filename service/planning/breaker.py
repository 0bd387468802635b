"""A circuit breaker for one model: after repeated failures its calls are refused for a while, then one probe is tried.

`Breaker` keeps its circuit in the process, `shared_breaker.SharedBreaker` in Redis for all processes; both follow the
state machine of `circuit.py`. Libraries admit every waiting call as soon as the time is over, just when a recovering
provider can bear it least.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

from service.features.errors import ModelUnavailable
from service.features.events import BreakerChanged
from service.features.ports import Observer
from service.planning.circuit import BreakerPolicy, BreakerState, CallOutcome, Circuit, admit, end, refused_for, wait

Timer = Callable[[], float]
"""Returns monotonic seconds."""

DEFAULT_POLICY = BreakerPolicy()
SPREAD_SECONDS = 10.0
"""Clients refused for an open circuit are spread over so many seconds, and no more than the wait itself: a process that
refuses hundreds gets them back at tens a second."""


class CircuitOpen(Exception):
    """Raised when a call is refused because the model failed lately."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("The model failed lately and is being left alone.")
        self.retry_after = retry_after
        """Seconds until it is worth asking again."""


def refused(model: str, retry_after: float) -> ModelUnavailable:
    """Return the client's error for a model whose circuit is open for so many seconds.

    All that are refused wait for the same moment: given that moment, they would come back as one wave just when a
    single request tries the model. So each is given a moment of its own after it.
    """
    delay = retry_after + random.uniform(0, min(retry_after, SPREAD_SECONDS))  # noqa: S311 -- hides nothing
    return ModelUnavailable(f"The model {model} failed lately and is left alone for a while.", retry_after=delay)


class Permit:
    """One admitted call. Await exactly one of the methods when it ends; a second one does nothing."""

    def __init__(self, finish: Callable[[CallOutcome, float | None], Awaitable[None]]) -> None:
        """`finish` reports the outcome and the provider's Retry-After."""
        self._finish: Callable[[CallOutcome, float | None], Awaitable[None]] | None = finish

    async def succeeded(self) -> None:
        """Report that the model answered."""
        await self._end("succeeded")

    async def failed(self, retry_after: float | None = None) -> None:
        """Report that the model did not answer as it should; `retry_after` is its provider's, in seconds."""
        await self._end("failed", retry_after)

    async def released(self) -> None:
        """Report nothing of the model's health (the caller went away …), and free the place of a probe."""
        await self._end("released")

    async def _end(self, outcome: CallOutcome, retry_after: float | None = None) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            await finish(outcome, retry_after)


class BreakerView:
    """What this process last saw of a circuit. Records each change once."""

    def __init__(self, model: str, observer: Observer, timer: Timer) -> None:
        self._model = model
        self._observer = observer
        self._timer = timer
        self._due = 0.0
        self.state: BreakerState = "closed"

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next probe may go; None when closed."""
        return None if self.state == "closed" else max(0.0, self._due - self._timer())

    def update(self, state: BreakerState, waiting: float) -> None:
        """See the circuit in that state, `waiting` seconds before the next probe."""
        self._due = self._timer() + waiting
        if state != self.state:
            self.state = state
            self._observer.record(BreakerChanged(self._model, state))


class Breaker:
    """Refuse calls to a model that fails; for one process. Nothing here awaits, so no two calls interleave."""

    def __init__(
        self, model: str, *, observer: Observer, policy: BreakerPolicy = DEFAULT_POLICY, timer: Timer = time.monotonic
    ) -> None:
        self.model = model
        """The configured model's name."""
        self._policy = policy
        self._timer = timer
        self._circuit = Circuit()
        self._view = BreakerView(model, observer, timer)

    @property
    def state(self) -> BreakerState:
        """As this process last saw it; asks nobody."""
        return self._view.state

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next probe may go, as this process last saw it; None when closed. Asks nobody."""
        return self._view.retry_after

    async def look(self) -> None:
        """Learn the circuit's state without asking for admission; here nobody else changes it."""

    async def admit(self) -> Permit:
        """Admit a call. Raises CircuitOpen."""
        return Permit(partial(self._finish_here, self._admit_here()))

    async def ping(self) -> None:
        """Raises ModelUnavailable while calls are refused; never asks the model.

        Once a probe may go, the model counts as healthy: without traffic nobody would find out that it is.
        """
        await self.look()
        if seconds := self.retry_after:
            raise ModelUnavailable(f"The model {self.model} failed lately.", retry_after=seconds)

    def require_not_open(self) -> None:
        """Raises ModelUnavailable while the circuit is open, as this process last saw it.

        A half-open circuit is not refused here: only the next call finds out how the probe ended.
        """
        if self.state == "open" and (seconds := self.retry_after):
            raise refused(self.model, seconds)

    def _admit_here(self) -> str:
        """Return the generation of an admitted call. Raises CircuitOpen."""
        now = self._timer()
        self._circuit, generation = admit(self._circuit, self._policy, now, uuid4().hex)
        waiting = self._show_own()
        if generation is None:
            raise CircuitOpen(refused_for(self._circuit.state, waiting, self._policy))
        return generation

    def _end_here(self, generation: str, outcome: CallOutcome, retry_after: float | None) -> None:
        self._circuit = end(self._circuit, self._policy, self._timer(), generation, outcome, retry_after)

    async def _finish_here(self, generation: str, outcome: CallOutcome, retry_after: float | None) -> None:
        self._end_here(generation, outcome, retry_after)
        self._show_own()

    def _show_own(self) -> float:
        """Show the process's own circuit, and return the seconds until its next probe."""
        waiting = wait(self._circuit, self._policy, self._timer())
        self._view.update(self._circuit.state, waiting)
        return waiting
