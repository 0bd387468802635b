"""Places of the engine: fair between principals, kept for small work, and never lost by whoever leaves early."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.concurrency.deadline import deadline
from service.engines.turns import MAX_WAITING, Turns
from service.features.errors import DeadlineExceeded, DependencyUnavailable, RateLimited
from service.features.events import EngineTurnTaken, Event
from service.features.model import Lane


class Hall:
    """Requests for places; each one that starts stays until it is told to leave."""

    def __init__(self, places: int, seconds: float = 60.0) -> None:
        self.events: list[Event] = []
        self.turns = Turns(places, seconds, self)  # type: ignore[arg-type] - it records, and has no stages
        self.started: list[str] = []
        self.inside: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def record(self, event: Event) -> None:
        """Keep what the places report."""
        self.events.append(event)

    async def ask(self, name: str, lane: Lane = "small") -> None:
        """Ask for a place, as the principal that the name begins with."""
        self.tasks[name] = asyncio.create_task(self._hold(name, lane))
        await self.settle()

    async def leave(self, name: str) -> None:
        """Give a place back."""
        self.inside.pop(name).set()
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Leave everything."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def _hold(self, name: str, lane: Lane) -> None:
        async with self.turns.taken(name[0], lane):
            self.started.append(name)
            self.inside[name] = leaving = asyncio.Event()
            try:
                await leaving.wait()
            finally:
                self.inside.pop(name, None)


async def test_a_small_upload_gets_in_between_large_ones() -> None:
    """Large work of one principal leaves a place to small work of any, its own included."""
    hall = Hall(4)
    for number in range(24):
        await hall.ask(f"a{number}", "large")
    assert hall.started == ["a0", "a1"]
    await hall.ask("b small")
    await hall.ask("a small")
    assert hall.started == ["a0", "a1", "b small", "a small"]
    await hall.close()


async def test_one_place_is_kept_free_of_large_work() -> None:
    """Whoever sends it."""
    hall = Hall(2)
    for name in ("a", "b", "c"):
        await hall.ask(name, "large")
    assert hall.started == ["a"]
    await hall.ask("d")
    assert hall.started == ["a", "d"]
    await hall.leave("a")
    assert hall.started == ["a", "d", "b"]
    await hall.close()


async def test_one_principal_never_has_every_place() -> None:
    """With several places one is left for others; the only one is anybody's."""
    hall = Hall(3)
    for number in range(5):
        await hall.ask(f"a{number}")
    assert hall.started == ["a0", "a1"]
    await hall.ask("b")
    assert hall.started == ["a0", "a1", "b"]
    await hall.close()
    alone = Hall(1)
    await alone.ask("a", "large")
    assert alone.started == ["a"]
    await alone.close()


async def test_principals_take_turns_whatever_each_has_sent() -> None:
    """With a single place, the first request of another starts next, not after all that came before it."""
    hall = Hall(1)
    for number in range(5):
        await hall.ask(f"a{number}")
    for name in ("b0", "b1", "c0"):
        await hall.ask(name)
    for name in ("a0", "b0", "c0", "a1", "b1", "a2", "a3"):
        await hall.leave(name)
    assert hall.started == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]
    await hall.close()


async def test_large_work_counts_for_more() -> None:
    """A principal of large work gets fewer turns than one of small work."""
    hall = Hall(1)
    for number in range(3):
        await hall.ask(f"a{number}", "large")
    for number in range(4):
        await hall.ask(f"b{number}")
    for name in ("a0", "b0", "b1", "b2", "b3"):
        await hall.leave(name)
    assert hall.started == ["a0", "b0", "b1", "b2", "b3", "a1"]
    await hall.close()


async def test_waiting_is_bounded() -> None:
    """In time, by the limit and the deadline; and in number, for each principal by itself."""
    hall = Hall(1, seconds=0.05)
    await hall.ask("a")
    with pytest.raises(DeadlineExceeded, match="no turn in time"):
        await hall._hold("b", "small")
    with deadline(0.01), pytest.raises(DeadlineExceeded):
        await hall._hold("b", "small")
    await hall.close()
    hall = Hall(1)
    for number in range(1 + MAX_WAITING):
        await hall.ask(f"a{number}")
    with pytest.raises(RateLimited) as refused:
        await hall._hold("a more", "small")
    assert refused.value.retry_after
    await hall.ask("b")
    assert not hall.tasks["b"].done()
    await hall.close()


