"""Workers that compete for one extraction, in any order: nothing is done twice, and what has ended stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from msgspec import Struct
from msgspec.structs import replace

from service.features.errors import DependencyUnavailable, ExtractionEnded, ModelUnavailable
from service.features.model import Extraction
from service.features.stores import AttemptSuperseded
from service.store.database import Database, open_database
from service.store.extractions import SqlExtractions
from service.store.tables import TERMINAL
from tests.doubles import result_of
from tests.held_time import NOON, run_held
from tests.integration.test_run import NEW, World, new_world

T = TypeVar("T")

WORKERS = st.integers(0, 1)
BOUNDED = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def url(migrated_databases: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """Address of a database of the module's."""
    with migrated_databases() as url:
        yield url


class Attempts(RuleBasedStateMachine):
    """Two workers that each hold an attempt or none, and an owner who cancels, on rows of a real database."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self.runner = runner
        self.database = database
        self.id = uuid4().hex
        self.new = replace(NEW, id=self.id)
        self._do(lambda extractions: extractions.add(self.new))
        self.hands: list[Extraction | None] = [None, None]
        self.seconds = 0
        self.completed: list[int] = []
        self.end: Extraction | None = None
        self.version = 0

    def _do(self, action: Callable[[SqlExtractions], Awaitable[T]]) -> T:
        """Take one step in a transaction of its own, and read the row after it, also when the step was refused."""

        async def act() -> T:
            try:
                async with self.database.store.begin() as work:
                    return await action(work.extractions)
            finally:
                async with self.database.store.begin() as work:
                    self.row = await work.extractions.get(self.new.owner, self.id)

        return self.runner.run(act())

    @rule(worker=WORKERS)
    def claim(self, worker: int) -> None:
        """A worker claims the extraction; an attempt that it had is forgotten, as after a crash."""
        before = self.row
        self.hands[worker] = claimed = self._do(
            lambda extractions: extractions.claim(self.id, NOON + timedelta(seconds=self.seconds))
        )
        assert (claimed is None) == (before.status in TERMINAL)
        if claimed is not None:
            assert claimed.attempt == before.attempt + 1
            assert claimed.crashes == before.crashes + (before.status == "processing")

    @rule(worker=WORKERS)
    def crash(self, worker: int) -> None:
        """A worker dies without reporting it."""
        self.hands[worker] = None

    @rule(worker=WORKERS, progress=st.integers(1, 99))
    def progress(self, worker: int, progress: int) -> None:
        """A worker stores its progress."""
        self._save(worker, "processing", progress=progress, stage="plan")

    @rule(worker=WORKERS)
    def complete(self, worker: int) -> None:
        """A worker completes."""
        if (held := self.hands[worker]) and self._save(worker, "completed", result=result_of(held), progress=100):
            self.completed.append(held.attempt)

    @rule(worker=WORKERS)
    def fail(self, worker: int) -> None:
        """A worker fails."""
        self._save(worker, "failed", failure=ModelUnavailable("None answers.").failure(), progress=100)

    @rule(worker=WORKERS)
    def hand_back(self, worker: int) -> None:
        """A worker stops, or retries later."""
        self._save(worker, "queued", progress=0, stage=None)

    @rule()
    def cancel(self) -> None:
        """The owner cancels."""
        before = self.row
        try:
            cancelled = self._do(lambda extractions: extractions.cancel("ada", self.id, NOON))
        except ExtractionEnded:
            assert before.status in TERMINAL
        else:
            assert cancelled.status == ("cancelled" if before.status == "queued" else "processing")

    @rule()
    def mark_detached(self) -> None:
        """The caller is sent away."""
        self._do(lambda extractions: extractions.mark_detached("ada", self.id))

    def _save(self, worker: int, status: Any, **values: Any) -> bool:
        """Check whether the worker's attempt is the one that may write."""
        held, before = self.hands[worker], self.row
        if held is None:
            return False
        mine = before.attempt == held.attempt and before.status == "processing"
        try:
            self._do(lambda extractions: extractions.save(replace(held, status=status, **values)))
        except AttemptSuperseded:
            assert not mine
            assert self.row == before
            return False
        finally:
            if status != "processing" or not mine:
                self.hands[worker] = None
        assert mine
        return True

    @invariant()
    def done_once(self) -> None:
        """At most one attempt completes, and the row names its artifact."""
        assert len(self.completed) <= 1
        if self.row.status == "completed":
            assert self.row.result is not None
            assert self.completed == [self.row.attempt]
            assert self.row.result.artifact_key == f"features/{self.id}/{self.row.attempt}.parquet"

    @invariant()
    def an_end_is_an_end(self) -> None:
        """Nothing of an ended extraction changes except that nobody waits for it."""
        if self.end is not None:
            assert replace(self.row, detached=False, version=0) == self.end
        elif self.row.status in TERMINAL:
            self.end = replace(self.row, detached=False, version=0)

    @invariant()
    def changes_are_counted(self) -> None:
        """The version never goes back, nor does the number of crashes exceed that of the attempts."""
        assert self.row.version >= self.version
        assert self.row.crashes <= self.row.attempt
        self.version = self.row.version


