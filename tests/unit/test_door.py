from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import pytest

from service.api.door import LAG_SECONDS, LEAST, RETRY_SECONDS, TICK_SECONDS, Door
from service.features.errors import PlanningBusy
from service.features.events import Event, PlanningAdmitted
from service.features.model import Stage


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    @contextmanager
    def stage(self, extraction_id: str, stage: Stage) -> Iterator[None]:
        """No span."""
        yield


async def test_no_more_are_let_in_than_there_are_places() -> None:
    """The one too many is told when to come back, and its place is there once somebody has left."""
    recorder = Recorder()
    door = Door(2, recorder)
    with ExitStack() as inside:
        inside.enter_context(door.inside())
        with door.inside(), pytest.raises(PlanningBusy) as refused, door.inside():
            pytest.fail("a third was let in")
        with door.inside():
            pass
    assert RETRY_SECONDS[0] <= (refused.value.retry_after or 0) <= RETRY_SECONDS[1]
    assert recorder.events == [PlanningAdmitted("refused")]


async def test_requests_on_one_errand_take_one_place() -> None:
    """Equal requests wait together; when the last has left, the errand is forgotten and the place is free."""
    door = Door(1, Recorder())
    with door.inside("key"):
        with door.inside("key"), door.inside("key"), pytest.raises(PlanningBusy), door.inside("other"):
            pytest.fail("another errand was let in")
        with pytest.raises(PlanningBusy), door.inside():
            pytest.fail("a request without errand was let in")
    with door.inside("other"):
        pass
    assert not door._errands


async def test_a_lagging_loop_closes_places_and_a_quick_one_opens_them() -> None:
    """Places shrink to the least while the loop lags, never below, and come back one by one, never above the most."""
    door = Door(32, Recorder())
    for _ in range(100):
        door.note_lag(10 * LAG_SECONDS)
    assert door.places == LEAST
    seen = [door.places]
    for _ in range(700):
        door.note_lag(0.0)
        seen.append(door.places)
    assert seen == sorted(seen)
    assert max(after - before for before, after in pairwise(seen)) == 1
    assert door.places == 32


async def test_a_single_late_tick_closes_little() -> None:
    """One pause, such as a garbage collection, costs a few places at most."""
    door = Door(32, Recorder())
    door.note_lag(0.2)
    for _ in range(20):
        door.note_lag(0.0)
    assert door.places >= 20


async def test_the_lag_is_measured_while_somebody_is_inside() -> None:
    """A blocked loop is noticed; when all have left and all places are back, nothing ticks any more."""
    door = Door(8, Recorder())
    loop = asyncio.get_running_loop()
    with door.inside():
        await asyncio.sleep(0)
        until = loop.time() + 0.5
        while loop.time() < until:
            pass
        while door.places == 8:  # noqa: ASYNC110 - the tick that is due has no event of its own
            await asyncio.sleep(TICK_SECONDS)
    while door._ticking is not None:  # noqa: ASYNC110 - likewise
        await asyncio.sleep(TICK_SECONDS)
    assert door.places == 8


async def test_a_door_of_one_stays_open() -> None:
    """With a single place the loop's lag cannot close it."""
    door = Door(1, Recorder())
    for _ in range(100):
        door.note_lag(1.0)
    with door.inside():
        assert door.places == 1
