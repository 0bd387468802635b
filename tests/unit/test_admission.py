from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.concurrency.deadline import deadline
from service.features.errors import ModelUnavailable, PlanningBusy
from service.features.events import PlanningAdmitted, PlanningLoad
from service.features.ports import PlanRequest, Proposal
from service.planning import admission as admission_module
from service.planning.admission import EARLY_SECONDS, Admission, AdmittedPlanner
from tests.doubles import Recorder, Timer


class AdmissionRecorder(Recorder):
    """An observer that also lists the decisions and the load of planning."""

    @property
    def decisions(self) -> list[str]:
        """Return the decisions, in order."""
        return [event.decision for event in self.of(PlanningAdmitted)]

    @property
    def load(self) -> PlanningLoad:
        """Return the last load; before the first one nothing runs."""
        return [PlanningLoad(0, 0), *self.of(PlanningLoad)][-1]


class Hall:
    """Visitors of an admission: each enters, stays until it is let go, and is known by its number."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self.timer = Timer()
        self.notes = AdmissionRecorder()
        self.concurrency = concurrency
        self.admission = Admission(concurrency=concurrency, queue=queue, observer=self.notes, timer=self.timer)
        self.entered: list[int] = []
        self.inside: set[int] = set()
        self.doors: list[asyncio.Event] = []
        self.visitors: list[asyncio.Task[None]] = []

    def arrive(self) -> int:
        """A new visitor; it asks for a place when the loop runs next."""
        number = len(self.visitors)
        self.doors.append(asyncio.Event())
        self.visitors.append(asyncio.create_task(self._visit(number)))
        return number

    async def _visit(self, number: int) -> None:
        async with self.admission.place():
            self.entered.append(number)
            self.inside.add(number)
            assert len(self.inside) + len(self.passed_by(number)) <= self.concurrency, "overtaken, or too many"
            try:
                await self.doors[number].wait()
            finally:
                self.inside.remove(number)

    def passed_by(self, number: int) -> list[int]:
        """Who came before that visitor and has yet to enter: they must have been handed their places already."""
        return [
            earlier
            for earlier, task in enumerate(self.visitors[:number])
            if earlier not in self.entered and not task.done() and not task.cancelling()
        ]

    async def settle(self) -> None:
        """Let everything that can happen happen."""
        for _ in range(5 + 2 * len(self.visitors)):
            await asyncio.sleep(0)

    async def empty(self) -> None:
        """Everybody leaves; then the places are all free again, and nobody is counted."""
        await self._close()
        first = len(self.visitors)
        for _ in range(self.concurrency):
            self.arrive()
        await self.settle()
        assert self.inside == set(range(first, first + self.concurrency)), "a place was lost"
        await self._close()

    async def _close(self) -> None:
        for door in self.doors:
            door.set()
        ends = await asyncio.gather(*self.visitors, return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), PlanningBusy, asyncio.CancelledError}, ends
        assert self.notes.load == PlanningLoad(0, 0)


def set_time_left(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Every request has that many seconds left, besides the moment that admission keeps for itself."""
    monkeypatch.setattr(admission_module, "seconds_left", lambda at_most: min(seconds + EARLY_SECONDS, at_most))


@pytest.mark.parametrize(("concurrency", "queue"), [(0, 1), (-1, 1), (1, -1)])
def test_impossible_sizes_are_refused(concurrency: int, queue: int) -> None:
    """A gate that nobody could ever pass is a mistake in the settings, said when it is made."""
    with pytest.raises(ValueError, match="at least one place"):
        Admission(concurrency=concurrency, queue=queue, observer=AdmissionRecorder())


async def test_places_go_in_the_order_of_arrival() -> None:
    """Two plan, the others follow one by one, longest waiting first, each as somebody leaves."""
    hall = Hall(concurrency=2, queue=10)
    for _ in range(6):
        hall.arrive()
    await hall.settle()
    assert hall.entered == [0, 1]
    for leaver, follower in ((1, 2), (0, 3), (2, 4), (4, 5)):
        hall.doors[leaver].set()
        await hall.settle()
        assert hall.entered[-1] == follower
    await hall.empty()


