"""Every end of an attempt at an extraction, in virtual time on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from service.concurrency.commit import COMMIT_TIMEOUT_SECONDS
from service.extractions.run import (
    MAX_CRASHES,
    MAX_RETRIES,
    MAX_RETRY_SECONDS,
    RunExtraction,
)
from service.features.context import CURRENT
from service.features.errors import (
    ComputeFailed,
    DeadlineExceeded,
    DependencyUnavailable,
    FeatureAgentError,
    ModelUnavailable,
)
from service.features.events import ExtractionFinished, ExtractionStarted
from service.features.extract import artifact_key
from service.features.model import Extraction, ExtractionRequest, ExtractionResult, Stage
from tests.doubles import MemoryArtifacts, Recorder, result_of
from tests.held_time import NOON, HeldClock, at_end, in_held_time
from tests.integration.stored_jobs import StoredJobs

Enter = Callable[[Stage, float], None]
Step = Callable[[Extraction, Enter], Awaitable[ExtractionResult]]

NEW = Extraction(
    "x", "ada", ExtractionRequest("events", "click rate"), "queued", NOON, request_id="r", trace_id="t" * 32
)


class World(StoredJobs):
    """A database with one extraction, and a worker for it whose pipeline does the given steps in turn."""

    def __init__(self, url: str, *steps: Step, limit: float = 900.0) -> None:
        super().__init__(url)
        at_end(self.close)
        self.artifacts, self.recorder = MemoryArtifacts(), Recorder()
        self.steps = list(steps)
        self.ran: list[int] = []
        self.run = RunExtraction(
            self._pipeline,
            store=self.store,
            queue=self.queue,
            artifacts=self.artifacts,
            observer=self.recorder,
            clock=HeldClock(),
            seconds=limit,
        )

    async def row(self) -> Extraction:
        """Read the extraction."""
        return (await self.extractions())["x"]

    async def cancel(self) -> None:
        """Cancel the extraction as its owner does."""
        async with self.store.begin() as work:
            await work.extractions.cancel("ada", "x", HeldClock().now())

    async def claim(self) -> Extraction:
        """As another worker would."""
        async with self.store.begin() as work:
            claimed = await work.extractions.claim("x", HeldClock().now())
        assert claimed is not None
        return claimed

    def endings(self) -> list[str]:
        """The statuses that were announced as ends."""
        return [event.status for event in self.recorder.of(ExtractionFinished)]

    async def _pipeline(self, extraction: Extraction, enter: Enter) -> ExtractionResult:
        self.ran.append(extraction.attempt)
        step = self.steps.pop(0)
        return await step(extraction, enter)

    def publishes(self, seconds: float = 0.0, error: BaseException | None = None) -> Step:
        """Build a step that publishes at once, and after so many seconds ends or raises the error."""

        async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
            enter("profile", 0.0)
            self.artifacts.files[artifact_key(extraction)] = b"table"
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
            return result_of(extraction)

        return step


class NewWorld(Protocol):
    """Opens a world on an emptied database."""

    async def __call__(
        self,
        seconds: float = 0.0,
        error: BaseException | None = None,
        *,
        steps: list[Step] | None = None,
        limit: float = 900.0,
        **values: Any,
    ) -> World:
        """Open a world whose runs take the steps, or each publish and end after so many seconds or with the error."""
        ...


def new_world(url: str) -> NewWorld:
    """Open worlds on that database, one at a time."""

    async def create(
        seconds: float = 0.0,
        error: BaseException | None = None,
        *,
        steps: list[Step] | None = None,
        limit: float = 900.0,
        **values: Any,
    ) -> World:
        world = World(url, limit=limit)
        world.steps = [world.publishes(seconds, error)] * 20 if steps is None else steps
        await world.clear()
        await world.add(replace(NEW, **values))
        return world

    return create


@pytest.fixture(scope="module")
def world_of(migrated_databases: Callable[[], AbstractContextManager[str]]) -> Iterator[NewWorld]:
    """Opens worlds on a database of the module's."""
    with migrated_databases() as url:
        yield new_world(url)


async def soon(seconds: float, action: Callable[[], Any]) -> Any:
    """Do something in so many seconds."""
    await asyncio.sleep(seconds)
    done = action()
    return await done if asyncio.iscoroutine(done) else done


