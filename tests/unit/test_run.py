"""Every ending of an attempt at an extraction, with a controlled clock and a store that keeps its port's contract."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

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
from service.features.model import Extraction, ExtractionRequest, ExtractionResult, ModelUsage, QualitySummary, Stage
from tests.api.doubles import MemoryArtifacts, Recorder
from tests.api.memory import MemoryQueue, MemoryStore
from tests.unit.held_time import NOON, HeldClock, in_held_time

Enter = Callable[[Stage, float], None]
Step = Callable[[Extraction, Enter], Awaitable[ExtractionResult]]

NEW = Extraction(
    "x", "ada", ExtractionRequest("events", "click rate"), "queued", NOON, request_id="r", trace_id="t" * 32
)


def result_of(extraction: Extraction) -> ExtractionResult:
    """A result that names the attempt."""
    return ExtractionResult(
        features=(), rejected_features=(), feature_pipeline_steps=(), quality=QualitySummary("medium", 1.0, {}),
        model=ModelUsage("builtin:planner"), row_count=1, grain="row", entity=None, time=None,
        artifact_key=artifact_key(extraction), sql="SELECT 1",
    )  # fmt: skip


class World:
    """A store with one extraction, and workers for it."""

    def __init__(self, *steps: Step, seconds: float = 900.0, **values: Any) -> None:
        self.store, self.queue = MemoryStore(), MemoryQueue()
        self.artifacts, self.recorder = MemoryArtifacts(), Recorder()
        self.store.extractions.rows["x"] = replace(NEW, **values)
        self.steps = list(steps)
        self.ran: list[int] = []
        self.run = RunExtraction(
            self._pipeline,
            store=self.store,
            queue=self.queue,
            artifacts=self.artifacts,
            observer=self.recorder,
            clock=HeldClock(),
            seconds=seconds,
        )

    @property
    def row(self) -> Extraction:
        """The extraction now."""
        return self.store.extractions.rows["x"]

    def change(self, **values: Any) -> None:
        """Change the row from outside the run."""
        self.store.extractions.rows["x"] = replace(self.row, **values)

    async def cancel(self) -> None:
        """As the extraction's owner would."""
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
        return [event.status for event in self.recorder.events if isinstance(event, ExtractionFinished)]

    async def _pipeline(self, extraction: Extraction, enter: Enter) -> ExtractionResult:
        self.ran.append(extraction.attempt)
        step = self.steps.pop(0)
        return await step(extraction, enter)

    def publishes(self, seconds: float = 0.0, error: BaseException | None = None) -> Step:
        """Publishes at once, and ends after so long, well or not."""

        async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
            enter("profile", 0.0)
            self.artifacts.files[artifact_key(extraction)] = b"table"
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
            return result_of(extraction)

        return step


def world_of(seconds: float = 0.0, error: BaseException | None = None, *, limit: float = 900.0, **values: Any) -> World:
    """A world whose pipeline publishes and then ends so, each time."""
    world = World(seconds=limit, **values)
    world.steps = [world.publishes(seconds, error)] * 20
    return world


async def soon(seconds: float, action: Callable[[], Any]) -> Any:
    """Do something in so many seconds."""
    await asyncio.sleep(seconds)
    done = action()
    return await done if asyncio.iscoroutine(done) else done


@in_held_time
async def test_a_run_completes() -> None:
    """The result is stored with its artifact, and the start and the end are recorded."""
    world = world_of(3.25)

    assert await world.run("x") == "completed"
    row = world.row
    assert (row.status, row.progress, row.stage, row.attempt) == ("completed", 100, None, 1)
    assert (row.started_at, row.finished_at) == (NOON, NOON + timedelta(seconds=3.25))
    assert row.result is not None
    assert world.artifacts.files.keys() == {row.result.artifact_key}
    assert world.recorder.events == [
        ExtractionStarted("x", "medium", waited=0.0),
        ExtractionFinished("x", "medium", "completed", 3.25),
    ]
    assert world.queue.waiting == []


