"""Every ending of a try to deliver a webhook, in held time and over a store that keeps its port's promises."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from service.extractions.cancel import cancel
from service.extractions.run import RunExtraction
from service.features.delivery import Delivery, DeliveryAttempt, DeliveryLog, Sent
from service.features.errors import DependencyUnavailable, ModelUnavailable
from service.features.events import WebhookAttempted
from service.features.model import Extraction, ExtractionRequest, Failure
from service.webhooks.deliver import MOST_ATTEMPTS, RETRY_SECONDS, DeliverWebhook
from service.webhooks.payload import delivery_of
from tests.api.doubles import MemoryArtifacts, Recorder
from tests.api.memory import MemoryQueue, MemoryStore
from tests.unit.held_time import NOON, HeldClock, in_held_time
from tests.unit.test_run import result_of

URL = "https://example.org/hook?key=s3cret"
ASKED = ExtractionRequest("events", "click rate", callback_url=URL)
ENDED = Extraction(
    "x", "ada", ASKED, "failed", NOON, progress=100, attempt=2, finished_at=NOON,
    failure=Failure("compute_failed", "internal", "It broke.", retryable=False),
)  # fmt: skip


class Receiver:
    """Stands for the network: answers in turn, each after so many seconds."""

    def __init__(self, *answers: Sent, seconds: float = 0.5) -> None:
        self.answers = list(answers)
        self.seconds = seconds
        self.had: list[tuple[str, datetime]] = []

    async def send(self, delivery: Delivery, now: datetime) -> Sent:
        """Take one message."""
        self.had.append((delivery.id, now))
        await asyncio.sleep(self.seconds)
        return self.answers.pop(0)


class World:
    """A store with one delivery, and a worker for it."""

    def __init__(self, *answers: Sent, **values: Any) -> None:
        self.store, self.queue, self.recorder = MemoryStore(), MemoryQueue(), Recorder()
        self.receiver = Receiver(*answers)
        told = delivery_of(ENDED)
        assert told is not None
        self.id = told.id
        self.store.deliveries.rows[told.id] = replace(told, **values)
        self.deliver = DeliverWebhook(
            store=self.store,
            queue=self.queue,
            sender=self.receiver,
            observer=self.recorder,
            clock=HeldClock(),
            jitter=lambda _low, high: high,
        )

    @property
    def row(self) -> Delivery:
        """The delivery now."""
        return self.store.deliveries.rows[self.id]

    def told(self) -> list[tuple[str, str, int | None]]:
        """What the observer heard."""
        attempted = (event for event in self.recorder.events if isinstance(event, WebhookAttempted))
        return [(event.outcome, event.reason, event.status_code) for event in attempted]


@in_held_time
async def test_a_webhook_that_arrives_is_done() -> None:
    """One try, written down with its time and status; nothing is enqueued, and another look finds nothing to do."""
    world = World(Sent("delivered", 204))

    assert await world.deliver(world.id) == "delivered"
    assert await world.deliver(world.id) == "gone"
    assert (world.row.state, world.row.next_attempt_at) == ("delivered", None)
    assert world.row.finished_at == NOON + timedelta(seconds=0.5)
    assert world.row.log.attempts == (DeliveryAttempt(1, "delivered", NOON, 0.5, 204),)
    assert (world.queue.webhooks, world.told()) == ([], [("delivered", "delivered", 204)])


@in_held_time
async def test_a_receiver_that_fails_is_tried_again_for_days_and_then_given_up() -> None:
    """Ten tries, at the published schedule with a random part, over more than three days; then it has failed."""
    world = World(*[Sent("rejected", 500)] * 20)
    endings, due = [], []
    while world.row.state == "pending":
        endings.append(await world.deliver(world.id))
        if world.row.next_attempt_at is not None:
            due.append((world.row.next_attempt_at - HeldClock().now()).total_seconds())
            await asyncio.sleep(due[-1])

    assert endings == ["retried"] * 9 + ["failed"]
    assert due == pytest.approx([seconds * 1.2 for seconds in RETRY_SECONDS])
    assert [delay for _, delay in world.queue.webhooks] == pytest.approx(due)
    assert sum(RETRY_SECONDS) == pytest.approx(timedelta(hours=75, minutes=35, seconds=5).total_seconds())
    assert {identity for identity, _ in world.receiver.had} == {world.id}
    assert [tried.number for tried in world.row.log.attempts] == list(range(1, MOST_ATTEMPTS + 1))
    assert world.told()[-1] == ("failed", "rejected", 500)
    assert await world.deliver(world.id) == "gone"


@pytest.mark.parametrize("outcome", ["timeout", "unreachable", "rejected"])
def test_failures_that_may_pass_are_tried_again(outcome: Any) -> None:
    """No answer, a late answer and a wrong answer are all worth another try."""

    @in_held_time
    async def check() -> None:
        world = World(Sent(outcome), Sent("delivered", 200))
        assert await world.deliver(world.id) == "retried"
        assert (world.row.state, world.queue.webhooks) == ("pending", [(world.id, 6.0)])
        assert await world.deliver(world.id) == "delivered"
        assert [tried.outcome for tried in world.row.log.attempts] == [outcome, "delivered"]

    check()


@pytest.mark.parametrize(("outcome", "status"), [("gone", 410), ("refused", None)])
def test_some_failures_are_final(outcome: Any, status: int | None) -> None:
    """A receiver that wants no more, and an address that may not be called, are not tried again."""

    @in_held_time
    async def check() -> None:
        world = World(Sent(outcome, status))
        assert await world.deliver(world.id) == "failed"
        assert (world.row.state, world.queue.webhooks) == ("failed", [])
        assert world.told() == [("failed", outcome, status)]

    check()


@pytest.mark.parametrize(("asked", "seconds"), [(2.0, 6.0), (60.0, 72.0), (1e9, 86_400 * 1.2)])
def test_a_receivers_retry_after_is_heeded(asked: float, seconds: float) -> None:
    """It is tried no sooner than asked, and no later than a day from now."""

    @in_held_time
    async def check() -> None:
        world = World(Sent("rejected", 503, asked))
        await world.deliver(world.id)
        assert world.queue.webhooks == [(world.id, pytest.approx(seconds))]

    check()


@in_held_time
async def test_a_worker_that_dies_leaves_a_try_that_nobody_could_write_down() -> None:
    """Whoever comes next sends it again under the same id, and the log tells of the try that was interrupted."""
    world = World(Sent("delivered", 200), attempt=1)

    assert await world.deliver(world.id) == "delivered"
    assert [(tried.number, tried.outcome, tried.at) for tried in world.row.log.attempts] == [
        (1, "interrupted", None), (2, "delivered", NOON),
    ]  # fmt: skip


@in_held_time
async def test_a_webhook_that_ends_its_workers_is_not_tried_for_ever() -> None:
    """When no try was left and the last one's worker died, it is given up without another."""
    world = World(attempt=MOST_ATTEMPTS, log=DeliveryLog((DeliveryAttempt(1, "rejected", NOON, 0.5, 500),)))

    assert await world.deliver(world.id) == "failed"
    assert world.receiver.had == []
    assert [tried.outcome for tried in world.row.log.attempts] == ["rejected"] + ["interrupted"] * 9
    assert world.told() == [("failed", "interrupted", None)]


