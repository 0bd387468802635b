"""A circuit shared by all processes through Redis; each process keeps its own while Redis is unreachable.

The circuit is one JSON value under one key. The state machine runs here: a process computes the next circuit from the
one it saw last, and Redis replaces it by compare-and-set. When another process was faster, the answer brings its
circuit, and the next one is computed again from that. So one of several processes gets the probe, and every count is
kept. Calls of one process that ask or end while a round trip is under way share the next one.

The clock is Redis's, since circuits hold times and the processes' clocks differ. Each answer says how far it is ahead
of this process's monotonic clock, and a circuit computed for a time that is not Redis's is not taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast
from urllib.parse import quote
from uuid import uuid4

import msgspec
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError, WatchError

from service.concurrency.batcher import Batcher
from service.concurrency.optional_dependency import CALL_TIMEOUT_SECONDS, OptionalDependency, Unavailable
from service.features.ports import Observer
from service.planning.breaker import DEFAULT_POLICY, Breaker, CircuitOpen, Permit, Timer
from service.planning.circuit import CLOSED, BreakerPolicy, CallOutcome, Circuit, admit, close, end, refused_for, wait

KEY_PREFIX = "feature-agent:breaker:2:"
"""The number is the encoding's: increased when an older release could not read what is written."""
KEEP_SECONDS = 3600.0
"""How long an idle circuit is kept, past whatever it waits for; then the model counts as new."""
MAX_TRIES = 16
"""Of one compare-and-set. A lost one means that another process reported a call, which takes seconds, just then."""
MAX_CLOCK_ERROR_SECONDS = 1.0
"""Between Redis's clock and the time a circuit was computed for: more than a slow answer, less than any wait."""

COMPARE_AND_SET = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local stored = redis.call('GET', KEYS[1]) or ''
local agreed = stored == ARGV[1] and math.abs(now - ARGV[3]) <= tonumber(ARGV[4])
if agreed and ARGV[2] ~= stored then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[5]) end
return {agreed and 1 or 0, stored, clock[1], clock[2]}
"""
"""Replace the expected value by another if it is still stored, and the clock agrees.

