"""Writing down what has happened, whatever the database does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.features.errors import DependencyUnavailable
from service.features.stores import Store, UnitOfWork

T = TypeVar("T")

STORE_PATIENCE_SECONDS = 20.0
"""How long an end is kept in hand while the database is away, such as for a restart."""
STORE_PAUSE_SECONDS = 1.0


async def stored(store: Store, write: Callable[[UnitOfWork], Awaitable[T]]) -> T:
    """Write in one transaction, again and again while the database is away; `write` is fenced, so that twice is once.

    Raises DependencyUnavailable when patience is over.
    """
    last = asyncio.get_running_loop().time() + STORE_PATIENCE_SECONDS
    while True:
        try:
            async with store.begin() as work:
                return await write(work)
        except DependencyUnavailable:
            if asyncio.get_running_loop().time() > last:
                raise
        await asyncio.sleep(STORE_PAUSE_SECONDS)