def test_attempts_in_any_order(url: str) -> None:
    """Whatever two workers and the owner do, and in whatever order, the invariants above hold."""
    with asyncio.Runner() as runner:
        database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
        try:
            run_state_machine_as_test(lambda: Attempts(runner, database), settings=BOUNDED)
        finally:
            runner.run(database.close())


class Plan(Struct, frozen=True):
    """A worker's attempt: when it begins, how long it runs, how it ends and when it is stopped."""

    begin: float
    seconds: float
    fails: bool
    stop: float | None


MOMENTS = st.integers(0, 40).map(lambda steps: steps * 0.125)
PLANS = st.builds(Plan, MOMENTS, MOMENTS, st.booleans(), st.none() | MOMENTS)


@given(
    plans=st.lists(PLANS, min_size=1, max_size=4),
    cancel=st.none() | MOMENTS,
    outage=st.none() | st.tuples(MOMENTS, st.floats(0.125, 30)),
    lost=st.none() | MOMENTS,
    detached=st.booleans(),
)
@BOUNDED
def test_runs_in_any_order_complete_once(
    url: str,
    plans: list[Plan],
    cancel: float | None,
    outage: tuple[float, float] | None,
    lost: float | None,
    detached: bool,  # noqa: FBT001 (a state)
) -> None:
    """Runs at any times, stopped, cancelled, without the database or its answers: one completes, or one job remains."""
    run_held(_scene(url, plans, cancel, outage, lost, detached=detached))


async def _scene(
    url: str,
    plans: list[Plan],
    cancel: float | None,
    outage: tuple[float, float] | None,
    lost: float | None,
    *,
    detached: bool,
) -> None:
    world = await new_world(url)(steps=[], detached=detached)
    steps = {
        number: world.publishes(plan.seconds, ModelUnavailable("None answers.") if plan.fails else None)
        for number, plan in enumerate(plans)
    }
    world.steps = list(steps.values()) + [world.publishes(0.5)] * 10
    async with asyncio.TaskGroup() as scene:
        attempts = [scene.create_task(_attempt(world, plan)) for plan in plans]
        if cancel is not None:
            scene.create_task(_cancel(world, cancel))
        if outage is not None:
            scene.create_task(_outage(world, *outage))
        if lost is not None:
            scene.create_task(_lose_a_commit(world, lost))
    world.store.lost_commits = 0
    endings = [attempt.result() for attempt in attempts]

    row = await world.row()
    assert endings.count("completed") + endings.count("failed") + endings.count("cancelled") <= 1
    assert world.endings() == [ending for ending in endings if ending in TERMINAL]
    if row.status == "queued" and row.attempt:
        assert await world.waiting(), "nobody would ever look at it again"
    published = {row.result.artifact_key} if row.result else set()
    assert published <= world.artifacts.files.keys()

    last = [await world.run("x") for _ in range(10)]
    row = await world.row()
    assert row.status in TERMINAL
    assert last[-1] == "gone"
    completed = [*endings, *last].count("completed")
    assert completed <= (row.status == "completed")
    assert completed or row.status != "completed" or "crashed" in endings


async def _attempt(world: World, plan: Plan) -> str:
    await asyncio.sleep(plan.begin)
    running = asyncio.create_task(world.run("x"))
    if plan.stop is not None:
        await asyncio.wait({running}, timeout=plan.stop)
        running.cancel()
    try:
        return await running
    except DependencyUnavailable:
        return "crashed"
    except asyncio.CancelledError:
        return "stopped"


async def _cancel(world: World, at: float) -> None:
    await asyncio.sleep(at)
    try:
        await world.cancel()
    except (ExtractionEnded, DependencyUnavailable):
        return


async def _outage(world: World, at: float, seconds: float) -> None:
    await asyncio.sleep(at)
    world.store.away = True
    await asyncio.sleep(seconds)
    world.store.away = False


async def _lose_a_commit(world: World, at: float) -> None:
    await asyncio.sleep(at)
    world.store.lost_commits = 1
