from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from service.concurrency.batcher import Batcher

WHOSE: ContextVar[str] = ContextVar("whose", default="nobody's")


class Server:
    """Answers batches when it is let; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.contexts: list[str] = []
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, questions: Sequence[int]) -> Sequence[int]:
        """Double each."""
        self.asked.append(list(questions))
        self.contexts.append(WHOSE.get())
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return [question * 2 for question in questions]


async def test_those_who_ask_together_are_asked_for_together() -> None:
    """Ten questions in one turn of the loop are one round trip, and each gets its own answer."""
    server = Server()
    batcher = Batcher(server)
    assert await asyncio.gather(*(batcher.submit(number) for number in range(10))) == [n * 2 for n in range(10)]
    assert server.asked == [list(range(10))]


async def test_who_comes_while_one_is_under_way_waits_for_the_next() -> None:
    """Nobody is answered with what was read before they asked: later ones make the next round trip."""
    server = Server()
    batcher = Batcher(server)
    server.gate.clear()
    first = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(batcher.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0.01)
    assert server.asked == [[1]]
    server.gate.set()
    assert [await first, *[await other for other in others]] == [2, 4, 6]
    assert server.asked == [[1], [2, 3]]


async def test_a_round_trip_has_a_bound() -> None:
    """More questions than may be asked at once take several round trips, in order."""
    server = Server()
    batcher = Batcher(server, max_size=4)
    await asyncio.gather(*(batcher.submit(number) for number in range(10)))
    assert server.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_a_failure_is_each_one_s_own_and_the_next_question_is_asked_again() -> None:
    """All who waited get the error, none of them the same instance; afterwards it goes on."""
    server = Server()
    batcher = Batcher(server)
    server.fault = ValueError("no")
    errors = await asyncio.gather(*(batcher.submit(number) for number in range(3)), return_exceptions=True)
    assert [str(error) for error in errors] == ["no"] * 3
    assert len({id(error) for error in errors}) == 3
    server.fault = None
    assert await batcher.submit(4) == 8


async def test_who_leaves_takes_nobody_along() -> None:
    """A cancelled caller is not answered; those who asked with it are, and it is not asked for if it left in time."""
    server = Server()
    batcher = Batcher(server)
    server.gate.clear()
    first = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0.01)
    leaving, staying = asyncio.create_task(batcher.submit(2)), asyncio.create_task(batcher.submit(3))
    await asyncio.sleep(0.01)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    server.gate.set()
    assert (await first, await staying) == (2, 6)
    assert server.asked == [[1], [3]]


async def test_it_asks_on_nobody_s_behalf() -> None:
    """What asks for many runs outside of every caller's context, so that no request's ids are about all of them."""
    server = Server()
    batcher = Batcher(server)
    WHOSE.set("mine")
    await batcher.submit(1)
    assert server.contexts == ["nobody's"]
