"""The API keys of the database, remembered for a few seconds.

Every request asks for a key: by the key itself, or by the access token made from it. Remembering the answers keeps
that off the database, and bounds how long a revoked key goes on working: `FRESH_SECONDS`, in every process.
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
    """A key and the principal it acts for."""

    key: ApiKey
    principal: Principal


class KeyRing:
    """Finds keys by their public id; never says whether they are good.

    Ids that do not exist are remembered too, apart from those that do: a flood of made-up keys neither asks the
    database twice for one id nor pushes out the keys in use. With ever new ids it still has to ask, but for no more
    than four at once, so that most of the connection pool is left to those whose keys are known.
    """

    def __init__(self, store: Store, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._known: TTLCache[str, Holder, float] = TTLCache(_KNOWN_CAPACITY, FRESH_SECONDS, timer)
        self._unknown: TTLCache[str, None, float] = TTLCache(_UNKNOWN_CAPACITY, FRESH_SECONDS, timer)
        self._lookups = asyncio.Semaphore(_CONCURRENT_LOOKUPS)

    async def find(self, key_id: str) -> Holder | None:
        """The key of that id, revoked and expired ones too, or None.

        Raises DependencyUnavailable when the answer is not fresh in memory and the database is away.
        """
        holder = self._known.get(key_id)
        if holder is not None or key_id in self._unknown:
            return holder
        async with self._lookups:
            # Whoever waited may find that another request has brought the answer meanwhile.
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