@in_held_time
async def test_the_wait_is_recorded_once() -> None:
    """The first attempt records how long the extraction has waited since it was accepted; a later one does not."""
    world = world_of(3.25)
    world.change(created_at=NOON - timedelta(seconds=42))
    await world.run("x")
    world.change(status="queued")
    await world.run("x")

    started = [event for event in world.recorder.events if isinstance(event, ExtractionStarted)]
    assert [event.waited for event in started] == [42.0, None]


@in_held_time
async def test_a_run_is_correlated_with_the_request_that_asked_for_it() -> None:
    """Everything logged and traced within it has the request's ids; afterwards they are gone."""
    seen: list[Any] = []

    async def step(extraction: Extraction, _: Enter) -> ExtractionResult:
        seen.append(CURRENT.get())
        return result_of(extraction)

    await World(step).run("x")

    (context,) = seen
    assert (context.request_id, context.trace_id, context.user_id, context.extraction_id) == ("r", "t" * 32, "ada", "x")
    assert CURRENT.get() is None


@in_held_time
async def test_progress_is_stored_as_it_is_made() -> None:
    """Stage and percent are in the row half a second later at most; what does not change is not written again."""
    seen: list[tuple[Stage | None, int]] = []

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        for stage, share in (("profile", 0.0), ("plan", 0.0), ("compute", 0.0), ("compute", 0.5), ("compute", 7.0)):
            enter(stage, share)
            await asyncio.sleep(0.6)
            seen.append((world.row.stage, world.row.progress))
        before = world.row.version
        await asyncio.sleep(10)
        assert world.row.version == before
        return result_of(extraction)

    world = World(step)

    assert await world.run("x") == "completed"
    assert seen == [("profile", 2), ("plan", 5), ("compute", 40), ("compute", 62), ("compute", 85)]


@pytest.mark.parametrize(
    ("error", "detached"), [(ComputeFailed("It broke."), True), (ModelUnavailable("None answers."), False)]
)
@in_held_time
async def test_a_run_fails(error: FeatureAgentError, detached: bool) -> None:  # noqa: FBT001 (a state)
    """What will not pass, and what somebody waits for on the line, is an end; nothing published stays."""
    world = world_of(1, error, detached=detached)

    assert await world.run("x") == "failed"
    assert (world.row.status, world.row.failure, world.row.progress) == ("failed", error.failure(), 100)
    assert world.artifacts.files == {}
    assert world.endings() == ["failed"]
    assert world.queue.waiting == []


@in_held_time
async def test_an_unexpected_failure_is_stored_and_raised() -> None:
    """The row does not say what failed; the worker gets the exception and logs it."""
    world = world_of(1, RuntimeError("secret"), detached=True)

    with pytest.raises(RuntimeError, match="secret"):
        await world.run("x")
    assert world.row.failure is not None
    assert (world.row.status, world.row.failure.code) == ("failed", "internal_error")
    assert "secret" not in world.row.failure.message


@in_held_time
async def test_a_run_that_cancels_itself_has_failed() -> None:
    """A cancellation that nobody requested is a fault of the run: it is not handed from worker to worker."""
    world = world_of(1, asyncio.CancelledError())

    with pytest.raises(RuntimeError, match="within the run"):
        await world.run("x")
    assert (world.row.status, world.queue.waiting) == ("failed", [])


@pytest.mark.parametrize("asked", [None, 100.0])
@in_held_time
async def test_a_transient_failure_of_a_detached_extraction_is_retried(asked: float | None) -> None:
    """It is queued with the reason, and its job comes no sooner than the failure asks; the next try succeeds."""
    world = world_of(detached=True)
    world.steps.insert(0, world.publishes(1, ModelUnavailable("None answers.", retry_after=asked)))

    assert await world.run("x") == "retried"
    row, ((job, delay),) = world.row, world.queue.waiting
    assert (row.status, row.progress, row.stage, row.retries, row.attempt) == ("queued", 0, None, 1, 1)
    assert row.failure is not None
    assert (row.failure.code, row.finished_at) == ("model_unavailable", None)
    assert (job, (asked or 2.0) <= delay <= (asked or 2.0) + 0.5) == ("x", True)
    assert world.artifacts.files == {}
    assert world.endings() == []

    assert await world.run("x") == "completed"
    assert (world.row.failure, world.row.crashes, world.row.retries) == (None, 0, 1)
    assert world.row.started_at == NOON


