"""Store webhook deliveries and the log of their attempts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import structs
from sqlalchemy import CursorResult, select, update
from sqlalchemy.dialects.postgresql import insert

from service.features.delivery import Delivery, DeliveryLog, DeliveryState
from service.features.stores import AttemptSuperseded
from service.store.pages import Repository
from service.store.payload import storable
from service.store.tables import webhook_deliveries as table

_ATTEMPT_COLUMNS = ("state", "log", "next_attempt_at", "finished_at")
"""Columns that an attempt writes."""


class SqlDeliveries(Repository):
    """Implement `delivery.Deliveries`."""

    async def add(self, delivery: Delivery) -> bool:
        """Store a new delivery; False, and nothing changes, when it is stored already."""
        added = await self.execute(
            insert(table).values(structs.asdict(delivery)).on_conflict_do_nothing().returning(table.c.id)
        )
        return added.first() is not None

    async def claim(self, delivery_id: str) -> Delivery | None:
        """Begin the next attempt; None when there is no such delivery or it has ended."""
        return await self._changed(table.c.id == delivery_id, table.c.state == "pending", attempt=table.c.attempt + 1)

    async def save(self, delivery: Delivery) -> None:
        """Store the outcome of an attempt. Raises AttemptSuperseded when another attempt has begun since.

        Storing the same outcome again changes nothing: the acknowledgement of the first time may have been lost.
        """
        mine = (table.c.id == delivery.id, table.c.attempt == delivery.attempt)
        values = {name: getattr(delivery, name) for name in _ATTEMPT_COLUMNS}
        if await self._changed(*mine, table.c.state == "pending", **values) is not None:
            return
        if await self.find(delivery.id) != delivery:
            raise AttemptSuperseded

    async def find(self, delivery_id: str) -> Delivery | None:
        """Return any owner's delivery; None when there is none."""
        if not storable(delivery_id):
            return None
        return _first(await self.execute(select(table).where(table.c.id == delivery_id)))

    async def of_extraction(self, extraction_id: str) -> tuple[Delivery, ...]:
        """Return an extraction's deliveries, oldest first."""
        if not storable(extraction_id):
            return ()
        statement = select(table).where(table.c.extraction_id == extraction_id)
        found = await self.execute(statement.order_by(table.c.created_at, table.c.id))
        return tuple(Delivery(**row) for row in found.mappings())

    async def newest(self, limit: int, state: DeliveryState | None = None) -> tuple[Delivery, ...]:
        """Return the newest deliveries of all owners."""
        statement = select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
        found = await self.execute(statement if state is None else statement.where(table.c.state == state))
        return tuple(Delivery(**row) for row in found.mappings())

    async def revive(self, delivery_id: str, now: datetime) -> Delivery | None:
        """Reset a failed delivery to its first attempt; None when it has not failed."""
        if not storable(delivery_id):
            return None
        return await self._changed(
            table.c.id == delivery_id,
            table.c.state == "failed",
            state="pending",
            attempt=0,
            log=DeliveryLog(),
            next_attempt_at=now,
            finished_at=None,
        )

    async def _changed(self, *which: Any, **values: Any) -> Delivery | None:
        return _first(await self.execute(update(table).where(*which).values(**values).returning(*table.c)))


def _first(found: CursorResult[Any]) -> Delivery | None:
    row = found.mappings().one_or_none()
    return None if row is None else Delivery(**row)
