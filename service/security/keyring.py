"""Cache API keys of the database for a few seconds.

Every request needs a key's record: it carries the key, or an access token issued for it. The cache keeps these reads
off the database, and bounds how long a revoked key still works: `FRESH_SECONDS`, in every process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cachetools import TTLCache
from msgspec import Struct

from service.features.identity import ApiKey, Principal
from service.features.stores import Store

FRESH_SECONDS = 10.0
"""How long an answer is used: the longest that a revocation takes to reach every process."""

_KNOWN_CAPACITY = 10_000
_UNKNOWN_CAPACITY = 10_000
_CONCURRENT_LOOKUPS = 4


class Holder(Struct, frozen=True):
    """Pair a key with the principal it acts for."""

    key: ApiKey
    principal: Principal


class KeyRing:
    """Find keys by their public id, without checking whether they are valid.

    Ids that do not exist are cached too, in a cache of their own: a flood of made-up keys neither queries the database
    twice for one id nor evicts the keys in use. New ids are still queried, but no more than four at once, so that most
    of the connection pool is left to requests whose keys are known.
    """

    def __init__(self, store: Store, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._known: TTLCache[str, Holder, float] = TTLCache(_KNOWN_CAPACITY, FRESH_SECONDS, timer)
        self._unknown: TTLCache[str, None, float] = TTLCache(_UNKNOWN_CAPACITY, FRESH_SECONDS, timer)
        self._lookups = asyncio.Semaphore(_CONCURRENT_LOOKUPS)

    async def find(self, key_id: str) -> Holder | None:
        """Return the key with that id, even a revoked or expired one; None when there is none.

        Raises DependencyUnavailable when the id is not cached and the database is unavailable.
        """
        holder = self._known.get(key_id)
        if holder is not None or key_id in self._unknown:
            return holder
        async with self._lookups:
            # Another request may have looked it up meanwhile.
            holder = self._known.get(key_id)
            if holder is not None or key_id in self._unknown:
                return holder
            return await self._look_up(key_id)

    async def _look_up(self, key_id: str) -> Holder | None:
        async with self._store.begin() as unit:
            key = await unit.keys.find(key_id)
        if key is None:
            self._unknown[key_id] = None
            return None
        holder = Holder(key, Principal(key.name, frozenset(key.scopes)))
        self._known[key_id] = holder
        return holder