@in_held_time
async def test_an_extraction_may_be_detached_during_its_run() -> None:
    """It counts whether somebody waits when the run fails, not when it began."""
    world = world_of(10, ModelUnavailable("None answers."))

    async def leave() -> None:
        async with world.store.begin() as work:
            await work.extractions.mark_detached("ada", "x")

    ending, _ = await asyncio.gather(world.run("x"), soon(5, leave))

    assert ending == "retried"


@in_held_time
async def test_tries_come_to_an_end() -> None:
    """Each pause is longer than the one before, up to a limit; after the last try the failure is final."""
    world = world_of(0, ModelUnavailable("None answers."), detached=True)

    endings = [await world.run("x") for _ in range(MAX_RETRIES + 1)]

    assert endings == ["retried"] * MAX_RETRIES + ["failed"]
    for number, (_, delay) in enumerate(world.queue.waiting):
        usual = min(2.0 * 2**number, MAX_RETRY_SECONDS)
        assert usual <= delay <= 1.25 * usual


@pytest.mark.parametrize(("asked", "ending"), [(50, "retried"), (64, "failed")])
@in_held_time
async def test_a_try_that_would_come_too_late_is_not_made(asked: float, ending: str) -> None:
    """When the pause leads beyond the completion date, the failure is final."""
    error = ModelUnavailable("None answers.", retry_after=asked)
    world = world_of(0, error, detached=True, due_at=NOON + timedelta(seconds=64))

    assert await world.run("x") == ending


@in_held_time
async def test_a_cancelled_run_stops_within_a_second() -> None:
    """It is stored as cancelled, with nothing published, and the pipeline has let go of everything."""
    world = World()
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
    assert (world.row.status, world.row.progress, world.artifacts.files) == ("cancelled", 100, {})
    assert let_go == [10.625]
    assert world.endings() == ["cancelled"]


@in_held_time
async def test_an_extraction_that_was_cancelled_before_is_not_begun() -> None:
    """Handed back or lost by its worker after it was cancelled, it ends without a run."""
    world = world_of(5, cancel_requested=True)

    assert await world.run("x") == "cancelled"
    assert (world.ran, world.row.status) == ([], "cancelled")


@pytest.mark.parametrize("times", [1, 3])
@in_held_time
async def test_a_stopping_worker_hands_its_run_back(times: int) -> None:
    """It is queued with a job for another worker and is not counted as a failure."""
    world = World()

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        try:
            return await world.publishes(600)(extraction, enter)
        finally:
            await asyncio.sleep(5)
            assert world.row.status == "processing", "handed back before it has let go"

    world.steps = [step, world.publishes(1)]
    running = asyncio.create_task(world.run("x"))
    for _ in range(times):
        await asyncio.sleep(1)
        running.cancel()

    assert await running == "handed_back"
    row = world.row
    assert (row.status, row.attempt, row.crashes, row.retries, row.failure) == ("queued", 1, 0, 0, None)
    assert (world.queue.waiting, world.artifacts.files) == ([("x", 0.0)], {})
    assert await world.run("x") == "completed"
    assert (world.row.attempt, world.row.crashes) == (2, 0)


@in_held_time
async def test_a_run_is_handed_back_though_the_database_is_away() -> None:
    """A worker that gets several stop signals keeps trying until the database is back."""
    world = world_of(600)
    running = asyncio.create_task(world.run("x"))
    await asyncio.sleep(1.25)
    world.store.away = True
    for _ in range(5):
        running.cancel()
        await asyncio.sleep(2)
    world.store.away = False

    assert await running == "handed_back"
    assert (world.row.status, world.queue.waiting) == ("queued", [("x", 0.0)])


