"""Questions that arrive together are asked together: of many equal round trips, one.

While one round trip is under way, those who come meanwhile gather for the next. Alone, a question goes at once and
takes one round trip; under load a server is asked once for dozens, and the price of asking is shared by all of them.
Nobody is answered with what was read before they asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from copy import copy
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

MOST_AT_ONCE = 200


class Gathering(Generic[Q, A]):
    """Gathers questions for `answer`, which gives an answer for each in order; for one event loop.

    `answer` runs on nobody's behalf, in an empty context: no request's ids or spans are about it. What it raises is
    raised in all who were waiting for it.
    """

    def __init__(self, answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, most: int = MOST_AT_ONCE) -> None:
        self._answer = answer
        self._most = most
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer. A caller that is cancelled leaves; its question may have been asked."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, answered))
        if self._asking is None:
            self._asking = loop.create_task(self._ask_all(), context=Context())
        return await answered

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._ask_some([(question, answered) for question, answered in asked if not answered.done()])
        finally:
            self._asking = None
            for _, answered in self._waiting:  # the loop is being closed
                answered.cancel()
            self._waiting.clear()

    async def _ask_some(self, asked: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._answer([question for question, _ in asked])
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is raised where it was asked
            for _, answered in asked:
                if not answered.done():
                    answered.set_exception(_own(error))
            return
        except BaseException:
            for _, answered in asked:
                answered.cancel()
            raise
        for (_, answered), answer in zip(asked, answers, strict=True):
            if not answered.done():
                answered.set_result(answer)


def _own(error: Exception) -> Exception:
    """A copy for each: one instance raised in many tasks would mix up their tracebacks."""
    own = copy(error)
    own.__cause__, own.__traceback__ = error.__cause__, error.__traceback__
    return own
