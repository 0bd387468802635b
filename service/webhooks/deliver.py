"""Telling the end of an extraction to its callback: written down with the end itself, tried for days, given up at last.

A delivery's row is the truth, as an extraction's is, and a job only makes somebody look at it. Whoever dies between the
sending and the writing down of it leaves a delivery that is sent again, under the same id: receivers get a message at
least once, and know by its id what they have had.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from msgspec.structs import replace

from service.concurrency.commit import commit_with_retry
from service.concurrency.shielded import run_shielded
from service.features.context import CURRENT, RequestContext
from service.features.delivery import (
    AttemptOutcome,
    Delivery,
    DeliveryAttempt,
    DeliveryLog,
    DeliveryState,
    Sent,
    WebhookSender,
)
from service.features.events import WebhookAttempted
from service.features.model import Extraction
from service.features.ports import Clock, Observer
from service.features.stores import AttemptSuperseded, JobQueue, Store, UnitOfWork
from service.webhooks.payload import delivery_of

RETRY_SECONDS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Between a try and the next: the schedule that Standard Webhooks gives, three days in all."""
MOST_ATTEMPTS = len(RETRY_SECONDS) + 1
JITTER = (1.0, 1.2)
"""What a pause is multiplied by, so that what failed together is not tried together."""
LONGEST_ASKED_SECONDS = 86_400.0
"""A receiver's Retry-After counts for no more."""
FINAL: frozenset[AttemptOutcome] = frozenset({"gone", "refused"})
"""Failures that are not tried again."""

DeliveryEnding = Literal["delivered", "retried", "failed", "superseded", "gone"]
"""What became of a job's look at a delivery; the last when there was nothing to do."""


async def announce(work: UnitOfWork, queue: JobQueue, ended: Extraction) -> None:
    """Have the end told to whom the request names, if anybody; part of the transaction that stores the end."""
    delivery = delivery_of(ended)
    if delivery is not None and await work.deliveries.add(delivery):
        await queue.enqueue_delivery(work, delivery)


class DeliverWebhook:
    """Tries one delivery a call."""

    def __init__(
        self,
        *,
        store: Store,
        queue: JobQueue,
        sender: WebhookSender,
        observer: Observer,
        clock: Clock,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._queue = queue
        self._sender = sender
        self._observer = observer
        self._clock = clock
        self._jitter = jitter

    async def __call__(self, delivery_id: str) -> DeliveryEnding:
        """Send the message and write down what came of it; what failed and may be tried again is enqueued again.

        A cancelled call leaves the delivery to be sent again. Raises DependencyUnavailable when the store is away;
        then it is sent again later.
        """
        async with self._store.begin() as work:
            claimed = await work.deliveries.claim(delivery_id)
        if claimed is None:
            return "gone"
        token = CURRENT.set(RequestContext("", user_id=claimed.owner, extraction_id=claimed.extraction_id))
        try:
            return await self._attempt(claimed)
        except AttemptSuperseded:
            return "superseded"
        finally:
            CURRENT.reset(token)

    async def _attempt(self, claimed: Delivery) -> DeliveryEnding:
        if claimed.attempt > MOST_ATTEMPTS:  # the last try's worker did not live to tell of it
            return await run_shielded(self._record(_interrupted(claimed), Sent("interrupted"), 0.0))
        began = self._clock.now()
        sent = await self._sender.send(claimed, began)
        seconds = max((self._clock.now() - began).total_seconds(), 0.0)
        attempt = DeliveryAttempt(claimed.attempt, sent.outcome, began, seconds, sent.status_code)
        before = _interrupted(claimed)
        tried = replace(before, log=DeliveryLog((*before.log.attempts, attempt)))
        return await run_shielded(self._record(tried, sent, seconds))

    async def _record(self, tried: Delivery, sent: Sent, seconds: float) -> DeliveryEnding:
        delay = self._pause(tried.attempt, sent)
        after = _after(tried, sent, self._clock.now(), delay)

        async def write(work: UnitOfWork) -> None:
            await work.deliveries.save(after)
            if delay is not None:
                await self._queue.enqueue_delivery(work, after, delay=delay)

        await commit_with_retry(self._store, write)
        ending = "retried" if after.state == "pending" else after.state
        self._observer.record(
            WebhookAttempted(after.id, after.extraction_id, after.url, ending, sent.outcome, seconds, sent.status_code)
        )
        return ending

    def _pause(self, number: int, sent: Sent) -> float | None:
        """Seconds before the next try; None when there is none."""
        if sent.outcome == "delivered" or sent.outcome in FINAL or number >= MOST_ATTEMPTS:
            return None
        asked = min(sent.retry_after or 0.0, LONGEST_ASKED_SECONDS)
        return max(RETRY_SECONDS[number - 1], asked) * self._jitter(*JITTER)


def _interrupted(claimed: Delivery) -> Delivery:
    """With the tries before this one whose workers did not live to tell of them."""
    told = {attempt.number for attempt in claimed.log.attempts}
    untold = (number for number in range(1, claimed.attempt) if number not in told)
    lost = (DeliveryAttempt(number, "interrupted") for number in untold)
    return replace(claimed, log=DeliveryLog((*claimed.log.attempts, *lost)))


def _after(tried: Delivery, sent: Sent, now: datetime, delay: float | None) -> Delivery:
    if delay is not None:
        return replace(tried, next_attempt_at=now + timedelta(seconds=delay))
    state: DeliveryState = "delivered" if sent.outcome == "delivered" else "failed"
    return replace(tried, state=state, next_attempt_at=None, finished_at=now)