async def test_how_long_each_waited_is_reported() -> None:
    """By the size of its work."""
    hall = Hall(1)
    await hall.ask("a", "large")
    await hall.ask("b")
    await asyncio.sleep(0.05)
    await hall.leave("a")
    first, second = hall.events
    assert isinstance(first, EngineTurnTaken)
    assert isinstance(second, EngineTurnTaken)
    assert (first.lane, second.lane) == ("large", "small")
    assert first.seconds < 0.05 <= second.seconds
    await hall.close()


async def test_lost_places_are_not_given() -> None:
    """Fewer work at once; with none left, nobody waits in vain; and a place that comes back is given at once."""
    hall = Hall(2)
    hall.turns.set_lost(1)
    await hall.ask("a")
    await hall.ask("b")
    assert hall.started == ["a"]
    hall.turns.set_lost(2)
    assert hall.turns.all_lost
    with pytest.raises(DependencyUnavailable):
        await hall._hold("c", "small")
    hall.turns.set_lost(0)
    await hall.settle()
    assert hall.started == ["a", "b"]
    await hall.close()


ACTIONS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from("abcd"), st.sampled_from(["small", "large"])),
    st.tuples(st.just("leave"), st.integers(0, 5), st.just("")),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.just("")),
)


@settings(max_examples=150, deadline=None)
@given(places=st.integers(1, 5), actions=st.lists(ACTIONS, max_size=60))
def test_shares_hold_and_nobody_starves(places: int, actions: list[tuple[str, object, str]]) -> None:
    """Whatever is asked, left and cancelled: shares hold at every moment, and in the end all have had their turn."""
    asyncio.run(_play(places, actions))


async def _play(places: int, actions: list[tuple[str, object, str]]) -> None:
    hall, lanes = Hall(places), dict[str, str]()
    cancelled: set[str] = set()
    for number, (action, which, lane) in enumerate(actions):
        if action == "ask":
            name = f"{which}{number}"
            lanes[name] = lane
            await hall.ask(name, lane)  # type: ignore[arg-type] - a lane
        elif action == "leave" and hall.inside:
            await hall.leave(list(hall.inside)[int(str(which)) % len(hall.inside)])
        elif action == "cancel" and hall.tasks:
            name = list(hall.tasks)[int(str(which)) % len(hall.tasks)]
            hall.tasks[name].cancel()
            cancelled.add(name)
            await hall.settle()
        _require_shares(hall, lanes, places)
    while hall.inside:
        await hall.leave(next(iter(hall.inside)))
        _require_shares(hall, lanes, places)
    assert set(lanes) - cancelled <= set(hall.started)
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*hall.tasks.values(), return_exceptions=True)


def _require_shares(hall: Hall, lanes: dict[str, str], places: int) -> None:
    assert len(hall.inside) <= places
    if places == 1:
        return
    of_each = Counter(name[0] for name in hall.inside)
    large = [name for name in hall.inside if lanes[name] == "large"]
    assert max(of_each.values(), default=0) <= places - 1
    assert len(large) <= places - 1
    waiting = [name for name, task in hall.tasks.items() if not task.done() and name not in hall.inside]
    if len(hall.inside) < places:  # a free place is refused only to whoever has its share
        assert all(lanes[name] == "large" or of_each[name[0]] == places - 1 for name in waiting)


@settings(max_examples=150, deadline=None)
@given(
    places=st.integers(1, 4),
    before=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40),
    after=st.lists(st.sampled_from("abcd"), max_size=20),
    lane=st.sampled_from(["small", "large"]),
)
def test_a_newcomer_is_overtaken_by_one_of_each_at_most(
    places: int, before: list[str], after: list[str], lane: Lane
) -> None:
    """However many requests others have sent before, and send after, the first of another starts soon."""
    asyncio.run(_overtake(places, before, after, lane))


async def _overtake(places: int, before: list[str], after: list[str], lane: Lane) -> None:
    hall = Hall(places)
    for number, owner in enumerate(before):
        await hall.ask(f"{owner}{number}", lane)
    started = len(hall.started)
    await hall.ask("z", lane)
    for number, owner in enumerate(after):
        await hall.ask(f"{owner}later{number}", lane)
    while "z" not in hall.started:
        await hall.leave(next(iter(hall.inside)))
    overtaking = Counter(name[0] for name in hall.started[started : hall.started.index("z")])
    assert max(overtaking.values(), default=0) <= 1
    assert not any("later" in name for name in hall.started[: hall.started.index("z")])
    await hall.close()