@in_held_time
async def test_a_run_completes(world_of: NewWorld) -> None:
    """The result is stored with its artifact, and the start and the end are recorded."""
    world = await world_of(3.25)

    assert await world.run("x") == "completed"
    row = await world.row()
    assert (row.status, row.progress, row.stage, row.attempt) == ("completed", 100, None, 1)
    assert (row.started_at, row.finished_at) == (NOON, NOON + timedelta(seconds=3.25))
    assert row.result is not None
    assert world.artifacts.files.keys() == {row.result.artifact_key}
    assert world.recorder.events == [
        ExtractionStarted("x", "medium", waited=0.0),
        ExtractionFinished("x", "medium", "completed", 3.25),
    ]
    assert await world.waiting() == []


@in_held_time
async def test_the_wait_is_recorded_once(world_of: NewWorld) -> None:
    """The first attempt records how long the extraction has waited since it was accepted; a later one does not."""
    world = await world_of(3.25)
    await world.change("x", created_at=NOON - timedelta(seconds=42))
    await world.run("x")
    await world.change("x", status="queued")
    await world.run("x")

    started = [event for event in world.recorder.events if isinstance(event, ExtractionStarted)]
    assert [event.waited for event in started] == [42.0, None]


@in_held_time
async def test_a_run_is_correlated_with_the_request_that_asked_for_it(world_of: NewWorld) -> None:
    """Everything logged and traced within it has the request's ids; afterwards they are gone."""
    seen: list[Any] = []

    async def step(extraction: Extraction, _: Enter) -> ExtractionResult:
        seen.append(CURRENT.get())
        return result_of(extraction)

    await (await world_of(steps=[step])).run("x")

    (context,) = seen
    assert (context.request_id, context.trace_id, context.user_id, context.extraction_id) == ("r", "t" * 32, "ada", "x")
    assert CURRENT.get() is None


@in_held_time
async def test_progress_is_stored_as_it_is_made(world_of: NewWorld) -> None:
    """Stage and percent are in the row half a second later at most; what does not change is not written again."""
    seen: list[tuple[Stage | None, int]] = []

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        for stage, share in (("profile", 0.0), ("plan", 0.0), ("compute", 0.0), ("compute", 0.5), ("compute", 7.0)):
            enter(stage, share)
            await asyncio.sleep(0.6)
            row = await world.row()
            seen.append((row.stage, row.progress))
        before = (await world.row()).version
        await asyncio.sleep(10)
        assert (await world.row()).version == before
        return result_of(extraction)

    world = await world_of(steps=[step])

    assert await world.run("x") == "completed"
    assert seen == [("profile", 2), ("plan", 5), ("compute", 40), ("compute", 62), ("compute", 85)]


@pytest.mark.parametrize(
    ("error", "detached"), [(ComputeFailed("It broke."), True), (ModelUnavailable("None answers."), False)]
)
@in_held_time
async def test_a_final_failure_ends_the_run(world_of: NewWorld, error: FeatureAgentError, detached: bool) -> None:  # noqa: FBT001 (a state)
    """Permanent failures, and transient ones of an attached extraction, are final; nothing published stays."""
    world = await world_of(1, error, detached=detached)

    assert await world.run("x") == "failed"
    row = await world.row()
    assert (row.status, row.failure, row.progress) == (
        "failed",
        error.failure(),
        100,
    )
    assert world.artifacts.files == {}
    assert world.endings() == ["failed"]
    assert await world.waiting() == []


@in_held_time
async def test_an_unexpected_failure_is_stored_and_raised(world_of: NewWorld) -> None:
    """The row does not say what failed; the worker gets the exception and logs it."""
    world = await world_of(1, RuntimeError("secret"), detached=True)

    with pytest.raises(RuntimeError, match="secret"):
        await world.run("x")
    row = await world.row()
    assert row.failure is not None
    assert (row.status, row.failure.code) == ("failed", "internal_error")
    assert "secret" not in row.failure.message


@in_held_time
async def test_a_run_that_cancels_itself_has_failed(world_of: NewWorld) -> None:
    """A cancellation that nobody requested is a fault of the run: it is not handed from worker to worker."""
    world = await world_of(1, asyncio.CancelledError())

    with pytest.raises(RuntimeError, match="within the run"):
        await world.run("x")
    assert ((await world.row()).status, await world.waiting()) == ("failed", [])


