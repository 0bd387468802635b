"""Idempotency keys: which extraction each stands for, and what was answered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert

from service.features.stores import IdempotencyRecord, StoredAnswer
from service.store.pages import Repository
from service.store.tables import idempotency_keys

KEPT = timedelta(hours=24)


class SqlIdempotencyKeys(Repository):
    """Implements `stores.IdempotencyKeys`."""

    async def claim(self, owner: str, key: str, record: IdempotencyRecord, now: datetime) -> IdempotencyRecord | None:
        """Take the key for this request; gives the record that has it already, or None when it is ours now.

        The primary key makes a second transaction wait for the first; a key that is kept no longer is taken over. A
        record that was found stays until this transaction ends: the statement has locked it also where it changed
        nothing.
        """
        ours: dict[str, Any] = {
            "digest": record.digest,
            "extraction_id": record.extraction_id,
            "created_at": now,
            "answer_status": None,
            "answer_headers": None,
            "answer_body": None,
        }
        taken = await self.execute(
            insert(idempotency_keys)
            .values(owner=owner, key=key, **ours)
            .on_conflict_do_update(
                index_elements=["owner", "key"], set_=ours, where=idempotency_keys.c.created_at <= now - KEPT
            )
            .returning(idempotency_keys.c.key)
        )
        return None if taken.first() else await self.find(owner, key, now)

    async def find(self, owner: str, key: str, now: datetime) -> IdempotencyRecord | None:
        """The record of a key that is still kept."""
        found = await self.execute(
            select(idempotency_keys).where(*_is(owner, key), idempotency_keys.c.created_at > now - KEPT)
        )
        row = found.mappings().one_or_none()
        return None if row is None else IdempotencyRecord(row["digest"], row["extraction_id"], _answer(row))

    async def answer(self, owner: str, key: str, answer: StoredAnswer) -> None:
        """Keep the first answer given under the key; a later one changes nothing."""
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
