"""Webhooks as durable jobs on a real database, to receivers on real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from procrastinate.jobs import Job
from sqlalchemy import make_url

from service.extractions.cancel import cancel
from service.features.delivery import Delivery, DeliveryAttempt, DeliveryLog
from service.features.errors import ComputeFailed
from service.features.model import ExtractionRequest
from service.features.stores import AttemptSuperseded
from service.jobs import worker as worker_module
from service.jobs.connection import connector_to
from service.jobs.manager import FencedManager
from service.jobs.monitor import QueueMonitor
from service.jobs.rescue import Rescuer
from service.store.schema import upgrade
from service.telemetry import catalog
from service.webhooks import deliver as webhooks_module
from service.webhooks.callbacks import CallbackPolicy
from service.webhooks.deliver import DeliverWebhook, announce
from service.webhooks.payload import delivery_of
from service.webhooks.sender import HttpSender
from service.webhooks.signing import WebhookSecrets
from tests.integration.jobs_support import TIMEOUT_SECONDS, Clock, Room, poll
from tests.receiver import Receiver

SECRETS = WebhookSecrets(["a secret of the deployment, of 32 bytes"])


class WebhookRoom(Room):
    """A room whose extractions are called back."""

    def deliver(self) -> DeliverWebhook:
        """The use case, with a sender that may call this machine."""
        sender = HttpSender(
            secrets=SECRETS,
            policy=CallbackPolicy(allow_private=True),
            tracer_provider=self.tracer_provider,
            version="1",
            seconds=TIMEOUT_SECONDS,
        )
        return DeliverWebhook(
            store=self.database.store, queue=self.queue, sender=sender, observer=self.recorder, clock=Clock()
        )

    async def asked(self, url: str, owner: str = "ada", dataset: str = "events") -> str:
        """Accept an extraction with that callback."""
        request = ExtractionRequest(dataset, "Clicks of each user", callback_url=url)
        return await self.accept(owner, dataset, request=request)

    async def ended(self, url: str = "https://example.org/", owner: str = "ada") -> Delivery:
        """An extraction that was cancelled, with its webhook enqueued; its own job is gone."""
        extraction_id = await self.asked(url, owner)
        async with self.database.store.begin() as unit:
            await cancel(unit, self.queue, owner, extraction_id, datetime.now(UTC))
        await self.sql("DELETE FROM procrastinate_jobs WHERE task_name = 'extract_features'")
        return (await self.deliveries(extraction_id))[0]

    async def deliveries(self, extraction_id: str) -> tuple[Delivery, ...]:
        """An extraction's webhooks."""
        async with self.database.store.begin() as unit:
            return await unit.deliveries.of_extraction(extraction_id)

    async def delivery(self, delivery_id: str) -> Delivery:
        """The row."""
        async with self.database.store.begin() as unit:
            found = await unit.deliveries.find(delivery_id)
        assert found is not None
        return found

    async def until_told(self, extraction_id: str, state: str = "delivered") -> Delivery:
        """Wait for its webhook to have that state."""
        found: tuple[Delivery, ...] = ()
        async for _ in poll():
            found = await self.deliveries(extraction_id)
            if found and found[0].state == state:
                return found[0]
        raise AssertionError(found)


@pytest.fixture
async def room(new_database: Callable[[], str]) -> AsyncIterator[WebhookRoom]:
    """A queue on a database of its own."""
    url = new_database()
    await asyncio.to_thread(upgrade, make_url(url), {})
    room = WebhookRoom(url)
    yield room
    await room.database.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with Receiver() as receiver:
        yield receiver


def held(gate: threading.Event) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers when the gate opens."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        gate.wait(TIMEOUT_SECONDS)
        handler.send_response(200)
        handler.end_headers()

    return answer


