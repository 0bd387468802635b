"""Begin a streamed answer before its status is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator


async def begun(chunks: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """Read the first chunk in advance, so that an early failure still becomes a problem document."""
    first = await anext(chunks, b"")

    async def resumed() -> AsyncGenerator[bytes]:
        try:
            yield first
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    return resumed()
