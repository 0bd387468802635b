"""Every end of an attempt to deliver a webhook, in virtual time on a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from service.extractions.cancel import cancel
from service.extractions.run import RunExtraction
from service.features.delivery import Delivery, DeliveryAttempt, DeliveryLog, Sent
from service.features.errors import DependencyUnavailable, ModelUnavailable
from service.features.events import WebhookAttempted
from service.features.model import Extraction, ExtractionRequest, Failure
from service.webhooks.deliver import MAX_ATTEMPTS, RETRY_SECONDS, DeliverWebhook
from service.webhooks.payload import delivery_of
from tests.doubles import MemoryArtifacts, Recorder, result_of
from tests.held_time import NOON, HeldClock, at_end, in_held_time
from tests.integration.stored_jobs import StoredJobs

URL = "https://example.org/hook?key=s3cret"
ASKED = ExtractionRequest("events", "click rate", callback_url=URL)
ENDED = Extraction(
    "x", "ada", ASKED, "failed", NOON, progress=100, attempt=2, finished_at=NOON,
    failure=Failure("compute_failed", "internal", "It broke.", retryable=False),
)  # fmt: skip


class Receiver:
    """Replace the network: give prepared outcomes in turn, each after some seconds."""

    def __init__(self, *answers: Sent, seconds: float = 0.5) -> None:
        self.answers = list(answers)
        self.seconds = seconds
        self.had: list[tuple[str, datetime]] = []

    async def send(self, delivery: Delivery, now: datetime) -> Sent:
        """Take one message."""
        self.had.append((delivery.id, now))
        await asyncio.sleep(self.seconds)
        return self.answers.pop(0)


class World(StoredJobs):
    """A database with one delivery, and a worker for it."""

    def __init__(self, url: str, *answers: Sent) -> None:
        super().__init__(url)
        at_end(self.close)
        self.recorder, self.receiver = Recorder(), Receiver(*answers)
        message = delivery_of(ENDED)
        assert message is not None
        self.id = message.id
        self.message = message
        self.deliver = DeliverWebhook(
            store=self.store,
            queue=self.queue,
            sender=self.receiver,
            observer=self.recorder,
            clock=HeldClock(),
            jitter=lambda _low, high: high,
        )

    async def row(self) -> Delivery:
        """Read the delivery."""
        (row,) = await self.deliveries()
        return row

    def attempts(self) -> list[tuple[str, str, int | None]]:
        """Return outcome, reason and status code of the attempts that the observer was given."""
        return [(event.outcome, event.reason, event.status_code) for event in self.recorder.of(WebhookAttempted)]


class NewWorld(Protocol):
    """Opens a world on an emptied database."""

    async def __call__(self, *answers: Sent, **values: Any) -> World:
        """Open a world with a delivery of these values, whose receiver gives the answers in turn."""
        ...


@pytest.fixture(scope="module")
def url(migrated_databases: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """Address of a database of the module's."""
    with migrated_databases() as url:
        yield url


@pytest.fixture
def world_of(url: str) -> NewWorld:
    """Opens worlds on the module's database."""

    async def create(*answers: Sent, **values: Any) -> World:
        world = World(url, *answers)
        await world.clear()
        await world.add(ENDED)
        async with world.store.begin() as work:
            await work.deliveries.add(replace(world.message, **values))
        return world

    return create


@in_held_time
async def test_a_delivered_webhook_is_done(world_of: NewWorld) -> None:
    """One attempt is logged with its time and status; nothing is enqueued, and a second job finds nothing to do."""
    world = await world_of(Sent("delivered", 204))

    assert await world.deliver(world.id) == "delivered"
    assert await world.deliver(world.id) == "gone"
    row = await world.row()
    assert (row.state, row.next_attempt_at) == ("delivered", None)
    assert row.finished_at == NOON + timedelta(seconds=0.5)
    assert row.log.attempts == (DeliveryAttempt(1, "delivered", NOON, 0.5, 204),)
    assert (await world.waiting(), world.attempts()) == ([], [("delivered", "delivered", 204)])


