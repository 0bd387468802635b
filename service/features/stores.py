"""What the domain needs of a database and a queue, as protocols; adapters implement them (see `ports`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from service.features.delivery import Deliveries, Delivery
from service.features.identity import ApiKey
from service.features.joins import OtherColumn
from service.features.model import Dataset, Extraction, ExtractionState, Lane, Status, StorageUse

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """One page of a list."""

    items: tuple[T, ...]
    next_cursor: str | None = None


class Datasets(Protocol):
    """Datasets of one owner at a time: another's do not exist."""

    async def add(self, dataset: Dataset) -> None:
        """Raises DatasetExists when the owner already has that id."""
        ...

    async def get(self, owner: str, dataset_id: str, version: int | None = None) -> Dataset:
        """The current version, or an older one that is still kept. Raises DatasetNotFound."""
        ...

    async def list(self, owner: str, *, limit: int, cursor: str | None = None) -> Page[Dataset]:
        """Newest first. Raises InvalidRequest for a cursor that this list did not give."""
        ...

    async def others_columns(self, owner: str, dataset_id: str, names: Sequence[str]) -> tuple[OtherColumn, ...]:
        """The columns of these names, letter case aside, of the owner's newest other datasets."""
        ...

    async def replace(self, dataset: Dataset, *, expected: int | None = None) -> tuple[Dataset, Dataset]:
        """Make it the next version, and keep the present one as an older version; gives both as they are stored.

        The dataset keeps the instant of its creation. Raises DatasetNotFound; DatasetChanged when the present version
        is not the `expected` one.
        """
        ...

    async def delete(self, owner: str, dataset_id: str) -> tuple[Dataset, ...]:
        """Remove the dataset with all of its versions and give them back, the current one first.

        Raises DatasetNotFound.
        """
        ...


class OwnerUsage(Struct, frozen=True):
    """What one principal keeps, for operators."""

    owner: str
    use: StorageUse


class Usage(Protocol):
    """What principals keep, as the database counts it in the transactions that add and delete."""

    async def of(self, owner: str) -> StorageUse:
        """What the principal keeps, with the changes of this transaction."""
        ...

    async def oldest_datasets(self, owner: str, *, limit: int, without: str = "") -> Sequence[str]:
        """Ids of the principal's oldest datasets, oldest first, without that of one."""
        ...

    async def largest_datasets(self, owner: str, *, limit: int, without: str = "") -> Sequence[tuple[str, int]]:
        """Ids and stored bytes of the principal's largest datasets, largest first, without that of one."""
        ...

    async def largest_owners(self, *, limit: int, owner: str | None = None) -> Sequence[OwnerUsage]:
        """The principals that keep the most bytes, or only the one named; for operators."""
        ...


class AttemptSuperseded(Exception):
    """The extraction has ended, or another attempt has claimed it: this one must stop."""


class Extractions(Protocol):
    """Extractions: of one owner at a time for clients, of all for workers."""

    async def add(self, extraction: Extraction) -> None:
        """Store a new extraction."""
        ...

    async def claim(self, extraction_id: str, now: datetime) -> Extraction | None:
        """Begin the next attempt; None when there is no such extraction or it has ended.

        A row that is still `processing` was left by a worker that died: that counts in `crashes`.
        """
        ...

    async def save(self, extraction: Extraction) -> None:
        """Store the present state of a run, and notify its watchers.

        Raises AttemptSuperseded when the row has ended, is gone, or another attempt than `extraction.attempt` has it.
        """
        ...

    async def find(self, extraction_id: str) -> Extraction | None:
        """Any owner's extraction, for workers."""
        ...

    async def get(self, owner: str, extraction_id: str) -> Extraction:
        """Raises ExtractionNotFound."""
        ...

    async def mark_detached(self, owner: str, extraction_id: str) -> None:
        """Record that its client has been answered with 202 and no longer waits: it is `detached` from now on."""
        ...

    async def cancel(self, owner: str, extraction_id: str, now: datetime) -> Extraction:
        """End a queued extraction as cancelled; ask for the end of a running one.

        Raises ExtractionNotFound, ExtractionEnded.
        """
        ...

    async def remove(self, owner: str, extraction_id: str) -> Extraction:
        """Delete the row of an extraction that has ended. Raises ExtractionNotFound, ExtractionNotReady."""
        ...

    async def revive(self, extraction_id: str) -> Extraction:
        """Queue a failed extraction again, as new; the caller enqueues it. Raises ExtractionNotFound or -NotReady."""
        ...

    async def newest(self, limit: int, status: Status | None = None) -> tuple[Extraction, ...]:
        """The newest of all owners, for operators."""
        ...

    async def usual_seconds(self, lane: Lane) -> float | None:
        """Median run time of the lane's last 100 completed extractions; None before there are 5."""
        ...

    async def list(
        self,
        owner: str,
        *,
        limit: int,
        cursor: str | None = None,
        status: Status | None = None,
        dataset_id: str | None = None,
    ) -> Page[Extraction]:
        """Newest first. Raises InvalidRequest for a cursor that this list did not give."""
        ...


class StoredAnswer(Struct, frozen=True):
    """An HTTP answer as it was given, to be given again."""

    status: int
    headers: dict[str, str]
    body: bytes


class IdempotencyRecord(Struct, frozen=True):
    """What an idempotency key stands for."""

    digest: bytes
    """SHA-256 of the request that it was first used for."""
    extraction_id: str
    answer: StoredAnswer | None = None
    """None while the first request is being answered, or when its process died before it could."""