@in_held_time
async def test_a_stopping_worker_leaves_the_webhook_to_the_next() -> None:
    """A call that is cancelled while it sends changes nothing but the count of tries."""
    world = World(Sent("delivered", 200))
    trying = asyncio.create_task(world.deliver(world.id))
    await asyncio.sleep(0.1)
    trying.cancel()
    await asyncio.wait({trying})

    assert trying.cancelled()
    assert (world.row.state, world.row.attempt, world.row.log.attempts) == ("pending", 1, ())


@in_held_time
async def test_what_came_of_a_try_is_written_down_whatever_the_database_does() -> None:
    """It is kept in hand while the database is away, also when the process is asked to stop meanwhile."""
    world = World(Sent("delivered", 200))
    trying = asyncio.create_task(world.deliver(world.id))
    await asyncio.sleep(0.1)
    world.store.away = True
    await asyncio.sleep(5)
    trying.cancel()
    await asyncio.sleep(5)
    world.store.away = False

    assert await trying == "delivered"
    assert world.row.state == "delivered"
    assert len(world.receiver.had) == 1


@in_held_time
async def test_a_lost_acknowledgement_is_not_a_second_ending() -> None:
    """When the commit happened and nobody heard of it, writing it again changes nothing and enqueues nothing more."""
    world = World(Sent("delivered", 200))
    trying = asyncio.create_task(world.deliver(world.id))
    await asyncio.sleep(0.1)
    world.store.lost_commits = 1

    assert await trying == "delivered"
    assert len(world.row.log.attempts) == 1


