from __future__ import annotations

import inspect
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from service.features.events import BreakerChanged
from service.planning import circuit as circuit_module
from service.planning.breaker import Breaker, CircuitOpen, Permit
from service.planning.circuit import BUCKETS, BreakerPolicy, CallOutcome, Circuit, admit, end, wait
from tests.doubles import Recorder, Timer

POLICY = BreakerPolicy(
    window_seconds=10.0,
    min_failures=3,
    failures_in_a_row=4,
    open_seconds=4.0,
    max_retry_after_seconds=6.0,
    max_open_seconds=12.0,
    probe_seconds=5.0,
)
"""Short, and in eighths of seconds, which floats hold exactly."""

EIGHTHS = st.integers(0, 8 * 9).map(lambda eighths: eighths / 8)


class BreakerRecorder(Recorder):
    """An observer that also lists the states that breakers changed to."""

    @property
    def states(self) -> list[str]:
        """Return the states that breakers changed to."""
        return [event.state for event in self.of(BreakerChanged)]


# ------------------------------------------------------------------------------------------------- the state machine


class AnyHistory(RuleBasedStateMachine):
    """The machine beside a model of it that knows calls by what they are, not by generations."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit()
        self.now = 64.0
        self.state = "closed"
        self.closings = 0  # how often it closed: names the closed times
        self.probes = 0  # how many probes went
        self.probe: int | None = None  # the one that is out
        self.due = -math.inf
        self.open_for = 0.0
        self.asked_until = -math.inf
        self.ended: list[tuple[int, bool]] = []  # (step of the window, success), since it closed
        self.row = 0  # failures since the last success

    @rule(seconds=EIGHTHS)
    def pass_time(self, seconds: float) -> None:
        """Time passes, sometimes none."""
        self.now += seconds

    @rule()
    def pass_to_the_very_instant(self) -> None:
        """Exactly so much time passes that a probe may go."""
        self.now = max(self.now, self.due)

    @rule(target=calls)
    def ask(self) -> tuple[str | None, tuple[str, int]]:
        """A call asks to pass."""
        before = self.circuit
        self.circuit, generation = admit(before, POLICY, self.now, f"call {self.probes + 1}")
        if self.state == "closed":
            assert generation is not None
            return generation, ("closed", self.closings)
        if self.now < self.due:
            assert generation is None, "let pass before its time, or beside a probe"
            assert self.circuit == before
            return None, ("refused", 0)
        assert generation is not None, "nobody may try, though it is time"
        self.probes += 1
        self.state, self.probe, self.due = "half_open", self.probes, self.now + POLICY.probe_seconds
        return generation, ("probe", self.probes)

    @rule(
        call=consumes(calls),
        outcome=st.sampled_from(["succeeded", "failed", "failed", "released"]),
        asked=st.sampled_from([None, None, 1.0, 5.0, 600.0]),
    )
    def finish(self, call: tuple[str | None, tuple[str, int]], outcome: CallOutcome, asked: float | None) -> None:
        """A call ends, at any time after it passed."""
        generation, (kind, number) = call
        if generation is None:
            return
        before = self.circuit
        self.circuit = end(before, POLICY, self.now, generation, outcome, asked)
        obeyed = min(asked or 0.0, POLICY.max_retry_after_seconds)
        if self.state == "closed" and (kind, number) == ("closed", self.closings):
            self.count(outcome, obeyed)
        elif self.state == "half_open" and (kind, number) == ("probe", self.probe) and self.now < self.due:
            self.conclude(outcome, obeyed)
        else:
            assert self.circuit == before, "what came late changed something"

    def count(self, outcome: CallOutcome, obeyed: float) -> None:
        """The model of a call that ends while closed."""
        if outcome == "released":
            return
        step = math.floor(self.now / (POLICY.window_seconds / BUCKETS))
        self.ended.append((step, outcome == "succeeded"))
        if outcome == "succeeded":
            self.row = 0
            return
        self.asked_until = max(self.asked_until, self.now + obeyed)
        recent = [success for at, success in self.ended if at > step - BUCKETS]
        failed = recent.count(False)
        self.row = min(self.row + 1, failed)
        if (failed >= 3 and failed * 2 >= len(recent)) or self.row >= 4:
            self.open(POLICY.open_seconds)

    def conclude(self, outcome: CallOutcome, obeyed: float) -> None:
        """The model of a probe that ends in time."""
        self.probe = None
        if outcome == "succeeded":
            self.state, self.closings, self.ended, self.asked_until = "closed", self.closings + 1, [], -math.inf
            self.row = 0
        elif outcome == "released":
            self.due = self.now
        else:
            self.asked_until = self.now + obeyed
            self.open(min(2 * self.open_for, POLICY.max_open_seconds))

    def open(self, seconds: float) -> None:
        """The model of an opening."""
        self.state, self.open_for = "open", seconds
        self.due = max(self.now + seconds, self.asked_until)

    @invariant()
    def agree(self) -> None:
        """Both are in the same state, and equally far from the next probe."""
        assert self.circuit.state == self.state
        assert wait(self.circuit, POLICY, self.now) == (0 if self.state == "closed" else max(0, self.due - self.now))
        assert len(self.circuit.window) <= BUCKETS


class TestAnyHistory(AnyHistory.TestCase):
    """Whatever calls ask and end in whatever order, the machine does what the model says, and late ends do nothing."""

    settings = settings(max_examples=300, stateful_step_count=60, deadline=None)


def trip(circuit: Circuit, now: float, *, failures: int = 3) -> Circuit:
    """The circuit after that many failures."""
    for _ in range(failures):
        circuit = end(circuit, POLICY, now, circuit.generation, "failed")
    return circuit


def test_default_policy_is_the_documented_one() -> None:
    """Five failures that are half of what ended in 30 s open the circuit for 15 s."""
    policy, circuit = BreakerPolicy(), Circuit()
    for outcome in ("succeeded",) * 5 + ("failed",) * 4:
        circuit = end(circuit, policy, 100.0, circuit.generation, outcome)
    assert circuit.state == "closed"
    circuit = end(circuit, policy, 120.0, circuit.generation, "failed")
    assert (circuit.state, wait(circuit, policy, 120.0)) == ("open", 15.0)


def test_few_failures_among_many_calls_do_not_open() -> None:
    """A model that fails less than half of its calls stays in use however many those are."""
    circuit = Circuit()
    for _ in range(200):
        for outcome in ("succeeded", "succeeded", "failed"):
            circuit = end(circuit, POLICY, 100.0, circuit.generation, outcome)
    assert circuit.state == "closed"


def test_a_row_of_failures_opens_whatever_went_well_before() -> None:
    """An outage in a busy time shows in ten calls, not in half a window of them; a success between starts anew."""
    policy, circuit = BreakerPolicy(), Circuit()
    for outcome in ("succeeded",) * 500 + ("failed",) * 9 + ("succeeded",) + ("failed",) * 9:
        circuit = end(circuit, policy, 100.0, circuit.generation, outcome)
    assert circuit.state == "closed"
    assert end(circuit, policy, 100.0, circuit.generation, "failed").state == "open"


def test_failures_further_apart_than_the_window_do_not_add_up() -> None:
    """A failure now and then never opens, and costs no memory."""
    circuit = Circuit()
    for second in range(0, 10_000, 5):
        circuit = end(circuit, POLICY, float(second), circuit.generation, "failed")
        assert len(circuit.window) <= 2
    assert circuit.state == "closed"


def test_each_failed_probe_doubles_the_opening_up_to_the_most() -> None:
    """4, 8, 12, 12 … seconds; the first success after them makes the next opening a short one again."""
    circuit, now, openings = trip(Circuit(), 0.0), 0.0, list[float]()
    for probe in range(5):
        openings.append(wait(circuit, POLICY, now))
        now += wait(circuit, POLICY, now)
        circuit, generation = admit(circuit, POLICY, now, f"probe {probe}")
        assert generation is not None
        circuit = end(circuit, POLICY, now, generation, "failed")
    assert openings == [4.0, 8.0, 12.0, 12.0, 12.0]
    circuit, generation = admit(circuit, POLICY, now + 12, "last")
    assert generation is not None
    circuit = trip(end(circuit, POLICY, now + 12, generation, "succeeded"), now + 12)
    assert wait(circuit, POLICY, now + 12) == 4.0


def test_what_any_failure_asked_for_is_obeyed() -> None:
    """The longest Retry-After among the failures counts, not only that of the one that opened the circuit."""
    circuit = end(Circuit(), POLICY, 0.0, Circuit().generation, "failed", 6.0)
    assert wait(trip(circuit, 1.0, failures=2), POLICY, 1.0) == 5.0


@pytest.mark.parametrize(
    ("asked", "waits"), [(None, 4), (-5, 4), (0, 4), (math.nan, 4), (2.5, 4), (5.5, 5.5), (3600, 6), (math.inf, 6)]
)
def test_retry_after_is_obeyed_within_limits(asked: float | None, waits: float) -> None:
    """No provider, however confused its header, opens a circuit for longer than the policy allows, or for less."""
    circuit = trip(Circuit(), 100.0, failures=2)
    assert wait(end(circuit, POLICY, 100.0, circuit.generation, "failed", asked), POLICY, 100.0) == waits


def test_a_clock_that_is_set_back_delays_no_probe() -> None:
    """A wait beyond the policy's longest is none: the probe may go at once, and failures of the future are gone."""
    opened = trip(Circuit(), 5000.0)
    assert admit(opened, POLICY, 1000.0, "probe")[1] == "probe"
    failing = trip(Circuit(), 5000.0, failures=2)
    assert end(failing, POLICY, 1000.0, failing.generation, "failed").state == "closed"