@in_held_time
async def test_a_failing_receiver_is_retried_for_three_days(world_of: NewWorld) -> None:
    """Ten attempts follow the published schedule with jitter; then the webhook has failed."""
    world = await world_of(*[Sent("rejected", 500)] * 20)
    endings, due, delays = [], [], []
    while (row := await world.row()).state == "pending":
        if endings and row.next_attempt_at is not None:
            due.append((row.next_attempt_at - HeldClock().now()).total_seconds())
            await asyncio.sleep(due[-1])
        endings.append(await world.deliver(world.id))
        delays += [delay for _, delay in await world.take_jobs()]

    assert endings == ["retried"] * 9 + ["failed"]
    assert due == pytest.approx([seconds * 1.2 for seconds in RETRY_SECONDS])
    assert delays == pytest.approx(due)
    assert sum(RETRY_SECONDS) == pytest.approx(timedelta(hours=75, minutes=35, seconds=5).total_seconds())
    assert {identity for identity, _ in world.receiver.had} == {world.id}
    assert [tried.number for tried in (await world.row()).log.attempts] == list(range(1, MAX_ATTEMPTS + 1))
    assert world.attempts()[-1] == ("failed", "rejected", 500)
    assert await world.deliver(world.id) == "gone"


@pytest.mark.parametrize("outcome", ["timeout", "unreachable", "rejected"])
def test_transient_failures_are_retried(world_of: NewWorld, outcome: Any) -> None:
    """No answer, a late answer and an error status are retried."""

    @in_held_time
    async def check() -> None:
        world = await world_of(Sent(outcome), Sent("delivered", 200))
        assert await world.deliver(world.id) == "retried"
        assert ((await world.row()).state, await world.waiting()) == ("pending", [(world.id, 6.0)])
        assert await world.deliver(world.id) == "delivered"
        assert [tried.outcome for tried in (await world.row()).log.attempts] == [outcome, "delivered"]

    check()


@pytest.mark.parametrize(("outcome", "status"), [("gone", 410), ("refused", None)])
def test_some_failures_are_final(world_of: NewWorld, outcome: Any, status: int | None) -> None:
    """A receiver that answers 410, and a forbidden address, are not retried."""

    @in_held_time
    async def check() -> None:
        world = await world_of(Sent(outcome, status))
        assert await world.deliver(world.id) == "failed"
        assert ((await world.row()).state, await world.waiting()) == ("failed", [])
        assert world.attempts() == [("failed", outcome, status)]

    check()


@pytest.mark.parametrize(("asked", "seconds"), [(2.0, 6.0), (60.0, 72.0), (1e9, 86_400 * 1.2)])
def test_retry_after_of_the_receiver_is_respected(world_of: NewWorld, asked: float, seconds: float) -> None:
    """The next attempt comes no sooner than asked, and at most a day later."""

    @in_held_time
    async def check() -> None:
        world = await world_of(Sent("rejected", 503, asked))
        await world.deliver(world.id)
        assert await world.waiting() == [(world.id, pytest.approx(seconds))]

    check()


@in_held_time
async def test_an_attempt_whose_worker_crashed_is_logged_as_interrupted(world_of: NewWorld) -> None:
    """The next attempt is sent under the same id, and the log shows the interrupted one."""
    world = await world_of(Sent("delivered", 200), attempt=1)

    assert await world.deliver(world.id) == "delivered"
    assert [(tried.number, tried.outcome, tried.at) for tried in (await world.row()).log.attempts] == [
        (1, "interrupted", None), (2, "delivered", NOON),
    ]  # fmt: skip


@in_held_time
async def test_a_webhook_that_crashes_its_workers_fails(world_of: NewWorld) -> None:
    """When the worker of the last attempt crashed, there is no further attempt."""
    world = await world_of(attempt=MAX_ATTEMPTS, log=DeliveryLog((DeliveryAttempt(1, "rejected", NOON, 0.5, 500),)))

    assert await world.deliver(world.id) == "failed"
    assert world.receiver.had == []
    assert [tried.outcome for tried in (await world.row()).log.attempts] == ["rejected"] + ["interrupted"] * 9
    assert world.attempts() == [("failed", "interrupted", None)]


@in_held_time
async def test_a_stopping_worker_leaves_the_webhook_to_the_next(world_of: NewWorld) -> None:
    """An attempt that is cancelled while it sends changes only the count of attempts."""
    world = await world_of(Sent("delivered", 200))
    trying = asyncio.create_task(world.deliver(world.id))
    await asyncio.sleep(0.1)
    trying.cancel()
    await asyncio.wait({trying})

    assert trying.cancelled()
    assert ((await world.row()).state, (await world.row()).attempt, (await world.row()).log.attempts) == (
        "pending",
        1,
        (),
    )


