"""Wait for a signal that may be set again and again."""

from __future__ import annotations

import asyncio


async def wait_and_clear(signal: asyncio.Event, seconds: float) -> bool:
    """Wait at most `seconds` until the event is set, and clear it; False when it was not set in time."""
    try:
        async with asyncio.timeout(seconds):
            await signal.wait()
    except TimeoutError:
        return False
    signal.clear()
    return True
