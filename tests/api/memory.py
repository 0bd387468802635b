"""The store, the notices and the job queue in memory, with the promises of their ports and switches for failures."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from msgspec.structs import replace

from service.features.delivery import Delivery
from service.features.errors import (
    DatasetExists,
    DatasetNotFound,
    DependencyUnavailable,
    ExtractionEnded,
    ExtractionNotFound,
    ExtractionNotReady,
    InvalidRequest,
)
from service.features.identity import ApiKey
from service.features.model import Dataset, Extraction, ExtractionState, FieldError, Lane, Status
from service.features.stores import AttemptSuperseded, IdempotencyRecord, Page, StoredAnswer

T = TypeVar("T")

TERMINAL = ("completed", "failed", "cancelled")
OF_A_RUN = ("status", "progress", "stage", "started_at", "finished_at", "result", "failure", "retries")


class MemoryStore:
    """Everything in dictionaries; one unit of work at a time, undone when it fails.

    It can be `away` like a lost database, or hang; `lost_commits` of the next commits happen, and nobody hears of it.
    """

    def __init__(self) -> None:
        self.away = False
        self.hangs = False
        self.lost_commits = 0
        self.notices = MemoryNotices()
        self.datasets = MemoryDatasets()
        self.extractions = MemoryExtractions()
        self.deliveries = MemoryDeliveries()
        self.keys = MemoryKeys()
        self.idempotency = MemoryIdempotencyKeys()
        self.on_commit: list[Callable[[], object]] = []
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def begin(self, *, watching: bool = False) -> AsyncIterator[MemoryStore]:
        """A unit of work."""
        await self.ping()
        async with self._lock:
            tables: list[dict[Any, Any]] = [
                self.datasets.rows, self.extractions.rows, self.deliveries.rows, self.keys.rows, self.idempotency.rows,
            ]  # fmt: skip
            before = [dict(rows) for rows in tables]
            try:
                yield self
            except BaseException:
                for rows, kept in zip(tables, before, strict=True):
                    rows.clear()
                    rows.update(kept)
                self.extractions.changed.clear()
                self.on_commit.clear()
                raise
            self._committed()
        if self.lost_commits:
            self.lost_commits -= 1
            raise DependencyUnavailable("The connection broke.")

    async def state_of(self, owner: str, extraction_id: str) -> ExtractionState:
        """How far it has come."""
        async with self.begin() as work:
            row = await work.extractions.get(owner, extraction_id)
        return ExtractionState(**{name: getattr(row, name) for name in ExtractionState.__struct_fields__})

    async def add_repeated(self, extraction: Extraction, dataset_key: str) -> bool:
        """Add, if the dataset is still that one."""
        async with self.begin() as work:
            dataset = work.datasets.rows.get((extraction.owner, extraction.request.dataset_id))
            if dataset is None or dataset.artifact_key != dataset_key:
                return False
            await work.extractions.add(extraction)
        return True

    async def usual_seconds(self, lane: Lane) -> float | None:
        """The median."""
        async with self.begin() as work:
            return await work.extractions.usual_seconds(lane)

    async def ping(self) -> None:
        """Raises when away."""
        if self.hangs:
            await asyncio.sleep(30)
        if self.away:
            raise DependencyUnavailable("The database does not answer.")

    def _committed(self) -> None:
        hooks, changed = [*self.on_commit], set(self.extractions.changed)
        self.on_commit.clear()
        self.extractions.changed.clear()
        for extraction_id in changed:
            self.notices.tell(extraction_id)
        for hook in hooks:
            hook()


class MemoryDatasets:
    """Datasets by owner and id."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Dataset] = {}

    async def add(self, dataset: Dataset) -> None:
        """Add."""
        if (dataset.owner, dataset.id) in self.rows:
            raise DatasetExists("You already have that dataset.")
        self.rows[dataset.owner, dataset.id] = dataset

    async def get(self, owner: str, dataset_id: str) -> Dataset:
        """Get."""
        try:
            return self.rows[owner, dataset_id]
        except KeyError:
            raise DatasetNotFound("You have no such dataset.") from None

    async def list(self, owner: str, *, limit: int, cursor: str | None = None) -> Page[Dataset]:
        """A page."""
        return page([row for (who, _), row in self.rows.items() if who == owner], limit, cursor)

    async def delete(self, owner: str, dataset_id: str) -> Dataset:
        """Delete."""
        dataset = await self.get(owner, dataset_id)
        del self.rows[owner, dataset_id]
        return dataset