class IdempotencyKeys(Protocol):
    """Idempotency keys of each owner, kept for 24 hours."""

    async def claim(self, owner: str, key: str, record: IdempotencyRecord, now: datetime) -> IdempotencyRecord | None:
        """Take the key for this request; gives the record that has it already, or None when it is ours now.

        Waits for a transaction that is taking the same key.
        """
        ...

    async def answer(self, owner: str, key: str, answer: StoredAnswer) -> None:
        """Keep the first answer given under the key; a later one changes nothing."""
        ...

    async def find(self, owner: str, key: str, now: datetime) -> IdempotencyRecord | None:
        """The record of a key that is still kept."""
        ...


class JobQueue(Protocol):
    """Makes extractions run and webhooks go out, here or in another process."""

    async def enqueue(self, work: UnitOfWork, extraction: Extraction, *, delay: float = 0.0) -> None:
        """Have the extraction run, `delay` seconds from now at the earliest; part of the unit of work's transaction."""
        ...

    async def enqueue_delivery(self, work: UnitOfWork, delivery: Delivery, *, delay: float = 0.0) -> None:
        """Have the webhook sent, `delay` seconds from now at the earliest; likewise."""
        ...


class Watch(Protocol):
    """Looks out for changes of one extraction, from its making on."""

    async def changed(self, seconds: float) -> bool:
        """Wait at most so long for a change since the last call; False when none was noticed.

        True does not prove a change, nor False its absence: the caller reads the row after either.
        """
        ...


class Notices(Protocol):
    """Tells when extractions change, whichever process changes them."""

    def watch(self, extraction_id: str) -> AbstractContextManager[Watch]:
        """Look out for changes while the block runs; enter it before looking at the row."""
        ...

    def subscribe(self, extraction_id: str, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `wake` at each change while the block runs; likewise."""
        ...


class Purged(Struct, frozen=True):
    """Report the rows that were deleted."""

    count: int
    artifact_keys: tuple[str, ...]
    """Their files, which nothing refers to any more."""


class Upkeep(Protocol):
    """What it takes of the database to keep only what is needed; each call is a transaction of its own.

    Its methods raise DependencyUnavailable when the database is away.
    """

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """True for one process at a time, while the block runs; False at once for all others."""
        ...

    async def now(self) -> datetime:
        """The instant by the database's clock, which all processes share."""
        ...

    async def purge_extractions(self, before: datetime, *, limit: int) -> Purged:
        """Delete at most `limit` extractions that ended before that instant, oldest first."""
        ...

    async def purge_dataset_versions(self, before: datetime, *, limit: int) -> Purged:
        """Delete at most `limit` versions replaced before that instant that no unfinished extraction pins."""
        ...

    async def purge_idempotency_keys(self, now: datetime) -> int:
        """Delete the expired idempotency keys; returns how many."""
        ...

    async def record_sizes(self, sizes: Mapping[str, int]) -> int:
        """Record the bytes of those artifacts whose rows lack them; gives how many rows."""
        ...

    async def in_use(self, keys: Sequence[str]) -> frozenset[str]:
        """Which of these artifacts a row refers to."""
        ...


class Keys(Protocol):
    """API keys."""

    async def add(self, key: ApiKey) -> None:
        """Store a new key."""
        ...

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that public id, revoked and expired ones too."""
        ...

    async def list(self) -> tuple[ApiKey, ...]:
        """All keys, newest first."""
        ...

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke; False when there is no such key. Revoking twice keeps the first time."""
        ...


class UnitOfWork(Protocol):
    """One transaction: committed when its block ends well, rolled back otherwise."""

    @property
    def datasets(self) -> Datasets:
        """The datasets, in this transaction."""
        ...

    @property
    def extractions(self) -> Extractions:
        """The extractions, in this transaction."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """The webhooks, in this transaction."""
        ...

    @property
    def keys(self) -> Keys:
        """The API keys, in this transaction."""
        ...

    @property
    def usage(self) -> Usage:
        """What principals keep, in this transaction."""
        ...

    @property
    def idempotency(self) -> IdempotencyKeys:
        """The idempotency keys, in this transaction."""
        ...


class Store(Protocol):
    """The database. Every method of it and of its units of work raises DependencyUnavailable when it is away."""

    def begin(self, *, watching: bool = False) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a unit of work; one that only looks again and again while something is waited for leaves no traces."""
        ...

    async def state_of(self, owner: str, extraction_id: str) -> ExtractionState:
        """How far an extraction has come now, outside of any unit of work and at the least cost.

        Raises ExtractionNotFound.
        """
        ...

    async def states(self, extraction_ids: Sequence[str]) -> Mapping[str, ExtractionState]:
        """How far any owners' extractions have come now, in one query; without those that do not exist."""
        ...

    async def add_repeated(self, extraction: Extraction, dataset_key: str, *, max_stored_bytes: int = 0) -> bool:
        """Store an extraction that is completed as it begins, in a transaction of its own.

        False, and nothing stored, when its dataset is gone or not the one of that artifact any more, or when its owner
        keeps that many bytes already (0: any number). What it raises may leave the row stored.
        """
        ...

    async def usual_seconds(self, lane: Lane) -> float | None:
        """`Extractions.usual_seconds`, as it was some seconds ago at most."""
        ...

    async def ping(self) -> None:
        """Raises DependencyUnavailable when the database does not answer."""
        ...
