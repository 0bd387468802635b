"""Batch concurrent requests for the same kind of thing into one round trip to a server.

While one round trip is under way, requests that arrive wait for the next. A single request is sent at once. No request
is answered with what was read before it arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from copy import copy
from typing import Generic, TypeVar

Request = TypeVar("Request")
Response = TypeVar("Response")

MAX_BATCH_SIZE = 200


class Batcher(Generic[Request, Response]):
    """Batch requests to `send`, which returns a response for each in order; for one event loop.

    `send` runs in an empty context, since no single request's ids or spans are right for a batch. What it raises is
    raised in every caller that waits for the batch.
    """

    def __init__(
        self, send: Callable[[Sequence[Request]], Awaitable[Sequence[Response]]], *, max_size: int = MAX_BATCH_SIZE
    ) -> None:
        self._send = send
        self._max_size = max_size
        self._waiting: list[tuple[Request, asyncio.Future[Response]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def submit(self, request: Request) -> Response:
        """Return the response. The request of a caller that is cancelled may still be sent."""
        loop = asyncio.get_running_loop()
        response: asyncio.Future[Response] = loop.create_future()
        self._waiting.append((request, response))
        if self._sending is None:
            self._sending = loop.create_task(self._send_all(), context=Context())
        return await response

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._max_size], self._waiting[self._max_size :]
                await self._send_batch([(request, response) for request, response in batch if not response.done()])
        finally:
            self._sending = None
            for _, response in self._waiting:  # the loop is being closed
                response.cancel()
            self._waiting.clear()

    async def _send_batch(self, batch: list[tuple[Request, asyncio.Future[Response]]]) -> None:
        try:
            answers = await self._send([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is raised in every caller
            for _, response in batch:
                if not response.done():
                    response.set_exception(_copy_of(error))
            return
        except BaseException:
            for _, response in batch:
                response.cancel()
            raise
        for (_, response), answer in zip(batch, answers, strict=True):
            if not response.done():
                response.set_result(answer)


def _copy_of(error: Exception) -> Exception:
    """Copy the error for one caller: one instance raised in many tasks would mix up their tracebacks."""
    copied = copy(error)
    copied.__cause__, copied.__traceback__ = error.__cause__, error.__traceback__
    return copied