class MemoryExtractions:
    """Extractions by id; each method reads and changes a row in one step, as one statement of SQL does."""

    def __init__(self) -> None:
        self.rows: dict[str, Extraction] = {}
        self.changed: list[str] = []
        self.looks = 0

    async def add(self, extraction: Extraction) -> None:
        """Add."""
        self.rows[extraction.id] = extraction

    async def claim(self, extraction_id: str, now: datetime) -> Extraction | None:
        """Begin the next attempt."""
        row = self.rows.get(extraction_id)
        if row is None or row.status in TERMINAL:
            return None
        return self._change(
            row,
            status="processing",
            attempt=row.attempt + 1,
            crashes=row.crashes + (row.status == "processing"),
            started_at=row.started_at or now,
            progress=0,
            stage=None,
            failure=None,
        )

    async def save(self, extraction: Extraction) -> None:
        """Save what a run may."""
        row = self.rows.get(extraction.id)
        if row is None or row.attempt != extraction.attempt or row.status != "processing":
            raise AttemptSuperseded
        self._change(row, **{name: getattr(extraction, name) for name in OF_A_RUN})

    async def find(self, extraction_id: str) -> Extraction | None:
        """Anybody's."""
        self.looks += 1
        return self.rows.get(extraction_id)

    async def get(self, owner: str, extraction_id: str) -> Extraction:
        """Get."""
        extraction = await self.find(extraction_id)
        if extraction is None or extraction.owner != owner:
            raise ExtractionNotFound("You have no such extraction.")
        return extraction

    async def mark_detached(self, owner: str, extraction_id: str) -> None:
        """Mark it detached."""
        row = self.rows.get(extraction_id)
        if row is not None and row.owner == owner and not row.detached:
            self._change(row, detached=True)

    async def cancel(self, owner: str, extraction_id: str, now: datetime) -> Extraction:
        """Cancel."""
        row = await self.get(owner, extraction_id)
        if row.status in TERMINAL:
            raise ExtractionEnded(f"The extraction has already ended: it is {row.status}.")
        if row.status == "queued":
            return self._change(row, cancel_requested=True, status="cancelled", finished_at=now, progress=100)
        return self._change(row, cancel_requested=True)

    async def remove(self, owner: str, extraction_id: str) -> Extraction:
        """Delete."""
        row = await self.get(owner, extraction_id)
        if row.status not in TERMINAL:
            raise ExtractionNotReady("The extraction has not ended: cancel it first.")
        return self.rows.pop(extraction_id)

    async def revive(self, extraction_id: str) -> Extraction:
        """Queue again."""
        row = self.rows.get(extraction_id)
        if row is None:
            raise ExtractionNotFound("There is no such extraction.")
        if row.status != "failed":
            raise ExtractionNotReady("The extraction has not failed.")
        return self._change(
            row, status="queued", progress=0, finished_at=None, failure=None, crashes=0, retries=0,
            cancel_requested=False, detached=True,
        )  # fmt: skip

    async def usual_seconds(self, lane: Lane) -> float | None:
        """The median."""
        taken = [
            (row.finished_at - row.started_at).total_seconds()
            for row in self.rows.values()
            if row.status == "completed" and row.lane == lane and row.finished_at and row.started_at
        ]
        return statistics.median(taken[-100:]) if len(taken) >= 5 else None

    async def list(
        self,
        owner: str,
        *,
        limit: int,
        cursor: str | None = None,
        status: Status | None = None,
        dataset_id: str | None = None,
    ) -> Page[Extraction]:
        """A page."""
        rows = [
            row
            for row in self.rows.values()
            if row.owner == owner and status in {None, row.status} and dataset_id in {None, row.request.dataset_id}
        ]
        return page(rows, limit, cursor)

    def _change(self, row: Extraction, **values: Any) -> Extraction:
        self.rows[row.id] = replace(row, version=row.version + 1, **values)
        self.changed.append(row.id)
        return self.rows[row.id]


class MemoryDeliveries:
    """Webhooks by id."""

    def __init__(self) -> None:
        self.rows: dict[str, Delivery] = {}

    async def add(self, delivery: Delivery) -> bool:
        """Add."""
        return self.rows.setdefault(delivery.id, delivery) is delivery

    async def claim(self, delivery_id: str) -> Delivery | None:
        """Begin the next try."""
        row = self.rows.get(delivery_id)
        if row is None or row.state != "pending":
            return None
        self.rows[delivery_id] = replace(row, attempt=row.attempt + 1)
        return self.rows[delivery_id]

    async def save(self, delivery: Delivery) -> None:
        """Save what a try may."""
        row = self.rows.get(delivery.id)
        if row is None or row.attempt != delivery.attempt or (row.state != "pending" and row != delivery):
            raise AttemptSuperseded
        self.rows[delivery.id] = delivery

    async def of_extraction(self, extraction_id: str) -> tuple[Delivery, ...]:
        """An extraction's."""
        return tuple(row for row in self.rows.values() if row.extraction_id == extraction_id)


