"""Commit a transaction that must not be lost, again and again while the database is unreachable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.features.errors import DependencyUnavailable
from service.features.stores import Store, UnitOfWork

T = TypeVar("T")

COMMIT_TIMEOUT_SECONDS = 20.0
"""Long enough for a restart of the database."""
RETRY_PAUSE_SECONDS = 1.0


async def commit_with_retry(store: Store, write: Callable[[UnitOfWork], Awaitable[T]]) -> T:
    """Run `write` in a transaction and commit it, again while the database is unreachable.

    `write` must be idempotent: when the answer to a commit is lost, it runs twice. Raises DependencyUnavailable after
    COMMIT_TIMEOUT_SECONDS.
    """
    last = asyncio.get_running_loop().time() + COMMIT_TIMEOUT_SECONDS
    while True:
        try:
            async with store.begin() as work:
                return await write(work)
        except DependencyUnavailable:
            if asyncio.get_running_loop().time() > last:
                raise
        await asyncio.sleep(RETRY_PAUSE_SECONDS)
