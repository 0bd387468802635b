from __future__ import annotations

import asyncio
from contextlib import ExitStack
from itertools import pairwise

import pytest

from service.features.errors import PlanningBusy
from service.features.events import PlanningAdmitted
from service.planning.load_shedder import LAG_SECONDS, MIN_LIMIT, RETRY_SECONDS, TICK_SECONDS, LoadShedder
from tests.doubles import Recorder


async def test_requests_beyond_the_limit_are_refused() -> None:
    """One request too many is refused with a Retry-After, and admitted once another has left."""
    recorder = Recorder()
    shedder = LoadShedder(2, recorder)
    with ExitStack() as inside:
        inside.enter_context(shedder.admit())
        with shedder.admit(), pytest.raises(PlanningBusy) as refused, shedder.admit():
            pytest.fail("a third was admitted")
        with shedder.admit():
            pass
    assert RETRY_SECONDS[0] <= (refused.value.retry_after or 0) <= RETRY_SECONDS[1]
    assert recorder.events == [PlanningAdmitted("refused")]


async def test_requests_with_one_key_count_as_one() -> None:
    """Requests with an equal key take one place; when the last has left, the key is forgotten and the place is free."""
    shedder = LoadShedder(1, Recorder())
    with shedder.admit("key"):
        with shedder.admit("key"), shedder.admit("key"), pytest.raises(PlanningBusy), shedder.admit("other"):
            pytest.fail("another key was admitted")
        with pytest.raises(PlanningBusy), shedder.admit():
            pytest.fail("a request without a key was admitted")
    with shedder.admit("other"):
        pass
    assert not shedder._keys


async def test_the_limit_shrinks_while_the_loop_lags_and_grows_back() -> None:
    """It shrinks to the minimum and never below, and grows one by one to the maximum and never above."""
    shedder = LoadShedder(32, Recorder())
    for _ in range(100):
        shedder.note_lag(10 * LAG_SECONDS)
    assert shedder.limit == MIN_LIMIT
    seen = [shedder.limit]
    for _ in range(700):
        shedder.note_lag(0.0)
        seen.append(shedder.limit)
    assert seen == sorted(seen)
    assert max(after - before for before, after in pairwise(seen)) == 1
    assert shedder.limit == 32


async def test_a_single_late_tick_shrinks_the_limit_little() -> None:
    """One pause, such as a garbage collection, lowers the limit by a few at most."""
    shedder = LoadShedder(32, Recorder())
    shedder.note_lag(0.2)
    for _ in range(20):
        shedder.note_lag(0.0)
    assert shedder.limit >= 20


async def test_the_lag_is_measured_while_a_request_is_inside() -> None:
    """A blocked loop is noticed; when all have left and the limit has grown back, the timer stops."""
    shedder = LoadShedder(8, Recorder())
    loop = asyncio.get_running_loop()
    with shedder.admit():
        await asyncio.sleep(0)
        until = loop.time() + 0.5
        while loop.time() < until:
            pass
        while shedder.limit == 8:  # noqa: ASYNC110 - the tick that is due has no event of its own
            await asyncio.sleep(TICK_SECONDS)
    while shedder._ticking is not None:  # noqa: ASYNC110 - likewise
        await asyncio.sleep(TICK_SECONDS)
    assert shedder.limit == 8


async def test_a_limit_of_one_stays() -> None:
    """With a maximum of one, lag does not refuse every request."""
    shedder = LoadShedder(1, Recorder())
    for _ in range(100):
        shedder.note_lag(1.0)
    with shedder.admit():
        assert shedder.limit == 1
