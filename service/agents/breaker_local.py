"""The breaker of one process: what callers see of any breaker, and the one that shares its circuit with nobody."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Protocol

from service.agents.breaker_machine import (
    BreakerPolicy,
    BreakerState,
    Circuit,
    Outcome,
    admit,
    asked_seconds,
    end,
    wait,
    worth_asking_in,
)
from service.features.events import BreakerChanged
from service.features.ports import Observer

Timer = Callable[[], float]
"""Monotonic seconds."""


class CircuitOpen(Exception):
    """The model failed lately and is being left alone."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("The model failed lately and is being left alone.")
        self.retry_after = retry_after
        """Seconds until it is worth asking again."""


class Permit(Protocol):
    """One admitted call. Exactly one of these is awaited, when the call ends; a second one does nothing."""

    async def succeeded(self) -> None:
        """The model answered."""
        ...

    async def failed(self, retry_after: float | None = None) -> None:
        """The model did not answer as it should; `retry_after` is what its provider asked for, in seconds."""
        ...

    async def released(self) -> None:
        """The call says nothing of the model's health (the caller went away …): a probe's place is given back."""
        ...


class Breaker(Protocol):
    """Keeps calls from a model that fails."""

    @property
    def state(self) -> BreakerState:
        """As this process last saw it; touches nothing."""
        ...

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next probe may go, as this process last saw it; None when closed. Touches nothing."""
        ...

    async def look(self) -> None:
        """See how the circuit stands without asking to pass: another process may have opened or closed it."""
        ...

    async def admit(self) -> Permit:
        """Let a call pass. Raises CircuitOpen."""
        ...


class Sight:
    """What this process last saw of a circuit; tells the observer of each change once."""

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

    def saw(self, state: BreakerState, waiting: float) -> None:
        """The circuit is in that state, and `waiting` seconds from the next probe."""
        self._due = self._timer() + waiting
        if state != self.state:
            self.state = state
            self._observer.record(BreakerChanged(self._model, state))


class OwnCircuit:
    """A circuit in this process's memory. Nothing here awaits, so that no two calls interleave."""

    def __init__(self, policy: BreakerPolicy, timer: Timer) -> None:
        self._policy = policy
        self._timer = timer
        self._calls = itertools.count(1)
        self._circuit = Circuit()

    def admit(self) -> str | None:
        """The term of a call that may pass, else None."""
        self._circuit, term = admit(self._circuit, self._policy, self._timer(), str(next(self._calls)))
        return term

    def end(self, term: str, outcome: Outcome, retry_after: float | None) -> None:
        """A call of that term ended."""
        asked = asked_seconds(retry_after, self._policy)
        self._circuit = end(self._circuit, self._policy, self._timer(), term, outcome, asked)

    def open(self, seconds: float) -> None:
        """Take over a circuit that somebody else opened: left alone for so long, then probed."""
        due = self._timer() + seconds
        self._circuit = Circuit("open", "", due, self._policy.open_seconds)

    def close(self) -> None:
        """Forget everything, because somebody who knows better found the model well."""
        if self._circuit.state != "closed":
            self._circuit = Circuit(term=str(next(self._calls)))

    @property
    def closed_term(self) -> str | None:
        """The term of calls that pass while the circuit is closed; None while it is not."""
        return self._circuit.term if self._circuit.state == "closed" else None

    @property
    def standing(self) -> tuple[BreakerState, float]:
        """The state, and the seconds until the next probe may go."""
        return self._circuit.state, wait(self._circuit, self._timer())


class OncePermit:
    """A `Permit` that passes the first word on the call's end to whoever admitted it."""

    def __init__(self, finish: Callable[[Outcome, float | None], Awaitable[None]]) -> None:
        self._finish: Callable[[Outcome, float | None], Awaitable[None]] | None = finish

    async def succeeded(self) -> None:
        """The model answered."""
        await self._end("succeeded")

    async def failed(self, retry_after: float | None = None) -> None:
        """The model did not answer as it should; `retry_after` is what its provider asked for, in seconds."""
        await self._end("failed", retry_after)

    async def released(self) -> None:
        """The call says nothing of the model's health."""
        await self._end("released")

    async def _end(self, outcome: Outcome, retry_after: float | None = None) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            await finish(outcome, retry_after)


class LocalBreaker:
    """A `Breaker` for one process."""

    def __init__(self, model: str, *, observer: Observer, policy: BreakerPolicy, timer: Timer) -> None:
        self._policy = policy
        self._circuit = OwnCircuit(policy, timer)
        self._sight = Sight(model, observer, timer)

    @property
    def state(self) -> BreakerState:
        """The state after the last call that asked or ended."""
        return self._sight.state

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next probe may go; None when closed."""
        return self._sight.retry_after

    async def look(self) -> None:
        """Nobody else changes this circuit, so there is nothing new to see."""

    async def admit(self) -> Permit:
        """Let a call pass. Raises CircuitOpen."""
        term = self._circuit.admit()
        state, waiting = self._circuit.standing
        self._sight.saw(state, waiting)
        if term is None:
            raise CircuitOpen(worth_asking_in(state, waiting, self._policy))

        async def finish(outcome: Outcome, retry_after: float | None) -> None:
            self._circuit.end(term, outcome, retry_after)
            self._sight.saw(*self._circuit.standing)

        return OncePermit(finish)
