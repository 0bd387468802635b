"""The HTTP client of the provider SDKs: it stops reading an answer that is larger than any plan."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
from pydantic_ai.models import create_async_httpx2_client

from service.agents.failures import AnswerTooLarge

MAX_ANSWER_BYTES = 1_048_576
"""Of one answer's body. A plan of 200 features is a tenth of it; the rest is room for what a reasoning model adds."""


class _Bounded(httpx2.AsyncByteStream):
    """A body that raises AnswerTooLarge when more than `limit` bytes of it have come."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks of the body."""
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._limit:
                raise AnswerTooLarge
            yield chunk

    async def aclose(self) -> None:
        """Close the connection's stream."""
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    # Uncompressed is what was asked for: a compressed body can be a thousand times as large as what is counted.
    compressed = response.headers.get("content-encoding", "identity").lower() != "identity"
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream, 0 if compressed else MAX_ANSWER_BYTES)


def bounded_client() -> httpx2.AsyncClient:
    """A client with pydantic-ai's timeouts and limits, whose answers are at most MAX_ANSWER_BYTES. Close it."""
    client = create_async_httpx2_client()
    client.headers["accept-encoding"] = "identity"
    client.event_hooks = {**client.event_hooks, "response": [_bound]}
    return client