@in_held_time
async def test_a_worker_back_from_the_dead_changes_nothing() -> None:
    """While it slept another has tried: what it has to say comes too late."""
    world = World(Sent("rejected", 500), Sent("delivered", 200))
    slow = asyncio.create_task(world.deliver(world.id))
    await asyncio.sleep(0.1)
    world.receiver.seconds = 0.0
    world.receiver.answers.reverse()
    assert await world.deliver(world.id) == "delivered"

    assert await slow == "superseded"
    assert (world.row.state, world.queue.webhooks) == ("delivered", [])


@in_held_time
async def test_a_store_that_is_away_brings_the_job_back() -> None:
    """Nothing is sent before the try is written down as begun."""
    world = World(Sent("delivered", 200))
    world.store.away = True

    with pytest.raises(DependencyUnavailable):
        await world.deliver(world.id)
    assert world.receiver.had == []


def test_the_message_says_what_happened_and_nothing_of_the_data() -> None:
    """Type, time and status with links, as Standard Webhooks shapes it."""
    told = delivery_of(ENDED)
    assert told is not None
    assert json.loads(told.body) == {
        "type": "extraction.failed",
        "timestamp": "2026-11-23T12:00:00Z",
        "data": {
            "extraction_id": "x", "dataset_id": "events", "status": "failed", "progress": 100, "stage": None,
            "estimated_completion": "2026-11-23T12:00:00Z",
            "error_message": "It broke.", "error_code": "compute_failed",
            "links": {
                "self": "/api/v1/extraction/x", "status": "/api/v1/extraction/x/status",
                "events": "/api/v1/extraction/x/events", "dataset": "/api/v1/datasets/events", "features": None,
                "deliveries": "/api/v1/extraction/x/deliveries",
            },
        },
    }  # fmt: skip
    assert (told.url, told.owner, told.state, told.event_type) == (URL, "ada", "pending", "extraction.failed")


def test_an_end_has_one_message_and_another_end_another() -> None:
    """Stored twice, an end has the same id; an extraction that is run again and ends again is told again."""
    ends = [
        ENDED,
        replace(ENDED, version=9),
        replace(ENDED, attempt=3),
        replace(ENDED, status="cancelled"),
        replace(ENDED, finished_at=NOON + timedelta(microseconds=1)),
        replace(ENDED, id="y"),
    ]
    told = [delivery_of(end) for end in ends]
    identities = [delivery.id for delivery in told if delivery is not None]

    assert identities[0] == identities[1]
    assert len(set(identities)) == 5
    assert all(len(identity) == 36 and "." not in identity for identity in identities)
    assert delivery_of(replace(ENDED, request=replace(ASKED, callback_url=None))) is None


@pytest.mark.parametrize(
    ("error", "status"), [(None, "completed"), (ModelUnavailable("None answers."), "failed"), (KeyError("k"), "failed")]
)
def test_every_end_of_a_run_is_told(error: Exception | None, status: str) -> None:
    """Completed, failed for a reason, failed for none that was foreseen: the message is stored with the end."""

    @in_held_time
    async def check() -> None:
        store, queue = MemoryStore(), MemoryQueue()
        store.extractions.rows["x"] = Extraction("x", "ada", ASKED, "queued", NOON)

        async def pipeline(extraction: Extraction, _enter: Any) -> Any:
            if error is not None:
                raise error
            return result_of(extraction)

        run = RunExtraction(
            pipeline, store=store, queue=queue, artifacts=MemoryArtifacts(), observer=Recorder(), clock=HeldClock()
        )
        await asyncio.gather(run("x"), return_exceptions=True)

        (told,) = store.deliveries.rows.values()
        assert told.event_type == f"extraction.{status}"
        assert queue.webhooks == [(told.id, 0.0)]

    check()


@in_held_time
async def test_a_cancellation_is_told_by_whoever_ends_it() -> None:
    """One that waits is ended at once, and told; of one that runs the run tells."""
    store, queue = MemoryStore(), MemoryQueue()
    store.extractions.rows["x"] = Extraction("x", "ada", ASKED, "queued", NOON)
    store.extractions.rows["y"] = Extraction("y", "ada", ASKED, "processing", NOON, attempt=1)
    async with store.begin() as work:
        await cancel(work, queue, "ada", "x", NOON)
        await cancel(work, queue, "ada", "y", NOON)

    (told,) = store.deliveries.rows.values()
    assert (told.extraction_id, told.event_type) == ("x", "extraction.cancelled")
    assert queue.webhooks == [(told.id, 0.0)]