@pytest.mark.parametrize("asked", [None, 100.0])
@in_held_time
async def test_a_transient_failure_of_a_detached_extraction_is_retried(world_of: NewWorld, asked: float | None) -> None:
    """It is queued with the reason, and its job comes no sooner than the failure asks; the next try succeeds."""
    world = await world_of(detached=True)
    world.steps.insert(0, world.publishes(1, ModelUnavailable("None answers.", retry_after=asked)))

    assert await world.run("x") == "retried"
    row, ((job, delay),) = await world.row(), await world.waiting()
    assert (row.status, row.progress, row.stage, row.retries, row.attempt) == ("queued", 0, None, 1, 1)
    assert row.failure is not None
    assert (row.failure.code, row.finished_at) == ("model_unavailable", None)
    assert (job, (asked or 2.0) <= delay <= (asked or 2.0) + 0.5) == ("x", True)
    assert world.artifacts.files == {}
    assert world.endings() == []

    assert await world.run("x") == "completed"
    row = await world.row()
    assert (row.failure, row.crashes, row.retries) == (None, 0, 1)
    assert row.started_at == NOON


@in_held_time
async def test_an_extraction_may_be_detached_during_its_run(world_of: NewWorld) -> None:
    """What counts is whether it is detached when the run fails."""
    world = await world_of(10, ModelUnavailable("None answers."))

    async def leave() -> None:
        async with world.store.begin() as work:
            await work.extractions.mark_detached("ada", "x")

    ending, _ = await asyncio.gather(world.run("x"), soon(5, leave))

    assert ending == "retried"


@in_held_time
async def test_retries_are_limited(world_of: NewWorld) -> None:
    """Each pause is longer than the one before, up to a limit; after the last retry the failure is final."""
    world = await world_of(0, ModelUnavailable("None answers."), detached=True)

    endings, delays = [], []
    for _ in range(MAX_RETRIES + 1):
        endings.append(await world.run("x"))
        delays += [delay for _, delay in await world.take_jobs()]

    assert endings == ["retried"] * MAX_RETRIES + ["failed"]
    assert len(delays) == MAX_RETRIES
    for number, delay in enumerate(delays):
        usual = min(2.0 * 2**number, MAX_RETRY_SECONDS)
        assert usual <= delay <= 1.25 * usual


@pytest.mark.parametrize(("asked", "ending"), [(50, "retried"), (64, "failed")])
@in_held_time
async def test_a_retry_after_the_completion_date_is_not_made(world_of: NewWorld, asked: float, ending: str) -> None:
    """When the pause leads beyond the completion date, the failure is final."""
    error = ModelUnavailable("None answers.", retry_after=asked)
    world = await world_of(0, error, detached=True, due_at=NOON + timedelta(seconds=64))

    assert await world.run("x") == ending


@in_held_time
async def test_a_cancelled_run_stops_within_a_second(world_of: NewWorld) -> None:
    """It is stored as cancelled, with nothing published, after the pipeline has ended."""
    world = await world_of(steps=[])
    let_go: list[float] = []

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        try:
            return await world.publishes(600)(extraction, enter)
        finally:
            await asyncio.sleep(0.125)
            let_go.append(asyncio.get_running_loop().time())

    world.steps = [step]
    ending, _ = await asyncio.gather(world.run("x"), soon(10.25, world.cancel))

    assert ending == "cancelled"
    row = await world.row()
    assert (row.status, row.progress, world.artifacts.files) == ("cancelled", 100, {})
    assert let_go == [10.625]
    assert world.endings() == ["cancelled"]


@in_held_time
async def test_a_cancelled_extraction_is_not_run(world_of: NewWorld) -> None:
    """Handed back or lost by its worker after it was cancelled, it ends without a run."""
    world = await world_of(5, cancel_requested=True)

    assert await world.run("x") == "cancelled"
    assert (world.ran, (await world.row()).status) == ([], "cancelled")


@pytest.mark.parametrize("times", [1, 3])
@in_held_time
async def test_a_stopping_worker_hands_its_run_back(world_of: NewWorld, times: int) -> None:
    """It is queued with a job for another worker and is not counted as a failure."""
    world = await world_of(steps=[])

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        try:
            return await world.publishes(600)(extraction, enter)
        finally:
            await asyncio.sleep(5)
            assert (await world.row()).status == "processing", "handed back before it has let go"

    world.steps = [step, world.publishes(1)]
    running = asyncio.create_task(world.run("x"))
    for _ in range(times):
        await asyncio.sleep(1)
        running.cancel()

    assert await running == "handed_back"
    row = await world.row()
    assert (row.status, row.attempt, row.crashes, row.retries, row.failure) == ("queued", 1, 0, 0, None)
    assert (await world.waiting(), world.artifacts.files) == ([("x", 0.0)], {})
    assert await world.run("x") == "completed"
    row = await world.row()
    assert (row.attempt, row.crashes) == (2, 0)


