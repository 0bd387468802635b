"""Trials of plans on samples: the numbers of a real run where the dataset is small, close ones where it is large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec.structs import replace

from service.concurrency.deadline import deadline
from service.engines.duckdb import rehearse as module
from service.engines.duckdb.engine import DuckDBEngine
from service.engines.duckdb.rehearse import MIN_ENTITIES, ROWS, shares
from service.engines.duckdb.sandbox import sandbox
from service.engines.limits import Limits
from service.features import operations as op
from service.features.errors import ComputeFailed, ComputeOutOfMemory, DeadlineExceeded
from service.features.model import (
    ColumnProfile,
    Dataset,
    ExtractionOptions,
    FeaturePlan,
    Grain,
    LogicalType,
    PlannedFeature,
    Profile,
)
from service.features.operations import AnyOperation, Predicate
from service.features.plan import validate
from service.features.ports import Rehearsal, RehearsedFeature
from service.features.tables import Tables

LIMITS = Limits(memory_bytes=512 * 2**20, threads=2, scratch_bytes=256 * 2**20, seconds=60.0)
LOGICAL: dict[str, LogicalType] = {
    "VARCHAR": "categorical", "TIMESTAMP": "datetime", "DOUBLE": "numeric", "BIGINT": "integer",
}  # fmt: skip
EVENTS = """
    SELECT 'u' || (i % {users}) AS "user", TIMESTAMP '2026-01-01' + INTERVAL (i * 60) SECOND AS at,
        CASE WHEN i % 5 = 0 THEN NULL ELSE (i % 100)::DOUBLE END AS price,
        CASE WHEN i % 4 = 0 THEN 'click' ELSE 'view' END AS event, 'm' || (i % 50) AS mail, i AS __row_id
    FROM range({rows}) AS r(i)
"""
USER = Predicate("event", "eq", ("click",))
BY_USER = (
    op.Count(),
    op.Count(where=(USER,)),
    op.Aggregate("price", "mean"),
    op.Recency("at"),
    op.MostFrequent("event"),
)
BY_ROW = (
    op.Value("price"),
    op.PreviousValue("price", "user", "at"),
    op.RollingCount("user", "at", 0.5),
    op.IsWeekend("at"),
)


class Shelf:
    """Artifacts in a folder: what a rehearsal asks of the port, and how often."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hangs = False

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """The stored file itself, or none for ever."""
        if self.hangs:
            await asyncio.Event().wait()
        yield self.folder / key


class Room:
    """An engine and event logs for it."""

    def __init__(self, folder: Path) -> None:
        self.shelf = Shelf(folder)
        self.scratch = folder / "scratch"
        self.engine = DuckDBEngine(self.shelf, LIMITS, self.scratch)  # type: ignore[arg-type] - the part the engine uses

    def events(self, rows: int, users: int, query: str = EVENTS, personal: tuple[str, ...] = ("mail",)) -> Dataset:
        """An event log."""
        path = self.shelf.folder / "data.parquet"
        with duckdb.connect() as connection:
            relation = connection.sql(query.format(rows=rows, users=users))
            relation.write_parquet(str(path))
            described = zip(relation.columns, relation.types, strict=True)
            columns = tuple(
                ColumnProfile(
                    name, place, LOGICAL[str(type_)], str(type_), 0.0, users if name == "user" else 2,
                    personal=name in personal,
                )
                for place, (name, type_) in enumerate(described)
                if name != "__row_id"
            )  # fmt: skip
        return Dataset("d", "me", "text/csv", 1, path.name, Profile(rows, columns, "f"), datetime.now(UTC))

    async def rehearse(self, dataset: Dataset, plan: FeaturePlan) -> dict[str, RehearsedFeature]:
        """The trial's statistics by name."""
        assert validate(plan, dataset.profile, ExtractionOptions()) == ()
        return {feature.name: feature for feature in await self.engine.rehearse(Tables(dataset), plan)}

    async def computed(self, dataset: Dataset, plan: FeaturePlan) -> dict[str, RehearsedFeature]:
        """The same of a whole run."""
        async with self.engine.compute(Tables(dataset), plan) as table:
            return {found.name: module._rehearsed(found) for found in await self.engine.measure(table, target=None)}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An engine in a folder of its own."""
    return Room(tmp_path)


def plan(*operations: AnyOperation, grain: Grain = "entity", entity: str | None = "user") -> FeaturePlan:
    """A plan of features f0, f1 … over the event log."""
    features = tuple(PlannedFeature(f"f{place}", "A feature.", one) for place, one in enumerate(operations))
    return FeaturePlan(grain, features, entity, "at")


def test_the_engine_is_a_rehearsal(room: Room) -> None:
    """The engine keeps the port's promise by its type."""
    rehearsal: Rehearsal = room.engine
    assert rehearsal is room.engine


