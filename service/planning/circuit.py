"""The circuit breaker's state machine. Pure: circuits are values, and the time is an argument.

A call that is admitted runs under the circuit's *generation*: a closed circuit has one for all its calls, a probe has
its own, an open circuit has none. The end of a call counts only while its generation is the circuit's, so a late end
changes nothing: a call from before the opening neither closes the circuit nor ends another's probe, and a probe whose
lease is over decides nothing.
"""

from __future__ import annotations

import math
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

BreakerState = Literal["closed", "half_open", "open"]
CallOutcome = Literal["succeeded", "failed", "released"]
"""`released`: the call says nothing of the model's health."""

BUCKETS = 10
"""The window moves in steps of a tenth: it covers between 90 and 100 % of its length, with ten pairs of counters."""
CLOSED = ":closed"
"""Suffix of a closed circuit's generation, which is named after the call that closed it."""


class BreakerPolicy(Struct, frozen=True):
    """When a circuit opens, and for how long."""

    window_seconds: float = 30.0
    """How far back failures count: long enough for those of a slow model to add up, short enough to forget soon."""
    min_failures: int = 5
    """Fewer never open the circuit: they may be chance, or one request and its retries."""
    failure_share: float = 0.5
    """Of the window's finished calls. Below a half, retries deal with it: of three attempts at least one succeeds in
    1 - 0.5^3, or seven of eight, cases."""
    failures_in_a_row: int = 10
    """So many without a success between them open the circuit whatever the share: after a busy time without faults an
    outage would otherwise have to fail half a window of calls. When one call in two fails, which retries deal with,
    such a row occurs once in a thousand times."""
    open_seconds: float = 15.0
    """The first opening. Providers' incidents last minutes and their rate limits seconds: long enough for a limit to
    pass, short enough that few requests are refused needlessly."""
    max_retry_after_seconds: float = 60.0
    """The longest Retry-After that is obeyed: rate limits are counted by the minute, and longer ones come from
    exhausted quotas, which may be raised at any time."""
    max_open_seconds: float = 120.0
    """Limit of the doubling after each failed probe: a lasting outage costs one call every two minutes, and its end is
    noticed within as much."""
    probe_seconds: float = 75.0
    """A probe's lease: after it another probe may go, since the process that sent the first may be gone. Longer than a
    planning run may take (60 s by default), or a slow success would be taken for a lost one."""

    @property
    def max_wait_seconds(self) -> float:
        """The longest time between now and the next probe."""
        return max(self.max_open_seconds, self.max_retry_after_seconds, self.probe_seconds)


class Bucket(Struct, frozen=True):
    """Counts of the calls that ended within one step of the window."""

    index: int
    """Steps since the clock's zero."""
    succeeded: int = 0
    failed: int = 0


class Circuit(Struct, frozen=True, omit_defaults=True):
    """The state of one model's circuit. Times are seconds, never negative, on the clock of the one that keeps it."""

    state: BreakerState = "closed"
    generation: str = CLOSED
    """The generation whose calls count; empty while there is none."""
    due: float = 0.0
    """When a probe may go: the end of the opening, or of the lease of the probe under way."""
    open_for: float = 0.0
    """Seconds of the latest opening, without what the provider asked for; 0 while closed."""
    asked_until: float = 0.0
    """The latest time until which a provider asked for a pause, since the circuit closed."""
    window: tuple[Bucket, ...] = ()
    """While closed, the steps in which calls ended; at most `BUCKETS`, oldest first."""
    in_a_row: int = 0
    """Failures since the last success, those of the window at most."""


def admit(circuit: Circuit, policy: BreakerPolicy, now: float, call: str) -> tuple[Circuit, str | None]:
    """Return the circuit after a call asked for admission, and the call's generation: None when it is refused.

    `call` is the call's unique name. A call that asks again, because its answer was lost, is answered the same.
    """
    if circuit.state == "closed" or circuit.generation == call:
        return circuit, circuit.generation
    if wait(circuit, policy, now) > 0:
        return circuit, None
    return replace(circuit, state="half_open", generation=call, due=now + policy.probe_seconds), call