@in_held_time
async def test_a_run_is_handed_back_though_the_database_is_away(world_of: NewWorld) -> None:
    """A worker that gets several stop signals keeps trying until the database is back."""
    world = await world_of(600)
    running = asyncio.create_task(world.run("x"))
    await asyncio.sleep(1.25)
    world.store.away = True
    for _ in range(5):
        running.cancel()
        await asyncio.sleep(2)
    world.store.away = False

    assert await running == "handed_back"
    assert ((await world.row()).status, await world.waiting()) == ("queued", [("x", 0.0)])


@pytest.mark.parametrize("error", [None, ComputeFailed("It broke.")])
@in_held_time
async def test_storing_an_end_is_not_interrupted(world_of: NewWorld, error: FeatureAgentError | None) -> None:
    """A worker that is stopped while the database is unreachable still stores the end."""
    world = await world_of(1, error)

    async def trouble() -> None:
        world.store.away = True
        await asyncio.sleep(5)
        running.cancel()
        await asyncio.sleep(5)
        world.store.away = False

    running = asyncio.create_task(world.run("x"))
    ending, _ = await asyncio.gather(running, soon(0.75, trouble))

    assert ending == (await world.row()).status == ("failed" if error else "completed")


@in_held_time
async def test_a_superseded_run_stops(world_of: NewWorld) -> None:
    """It stops within a second and removes what it published; the other attempt is left alone."""
    world = await world_of(steps=[])
    world.steps = [world.publishes(600), world.publishes(30)]

    first, second = await asyncio.gather(world.run("x"), soon(5, lambda: world.run("x")))

    assert (first, second) == ("superseded", "completed")
    row = await world.row()
    assert (row.attempt, row.crashes) == (2, 1)
    assert world.artifacts.files.keys() == {"features/x/2.parquet"}
    assert world.endings() == ["completed"]


@pytest.mark.parametrize("error", [None, ComputeFailed("It broke."), ModelUnavailable("None answers.")])
@in_held_time
async def test_the_end_of_a_superseded_run_changes_nothing(world_of: NewWorld, error: FeatureAgentError | None) -> None:
    """Neither a result nor a failure of it is stored."""
    world = await world_of(steps=[], detached=True)

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        await world.claim()
        return await world.publishes(0, error)(extraction, enter)

    world.steps = [step]

    assert await world.run("x") == "superseded"
    row = await world.row()
    assert (row.status, row.attempt, row.result, row.failure) == ("processing", 2, None, None)
    assert (world.artifacts.files, await world.waiting(), world.endings()) == ({}, [], [])


@in_held_time
async def test_a_superseded_run_is_not_handed_back(world_of: NewWorld) -> None:
    """A second job for the extraction would be enqueued."""
    world = await world_of(600)
    running = asyncio.create_task(world.run("x"))
    await asyncio.sleep(0.25)
    await world.claim()
    running.cancel()

    assert await running == "superseded"
    assert ((await world.row()).status, await world.waiting()) == ("processing", [])


@in_held_time
async def test_a_run_goes_on_while_the_database_is_away(world_of: NewWorld) -> None:
    """An outage during the run costs nothing but the progress that is not shown."""
    world = await world_of(60)

    async def trouble() -> None:
        world.store.away = True
        await asyncio.sleep(50)
        world.store.away = False

    ending, _ = await asyncio.gather(world.run("x"), soon(5, trouble))

    assert ending == (await world.row()).status == "completed"
    assert world.ran == [1]


@pytest.mark.parametrize("seconds", [0.5, COMMIT_TIMEOUT_SECONDS - 2])
@in_held_time
async def test_an_end_is_stored_after_an_outage(world_of: NewWorld, seconds: float) -> None:
    """It has the time at which the run ended."""
    world = await world_of(10.25)

    async def trouble() -> None:
        world.store.away = True
        await asyncio.sleep(seconds)
        world.store.away = False

    ending, _ = await asyncio.gather(world.run("x"), soon(10.125, trouble))

    row = await world.row()
    assert ending == row.status == "completed"
    assert row.finished_at == NOON + timedelta(seconds=10.25)


@in_held_time
async def test_a_long_outage_costs_an_attempt(world_of: NewWorld) -> None:
    """The worker gives up after a while; the extraction can be claimed again."""
    world = await world_of(10)

    async def trouble() -> None:
        world.store.away = True

    with pytest.raises(DependencyUnavailable):
        await asyncio.gather(world.run("x"), soon(5, trouble))
    world.store.away = False

    assert ((await world.row()).status, world.endings()) == ("processing", [])
    assert await world.run("x") == "completed"
    row = await world.row()
    assert (row.attempt, row.crashes) == (2, 1)