async def test_a_newcomer_does_not_overtake_the_one_just_handed_the_place() -> None:
    """Between the handing over and the waiter's waking the place is not free."""
    hall = Hall(concurrency=1, queue=1)
    notes = hall.notes
    held = hall.admission.place()
    await held.__aenter__()
    hall.arrive()
    await hall.settle()
    await held.__aexit__(None, None, None)  # hands over; the waiter has not run yet
    assert hall.entered == []
    newcomer = asyncio.create_task(hall.admission.place().__aenter__())
    newcomer_first = asyncio.create_task(asyncio.sleep(0))
    await newcomer_first
    assert not newcomer.done()
    assert hall.entered == [0]
    assert notes.load == PlanningLoad(1, 1)
    newcomer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await newcomer
    await hall.empty()


async def test_decisions_and_load_are_recorded() -> None:
    """Each decision is recorded, queueing besides what comes of it, and the load with every change."""
    hall = Hall(concurrency=1, queue=1)
    for _ in range(3):
        hall.arrive()
    await hall.settle()
    hall.doors[0].set()
    await hall.settle()
    assert hall.notes.events == [
        PlanningLoad(1, 0),
        PlanningAdmitted("admitted"),
        PlanningAdmitted("queued"),
        PlanningLoad(1, 1),
        PlanningAdmitted("refused"),
        PlanningLoad(1, 0),
        PlanningAdmitted("admitted"),
    ]
    assert isinstance(hall.visitors[2].exception(), PlanningBusy)
    await hall.empty()


async def test_beyond_the_queue_is_refused_at_once() -> None:
    """Who finds the queue full is refused without waiting, and changes nothing for the others."""
    hall = Hall(concurrency=2, queue=0)
    for _ in range(2):
        hall.arrive()
    await hall.settle()
    with pytest.raises(PlanningBusy) as refused:
        async with hall.admission.place():
            raise AssertionError
    assert refused.value.retry_after == 1.0  # nobody has left yet: nothing is known
    assert hall.notes.load == PlanningLoad(2, 0)
    await hall.empty()


async def stay(hall: Hall, *seconds: float) -> None:
    """Stays of those lengths, one after the other."""
    for length in seconds:
        async with hall.admission.place():
            hall.timer.seconds += length


async def refusal(hall: Hall) -> float | None:
    """The seconds after which a refused client may come again."""
    with pytest.raises(PlanningBusy) as refused:
        async with hall.admission.place():
            raise AssertionError
    return refused.value.retry_after


@pytest.mark.parametrize(
    ("concurrency", "queue", "stays", "retry_after"),
    [
        (1, 0, (10.0,), 10.0),
        (2, 3, (10.0,), 20.0),  # four must leave, two of them every ten seconds
        (4, 1, (6.0,), 3.0),
        (1, 0, (10.0, 20.0), 12.0),  # 10 + 0.2 * (20 - 10)
        (1, 0, (0.001,), 1.0),
        (1, 9, (3600.0,), 60.0),
    ],
)
async def test_the_estimate(concurrency: int, queue: int, stays: tuple[float, ...], retry_after: float) -> None:
    """Retry-After is when the turn would have come, by how long recent plannings took; 1 to 60 seconds."""
    hall = Hall(concurrency, queue)
    await stay(hall, *stays)
    for _ in range(concurrency + queue):
        hall.arrive()
    await hall.settle()
    assert await refusal(hall) == pytest.approx(retry_after)
    await hall.empty()


async def test_a_stay_that_fails_or_is_cancelled_gives_its_place_back() -> None:
    """However the block ends, the next one enters, and the error is the caller's to see."""
    hall = Hall(concurrency=1, queue=1)
    with pytest.raises(KeyError):
        async with hall.admission.place():
            raise KeyError
    hall.arrive()
    hall.arrive()
    await hall.settle()
    hall.visitors[0].cancel()
    await hall.settle()
    assert hall.inside == {1}
    await hall.empty()