@pytest.mark.parametrize("tried", [plan(*BY_USER), plan(*BY_ROW, grain="row")], ids=["entity", "row"])
async def test_a_small_dataset_is_tried_as_a_whole(room: Room, tried: FeaturePlan) -> None:
    """Up to the sample's size a trial measures what the whole run measures, and leaves nothing behind."""
    dataset = room.events(2_000, 40)
    features, computed = await room.rehearse(dataset, tried), await room.computed(dataset, tried)
    assert features.keys() == computed.keys()
    for name, feature in features.items():
        whole = computed[name]
        # Two threads add in another order than one.
        assert (feature.mean, feature.standard_deviation) == pytest.approx((whole.mean, whole.standard_deviation))
        assert replace(feature, mean=None, standard_deviation=None) == replace(
            whole, mean=None, standard_deviation=None
        )
    assert list(room.scratch.iterdir()) == []


async def test_entities_are_sampled_whole(room: Room) -> None:
    """Of many entities some are tried with all their rows: each user's count and mean are the true ones."""
    dataset = room.events(10 * ROWS, 20_000)
    features = await room.rehearse(dataset, plan(op.Count(), op.Aggregate("price", "mean")))
    count = features["f0"]
    assert (count.distinct_count, count.mean, count.top_share) == (1, 10 * ROWS / 20_000, 1.0)
    with duckdb.connect() as connection:
        path = str(room.shelf.folder / "data.parquet")
        [(means,)] = connection.read_parquet(path).aggregate("avg(price) AS m", '"user"').aggregate("avg(m)").fetchall()
    assert features["f1"].mean == pytest.approx(means, rel=0.05)


async def test_windows_see_whole_histories(room: Room) -> None:
    """At the row grain histories have no gaps: a previous row is the one before, the same time away for every row."""
    dataset = room.events(10 * ROWS, 20_000)
    features = await room.rehearse(dataset, plan(op.DaysSincePrevious("user", "at"), grain="row"))
    assert features["f0"].distinct_count == 1
    assert features["f0"].mean == pytest.approx(20_000 / 1440)


async def test_long_histories_are_cut_to_their_latest_part(room: Room) -> None:
    """Of few entities all are tried, on their latest rows: without gaps and about as many as the sample holds."""
    dataset = room.events(10 * ROWS, 5)
    features = await room.rehearse(dataset, plan(op.Count(), op.MeanGap("at"), op.ActiveSpan("at")))
    assert features["f0"].mean == pytest.approx(ROWS / 5, rel=0.05)
    assert features["f1"].mean == pytest.approx(5 / 1440)


async def test_without_time_rows_of_few_entities_are_drawn(room: Room) -> None:
    """Without a time column there is no latest part: rows are drawn at random, so shares stay what they are."""
    dataset = room.events(10 * ROWS, 5)
    tried = plan(op.Count(), op.Aggregate("price", "mean"))
    features = await room.rehearse(dataset, FeaturePlan("entity", tried.features, "user"))
    assert features["f0"].mean == pytest.approx(ROWS / 5, rel=0.1)
    assert features["f1"].mean == pytest.approx(50, rel=0.05)


async def test_rows_without_entity_are_drawn_too(room: Room) -> None:
    """Rows whose entity is null are one history to no window, so they are chosen one by one and keep their share."""
    query = EVENTS.replace("'u' || (i % {users})", "CASE WHEN i % 3 = 0 THEN NULL ELSE 'u' || (i % {users}) END")
    features = await room.rehearse(
        room.events(10 * ROWS, 20_000, query), plan(op.CumulativeCount("user", "at"), grain="row")
    )
    assert features["f0"].null_ratio == pytest.approx(1 / 3, abs=0.02)


async def test_single_rows_are_drawn(room: Room) -> None:
    """A plan without an entity is tried on rows drawn at random, the same in every trial."""
    dataset = room.events(10 * ROWS, 5)
    tried = plan(op.Value("price"), op.Flag((USER,)), grain="row", entity=None)
    features = await room.rehearse(dataset, tried)
    assert features["f0"].null_ratio == pytest.approx(0.2, abs=0.01)
    assert features["f1"].mean == pytest.approx(0.25, abs=0.01)
    assert await room.rehearse(dataset, tried) == features