def test_a_call_that_asks_twice_is_answered_the_same() -> None:
    """A probe whose answer was lost finds its place taken by itself; another call is refused beside it."""
    opened = trip(Circuit(), 0.0)
    once, _ = admit(opened, POLICY, 4.0, "probe")
    assert admit(once, POLICY, 5.0, "probe") == (once, "probe")
    assert admit(once, POLICY, 5.0, "another") == (once, None)


def test_the_machine_reads_no_clock_and_does_no_io() -> None:
    """The machine's module imports nothing that could tell the time or wait."""
    source = inspect.getsource(circuit_module)
    assert not {"import time", "import asyncio", "datetime", "import redis", "random"} & set(source.split("\n"))
    assert "async " not in source


# ----------------------------------------------------------------------------------------- the breaker of one process


def breaker(timer: Timer, notes: BreakerRecorder) -> Breaker:
    """A breaker of this process alone."""
    return Breaker("openai:gpt", observer=notes, policy=POLICY, timer=timer)


async def fail(permits: list[Permit]) -> None:
    """Every one of the calls fails."""
    for permit in permits:
        await permit.failed()


async def test_changes_are_recorded_once_each() -> None:
    """The observer hears of each change, with the model's name, and of nothing else."""
    timer, notes = Timer(), BreakerRecorder()
    circuit = breaker(timer, notes)
    await fail([await circuit.admit() for _ in range(5)])
    timer.seconds += 4
    probe = await circuit.admit()
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            await circuit.admit()
    await probe.succeeded()
    await (await circuit.admit()).succeeded()
    assert notes.events == [
        BreakerChanged("openai:gpt", "open"),
        BreakerChanged("openai:gpt", "half_open"),
        BreakerChanged("openai:gpt", "closed"),
    ]