@pytest.mark.parametrize("error", [None, ComputeFailed("It broke.")])
@in_held_time
async def test_an_end_that_is_being_stored_is_stored_to_its_end(error: FeatureAgentError | None) -> None:
    """A worker that is stopped while the database is unreachable still stores the end."""
    world = world_of(1, error)

    async def trouble() -> None:
        world.store.away = True
        await asyncio.sleep(5)
        running.cancel()
        await asyncio.sleep(5)
        world.store.away = False

    running = asyncio.create_task(world.run("x"))
    ending, _ = await asyncio.gather(running, soon(0.75, trouble))

    assert ending == world.row.status == ("failed" if error else "completed")


@in_held_time
async def test_a_run_that_another_worker_has_taken_over_stops() -> None:
    """It notices within a second, and removes what it published; the other's work is left alone."""
    world = World()
    world.steps = [world.publishes(600), world.publishes(30)]

    first, second = await asyncio.gather(world.run("x"), soon(5, lambda: world.run("x")))

    assert (first, second) == ("superseded", "completed")
    assert (world.row.attempt, world.row.crashes) == (2, 1)
    assert world.artifacts.files.keys() == {"features/x/2.parquet"}
    assert world.endings() == ["completed"]


@pytest.mark.parametrize("error", [None, ComputeFailed("It broke."), ModelUnavailable("None answers.")])
@in_held_time
async def test_an_end_comes_too_late_when_another_has_taken_over(error: FeatureAgentError | None) -> None:
    """Whatever a superseded run ends with changes nothing."""
    world = World(detached=True)

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        await world.claim()
        return await world.publishes(0, error)(extraction, enter)

    world.steps = [step]

    assert await world.run("x") == "superseded"
    assert (world.row.status, world.row.attempt, world.row.result, world.row.failure) == ("processing", 2, None, None)
    assert (world.artifacts.files, world.queue.waiting, world.endings()) == ({}, [], [])


@in_held_time
async def test_a_worker_that_stops_when_another_has_taken_over_hands_nothing_back() -> None:
    """There would be two jobs for one extraction."""
    world = world_of(600)
    running = asyncio.create_task(world.run("x"))
    await asyncio.sleep(0.25)
    await world.claim()
    running.cancel()

    assert await running == "superseded"
    assert (world.row.status, world.queue.waiting) == ("processing", [])


@in_held_time
async def test_a_run_goes_on_while_the_database_is_away() -> None:
    """An outage during the run costs nothing but the progress that is not shown."""
    world = world_of(60)

    async def trouble() -> None:
        world.store.away = True
        await asyncio.sleep(50)
        world.store.away = False

    ending, _ = await asyncio.gather(world.run("x"), soon(5, trouble))

    assert ending == world.row.status == "completed"
    assert world.ran == [1]


@pytest.mark.parametrize("seconds", [0.5, COMMIT_TIMEOUT_SECONDS - 2])
@in_held_time
async def test_an_end_is_kept_in_hand_while_the_database_is_away(seconds: float) -> None:
    """It is stored when the database is back, with the time at which it came."""
    world = world_of(10.25)

    async def trouble() -> None:
        world.store.away = True
        await asyncio.sleep(seconds)
        world.store.away = False

    ending, _ = await asyncio.gather(world.run("x"), soon(10.125, trouble))

    assert ending == world.row.status == "completed"
    assert world.row.finished_at == NOON + timedelta(seconds=10.25)


@in_held_time
async def test_a_database_that_stays_away_costs_an_attempt_not_the_extraction() -> None:
    """The worker gives up after a while; the extraction is still there to be claimed again."""
    world = world_of(10)

    async def trouble() -> None:
        world.store.away = True

    with pytest.raises(DependencyUnavailable):
        await asyncio.gather(world.run("x"), soon(5, trouble))
    world.store.away = False

    assert (world.row.status, world.endings()) == ("processing", [])
    assert await world.run("x") == "completed"
    assert (world.row.attempt, world.row.crashes) == (2, 1)


@pytest.mark.parametrize("error", [None, ComputeFailed("It broke.")])
@in_held_time
async def test_a_commit_whose_answer_is_lost_has_happened(error: FeatureAgentError | None) -> None:
    """The end that was stored at the first try is this run's own: it is announced, and its artifact stays."""
    world = World()

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        world.store.lost_commits = 1
        return await world.publishes(0, error)(extraction, enter)

    world.steps = [step]

    assert await world.run("x") == world.row.status == ("failed" if error else "completed")
    assert world.endings() == [world.row.status]
    assert len(world.artifacts.files) == (0 if error else 1)