@pytest.mark.parametrize("error", [None, ComputeFailed("It broke.")])
async def test_an_end_is_told_by_a_worker(room: WebhookRoom, receiver: Receiver, error: Exception | None) -> None:
    """A worker runs the extraction and sends the signed message; no job is left, and the row tells of it."""
    room.work.failures = {"events": [error]} if error else {}
    extraction_id = await room.asked(receiver.url())
    async with room.worker(deliver=room.deliver()):
        told = await room.until_told(extraction_id)
        await room.empty()

    (had,) = receiver.had
    status = "failed" if error else "completed"
    assert had.headers["webhook-id"] == told.id
    assert had.signed_with(SECRETS.of("ada")[0])
    assert (had.json()["type"], had.json()["data"]["status"]) == (f"extraction.{status}", status)
    assert had.body.decode() == told.body
    (tried,) = told.log.attempts
    assert (tried.number, tried.outcome, tried.status_code) == (1, "delivered", 200)
    assert (told.event_type, told.owner, told.next_attempt_at) == (f"extraction.{status}", "ada", None)


async def test_a_message_is_stored_with_the_end_or_not_at_all(
    room: WebhookRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the job of the webhook cannot be stored the extraction has not ended either, and is run again."""
    extraction_id = await room.asked("https://example.org/")

    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(room.queue, "enqueue_delivery", broken)
        with pytest.raises(RuntimeError):
            await room.run()(extraction_id)
    assert (await room.find(extraction_id)).status == "processing"
    assert await room.deliveries(extraction_id) == ()

    assert await room.run()(extraction_id) == "completed"
    (told,) = await room.deliveries(extraction_id)
    jobs = [job for job in await room.jobs() if job["task_name"] == "deliver_webhook"]
    assert [(job["queue_name"], job["lock"], job["queueing_lock"], job["args"]["delivery_id"]) for job in jobs] == [
        ("webhooks", told.id, told.id, told.id)
    ]


async def test_an_end_that_is_told_by_many_is_told_once(room: WebhookRoom) -> None:
    """However many transactions write the same end down, one message and one job come of it."""
    told = await room.ended()
    ended = await room.find(told.extraction_id)

    async def again() -> None:
        async with room.database.store.begin() as unit:
            await announce(unit, room.queue, ended)

    await asyncio.gather(*(again() for _ in range(8)))
    assert await room.deliveries(ended.id) == (told,)
    assert len(await room.jobs()) == 1


async def test_without_a_callback_nothing_is_sent(room: WebhookRoom) -> None:
    """No row, no job."""
    extraction_id = await room.accept()
    assert await room.run()(extraction_id) == "completed"
    assert await room.deliveries(extraction_id) == ()
    assert {job["task_name"] for job in await room.jobs()} == {"extract_features"}


async def test_a_failed_try_waits_for_its_time_as_a_job(
    room: WebhookRoom, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt is stored with the outcome of the first, and is sent under the same id with a new signature."""
    monkeypatch.setattr(webhooks_module, "RETRY_SECONDS", (1.0,) * 9)
    receiver.answer = 503
    extraction_id = await room.asked(receiver.url())
    async with room.worker(deliver=room.deliver()):
        async for _ in poll():
            found = await room.deliveries(extraction_id)
            if found and found[0].log.attempts:
                break
        (waiting,) = await room.deliveries(extraction_id)
        (job,) = [job for job in await room.jobs() if job["status"] == "todo"]
        receiver.answer = 200
        told = await room.until_told(extraction_id)

    assert waiting.next_attempt_at is not None
    assert waiting.log.attempts[0].at is not None
    assert timedelta(seconds=1) <= waiting.next_attempt_at - waiting.log.attempts[0].at
    assert job["scheduled_at"] is not None
    first, second = receiver.had
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert int(second.headers["webhook-timestamp"]) >= int(first.headers["webhook-timestamp"]) + 1
    assert [(tried.number, tried.outcome, tried.status_code) for tried in told.log.attempts] == [
        (1, "rejected", 503), (2, "delivered", 200),
    ]  # fmt: skip


async def test_webhooks_and_extractions_do_not_wait_for_each_other(room: WebhookRoom, receiver: Receiver) -> None:
    """While every place for webhooks is taken, extractions run; while every one for those is, webhooks go out."""
    gate = threading.Event()
    receiver.answer = held(gate)
    room.work.held = {"slow"}
    with pytest.MonkeyPatch.context() as patch, Receiver() as other:
        patch.setattr(worker_module, "DELIVERY_CONCURRENCY", 2)
        for _ in range(3):
            await room.ended(receiver.url())
        async with room.worker(deliver=room.deliver(), concurrency=1):
            async for _ in poll():
                if len(receiver.had) == 2:
                    break
            plain = await room.accept()
            await room.until(plain, "completed")
            slow = await room.accept(dataset="slow")
            await room.until(slow, "processing")
            gate.set()
            told = await room.ended(other.url())
            await room.until_told(told.extraction_id)
            assert (await room.find(slow)).status == "processing"
            room.work.gate.set()
            await room.empty()


async def test_principals_webhooks_take_turns(room: WebhookRoom, receiver: Receiver) -> None:
    """Who has many waiting lets a newcomer's first one pass."""
    many = [(await room.ended(receiver.url(path="/many"))).id for _ in range(5)]
    one = (await room.ended(receiver.url(path="/one"), owner="bob")).id
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module, "DELIVERY_CONCURRENCY", 1)
        async with room.worker(deliver=room.deliver()):
            await room.empty()

    order = [had.headers["webhook-id"] for had in receiver.had]
    assert sorted(order) == sorted([*many, one])
    assert order.index(one) <= 1


