"""Accepting a request stores its row, its idempotency key and its job together, or nothing of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from service.features.context import CURRENT, RequestContext
from service.features.errors import (
    CompletionDateUnreachable,
    DatasetNotFound,
    DependencyUnavailable,
    ExtractionNotFound,
    FeatureAgentError,
    IdempotencyKeyReused,
    InvalidRequest,
)
from service.features.extract import LARGE_CELLS, AcceptExtraction, IdempotencyClaim, artifact_key, lane_of, read_tables
from service.features.model import Dataset, DatasetPin, Extraction, ExtractionOptions, ExtractionRequest, StorageLimits
from service.features.pins import pinned
from service.features.quotas import StorageQuotas
from service.features.stores import StoredAnswer
from service.features.table_options import RelatedTable, TableOptions
from service.features.tables import Tables
from tests.doubles import NOW, PROFILE, FixedClock, ScriptedPlanner
from tests.integration.stored_jobs import StoredJobs

REQUEST = ExtractionRequest("events", "click rate")
DATASET = Dataset("events", "ada", "text/csv", 4, "datasets/1.parquet", PROFILE, NOW)
CLAIM = IdempotencyClaim("key", b"d" * 32)
ANSWER = StoredAnswer(200, {"content-type": "application/json"}, b"{}")


class World(StoredJobs):
    """The use case on a database with one dataset."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.clock = FixedClock()
        ids = iter(range(1, 100))
        self.accept = AcceptExtraction(
            store=self.store,
            queue=self.queue,
            clock=self.clock,
            new_id=lambda: f"id-{next(ids)}",
            capacity=ScriptedPlanner(),
            quotas=StorageQuotas(StorageLimits(stored_bytes=100), store=self.store),
        )

    async def counts(self) -> tuple[int, int, int]:
        """Count the extractions, idempotency keys and jobs."""
        keys = await self.sql("SELECT key FROM idempotency_keys")
        return len(await self.extractions()), len(keys), len(await self.waiting())

    async def upload(self, dataset: Dataset) -> None:
        """Store a dataset."""
        async with self.store.begin() as work:
            await work.datasets.add(dataset)

    async def completed(self, *seconds: float) -> None:
        """Store completed extractions that took so long."""
        for number, took in enumerate(seconds):
            await self.add(
                Extraction(
                    f"old-{number}", "bob", REQUEST, "completed", NOW, started_at=NOW - timedelta(seconds=took),
                    finished_at=NOW,
                )
            )  # fmt: skip


@pytest.fixture(scope="module")
def url(migrated_databases: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """Address of a database of the module's."""
    with migrated_databases() as url:
        yield url


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    """The use case on an emptied database with one dataset."""
    world = World(url)
    await world.clear()
    await world.upload(DATASET)
    yield world
    await world.close()


@pytest.mark.parametrize("detached", [True, False])
async def test_a_request_is_stored_with_its_job(world: World, detached: bool) -> None:  # noqa: FBT001 (a state)
    """The accepted extraction is queued with the ids of its request, detached or not, and has one job."""
    token = CURRENT.set(RequestContext("r-1", trace_id="t" * 32))
    try:
        accepted = await world.accept("ada", REQUEST, detached=detached)
    finally:
        CURRENT.reset(token)

    assert accepted.extraction == Extraction(
        "id-1", "ada", pinned(REQUEST, DATASET), "queued", NOW, request_id="r-1", trace_id="t" * 32, detached=detached
    )
    assert (accepted.replayed, accepted.answer) == (False, None)
    assert await world.extractions() == {"id-1": accepted.extraction}
    assert await world.waiting() == [("id-1", 0.0)]


async def test_every_dataset_that_is_read_is_pinned(world: World) -> None:
    """A related dataset is read as it was at acceptance, too, whatever is replaced since."""
    unique = replace(PROFILE.columns[0], distinct_count=PROFILE.row_count)
    profile = replace(PROFILE, columns=(unique, *PROFILE.columns[1:]))
    items = replace(DATASET, id="items", artifact_key="versions/items.parquet", profile=profile)
    await world.upload(items)
    tables = TableOptions(related=(RelatedTable("items", "user_id"),))

    request = (await world.accept("ada", replace(REQUEST, tables=tables))).extraction.request
    async with world.store.begin() as work:
        for name in ("events", "items"):
            present = await work.datasets.get("ada", name)
            await work.datasets.replace(replace(present, artifact_key=f"versions/{name}-2.parquet"))
    async with world.store.begin() as work:
        read = await read_tables(work, "ada", request)
        unpinned = await read_tables(work, "ada", replace(request, pins={}))

    assert request.pins == {
        "events": DatasetPin(1, "datasets/1.parquet"), "items": DatasetPin(1, "versions/items.parquet")
    }  # fmt: skip
    assert [one.artifact_key for one in read.all] == ["datasets/1.parquet", "versions/items.parquet"]
    assert [one.artifact_key for one in unpinned.all] == ["versions/events-2.parquet", "versions/items-2.parquet"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (replace(REQUEST, dataset_id="other"), DatasetNotFound),
        (replace(REQUEST, options=ExtractionOptions(entity="nobody", target="nothing")), InvalidRequest),
        (replace(REQUEST, completion_date=date(2026, 11, 22)), CompletionDateUnreachable),
    ],
)
async def test_a_refused_request_stores_nothing(
    world: World, request_: ExtractionRequest, error: type[FeatureAgentError]
) -> None:
    """No row and no job, and the idempotency key is free again."""
    with pytest.raises(error) as raised:
        await world.accept("ada", request_, claim=CLAIM)

    assert await world.counts() == (0, 0, 0)
    if request_.options.entity:
        assert [fault.field for fault in raised.value.errors] == ["options.entity", "options.target"]
    assert (await world.accept("ada", REQUEST, claim=CLAIM)).replayed is False