async def test_a_second_report_of_a_call_does_nothing() -> None:
    """A permit counts once, whatever is reported of it afterwards."""
    timer, notes = Timer(), BreakerRecorder()
    circuit = breaker(timer, notes)
    permit = await circuit.admit()
    for _ in range(10):
        await permit.failed()
        await permit.succeeded()
    assert circuit.state == "closed"
    await fail([await circuit.admit() for _ in range(2)])
    assert circuit.state == "open"


async def test_retry_after_counts_down_without_being_asked() -> None:
    """Health checks see the seconds until the next probe; a refused caller gets them as Retry-After."""
    timer, notes = Timer(), BreakerRecorder()
    circuit = breaker(timer, notes)
    assert circuit.retry_after is None
    await fail([await circuit.admit() for _ in range(3)])
    timer.seconds += 1.5
    assert circuit.retry_after == 2.5
    with pytest.raises(CircuitOpen) as refused:
        await circuit.admit()
    assert refused.value.retry_after == 2.5
    timer.seconds += 100
    assert (circuit.state, circuit.retry_after) == ("open", 0.0)
    await circuit.admit()
    assert (circuit.state, circuit.retry_after) == ("half_open", 5.0)
    with pytest.raises(CircuitOpen) as refused:
        await circuit.admit()
    assert refused.value.retry_after == 4.0  # a probe is out: likely decided before its lease of 5 s ends
