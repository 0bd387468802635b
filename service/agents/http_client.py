"""Create the HTTP client of the provider SDKs, which stops reading a response that is larger than any plan."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
from pydantic_ai.models import create_async_httpx2_client

from service.agents.failures import AnswerTooLarge

MAX_ANSWER_BYTES = 1_048_576
"""Bytes of one response body. A plan of 200 features takes a tenth; the rest is for a model's reasoning."""


class _Bounded(httpx2.AsyncByteStream):
    """Raise AnswerTooLarge after more than `limit` bytes of a body."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks of the body."""
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
    # We asked for no compression: a compressed body can be a thousand times as large as the bytes that are counted.
    compressed = response.headers.get("content-encoding", "identity").lower() != "identity"
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream, 0 if compressed else MAX_ANSWER_BYTES)


def bounded_client() -> httpx2.AsyncClient:
    """Create a client with pydantic-ai's timeouts and a limit of MAX_ANSWER_BYTES. The caller closes it."""
    client = create_async_httpx2_client()
    client.headers["accept-encoding"] = "identity"
    client.event_hooks = {**client.event_hooks, "response": [_bound]}
    return client