Arguments: expected value, empty for none; new value; seconds since the epoch for which it was computed; how much the
clock may differ; milliseconds to keep it. Returns whether they agreed, the value before, and the time.
"""
_UNKNOWN = b"?"
"""Expected before the first answer; never stored."""
_SPAN_ATTRIBUTES = {"db.system.name": "redis", "db.operation.name": "EVALSHA"}

_LOG = logging.getLogger(__name__)

_Step = Callable[[Circuit, float], tuple[Circuit, str | None]]
"""Return the circuit after a step at that time, and the generation of the call that it admitted."""


class _Answer(msgspec.Struct, frozen=True):
    """The circuit after a step."""

    circuit: Circuit
    generation: str | None
    """Of the call that was admitted."""
    waiting: float
    """Seconds until the next probe may go."""


class SharedBreaker(Breaker):
    """A `Breaker` over Redis: one round trip to admit a call and one to report it, when no other process interferes.

    Never fails for want of Redis: then it decides with the process's own circuit.
    """

    def __init__(
        self,
        model: str,
        pool: BlockingConnectionPool,
        *,
        observer: Observer,
        policy: BreakerPolicy = DEFAULT_POLICY,
        timer: Timer = time.monotonic,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
        tracer: Tracer | None = None,
    ) -> None:
        """`pool` stays the caller's to close."""
        super().__init__(model, observer=observer, policy=policy, timer=timer)
        self._key = KEY_PREFIX + quote(model, safe="")  # safe also from braces, which choose a cluster's node
        keep_seconds = KEEP_SECONDS + max(policy.max_wait_seconds, policy.window_seconds)
        self._keep_milliseconds = round(1000 * keep_seconds)
        script = Redis(connection_pool=pool).register_script(COMPARE_AND_SET)
        self._script = cast("Callable[..., Awaitable[tuple[int, bytes, bytes, bytes]]]", script)
        self._redis = OptionalDependency(
            "Redis",
            faults=(RedisError,),
            without="each process breaks the circuits of failing models by itself",
            logger=_LOG,
            timeout_seconds=timeout_seconds,
            timer=timer,
        )
        self._batcher = Batcher(self._send)
        self._tracer = tracer
        self._alone = False
        self._stored = _UNKNOWN
        self._clock_ahead = 0.0
        self._unanswered = ""
        """Generation of a probe whose place was asked for, while Redis has not answered."""
        self._reports: set[asyncio.Task[None]] = set()

    async def look(self) -> None:
        """Learn the circuit's state from Redis; while that is unreachable, nothing is learned."""
        with suppress(Unavailable):
            await self._submit(lambda circuit, _: (circuit, None))

    async def admit(self) -> Permit:
        """Admit a call. Raises CircuitOpen."""
        call = uuid4().hex
        try:
            answer = await self._submit(lambda circuit, now: admit(circuit, self._policy, now, call))
        except Unavailable:
            return self._admit_alone()
        except asyncio.CancelledError:
            self._start(self._report(call, "released", None))  # nobody makes the call, which may be the probe
            raise
        if answer.generation is None:
            raise CircuitOpen(refused_for(answer.circuit.state, answer.waiting, self._policy))
        own = self._circuit.generation if self._circuit.state == "closed" else None
        return Permit(partial(self._finish, answer.generation, own))

    def _admit_alone(self) -> Permit:
        if not self._alone and self.state != "closed" and self._circuit.state == "closed":
            # What was open when Redis last answered is not closed because Redis is unreachable: no burst, and no second
            # probe beside one that is under way.
            seconds = self.retry_after or self._policy.open_seconds
            self._circuit = Circuit("open", "", self._timer() + seconds, self._policy.open_seconds)
        self._alone = True
        return Permit(partial(self._finish, None, self._admit_here()))

    async def _finish(self, shared: str | None, own: str | None, outcome: CallOutcome, after: float | None) -> None:
        # In a task of its own: a caller that is cancelled just now must not take the probe's result along.
        await asyncio.shield(self._start(self._report(shared, outcome, after, own=own)))

    async def _report(
        self, shared: str | None, outcome: CallOutcome, after: float | None, *, own: str | None = None
    ) -> None:
        """Report the end of a call to the shared circuit or, while that is unreachable, to the process's own."""
        if shared is not None:
            with suppress(Unavailable):
                await self._submit(lambda circuit, now: (end(circuit, self._policy, now, shared, outcome, after), None))
                return
            self._alone = True
        if own is not None:
            self._end_here(own, outcome, after)
        if self._alone:
            self._show_own()

    def _start(self, report: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(report)
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        return task

    async def _submit(self, step: _Step) -> _Answer:
        """Take the step in Redis. Raises Unavailable."""
        if self._tracer is None or not trace.get_current_span().is_recording():
            return await self._batcher.submit(step)
        with self._tracer.start_as_current_span("EVALSHA", kind=SpanKind.CLIENT, attributes=_SPAN_ATTRIBUTES):
            return await self._batcher.submit(step)

    async def _send(self, steps: Sequence[_Step]) -> Sequence[_Answer]:
        answers = await self._redis.call(lambda: self._change(steps))
        self._alone = False
        for answer in answers:
            self._view.update(answer.circuit.state, answer.waiting)
        if self.state == "closed":
            self._circuit = close(self._circuit, uuid4().hex)
        return answers

    async def _change(self, steps: Sequence[_Step]) -> Sequence[_Answer]:
        """Take the steps one after the other, all at one time. Raises RedisError."""
        lost, answered = self._unanswered, False
        for _ in range(MAX_TRIES):
            now = self._timer() + self._clock_ahead
            before = _decode(self._stored)
            answers = self._take(steps, before or Circuit(generation=uuid4().hex + CLOSED), now, lost)
            after = answers[-1].circuit
            if answered and after == before:
                break
            if after.state == "half_open" and after != before:
                self._unanswered = after.generation
            if await self._compare_and_set(None if after == before else after, now):
                break
            answered = True
        else:
            raise WatchError("Other processes changed the circuit each time.")
        self._unanswered = ""
        return answers

    def _take(self, steps: Sequence[_Step], circuit: Circuit, now: float, lost: str) -> Sequence[_Answer]:
        """Take the steps after the end of a probe that nobody makes, because the answer that admitted it was lost."""
        if lost:
            circuit = end(circuit, self._policy, now, lost, "released")
        answers: list[_Answer] = []
        for step in steps:
            circuit, generation = step(circuit, now)
            answers.append(_Answer(circuit, generation, wait(circuit, self._policy, now)))
        return answers

    async def _compare_and_set(self, after: Circuit | None, now: float) -> bool:
        """Replace what was seen last by that circuit, or by nothing else; return whether it was still so."""
        value = self._stored if after is None else msgspec.json.encode(after)
        arguments = [self._stored, value, repr(now), MAX_CLOCK_ERROR_SECONDS, self._keep_milliseconds]
        agreed, stored, seconds, microseconds = await self._script(keys=[self._key], args=arguments)
        self._clock_ahead = int(seconds) + int(microseconds) / 1_000_000 - self._timer()
        self._stored = value if agreed else stored
        return bool(agreed)


def _decode(value: bytes) -> Circuit | None:
    """Return the stored circuit; None for nothing, and for what cannot be read."""
    try:
        return msgspec.json.decode(value, type=Circuit)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
