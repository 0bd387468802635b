"""The circuit breaker's state machine: what it lets pass and what a call's end does to it. Pure; time is an argument.

A call that is let pass runs under a *term*. While the circuit is closed all calls share its term; a probe's term is its
own; an open circuit has none. The end of a call counts only while its term is the circuit's, so whatever comes late
changes nothing: a call from before the circuit opened neither closes it nor fails somebody's probe, and a probe whose
lease ran out decides nothing any more.

`breaker_script.py` says the same in Lua, for the processes that share a circuit.
"""

from __future__ import annotations

import math
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

BreakerState = Literal["closed", "half_open", "open"]
Outcome = Literal["succeeded", "failed", "released"]

BUCKETS = 10
"""The window forgets in steps of a tenth: it covers between 90 and 100 % of its length, at ten pairs of counters."""
CLOSED = ":closed"
"""Ends the term of a closed circuit, which is named for the call that closed it."""


class BreakerPolicy(Struct, frozen=True):
    """When a circuit opens, and for how long."""

    window_seconds: float = 30.0
    """How far back failures count: long enough for those of a slow model to add up, short enough that a fault which
    passed is soon forgotten."""
    failures: int = 5
    """Fewer never open the circuit: they may be chance, or one request and its retries."""
    failure_share: float = 0.5
    """Of the window's finished calls. Below a half, retries deal with it: of three attempts at least one succeeds in
    1 - 0.5^3, or seven of eight, cases."""
    failures_in_a_row: int = 10
    """So many without a success between them open the circuit whatever the share: after a busy time without faults an
    outage would otherwise have to fail half a window of calls. One call in two failing, which is borne, makes such a
    row once in a thousand times."""
    open_seconds: float = 15.0
    """The first time. Providers' incidents last minutes and their rate limits seconds: long enough for a limit to pass,
    short enough that few requests are turned away needlessly."""
    asked_seconds_most: float = 60.0
    """The longest Retry-After that is obeyed: rate limits are counted by the minute, and longer answers are seen from
    exhausted quotas, which somebody may lift at any time."""
    open_seconds_most: float = 120.0
    """What doubling after each failed probe leads to: a lasting outage costs one call every two minutes, and its end is
    noticed within as much."""
    probe_seconds: float = 75.0
    """A probe's lease: after it another probe may go, as the process that sent the first may be gone. It must be longer
    than a planning run may take (60 s by default), or a slow success would be taken for a lost one."""


class Bucket(Struct, frozen=True):
    """Calls that ended within one step of the window."""

    index: int
    """The step's number since the clock's zero."""
    succeeded: int = 0
    failed: int = 0


class Circuit(Struct, frozen=True):
    """The state of one model's circuit. Times are seconds on the clock of whoever keeps it."""

    state: BreakerState = "closed"
    term: str = CLOSED
    """Whose end counts now; empty when nobody's does."""
    due: float = -math.inf
    """When a probe may go: the end of the opening, or of the lease of the probe that is out."""
    open_for: float = 0.0
    """Seconds of the last opening in a row, without what the provider asked for; 0 while closed."""
    asked_until: float = -math.inf
    """The latest that a provider asked to be left alone until, since the circuit closed."""
    window: tuple[Bucket, ...] = ()
    """While closed, the steps in which calls ended; at most `BUCKETS`, oldest first."""
    in_a_row: int = 0
    """Failures since the last success, those of the window at most."""


def admit(circuit: Circuit, policy: BreakerPolicy, now: float, call: str) -> tuple[Circuit, str | None]:
    """The circuit after a call asked to pass, and the term under which the call runs: None when it may not.

    `call` names the call, unlike any other's name and not empty.
    """
    if circuit.state == "closed":
        return circuit, circuit.term
    if now < circuit.due:
        return circuit, None
    return replace(circuit, state="half_open", term=call, due=now + policy.probe_seconds), call


def end(
    circuit: Circuit, policy: BreakerPolicy, now: float, term: str, outcome: Outcome, asked: float = 0.0
) -> Circuit:
    """The circuit after a call of that term ended; `asked` is what `asked_seconds` made of its Retry-After."""
    if circuit.term != term or (circuit.state == "half_open" and now >= circuit.due):
        return circuit
    if circuit.state == "half_open":
        return _probed(circuit, policy, now, outcome, asked)
    if outcome == "released":
        return circuit
    return _counted(circuit, policy, now, outcome, asked)


def wait(circuit: Circuit, now: float) -> float:
    """Seconds until the next probe may go; 0 when it may now, or when none is needed."""
    return 0.0 if circuit.state == "closed" else max(0.0, circuit.due - now)


def worth_asking_in(state: BreakerState, waiting: float, policy: BreakerPolicy) -> float:
    """Seconds after which a refused caller should ask again; `waiting` is the time until the next probe may go.

    While a probe is out that is the end of its lease, but most probes are answered far sooner.
    """
    return min(waiting, policy.open_seconds) if state == "half_open" else waiting


def asked_seconds(retry_after: float | None, policy: BreakerPolicy) -> float:
    """What of a provider's Retry-After is obeyed; 0 for none, for the past, and for what is no number."""
    if retry_after is None or not retry_after > 0:
        return 0.0
    return min(retry_after, policy.asked_seconds_most)


def _probed(circuit: Circuit, policy: BreakerPolicy, now: float, outcome: Outcome, asked: float) -> Circuit:
    if outcome == "succeeded":
        return Circuit(term=circuit.term + CLOSED)
    if outcome == "released":
        return replace(circuit, term="", due=now)
    return _opened(policy, now, 2 * circuit.open_for, now + asked)


def _counted(circuit: Circuit, policy: BreakerPolicy, now: float, outcome: Outcome, asked: float) -> Circuit:
    window = _with(circuit.window, math.floor(now / (policy.window_seconds / BUCKETS)), outcome)
    if outcome == "succeeded":
        return replace(circuit, window=window, in_a_row=0)
    asked_until = max(circuit.asked_until, now + asked)
    failed = sum(bucket.failed for bucket in window)
    finished = failed + sum(bucket.succeeded for bucket in window)
    in_a_row = min(circuit.in_a_row + 1, failed)
    enough = failed >= policy.failures and failed >= policy.failure_share * finished
    if enough or in_a_row >= policy.failures_in_a_row:
        return _opened(policy, now, policy.open_seconds, asked_until)
    return replace(circuit, window=window, asked_until=asked_until, in_a_row=in_a_row)


def _opened(policy: BreakerPolicy, now: float, seconds: float, asked_until: float) -> Circuit:
    open_for = min(seconds, policy.open_seconds_most)
    return Circuit("open", term="", due=max(now + open_for, asked_until), open_for=open_for)


def _with(window: tuple[Bucket, ...], index: int, outcome: Outcome) -> tuple[Bucket, ...]:
    kept = {bucket.index: bucket for bucket in window if bucket.index > index - BUCKETS}
    own = kept.get(index, Bucket(index))
    kept[index] = replace(own, **{outcome: getattr(own, outcome) + 1})
    return tuple(kept.values())