@pytest.mark.parametrize("error", [None, ComputeFailed("It broke.")])
@in_held_time
async def test_an_end_whose_commit_was_not_acknowledged_counts(
    world_of: NewWorld, error: FeatureAgentError | None
) -> None:
    """The end that was stored at the first try is this run's own: it is announced, and its artifact stays."""
    world = await world_of(steps=[])

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        world.store.lost_commits = 1
        return await world.publishes(0, error)(extraction, enter)

    world.steps = [step]

    ending = await world.run("x")
    assert ending == (await world.row()).status == ("failed" if error else "completed")
    assert world.endings() == [ending]
    assert len(world.artifacts.files) == (0 if error else 1)


@in_held_time
async def test_a_retry_whose_commit_was_not_acknowledged_is_queued_once(world_of: NewWorld) -> None:
    """The job of the first commit exists; no second one is enqueued."""
    world = await world_of(steps=[], detached=True)

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        world.store.lost_commits = 1
        return await world.publishes(0, ModelUnavailable("None answers."))(extraction, enter)

    world.steps = [step]

    assert await world.run("x") == "superseded"
    row, jobs = await world.row(), await world.waiting()
    assert (row.status, row.retries, [job for job, _ in jobs]) == ("queued", 1, ["x"])


@pytest.mark.parametrize(("due", "end"), [(None, 31.0), (NOON + timedelta(seconds=8), 9.0)])
@in_held_time
async def test_a_run_ends_at_its_deadline(world_of: NewWorld, due: datetime | None, end: float) -> None:
    """It is stopped a second after the limit or the completion date, whichever is first."""
    world = await world_of(600, limit=30, due_at=due)

    assert await world.run("x") == "failed"
    row = await world.row()
    assert row.failure is not None
    assert (row.failure.code, world.artifacts.files) == ("deadline_exceeded", {})
    assert row.finished_at == NOON + timedelta(seconds=end)


@in_held_time
async def test_a_step_may_report_the_deadline_itself(world_of: NewWorld) -> None:
    """It has a second to raise its own, more precise error."""
    world = await world_of(30, DeadlineExceeded("The database was too slow."), limit=30)

    assert await world.run("x") == "failed"
    row = await world.row()
    assert row.failure is not None
    assert row.failure.message == "The database was too slow."


@in_held_time
async def test_an_extraction_past_its_completion_date_is_not_run(world_of: NewWorld) -> None:
    """It fails at once and is not retried."""
    world = await world_of(0, due_at=NOON - timedelta(seconds=1), detached=True)

    assert await world.run("x") == "failed"
    row = await world.row()
    assert row.failure is not None
    assert (world.ran, row.failure.code, await world.waiting()) == ([], "deadline_exceeded", [])


@in_held_time
async def test_an_extraction_that_crashes_its_workers_fails(world_of: NewWorld) -> None:
    """After the last allowed crash the next worker fails it without running it."""
    world = await world_of(detached=True)
    for _ in range(MAX_CRASHES):
        await world.claim()
    assert (await world.row()).crashes == MAX_CRASHES - 1

    assert await world.run("x") == "failed"
    row = await world.row()
    assert row.failure is not None
    assert (row.failure.code, world.ran, row.crashes) == (
        "worker_lost",
        [],
        MAX_CRASHES,
    )


@in_held_time
async def test_fewer_crashes_than_the_limit_are_survived(world_of: NewWorld) -> None:
    """The run after them completes."""
    world = await world_of()
    for _ in range(MAX_CRASHES - 1):
        await world.claim()

    assert await world.run("x") == "completed"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", None])
@in_held_time
async def test_an_ended_or_deleted_extraction_is_not_run(world_of: NewWorld, status: str | None) -> None:
    """A late job changes nothing."""
    world = await world_of(status=status or "queued")
    if status is None:
        await world.clear()
    before = await world.extractions()

    assert await world.run("x") == "gone"
    assert (await world.extractions(), world.ran, world.recorder.events) == (before, [], [])


@in_held_time
async def test_a_run_does_not_start_without_the_database(world_of: NewWorld) -> None:
    """Nothing is claimed."""
    world = await world_of()
    world.store.away = True

    with pytest.raises(DependencyUnavailable):
        await world.run("x")
    assert await world.row() == replace(NEW)
    assert world.ran == []


@in_held_time
async def test_an_artifact_that_cannot_be_removed_does_not_change_the_end(
    world_of: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hourly sweep removes it later."""
    world = await world_of(1, ComputeFailed("It broke."))

    async def refuse(_: str) -> None:
        raise DependencyUnavailable("The artifact store does not answer.")

    monkeypatch.setattr(world.artifacts, "delete", refuse)

    assert await world.run("x") == (await world.row()).status == "failed"
