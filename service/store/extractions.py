"""Store extractions: rows that clients read and workers claim."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import structs
from sqlalchemy import Label, RowMapping, case, delete, false, func, insert, select, update

from service.features.errors import ExtractionEnded, ExtractionNotFound, ExtractionNotReady
from service.features.model import Extraction, Lane, Status
from service.features.stores import AttemptSuperseded, Page
from service.store.pages import Repository, page, paged, require_storable
from service.store.payload import storable
from service.store.tables import TERMINAL, extractions

CHANNEL = "feature_agent_extractions"
"""NOTIFY channel that carries the id of each changed extraction."""
MAX_MEASURED = 100
MIN_MEASURED = 5
"""Completed extractions that an estimate is made of."""

_FIELDS: tuple[Label[Any], ...] = tuple(extractions.c[name].label(name) for name in Extraction.__struct_fields__)
"""The columns of an `Extraction`, under its names."""
_RUN_COLUMNS = (
    "status", "progress", "stage", "started_at", "finished_at", "result", "failure", "retries", "stored_bytes"
)  # fmt: skip
"""Columns that a run writes; requests and claims write the others."""


class SqlExtractions(Repository):
    """Implement `stores.Extractions`."""

    async def add(self, extraction: Extraction) -> None:
        """Store a new extraction."""
        row = structs.asdict(extraction) | {"dataset_id": extraction.request.dataset_id}
        await self.execute(insert(extractions).values(row))

    async def claim(self, extraction_id: str, now: datetime) -> Extraction | None:
        """Begin the next attempt; None when there is no such extraction or it has ended."""
        row = await self._change(
            extractions.c.id == extraction_id,
            extractions.c.status.not_in(TERMINAL),
            status="processing",
            attempt=extractions.c.attempt + 1,
            crashes=extractions.c.crashes + case((extractions.c.status == "processing", 1), else_=0),
            started_at=func.coalesce(extractions.c.started_at, now),
            progress=0,
            stage=None,
            failure=None,
        )
        return None if row is None else Extraction(**row)

    async def save(self, extraction: Extraction) -> None:
        """Store the present state of a run. Raises AttemptSuperseded when the row has ended or another run has it.

        Storing the end of the same attempt again changes nothing: a commit whose acknowledgement was lost with the
        connection is repeated.
        """
        row = await self._change(
            extractions.c.id == extraction.id,
            extractions.c.attempt == extraction.attempt,
            extractions.c.status == "processing",
            **{name: getattr(extraction, name) for name in _RUN_COLUMNS},
        )
        if row is None and not await self._has_same_end(extraction):
            raise AttemptSuperseded

    async def _has_same_end(self, extraction: Extraction) -> bool:
        row = await self.find(extraction.id) if extraction.status in TERMINAL else None
        return row is not None and _end(row) == _end(extraction)

    async def find(self, extraction_id: str) -> Extraction | None:
        """Return any owner's extraction; None when there is none."""
        if not storable(extraction_id):
            return None
        found = await self.execute(select(*_FIELDS).where(extractions.c.id == extraction_id))
        row = found.mappings().one_or_none()
        return None if row is None else Extraction(**row)

    async def get(self, owner: str, extraction_id: str) -> Extraction:
        """Raises ExtractionNotFound."""
        extraction = await self.find(extraction_id)
        if extraction is None or extraction.owner != owner:
            raise ExtractionNotFound("You have no such extraction.")
        return extraction

    async def mark_detached(self, owner: str, extraction_id: str) -> None:
        """Record that its client has been answered with 202 and no longer waits."""
        await self._change(
            extractions.c.id == extraction_id,
            extractions.c.owner == owner,
            extractions.c.detached == false(),
            detached=True,
        )

    async def cancel(self, owner: str, extraction_id: str, now: datetime) -> Extraction:
        """Cancel a queued extraction; request cancellation of a running one."""
        require_storable(ExtractionNotFound, owner, extraction_id)
        queued = extractions.c.status == "queued"
        row = await self._change(
            *_of(owner, extraction_id),
            extractions.c.status.not_in(TERMINAL),
            cancel_requested=True,
            status=case((queued, "cancelled"), else_=extractions.c.status),
            finished_at=case((queued, now)),
            progress=case((queued, 100), else_=extractions.c.progress),
        )
        if row is not None:
            return Extraction(**row)
        extraction = await self.get(owner, extraction_id)
        raise ExtractionEnded(f"The extraction has already ended: it is {extraction.status}.")

    async def remove(self, owner: str, extraction_id: str) -> Extraction:
        """Delete the row of an extraction that has ended."""
        require_storable(ExtractionNotFound, owner, extraction_id)
        gone = await self.execute(
            delete(extractions)
            .where(*_of(owner, extraction_id), extractions.c.status.in_(TERMINAL))
            .returning(*_FIELDS)
        )
        row = gone.mappings().one_or_none()
        if row is not None:
            return Extraction(**row)
        await self.get(owner, extraction_id)
        raise ExtractionNotReady("The extraction has not ended: cancel it first.")

    async def revive(self, extraction_id: str) -> Extraction:
        """Queue a failed extraction again, as if it were new."""
        require_storable(ExtractionNotFound, extraction_id)
        row = await self._change(
            extractions.c.id == extraction_id,
            extractions.c.status == "failed",
            status="queued",
            progress=0,
            stage=None,
            started_at=None,
            finished_at=None,
            failure=None,
            crashes=0,
            retries=0,
            cancel_requested=False,
            detached=True,
        )
        if row is not None:
            return Extraction(**row)
        if await self.find(extraction_id) is None:
            raise ExtractionNotFound("There is no such extraction.")
        raise ExtractionNotReady("The extraction has not failed.")

    async def newest(self, limit: int, status: Status | None = None) -> tuple[Extraction, ...]:
        """Return the newest extractions of all owners."""
        statement = select(*_FIELDS).order_by(extractions.c.created_at.desc(), extractions.c.id.desc()).limit(limit)
        found = await self.execute(statement if status is None else statement.where(extractions.c.status == status))
        return tuple(Extraction(**row) for row in found.mappings())

    async def usual_seconds(self, lane: Lane) -> float | None:
        """Return the median run time of the lane's last completed extractions; None before there are `MIN_MEASURED`."""
        seconds = func.extract("epoch", extractions.c.finished_at - extractions.c.started_at)
        last = (
            select(seconds.label("seconds"))
            .where(
                extractions.c.status == "completed",
                extractions.c.lane == lane,
                extractions.c.finished_at.is_not(None),  # lets PostgreSQL read the index from the newest on
            )
            .order_by(extractions.c.finished_at.desc())
            .limit(MAX_MEASURED)
            .subquery()
        )
        found = await self.execute(
            select(func.count(), func.percentile_cont(0.5).within_group(last.c.seconds)).select_from(last)
        )
        count, median = found.one()
        return float(median) if count >= MIN_MEASURED else None

    async def list(
        self,
        owner: str,
        *,
        limit: int,
        cursor: str | None = None,
        status: Status | None = None,
        dataset_id: str | None = None,
    ) -> Page[Extraction]:
        """List the owner's extractions, newest first. Raises InvalidRequest for a foreign cursor."""
        if not storable(dataset_id):
            return Page(())
        statement = select(*_FIELDS).where(extractions.c.owner == owner)
        if status is not None:
            statement = statement.where(extractions.c.status == status)
        if dataset_id is not None:
            statement = statement.where(extractions.c.dataset_id == dataset_id)
        found = await self.execute(page(statement, extractions, limit, cursor))
        return paged(extractions, [Extraction(**row) for row in found.mappings()], limit)

    async def _change(self, *which: Any, **values: Any) -> RowMapping | None:
        """Change one row, increment its version, and notify its watchers when the transaction commits."""
        changed = await self.execute(
            update(extractions).where(*which).values(version=extractions.c.version + 1, **values).returning(*_FIELDS)
        )
        row = changed.mappings().one_or_none()
        if row is not None:
            await self.execute(select(func.pg_notify(CHANNEL, row["id"])))
        return row


def _end(extraction: Extraction) -> tuple[object, ...]:
    """Identify the end of an attempt."""
    return extraction.attempt, extraction.status, extraction.finished_at


def _of(owner: str, extraction_id: str) -> tuple[Any, Any]:
    return extractions.c.owner == owner, extractions.c.id == extraction_id