class MemoryIdempotencyKeys:
    """Idempotency keys by owner."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[IdempotencyRecord, datetime]] = {}

    async def claim(self, owner: str, key: str, record: IdempotencyRecord, now: datetime) -> IdempotencyRecord | None:
        """Take the key."""
        taken = await self.find(owner, key, now)
        if taken is None:
            self.rows[owner, key] = record, now
        return taken

    async def answer(self, owner: str, key: str, answer: StoredAnswer) -> None:
        """Keep the first."""
        record, since = self.rows[owner, key]
        if record.answer is None:
            self.rows[owner, key] = replace(record, answer=answer), since

    async def find(self, owner: str, key: str, now: datetime) -> IdempotencyRecord | None:
        """Find what is still kept."""
        record, since = self.rows.get((owner, key), (None, now))
        return record if since > now - timedelta(hours=24) else None


class MemoryKeys:
    """API keys by id."""

    def __init__(self) -> None:
        self.rows: dict[str, ApiKey] = {}

    async def add(self, key: ApiKey) -> None:
        """Add."""
        self.rows[key.id] = key

    async def find(self, key_id: str) -> ApiKey | None:
        """Find."""
        return self.rows.get(key_id)

    async def list(self) -> tuple[ApiKey, ...]:
        """All."""
        return tuple(self.rows.values())

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke."""
        self.rows[key_id] = replace(self.rows[key_id], revoked_at=at)
        return True


def page(rows: list[T], limit: int, cursor: str | None) -> Page[T]:
    """Newest first; the cursor is the offset."""
    if cursor is not None and not cursor.isdigit():
        raise InvalidRequest("Bad cursor.", errors=[FieldError("cursor", "was not given by this list")])
    start = int(cursor or 0)
    newest = rows[::-1]
    following = str(start + limit) if start + limit < len(newest) else None
    return Page(tuple(newest[start : start + limit]), following)


class MemoryWatch:
    """One look-out."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.noticed = asyncio.Event()

    async def changed(self, seconds: float) -> bool:
        """Wait for a notice."""
        try:
            async with asyncio.timeout(seconds):
                await self.noticed.wait()
        except TimeoutError:
            return False
        self.noticed.clear()
        return True


class MemoryNotices:
    """Tells every look-out, whichever thread changed the row; `deaf`, it tells nobody."""

    def __init__(self) -> None:
        self.watches: dict[str, list[MemoryWatch]] = {}
        self.deaf = False

    @contextmanager
    def watch(self, extraction_id: str) -> Iterator[MemoryWatch]:
        """Look out."""
        watch = MemoryWatch()
        self.watches.setdefault(extraction_id, []).append(watch)
        try:
            yield watch
        finally:
            self.watches[extraction_id].remove(watch)
            if not self.watches[extraction_id]:
                del self.watches[extraction_id]

    def tell(self, extraction_id: str) -> None:
        """There was a change."""
        for watch in () if self.deaf else tuple(self.watches.get(extraction_id, ())):
            watch.loop.call_soon_threadsafe(watch.noticed.set)


class MemoryQueue:
    """Runs jobs in tasks once their unit of work is committed; those with a delay, and all while `held`, wait."""

    def __init__(self) -> None:
        self.run: Callable[[str], Coroutine[Any, Any, object]] | None = None
        self.held = False
        self.waiting: list[tuple[str, float]] = []
        """Jobs that were not started, with their delays."""
        self.webhooks: list[tuple[str, float]] = []
        """Webhooks that were enqueued, with their delays."""
        self.jobs = 0
        self._tasks: set[asyncio.Task[object]] = set()

    async def enqueue(self, work: Any, extraction: Extraction, *, delay: float = 0.0) -> None:
        """Start it when the work is committed."""
        work.on_commit.append(lambda: self._enqueued(extraction.id, delay))

    async def enqueue_delivery(self, work: Any, delivery: Delivery, *, delay: float = 0.0) -> None:
        """Note it when the work is committed."""
        work.on_commit.append(lambda: self.webhooks.append((delivery.id, delay)))

    def start(self) -> list[str]:
        """Start whatever waits, in the running loop; gives the ids."""
        waiting, self.waiting = self.waiting, []
        for extraction_id, _ in waiting:
            self._start(extraction_id)
        return [extraction_id for extraction_id, _ in waiting]

    async def stop(self) -> None:
        """Cancel what runs, and start no more."""
        self.held = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _enqueued(self, extraction_id: str, delay: float) -> None:
        self.jobs += 1
        if self.held or delay or self.run is None:
            self.waiting.append((extraction_id, delay))
        else:
            self._start(extraction_id)

    def _start(self, extraction_id: str) -> None:
        assert self.run is not None
        task = asyncio.get_running_loop().create_task(self.run(extraction_id))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # what a run raises beyond its failure is for the worker's log
