"""Deliver webhooks: store the message together with the extraction's end, and retry it for three days.

A delivery's row holds its state; a job only triggers an attempt. A worker that crashes between sending and storing
the outcome leaves a delivery that is sent again under the same id: delivery is at least once, and receivers recognise
duplicates by the id.
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
"""Between two attempts: the schedule of Standard Webhooks, three days in all."""
MAX_ATTEMPTS = len(RETRY_SECONDS) + 1
JITTER = (1.0, 1.2)
"""Random range that delays are multiplied by, so that webhooks that failed together are not retried together."""
MAX_RETRY_AFTER_SECONDS = 86_400.0
"""A longer Retry-After of a receiver is cut to this."""
FINAL: frozenset[AttemptOutcome] = frozenset({"gone", "refused"})
"""Failures that are not retried."""

DeliveryEnding = Literal["delivered", "retried", "failed", "superseded", "gone"]
"""The outcome of a job; `gone` when there was nothing to do."""


async def announce(work: UnitOfWork, queue: JobQueue, ended: Extraction) -> None:
    """Store and enqueue the webhook of an ended extraction, if it has a callback; part of the end's transaction."""
    delivery = delivery_of(ended)
    if delivery is not None and await work.deliveries.add(delivery):
        await queue.enqueue_delivery(work, delivery)


class DeliverWebhook:
    """Attempt one delivery for each call."""

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
        """Send the message and store the outcome; enqueue the next attempt after a failure that may pass.

        After a cancelled call, and when this raises DependencyUnavailable for the store, the message is sent again
        later.
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
        if claimed.attempt > MAX_ATTEMPTS:  # the worker of the last attempt crashed
            return await run_shielded(self._record(_interrupted(claimed), Sent("interrupted"), 0.0))
        began = self._clock.now()
        sent = await self._sender.send(claimed, began)
        seconds = max((self._clock.now() - began).total_seconds(), 0.0)
        attempt = DeliveryAttempt(claimed.attempt, sent.outcome, began, seconds, sent.status_code)
        before = _interrupted(claimed)
        tried = replace(before, log=DeliveryLog((*before.log.attempts, attempt)))
        return await run_shielded(self._record(tried, sent, seconds))

    async def _record(self, tried: Delivery, sent: Sent, seconds: float) -> DeliveryEnding:
        delay = self._delay(tried.attempt, sent)
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

    def _delay(self, number: int, sent: Sent) -> float | None:
        """Return the seconds until the next attempt; None when there is none."""
        if sent.outcome == "delivered" or sent.outcome in FINAL or number >= MAX_ATTEMPTS:
            return None
        requested = min(sent.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
        return max(RETRY_SECONDS[number - 1], requested) * self._jitter(*JITTER)


def _interrupted(claimed: Delivery) -> Delivery:
    """Add the earlier attempts that are missing from the log because their workers crashed."""
    logged = {attempt.number for attempt in claimed.log.attempts}
    missing = (number for number in range(1, claimed.attempt) if number not in logged)
    lost = (DeliveryAttempt(number, "interrupted") for number in missing)
    return replace(claimed, log=DeliveryLog((*claimed.log.attempts, *lost)))


def _after(tried: Delivery, sent: Sent, now: datetime, delay: float | None) -> Delivery:
    if delay is not None:
        return replace(tried, next_attempt_at=now + timedelta(seconds=delay))
    state: DeliveryState = "delivered" if sent.outcome == "delivered" else "failed"
    return replace(tried, state=state, next_attempt_at=None, finished_at=now)
