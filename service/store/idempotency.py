"""Store idempotency keys: the extraction and the response that each stands for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert

from service.features.stores import IdempotencyRecord, StoredAnswer
from service.store.pages import Repository
from service.store.tables import idempotency_keys

RETENTION = timedelta(hours=24)


class SqlIdempotencyKeys(Repository):
    """Implement `stores.IdempotencyKeys`."""

    async def claim(self, owner: str, key: str, record: IdempotencyRecord, now: datetime) -> IdempotencyRecord | None:
        """Claim the key for this request; returns the record of the request that has it already, or None.

        The primary key makes a second transaction wait for the first; an expired key is taken over. A record that is
        returned stays until this transaction ends: the statement locks it even when it changes nothing.
        """
        values: dict[str, Any] = {
            "digest": record.digest,
            "extraction_id": record.extraction_id,
            "created_at": now,
            "answer_status": None,
            "answer_headers": None,
            "answer_body": None,
        }
        taken = await self.execute(
            insert(idempotency_keys)
            .values(owner=owner, key=key, **values)
            .on_conflict_do_update(
                index_elements=["owner", "key"], set_=values, where=idempotency_keys.c.created_at <= now - RETENTION
            )
            .returning(idempotency_keys.c.key)
        )
        return None if taken.first() else await self.find(owner, key, now)

    async def find(self, owner: str, key: str, now: datetime) -> IdempotencyRecord | None:
        """Return the record of a key that has not expired; None when there is none."""
        found = await self.execute(
            select(idempotency_keys).where(*_is(owner, key), idempotency_keys.c.created_at > now - RETENTION)
        )
        row = found.mappings().one_or_none()
        return None if row is None else IdempotencyRecord(row["digest"], row["extraction_id"], _answer(row))

    async def answer(self, owner: str, key: str, answer: StoredAnswer) -> None:
        """Store the first response under the key; a later one changes nothing."""
        await self.execute(
            update(idempotency_keys)
            .where(*_is(owner, key), idempotency_keys.c.answer_status.is_(None))
            .values(answer_status=answer.status, answer_headers=answer.headers, answer_body=answer.body)
        )


def _is(owner: str, key: str) -> tuple[Any, Any]:
    return idempotency_keys.c.owner == owner, idempotency_keys.c.key == key


def _answer(row: RowMapping) -> StoredAnswer | None:
    if row["answer_status"] is None:
        return None
    return StoredAnswer(row["answer_status"], row["answer_headers"], row["answer_body"])
