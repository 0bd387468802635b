"""A model's circuit shared by all processes through Redis; while Redis is away, each process keeps its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, cast
from urllib.parse import quote
from uuid import uuid4

from msgspec import Struct
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from service.agents.breaker_local import CircuitOpen, OncePermit, OwnCircuit, Permit, Sight, Timer
from service.agents.breaker_machine import BreakerPolicy, BreakerState, Outcome, asked_seconds, worth_asking_in
from service.agents.breaker_script import MICROSECONDS, SCRIPT, STATES, figures, micro
from service.concurrency.optional_dependency import OptionalDependency, Unavailable
from service.features.ports import Observer

KEY_PREFIX = "feature-agent:breaker:"
OVERTAKING_SECONDS = 60.0
"""Answers of several connections may arrive in another order than Redis gave them; never by as much as this."""

_LOG = logging.getLogger(__name__)


class _Answer(Struct, frozen=True):
    """What the script said."""

    state: BreakerState
    waiting: float
    """Seconds until the next probe may go."""
    at: float
    """Seconds on Redis's clock."""
    term: str
    """Under which the call may run; empty when it may not."""


class SharedBreaker:
    """A `Breaker` over Redis: a round trip to admit a call, another to report it. It never fails for want of Redis."""

    def __init__(
        self,
        model: str,
        pool: BlockingConnectionPool,
        *,
        observer: Observer,
        policy: BreakerPolicy,
        timeout_seconds: float,
        timer: Timer,
        watch: Callable[[Redis], object] = lambda _: None,
    ) -> None:
        client = Redis(connection_pool=pool)
        watch(client)
        self._policy = policy
        self._key = KEY_PREFIX + quote(model, safe="")  # safe also from braces, which choose a cluster's node
        self._figures = figures(policy)
        self._script = cast("Callable[..., Awaitable[Any]]", client.register_script(SCRIPT))
        self._redis = OptionalDependency(
            "Redis",
            faults=(RedisError,),
            without="each process breaks the circuits of failing models by itself",
            logger=_LOG,
            timeout_seconds=timeout_seconds,
            timer=timer,
        )
        self._own = OwnCircuit(policy, timer)
        self._sight = Sight(model, observer, timer)
        self._alone = False
        self._newest = 0.0
        self._errands: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> BreakerState:
        """As this process last saw it."""
        return self._sight.state

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next probe may go, as this process last saw it; None when closed."""
        return self._sight.retry_after

    async def look(self) -> None:
        """See how the circuit stands in Redis; while that is away, this process knows no more than it did."""
        with suppress(Unavailable):
            self._heard(await self._redis.call(lambda: self._run("look", "")))

    async def admit(self) -> Permit:
        """Let a call pass. Raises CircuitOpen."""
        call = uuid4().hex
        try:
            answer = await self._redis.call(lambda: self._run("admit", call))
        except Unavailable:
            return self._admit_alone()
        except asyncio.CancelledError:
            # Redis may have given the probe's place to a call that nobody makes any more.
            self._send_out(self._report(call, "released", None))
            raise
        self._heard(answer)
        if not answer.term:
            raise CircuitOpen(worth_asking_in(answer.state, answer.waiting, self._policy))
        return self._permit(answer.term, self._own.closed_term)

    def _admit_alone(self) -> Permit:
        if not self._alone and self._sight.state != "closed" and self._own.closed_term is not None:
            # What was open when Redis was last heard is not closed because Redis is away: no burst, and no second
            # probe beside one that is out.
            self._own.open(self._sight.retry_after or self._policy.open_seconds)
        term = self._own.admit()
        state, waiting = self._own.standing
        self._alone = True
        self._sight.saw(state, waiting)
        if term is None:
            raise CircuitOpen(worth_asking_in(state, waiting, self._policy))
        return self._permit(None, term)

    def _permit(self, shared: str | None, own: str | None) -> Permit:
        """A permit under a term of the shared circuit, of the own one, or of both: the own then stands in."""

        async def finish(outcome: Outcome, retry_after: float | None) -> None:
            # In a task of its own: a caller that is cancelled just now must not take the probe's result along.
            await asyncio.shield(self._send_out(self._finish(shared, own, outcome, retry_after)))

        return OncePermit(finish)

    async def _finish(self, shared: str | None, own: str | None, outcome: Outcome, retry_after: float | None) -> None:
        if shared is not None and await self._report(shared, outcome, retry_after):
            return
        if own is not None:
            self._own.end(own, outcome, retry_after)
        if self._alone:
            self._sight.saw(*self._own.standing)

    async def _report(self, term: str, outcome: Outcome, retry_after: float | None) -> bool:
        """Tell Redis how a call ended; False when it is away."""
        asked = asked_seconds(retry_after, self._policy)
        try:
            self._heard(await self._redis.call(lambda: self._run(outcome, term, asked)))
        except Unavailable:
            self._alone = True
            return False
        return True

    async def _run(self, what: str, term: str, asked: float = 0.0) -> _Answer:
        said = await self._script(keys=[self._key], args=[what, term, micro(asked), *self._figures])
        state, waiting, at, granted = cast("tuple[int, int, int, bytes]", tuple(said))
        return _Answer(STATES[state], waiting / MICROSECONDS, at / MICROSECONDS, granted.decode())

    def _heard(self, answer: _Answer) -> None:
        """Take note of what Redis says, unless a later answer was heard before."""
        if self._newest - OVERTAKING_SECONDS < answer.at < self._newest and not self._alone:
            return
        self._alone = False
        self._newest = answer.at
        if answer.state == "closed":
            self._own.close()
        self._sight.saw(answer.state, answer.waiting)

    def _send_out(self, errand: Coroutine[Any, Any, Any]) -> asyncio.Task[None]:
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task
