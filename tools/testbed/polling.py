"""Wait for something that other processes bring about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

TIMEOUT_SECONDS = 100.0
"""After which what does not come is taken for missing; no measurement depends on it."""


async def polling(timeout_seconds: float = TIMEOUT_SECONDS, pause_seconds: float = 0.05) -> AsyncIterator[None]:
    """Yield once for each look at a condition, with a pause after each, until the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        yield
        await asyncio.sleep(pause_seconds)