async def test_without_its_job_nothing_is_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When enqueuing fails, row and key are rolled back."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise DependencyUnavailable("The queue does not answer.")

    monkeypatch.setattr(world.queue, "enqueue", refuse)

    with pytest.raises(DependencyUnavailable):
        await world.accept("ada", REQUEST, claim=CLAIM)
    assert await world.counts() == (0, 0, 0)


async def test_a_key_stands_for_its_first_request(world: World) -> None:
    """The same request gives the same extraction as it is now, with the answer once there is one."""
    first = await world.accept("ada", REQUEST, claim=CLAIM)
    async with world.store.begin() as work:
        running = await work.extractions.claim("id-1", NOW)
    second = await world.accept("ada", REQUEST, claim=CLAIM)
    async with world.store.begin() as work:
        await work.idempotency.answer("ada", "key", ANSWER)
    third = await world.accept("ada", REQUEST, claim=CLAIM)

    assert first.replayed is False
    assert (second.extraction, second.replayed, second.answer) == (running, True, None)
    assert (third.extraction, third.answer) == (running, ANSWER)
    assert await world.counts() == (1, 1, 1)


async def test_a_key_does_not_stand_for_another_request(world: World) -> None:
    """Another digest is refused; another owner or another key is another request."""
    await world.accept("ada", REQUEST, claim=CLAIM)
    await world.upload(replace(DATASET, owner="bob"))

    with pytest.raises(IdempotencyKeyReused) as raised:
        await world.accept("ada", REQUEST, claim=IdempotencyClaim("key", b"e" * 32))
    assert [fault.field for fault in raised.value.errors] == ["Idempotency-Key"]
    for owner, claim in (("bob", CLAIM), ("ada", IdempotencyClaim("other", CLAIM.digest))):
        assert (await world.accept(owner, REQUEST, claim=claim)).replayed is False


async def test_a_key_of_a_deleted_extraction(world: World) -> None:
    """It is not accepted again: not found."""
    await world.accept("ada", REQUEST, claim=CLAIM)
    await world.sql("DELETE FROM extractions")

    with pytest.raises(ExtractionNotFound):
        await world.accept("ada", REQUEST, claim=CLAIM)


async def test_keys_expire_after_a_day(world: World) -> None:
    """Then the same key accepts a new extraction."""
    await world.accept("ada", REQUEST, claim=CLAIM)
    world.clock.advance(hours=24)

    assert (await world.accept("ada", REQUEST, claim=CLAIM)).extraction.id == "id-2"


@pytest.mark.parametrize(
    ("seconds", "reachable"),
    [
        ((), True),
        ((50_000,) * 4, True),
        ((43_000,) * 5, True),
        ((43_300,) * 5, False),
        ((1, 2, 43_000, 90_000, 90_000), True),
        ((1, 2, 43_300, 90_000, 90_000), False),
    ],
)
async def test_a_completion_date_must_be_reachable(
    world: World,
    seconds: tuple[float, ...],
    reachable: bool,  # noqa: FBT001 (the expected outcome)
) -> None:
    """At noon half a day (43 200 s) is left: the median of at least five completed extractions must fit in."""
    await world.completed(*seconds)
    request = replace(REQUEST, completion_date=NOW.date())

    if reachable:
        accepted = await world.accept("ada", request)
        assert accepted.extraction.due_at == datetime(2026, 11, 24, tzinfo=UTC)
    else:
        with pytest.raises(CompletionDateUnreachable) as raised:
            await world.accept("ada", request)
        assert [fault.field for fault in raised.value.errors] == ["completion_date"]


@pytest.mark.parametrize(
    ("day", "due"), [(date.max, None), (date(9999, 12, 30), datetime(9999, 12, 31, tzinfo=UTC)), (None, None)]
)
async def test_the_last_day_of_the_calendar_is_no_deadline(
    world: World, day: date | None, due: datetime | None
) -> None:
    """A completion date in the last days of the year 9999 is accepted like any other."""
    assert (await world.accept("ada", replace(REQUEST, completion_date=day))).extraction.due_at == due


def test_the_lane_depends_on_the_number_of_cells() -> None:
    """Rows times columns decide."""
    below, at = (replace(DATASET, profile=replace(PROFILE, row_count=LARGE_CELLS // 2 - less)) for less in (1, 0))
    assert lane_of(Tables(below)) == "small"
    assert lane_of(Tables(at)) == "large"
    assert lane_of(Tables(below, observed=DATASET)) == "large"


async def test_run_times_of_other_lanes_do_not_count(world: World) -> None:
    """How long small extractions took says nothing about a large one."""
    await world.sql("DELETE FROM datasets")
    await world.upload(replace(DATASET, profile=replace(PROFILE, row_count=LARGE_CELLS)))
    await world.completed(*[80_000] * 5)

    accepted = await world.accept("ada", replace(REQUEST, completion_date=NOW.date()))

    assert accepted.extraction.lane == "large"


def test_each_attempt_publishes_under_its_own_key() -> None:
    """No attempt can overwrite the artifact of another."""
    extraction = Extraction("x", "ada", REQUEST, "processing", NOW, attempt=3)

    assert artifact_key(extraction) == "features/x/3.parquet"
