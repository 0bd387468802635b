"""Enqueue jobs, in the transaction that stores the row they are for."""

from __future__ import annotations

import json

from opentelemetry.trace import TracerProvider

from service.features.delivery import Delivery
from service.features.model import Extraction
from service.features.stores import UnitOfWork
from service.jobs.statements import DELIVERY_QUEUE, ENQUEUE, ENQUEUE_DELIVERY
from service.jobs.tracing import JobSpans, delivery_spans
from service.store.failures import database_errors
from service.store.unit_of_work import SqlUnitOfWork


class ProcrastinateQueue:
    """Implement `stores.JobQueue` with a queue for each lane and one for webhooks.

    Principals take turns, however many extractions one of them enqueues at once. A job carries an id and the trace
    context, nothing else.
    """

    def __init__(self, tracer_provider: TracerProvider) -> None:
        self._spans = JobSpans(tracer_provider)
        self._delivery_spans = delivery_spans(tracer_provider)

    async def enqueue(self, work: UnitOfWork, extraction: Extraction, *, delay: float = 0.0) -> None:
        """Enqueue the extraction, due in `delay` seconds, unless a job of it waits already."""
        connection = _sql(work).connection
        with self._spans.enqueuing(extraction.id, extraction.lane) as carried, database_errors():
            await connection.exec_driver_sql(
                ENQUEUE,
                {
                    "id": extraction.id,
                    "owner": extraction.owner,
                    "created_at": extraction.created_at,
                    "queue": extraction.lane,
                    "args": json.dumps({"extraction_id": extraction.id, **carried}),
                    "delay": delay,
                },
            )

    async def enqueue_delivery(self, work: UnitOfWork, delivery: Delivery, *, delay: float = 0.0) -> None:
        """Enqueue the webhook, due in `delay` seconds, unless a job of it waits already."""
        connection = _sql(work).connection
        with self._delivery_spans.enqueuing(delivery.id, DELIVERY_QUEUE) as carried, database_errors():
            await connection.exec_driver_sql(
                ENQUEUE_DELIVERY,
                {
                    "id": delivery.id,
                    "owner": delivery.owner,
                    "created_at": delivery.created_at,
                    "args": json.dumps({"delivery_id": delivery.id, **carried}),
                    "delay": delay,
                },
            )


def _sql(work: UnitOfWork) -> SqlUnitOfWork:
    if not isinstance(work, SqlUnitOfWork):
        raise TypeError(type(work).__name__)
    return work
