"""Store API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import structs
from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.dialects.postgresql import insert

from service.features.identity import SCOPES, ApiKey
from service.store.pages import Repository
from service.store.payload import storable
from service.store.tables import api_keys


class SqlKeys(Repository):
    """Implement `stores.Keys`."""

    async def add(self, key: ApiKey) -> None:
        """Store a new key."""
        await self.execute(insert(api_keys).values(structs.asdict(key) | {"scopes": [*key.scopes]}))

    async def find(self, key_id: str) -> ApiKey | None:
        """Return the key with that public id, even a revoked or expired one; None when there is none."""
        if not storable(key_id):
            return None
        found = await self.execute(select(api_keys).where(api_keys.c.id == key_id))
        return next(iter(_keys(found)), None)

    async def list(self) -> tuple[ApiKey, ...]:
        """List all keys, newest first."""
        found = await self.execute(select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc()))
        return _keys(found)

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke the key; False when there is none. Revoking twice keeps the first time."""
        if not storable(key_id):
            return False
        revoked_at = func.coalesce(api_keys.c.revoked_at, at)
        revoked = await self.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=revoked_at))
        return revoked.rowcount > 0


def _keys(found: CursorResult[Any]) -> tuple[ApiKey, ...]:
    """Read keys, leaving out scopes that only a newer release knows."""
    return tuple(
        structs.replace(ApiKey(**row), scopes=tuple(scope for scope in row["scopes"] if scope in SCOPES))
        for row in found.mappings()
    )