def test_shares() -> None:
    """The sample has about `ROWS` rows whatever the dataset's shape, and enough entities where there are any."""

    def of(rows: int, users: int) -> tuple[float, float]:
        profile = Profile(rows, (ColumnProfile("user", 0, "identifier", "VARCHAR", 0.0, users),), "f")
        found = shares(plan(op.Count()), profile)
        return found.entities, found.rows

    assert of(0, 0) == of(10, 2) == of(ROWS, ROWS) == (1.0, 1.0)
    assert of(100 * ROWS, 100 * ROWS) == (0.01, 1.0)
    assert of(100 * ROWS, 10) == (1.0, 0.01)
    entities, rows = of(100 * ROWS, 1_000)
    assert entities == MIN_ENTITIES / 1_000
    assert entities * rows == pytest.approx(0.01)


@pytest.mark.parametrize(
    "operation",
    [
        op.Count(where=(Predicate("mail", "eq", ("m7",)),)),
        op.Rate(numerator=(USER,), denominator=(Predicate("mail", "ne", ("m7",)),)),
        op.CountDistinct("mail"),
        op.Entropy("mail"),
    ],
)
async def test_personal_columns_are_tried_and_untold(room: Room, operation: AnyOperation) -> None:
    """Nothing is told of a feature that reads a personal column, neither a mean nor how many rows meet a predicate."""
    features = await room.rehearse(room.events(500, 40), plan(op.Count(), operation))
    assert list(features) == ["f0"]


async def test_a_personal_time_is_read_by_last_days(room: Room) -> None:
    """What is counted in the last days of a personal date is untold, though the operation itself names no column."""
    features = await room.rehearse(room.events(500, 40, personal=("at",)), plan(op.Count(), op.Count(last_days=3.0)))
    assert list(features) == ["f0"]


async def test_an_empty_dataset(room: Room) -> None:
    """A table without rows can be tried."""
    features = await room.rehearse(room.events(0, 1), plan(op.Count()))
    assert (features["f0"].distinct_count, features["f0"].null_ratio, features["f0"].mean) == (0, 1.0, None)


async def test_it_is_small(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the engine may use, a trial has one thread and at most 256 MB."""
    opened: list[Limits] = []

    def noted(limits: Limits, **places: Any) -> Any:
        opened.append(limits)
        return sandbox(limits, **places)

    monkeypatch.setattr(module, "sandbox", noted)
    await room.rehearse(room.events(100, 4), plan(op.Count()))
    assert [(limits.threads, limits.memory_bytes, limits.seconds) for limits in opened] == [(1, 256 * 2**20, 5.0)]


async def test_too_much_for_its_memory(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that needs more than that is refused with what to do."""
    monkeypatch.setattr(module, "MEMORY_BYTES", 2**20)
    monkeypatch.setattr(module, "SCRATCH_BYTES", 0)
    dataset = room.events(ROWS, 20_000)
    with pytest.raises(ComputeOutOfMemory, match="fewer features"):
        await room.rehearse(dataset, plan(*BY_USER, op.Entropy("event"), op.Trend("price", "at")))


async def test_a_slow_store_ends_with_the_deadline(room: Room) -> None:
    """A dataset that cannot be fetched in time ends the trial, not the request."""
    dataset = room.events(10, 2)
    room.shelf.hangs = True
    with deadline(0.05), pytest.raises(DeadlineExceeded):
        await room.engine.rehearse(Tables(dataset), plan(op.Count()))


async def test_no_time_left(room: Room) -> None:
    """After the deadline nothing is begun."""
    dataset = room.events(10, 2)
    with deadline(-1.0), pytest.raises(DeadlineExceeded):
        await room.engine.rehearse(Tables(dataset), plan(op.Count()))
    assert not room.scratch.exists()


async def test_a_broken_dataset(room: Room) -> None:
    """What the engine says of a broken file is not repeated, for it may quote a cell."""
    dataset = room.events(10, 2)
    await asyncio.to_thread((room.shelf.folder / "data.parquet").write_bytes, b"PAR1 canary-7f3a PAR1")
    with pytest.raises(ComputeFailed) as raised:
        await room.engine.rehearse(Tables(dataset), plan(op.Count()))
    assert "canary" not in raised.value.message
    assert raised.value.__cause__ is None