@in_held_time
async def test_a_retry_whose_commit_is_lost_is_queued_once() -> None:
    """The job of the first commit is there; no second one is made."""
    world = World(detached=True)

    async def step(extraction: Extraction, enter: Enter) -> ExtractionResult:
        world.store.lost_commits = 1
        return await world.publishes(0, ModelUnavailable("None answers."))(extraction, enter)

    world.steps = [step]

    assert await world.run("x") == "superseded"
    assert (world.row.status, world.row.retries, world.queue.jobs) == ("queued", 1, 1)


@pytest.mark.parametrize(("due", "end"), [(None, 31.0), (NOON + timedelta(seconds=8), 9.0)])
@in_held_time
async def test_a_run_ends_at_its_deadline(due: datetime | None, end: float) -> None:
    """What does not end by itself is ended, a second after the limit or the completion date, whichever is first."""
    world = world_of(600, limit=30, due_at=due)

    assert await world.run("x") == "failed"
    assert world.row.failure is not None
    assert (world.row.failure.code, world.artifacts.files) == ("deadline_exceeded", {})
    assert world.row.finished_at == NOON + timedelta(seconds=end)


@in_held_time
async def test_a_deadline_that_a_step_notices_itself_keeps_its_words() -> None:
    """The step has a second to say what it was."""
    world = world_of(30, DeadlineExceeded("The database was too slow."), limit=30)

    assert await world.run("x") == "failed"
    assert world.row.failure is not None
    assert world.row.failure.message == "The database was too slow."


@in_held_time
async def test_after_its_completion_date_an_extraction_is_not_begun() -> None:
    """Nor is it tried again, for it will not be earlier."""
    world = world_of(0, due_at=NOON - timedelta(seconds=1), detached=True)

    assert await world.run("x") == "failed"
    assert world.row.failure is not None
    assert (world.ran, world.row.failure.code, world.queue.waiting) == ([], "deadline_exceeded", [])


@in_held_time
async def test_what_kills_its_workers_is_not_tried_for_ever() -> None:
    """The worker after the last that may die fails it, without running it."""
    world = world_of(detached=True)
    for _ in range(MAX_CRASHES):
        await world.claim()
    assert world.row.crashes == MAX_CRASHES - 1

    assert await world.run("x") == "failed"
    assert world.row.failure is not None
    assert (world.row.failure.code, world.ran, world.row.crashes) == ("worker_lost", [], MAX_CRASHES)


@in_held_time
async def test_one_crash_less_is_survived() -> None:
    """A run after all but the last that may die completes."""
    world = world_of()
    for _ in range(MAX_CRASHES - 1):
        await world.claim()

    assert await world.run("x") == "completed"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", None])
@in_held_time
async def test_there_is_nothing_to_do_for_what_has_ended_or_is_gone(status: str | None) -> None:
    """A job that comes too late changes nothing."""
    world = world_of(status=status or "queued")
    before = dict(world.store.extractions.rows)
    if status is None:
        world.store.extractions.rows.clear()
        before = {}

    assert await world.run("x") == "gone"
    assert (world.store.extractions.rows, world.ran, world.recorder.events) == (before, [], [])


@in_held_time
async def test_a_run_begins_only_with_the_store() -> None:
    """While the database is away nothing is claimed."""
    world = world_of()
    world.store.away = True

    with pytest.raises(DependencyUnavailable):
        await world.run("x")
    assert world.row == replace(NEW)
    assert world.ran == []


@in_held_time
async def test_an_artifact_that_cannot_be_removed_does_not_change_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep gets it later."""
    world = world_of(1, ComputeFailed("It broke."))

    async def refuse(_: str) -> None:
        raise DependencyUnavailable("The artifact store does not answer.")

    monkeypatch.setattr(world.artifacts, "delete", refuse)

    assert await world.run("x") == world.row.status == "failed"