def end(
    circuit: Circuit,
    policy: BreakerPolicy,
    now: float,
    generation: str,
    outcome: CallOutcome,
    retry_after: float | None = None,
) -> Circuit:
    """Return the circuit after a call of that generation ended; `retry_after` is its provider's, in seconds."""
    if circuit.generation != generation:
        return circuit
    if circuit.state == "half_open":
        expired = wait(circuit, policy, now) == 0
        return circuit if expired else _end_probe(circuit, policy, now, outcome, _obeyed(retry_after, policy))
    return circuit if outcome == "released" else _count(circuit, policy, now, outcome, _obeyed(retry_after, policy))


def close(circuit: Circuit, call: str) -> Circuit:
    """Return a closed circuit without history in place of one that is not closed; `call` is any unique name."""
    return circuit if circuit.state == "closed" else Circuit(generation=call + CLOSED)


def wait(circuit: Circuit, policy: BreakerPolicy, now: float) -> float:
    """Return the seconds until the next probe may go; 0 when it may now, or when none is needed.

    A wait beyond the policy's longest comes from a clock that was set back: the probe may go at once.
    """
    left = circuit.due - now
    return 0.0 if circuit.state == "closed" or left > policy.max_wait_seconds else max(0.0, left)


def refused_for(state: BreakerState, waiting: float, policy: BreakerPolicy) -> float:
    """Return the seconds after which a refused caller should ask again; `waiting` is what `wait` returned.

    While a probe is under way its lease is the latest time, but most probes end far sooner.
    """
    return min(waiting, policy.open_seconds) if state == "half_open" else waiting


def _obeyed(retry_after: float | None, policy: BreakerPolicy) -> float:
    """What of a provider's Retry-After is obeyed; 0 for none, for the past, and for what is no number."""
    if retry_after is None or not retry_after > 0:
        return 0.0
    return min(retry_after, policy.max_retry_after_seconds)


def _end_probe(circuit: Circuit, policy: BreakerPolicy, now: float, outcome: CallOutcome, pause: float) -> Circuit:
    if outcome == "succeeded":
        return close(circuit, circuit.generation)
    if outcome == "released":
        return replace(circuit, generation="", due=now)
    return _open(policy, now, 2 * circuit.open_for, now + pause)


def _count(circuit: Circuit, policy: BreakerPolicy, now: float, outcome: CallOutcome, pause: float) -> Circuit:
    window = _counted(circuit.window, math.floor(now / (policy.window_seconds / BUCKETS)), outcome)
    if outcome == "succeeded":
        return replace(circuit, window=window, in_a_row=0)
    asked_until = max(circuit.asked_until, now + pause)
    failed = sum(bucket.failed for bucket in window)
    finished = failed + sum(bucket.succeeded for bucket in window)
    in_a_row = min(circuit.in_a_row + 1, failed)
    enough = failed >= policy.min_failures and failed >= policy.failure_share * finished
    if enough or in_a_row >= policy.failures_in_a_row:
        return _open(policy, now, policy.open_seconds, asked_until)
    return replace(circuit, window=window, asked_until=asked_until, in_a_row=in_a_row)


def _open(policy: BreakerPolicy, now: float, seconds: float, asked_until: float) -> Circuit:
    open_for = min(seconds, policy.max_open_seconds)
    return Circuit("open", generation="", due=max(now + open_for, asked_until), open_for=open_for)


def _counted(window: tuple[Bucket, ...], index: int, outcome: CallOutcome) -> tuple[Bucket, ...]:
    """Add a call that ended in that step. Steps of the past are over; those of the future, of a clock set back."""
    kept = {bucket.index: bucket for bucket in window if index - BUCKETS < bucket.index <= index}
    own = kept.get(index, Bucket(index))
    kept[index] = replace(own, **{outcome: getattr(own, outcome) + 1})
    return tuple(kept.values())