async def test_a_wait_longer_than_the_time_left_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could not be served in time is refused at once, though the queue has room; who could be, waits."""
    hall = Hall(concurrency=1, queue=5)
    await stay(hall, 10.0)
    hall.arrive()
    await hall.settle()
    set_time_left(monkeypatch, 9.0)
    assert await refusal(hall) == 10.0
    set_time_left(monkeypatch, 11.0)
    hall.arrive()
    await hall.settle()
    assert hall.notes.decisions[-2:] == ["refused", "queued"]
    await hall.empty()


async def test_without_time_nobody_waits() -> None:
    """A deadline that is over refuses a request that would have to wait, as busy, with a time to come again."""
    hall = Hall(concurrency=1, queue=5)
    hall.arrive()
    await hall.settle()
    with deadline(-1.0):
        assert await refusal(hall) == 1.0
    assert hall.notes.decisions == ["admitted", "refused"]
    await hall.empty()


async def test_a_waiter_whose_time_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline ends the wait with PlanningBusy, and the place goes to the next in time."""
    hall = Hall(concurrency=1, queue=5)
    hall.arrive()
    await hall.settle()
    set_time_left(monkeypatch, 0.01)
    late = hall.arrive()
    with pytest.raises(PlanningBusy):
        await hall.visitors[late]
    assert hall.notes.decisions == ["admitted", "queued", "expired"]
    assert hall.notes.load == PlanningLoad(1, 0)
    await hall.empty()


async def test_a_place_handed_over_as_the_time_ends_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """When leaving and the deadline fall together, the waiter gives up and the place goes on to the one behind it."""
    hall = Hall(concurrency=1, queue=5)
    held = hall.admission.place()
    await held.__aenter__()
    set_time_left(monkeypatch, 0.02)
    late = hall.arrive()
    await asyncio.sleep(0)
    set_time_left(monkeypatch, 3600.0)
    behind = hall.arrive()
    await asyncio.sleep(0)

    def leave() -> None:
        with suppress(StopIteration):
            held.__aexit__(None, None, None).send(None)  # it does not wait

    asyncio.get_running_loop().call_later(0.001, leave)
    time.sleep(0.05)  # noqa: ASYNC251 - the loop is held, so that both are due when it goes on
    with pytest.raises(PlanningBusy):
        await hall.visitors[late]
    await hall.settle()
    assert hall.inside == {behind}
    await hall.empty()