async def test_one_trace_leads_from_the_extraction_to_its_receiver(
    new_database: Callable[[], str], receiver: Receiver
) -> None:
    """The webhook's job and its tries are part of the trace in which the extraction ran, as the catalog names them."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    url = new_database()
    await asyncio.to_thread(upgrade, make_url(url), {})
    room = WebhookRoom(url, provider)
    extraction_id = await room.asked(receiver.url())
    async with room.worker(deliver=room.deliver()):
        await room.until_told(extraction_id)
        await room.empty()
    await room.database.close()

    spans = exporter.get_finished_spans()
    assert {span.name for span in spans} == {"job extract_features", "job deliver_webhook", "webhook.attempt"}
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    by_id = {span.context.span_id: span for span in spans if span.context is not None}
    (tried,) = (span for span in spans if span.name == "webhook.attempt")
    names = [tried.name]
    while tried.parent is not None:
        tried = by_id[tried.parent.span_id]
        names.append(f"{tried.name} {tried.kind.name}")
    assert names == [
        "webhook.attempt", "job deliver_webhook CONSUMER", "job deliver_webhook PRODUCER",
        "job extract_features CONSUMER", "job extract_features PRODUCER",
    ]  # fmt: skip
    for span in spans:
        known = next(known for known in catalog.SPANS if (known.name, known.kind) == (span.name, span.kind.name))
        assert set(span.attributes or ()) <= set(known.attributes)


async def test_webhooks_are_no_part_of_the_extractions_queue(room: WebhookRoom) -> None:
    """Waiting webhooks are not counted as waiting extractions."""
    await room.ended()
    measured = await QueueMonitor(room.database.store, room.recorder).measure()
    assert (measured.queued, measured.scheduled, measured.running, measured.oldest_seconds) == (0, 0, 0, 0.0)


async def test_a_dead_workers_webhook_is_sent_again(room: WebhookRoom, receiver: Receiver) -> None:
    """Its job is put back, which is no crash of an extraction, and the log tells of the try that was interrupted."""
    told = await room.ended(receiver.url())
    await room.leave_behind(told.id)
    async with room.database.store.begin() as unit:
        assert await unit.deliveries.claim(told.id) is not None
    async with room.worker(deliver=room.deliver()):
        told = await room.until_told(told.extraction_id)
        await room.empty()

    assert [(tried.number, tried.outcome) for tried in told.log.attempts] == [(1, "interrupted"), (2, "delivered")]
    assert "crashed" not in room.recorder.outcomes()


async def test_a_webhook_without_a_job_gets_one_for_its_time(room: WebhookRoom) -> None:
    """A pending webhook that lost its job gets one, due when the webhook is due."""
    told = await room.ended()
    due = datetime.now(UTC) + timedelta(hours=1)
    await room.sql("DELETE FROM procrastinate_jobs")
    await room.sql("UPDATE webhook_deliveries SET next_attempt_at = %s", due)
    connector = connector_to(room.url)
    await connector.open_async()
    rescuer = Rescuer(FencedManager(connector), room.recorder, stranded_seconds=0.0)
    assert await rescuer.pick_up_stranded() == 1
    assert await rescuer.pick_up_stranded() == 0
    (job,) = await room.jobs()
    assert (job["task_name"], job["lock"], job["scheduled_at"]) == ("deliver_webhook", told.id, due)
    assert Job.from_row(job).task_kwargs == {"delivery_id": told.id}
    await room.sql("DELETE FROM procrastinate_jobs")
    await room.sql("UPDATE webhook_deliveries SET state = 'failed'")
    assert await rescuer.pick_up_stranded() == 0
    await connector.close_async()


async def test_a_stopping_worker_gives_a_webhook_back(room: WebhookRoom, receiver: Receiver) -> None:
    """A receiver that takes its time does not hold the worker up longer than the grace; another worker tells it."""
    gate = threading.Event()
    receiver.answer = held(gate)
    told = await room.ended(receiver.url())
    async with room.worker(deliver=room.deliver(), grace_seconds=0.1):
        assert await asyncio.to_thread(receiver.arrived.wait, TIMEOUT_SECONDS)
    (job,) = await room.jobs()
    assert (job["status"], job["lock"]) == ("todo", told.id)
    gate.set()
    async with room.worker(deliver=room.deliver()):
        told = await room.until_told(told.extraction_id)
    assert [tried.outcome for tried in told.log.attempts] == ["interrupted", "delivered"]
    assert {had.headers["webhook-id"] for had in receiver.had} == {told.id}


async def test_webhooks_go_with_their_extraction(room: WebhookRoom) -> None:
    """Deleting it deletes them, by its owner or by age, and a job that is left finds nothing to do."""
    told = await room.ended()
    async with room.database.store.begin() as unit:
        await unit.extractions.remove("ada", told.extraction_id)
    old = await room.ended()
    purged = await room.database.upkeep.purge_extractions(datetime.now(UTC) + timedelta(days=1), limit=10)

    assert purged.count == 1
    assert await room.sql("SELECT id FROM webhook_deliveries") == []
    assert [await room.deliver()(gone.id) for gone in (told, old)] == ["gone", "gone"]


async def test_a_try_writes_only_what_is_its_own(room: WebhookRoom) -> None:
    """A row comes back as it was stored; a later try, an end and a deletion each shut an earlier try out."""
    told = await room.ended("https://example.org/\u00e9?x=\\u0000")
    async with room.database.store.begin() as unit:
        first = await unit.deliveries.claim(told.id)
        second = await unit.deliveries.claim(told.id)
        assert first is not None
        assert second is not None
        assert (first.attempt, second.attempt) == (1, 2)
        with pytest.raises(AttemptSuperseded):
            await unit.deliveries.save(first)
        log = DeliveryLog((DeliveryAttempt(2, "rejected", datetime.now(UTC), 0.5, 500),))
        done = replace(second, state="failed", log=log, next_attempt_at=None, finished_at=datetime.now(UTC))
        await unit.deliveries.save(done)
        await unit.deliveries.save(done)
        with pytest.raises(AttemptSuperseded):
            await unit.deliveries.save(replace(done, state="delivered"))
        assert await unit.deliveries.find(told.id) == done
        assert await unit.deliveries.claim(told.id) is None
        assert await unit.deliveries.newest(10) == (done,)
        assert await unit.deliveries.newest(10, "pending") == ()
        assert await unit.deliveries.find("\0") is None
        assert await unit.deliveries.of_extraction("\0") == ()


async def test_a_webhook_that_was_given_up_can_be_tried_again(room: WebhookRoom) -> None:
    """From the beginning, with the whole schedule; one that waits or has arrived cannot."""
    told = await room.ended()
    now = datetime.now(UTC)
    async with room.database.store.begin() as unit:
        assert await unit.deliveries.revive(told.id, now) is None
        assert await unit.deliveries.revive("\0", now) is None
        claimed = await unit.deliveries.claim(told.id)
        assert claimed is not None
        await unit.deliveries.save(replace(claimed, state="failed", finished_at=now, next_attempt_at=None))
        revived = await unit.deliveries.revive(told.id, now)
    assert revived == replace(told, next_attempt_at=now)
    assert delivery_of(await room.find(told.extraction_id)) == replace(told, next_attempt_at=told.created_at)