@in_held_time
async def test_the_outcome_of_an_attempt_is_stored_after_an_outage(world_of: NewWorld) -> None:
    """Storing it is retried during an outage of the database, even when the process is asked to stop."""
    world = await world_of(Sent("delivered", 200))
    trying = asyncio.create_task(world.deliver(world.id))
    await asyncio.sleep(0.1)
    world.store.away = True
    await asyncio.sleep(5)
    trying.cancel()
    await asyncio.sleep(5)
    world.store.away = False

    assert await trying == "delivered"
    assert (await world.row()).state == "delivered"
    assert len(world.receiver.had) == 1


@in_held_time
async def test_an_unacknowledged_commit_is_repeated_without_effect(world_of: NewWorld) -> None:
    """When the acknowledgement of a commit was lost, storing it again changes nothing and enqueues nothing more."""
    world = await world_of(Sent("delivered", 200))
    trying = asyncio.create_task(world.deliver(world.id))
    await asyncio.sleep(0.1)
    world.store.lost_commits = 1

    assert await trying == "delivered"
    assert len((await world.row()).log.attempts) == 1


@in_held_time
async def test_a_superseded_attempt_changes_nothing(world_of: NewWorld) -> None:
    """A worker that was suspended while another one sent the webhook stores nothing."""
    world = await world_of(Sent("rejected", 500), Sent("delivered", 200))
    slow = asyncio.create_task(world.deliver(world.id))
    await asyncio.sleep(0.1)
    world.receiver.seconds = 0.0
    world.receiver.answers.reverse()
    assert await world.deliver(world.id) == "delivered"

    assert await slow == "superseded"
    assert ((await world.row()).state, await world.waiting()) == ("delivered", [])


@in_held_time
async def test_without_the_database_nothing_is_sent(world_of: NewWorld) -> None:
    """The attempt is claimed first, and the job is retried."""
    world = await world_of(Sent("delivered", 200))
    world.store.away = True

    with pytest.raises(DependencyUnavailable):
        await world.deliver(world.id)
    assert world.receiver.had == []


def test_the_message_holds_the_status_and_no_data() -> None:
    """Type, time and status with links, in the shape of Standard Webhooks."""
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


def test_each_end_has_its_own_message_id() -> None:
    """An end that is stored twice has the same id; an extraction that is run again and ends again has another."""
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
def test_every_end_of_a_run_is_announced(url: str, error: Exception | None, status: str) -> None:
    """Completed, failed with a domain error, failed unexpectedly: the message is stored with the end."""

    @in_held_time
    async def check() -> None:
        jobs = StoredJobs(url)
        at_end(jobs.close)
        await jobs.clear()
        await jobs.add(Extraction("x", "ada", ASKED, "queued", NOON))

        async def pipeline(extraction: Extraction, _enter: Any) -> Any:
            if error is not None:
                raise error
            return result_of(extraction)

        run = RunExtraction(
            pipeline,
            store=jobs.store,
            queue=jobs.queue,
            artifacts=MemoryArtifacts(),
            observer=Recorder(),
            clock=HeldClock(),
        )
        await asyncio.gather(run("x"), return_exceptions=True)

        (told,) = await jobs.deliveries()
        assert told.event_type == f"extraction.{status}"
        assert await jobs.waiting() == [(told.id, 0.0)]

    check()


@in_held_time
async def test_a_cancellation_is_announced_once(url: str) -> None:
    """A waiting extraction is ended and announced at once; a running one is announced by its run."""
    jobs = StoredJobs(url)
    at_end(jobs.close)
    await jobs.clear()
    await jobs.add(
        Extraction("x", "ada", ASKED, "queued", NOON),
        Extraction("y", "ada", ASKED, "processing", NOON, attempt=1),
    )
    async with jobs.store.begin() as work:
        await cancel(work, jobs.queue, "ada", "x", NOON)
        await cancel(work, jobs.queue, "ada", "y", NOON)

    (told,) = await jobs.deliveries()
    assert (told.extraction_id, told.event_type) == ("x", "extraction.cancelled")
    assert await jobs.waiting() == [(told.id, 0.0)]