async def test_cancelling_as_the_request_s_time_ends_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation from outside stays one, even when it meets the end of the wait."""
    hall = Hall(concurrency=1, queue=5)
    hall.arrive()
    await hall.settle()
    set_time_left(monkeypatch, 0.01)
    late = hall.arrive()
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.011, hall.visitors[late].cancel)
    time.sleep(0.05)  # noqa: ASYNC251 - the loop is held, so that both are due when it goes on
    with pytest.raises(asyncio.CancelledError):
        await hall.visitors[late]
    assert hall.notes.load == PlanningLoad(1, 0)
    await hall.empty()


# ------------------------------------------------------------------------------------------ cancellation, at any time


def act(hall: Hall, action: str) -> None:
    """One thing happens, without the loop running in between."""
    waiting = [number for number, task in enumerate(hall.visitors) if number not in hall.entered and not task.done()]
    inside = sorted(hall.inside)
    match action:
        case "arrive":
            hall.arrive()
        case "leave" if inside:
            hall.doors[inside[0]].set()
        case "cancel first" if waiting:
            hall.visitors[waiting[0]].cancel()
        case "cancel last" if waiting:
            hall.visitors[waiting[-1]].cancel()
        case "cancel inside" if inside:
            hall.visitors[inside[-1]].cancel()
        case _:
            pass


async def play(concurrency: int, actions: tuple[str, ...], *, before: int = 0) -> None:
    """Those things happen to a hall with so many visitors; then everybody leaves in good order."""
    hall = Hall(concurrency, queue=3)
    for _ in range(before):
        hall.arrive()
    await hall.settle()
    for action in actions:
        if action == "tick":
            await asyncio.sleep(0)
        else:
            act(hall, action)
    await hall.settle()
    unserved = [number for number, task in enumerate(hall.visitors) if number not in hall.entered and not task.done()]
    assert not unserved or len(hall.inside) == concurrency, "somebody waits beside a free place"
    await hall.empty()


ACTIONS = ("tick", "arrive", "leave", "cancel first", "cancel last", "cancel inside")


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_every_short_course_of_events(concurrency: int) -> None:
    """In all 1296 courses of four events around a full house, whether or not the loop turns in between, none leaks."""
    for actions in itertools.product(ACTIONS, repeat=4):
        await play(concurrency, actions, before=concurrency + 2)


@settings(max_examples=300, deadline=None)
@given(concurrency=st.integers(1, 3), actions=st.lists(st.sampled_from(ACTIONS), max_size=40).map(tuple))
def test_any_course_of_events(concurrency: int, actions: tuple[str, ...]) -> None:
    """In whatever order requests come, leave and are cancelled, nobody overtakes and no place is lost."""
    asyncio.run(play(concurrency, actions))


async def test_a_waiter_cancelled_as_it_is_handed_the_place_passes_it_on() -> None:
    """Its cancellation is kept, and the one behind it enters."""
    hall = Hall(concurrency=1, queue=5)
    held = hall.admission.place()
    await held.__aenter__()
    cancelled, behind = hall.arrive(), hall.arrive()
    await hall.settle()
    await held.__aexit__(None, None, None)
    hall.visitors[cancelled].cancel()
    await hall.settle()
    assert hall.visitors[cancelled].cancelled()
    assert hall.inside == {behind}
    await hall.empty()


async def test_a_waiter_cancelled_before_the_place_comes_free_is_passed_over() -> None:
    """A place is not handed to somebody who was cancelled in the same turn of the loop."""
    hall = Hall(concurrency=1, queue=5)
    held = hall.admission.place()
    await held.__aenter__()
    cancelled, behind = hall.arrive(), hall.arrive()
    await hall.settle()
    hall.visitors[cancelled].cancel()
    await held.__aexit__(None, None, None)
    await hall.settle()
    assert hall.visitors[cancelled].cancelled()
    assert hall.inside == {behind}
    await hall.empty()


async def test_a_thousand_random_cancellations_leak_nothing() -> None:
    """Whether they were waiting, being handed a place or planning as they were cancelled, all places are free after."""
    chance = random.Random(20261124)  # noqa: S311 - a course of events, the same each time
    hall = Hall(concurrency=3, queue=50)
    while sum(task.cancelled() for task in hall.visitors) < 1000:
        for _ in range(chance.randrange(6)):
            hall.arrive()
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        alive = [task for task in hall.visitors[-80:] if not task.done()]
        for task in chance.sample(alive, min(len(alive), chance.randrange(5))):
            task.cancel()
        for number in [number for number in hall.inside if chance.random() < 0.3]:
            hall.doors[number].set()
    await hall.settle()
    assert hall.notes.decisions.count("admitted") > 300
    await hall.empty()


# ------------------------------------------------------------------------------------------------ in front of a planner


class Crowded:
    """A planner that does not answer until the test lets it; counts how many plan at once."""

    def __init__(self, answer: Callable[[], Proposal]) -> None:
        self.answer = answer
        self.running = self.most = 0
        self.done = asyncio.Event()

    async def propose(self, request: PlanRequest) -> Proposal:
        """Wait for the word."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.done.wait()
            return self.answer()
        finally:
            self.running -= 1


def fail() -> Proposal:
    """What a planner does without a model."""
    raise ModelUnavailable("No model answers.")


async def test_a_planner_behind_it_is_asked_by_so_many_at_once() -> None:
    """Two plan, three wait and are served after them, five are refused; the planner's own errors come through."""
    notes, planner = AdmissionRecorder(), Crowded(fail)
    admitted = AdmittedPlanner(planner, Admission(concurrency=2, queue=3, observer=notes))
    request: PlanRequest = object()  # pyright: ignore[reportAssignmentType] - it is passed on, not looked at
    proposals = [asyncio.create_task(admitted.propose(request)) for _ in range(10)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert planner.running == 2
    planner.done.set()
    answers = await asyncio.gather(*proposals, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ModelUnavailable] * 5 + [PlanningBusy] * 5
    assert planner.most == 2
    assert notes.load == PlanningLoad(0, 0)
