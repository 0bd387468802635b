from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from procrastinate.jobs import Status
from sqlalchemy import make_url

from service.features.events import JobAttempted
from service.jobs.connection import connector_to
from service.jobs.manager import FencedManager
from service.jobs.monitor import QueueMonitor
from service.jobs.rescue import Rescuer
from service.store.schema import upgrade
from tests.integration.jobs_support import Clock, Room, poll


@pytest.fixture
async def room(new_database: Callable[[], str]) -> AsyncIterator[Room]:
    """A queue on a database of its own."""
    url = new_database()
    await asyncio.to_thread(upgrade, make_url(url), {})
    room = Room(url)
    yield room
    await room.database.close()


@asynccontextmanager
async def managing(room: Room) -> AsyncIterator[FencedManager]:
    """Procrastinate's dealings with the room's database, without a worker around them."""
    connector = connector_to(room.url)
    await connector.open_async()
    yield FencedManager(connector)
    await connector.close_async()


async def claim(room: Room, extraction_id: str) -> None:
    """Begin an attempt."""
    async with room.database.store.begin() as unit:
        assert await unit.extractions.claim(extraction_id, Clock().now()) is not None


async def test_job_of_a_dead_worker_is_put_back_once(room: Room) -> None:
    """However many rescuers look at once, a dead worker's job waits again once, and counts as one crash."""
    extraction_id = await room.accept()
    [before] = await room.jobs()
    await room.leave_behind(extraction_id)
    await claim(room, extraction_id)
    async with managing(room) as manager:
        rescued = await asyncio.gather(*(Rescuer(manager, room.recorder).rescue() for _ in range(4)))
    assert sum(rescued) == 1
    [job] = await room.jobs()
    assert (job["status"], job["lock"], job["attempts"], job["worker_id"]) == ("todo", extraction_id, 1, None)
    assert job["args"] == before["args"]
    assert room.recorder.events == [JobAttempted(extraction_id, "crashed")]


async def test_crashes_are_counted_in_the_database(room: Room) -> None:
    """Every process reports each crash, whichever process found it; a job that had not begun is no crash."""
    monitor = QueueMonitor(room.database.store, room.recorder)
    assert (await monitor.measure()).crashes == 0
    for round_ in (1, 2):
        begun, waiting = await room.accept(), await room.accept()
        await room.leave_behind(begun)
        await room.leave_behind(waiting)
        await claim(room, begun)
        async with managing(room) as manager:
            assert await Rescuer(manager, room.recorder).rescue() == 2
            assert await Rescuer(manager, room.recorder).rescue() == 0
        assert (await monitor.measure()).crashes == round_
        await room.sql("DELETE FROM procrastinate_jobs")


async def test_suspects_are_kept_apart(room: Room) -> None:
    """Of jobs that were beside two deaths a process takes one at a time, and others as ever."""
    suspects = [await room.accept() for _ in range(3)]
    await room.sql("UPDATE extractions SET status = 'processing', attempt = 2, crashes = 1")
    plain = [await room.accept() for _ in range(2)]
    async with managing(room) as manager:
        worker, other = await manager.register_worker(), await manager.register_worker()
        taken = [await manager.fetch_job(["small"], id_) for id_ in (worker, worker, other, worker)]
        assert [job and job.lock for job in taken] == [suspects[0], *plain, None]
        async with managing(room) as elsewhere:
            [found] = [await elsewhere.fetch_job(["small"], await elsewhere.register_worker())]
            assert found is not None
            assert found.lock == suspects[1]
        await claim(room, suspects[0])
        assert await manager.fetch_job(["small"], worker) is None
        assert taken[0] is not None
        await manager.finish_job(taken[0], Status.SUCCEEDED, delete_job=True)
        last = await manager.fetch_job(["small"], worker)
    assert last is not None
    assert last.lock == suspects[2]


async def test_a_worker_that_was_silent_declares_none_dead(room: Room) -> None:
    """A process whose own heartbeats were lost waits until all others have been heard again, and judges as before."""
    now = 100.0
    async with managing(room) as manager:
        rescuer = Rescuer(manager, room.recorder, timer=lambda: now)
        assert not rescuer.may_judge()
        rescuer.note_beat(100.0)
        assert rescuer.may_judge()
        now = 103.1  # a statement that is held up for its 5 s would run with a heartbeat of more than 8 s ago
        assert not rescuer.may_judge()
        now = 108.1
        assert not rescuer.may_judge()
        for beat in (109.0, 111.0, 113.0, 115.0):
            now = beat
            rescuer.note_beat(beat)
            assert not rescuer.may_judge()
        now = 117.0
        assert rescuer.may_judge()


async def test_job_whose_worker_row_is_gone_is_put_back(room: Room) -> None:
    """Deleting a dead worker does not lose its job."""
    extraction_id = await room.accept()
    await room.leave_behind(extraction_id)
    async with managing(room) as manager:
        rescuer = Rescuer(manager, room.recorder)
        await rescuer.tidy()
        assert await room.sql("SELECT id FROM procrastinate_workers") == []
        assert await rescuer.rescue() == 1
    assert room.recorder.events == []


async def test_job_of_a_running_extraction_waits_for_its_end(room: Room) -> None:
    """A second job of an extraction that runs is not taken, and does not keep others from being taken."""
    first, second = await room.accept(), await room.accept()
    async with managing(room) as manager:
        worker_id = await manager.register_worker()
        running = await manager.fetch_job(["small"], worker_id)
        assert running is not None
        assert running.lock == first
        async with room.database.store.begin() as unit:
            await room.queue.enqueue(unit, await room.find(first))
        await room.sql("UPDATE procrastinate_jobs SET priority = 5 WHERE lock = %s AND status = 'todo'", first)
        other = await manager.fetch_job(["small"], worker_id)
        assert other is not None
        assert other.lock == second
        assert await manager.fetch_job(["small"], worker_id) is None
        assert not manager._unavailable
        await manager.finish_job(running, Status.SUCCEEDED, delete_job=True)
        again = await manager.fetch_job(["small"], worker_id)
        assert again is not None
        assert again.lock == first


async def test_job_of_a_living_worker_is_left_alone(room: Room) -> None:
    """A worker that is silent for less than its time keeps its job."""
    extraction_id = await room.accept()
    await room.leave_behind(extraction_id, silent_seconds=0.0)
    async with managing(room) as manager:
        assert await Rescuer(manager, room.recorder, dead_seconds=3600.0).rescue() == 0
    assert [job["status"] for job in await room.jobs()] == ["doing"]


async def test_dead_job_makes_room_for_one_that_waits(room: Room) -> None:
    """When a worker died between handing back and ending its job, the job that it enqueued is the only one left."""
    extraction_id = await room.accept()
    await room.leave_behind(extraction_id)
    async with room.database.store.begin() as unit:
        await room.queue.enqueue(unit, await room.find(extraction_id))
    waiting = [job["id"] for job in await room.jobs() if job["status"] == "todo"]
    async with managing(room) as manager:
        assert await Rescuer(manager, room.recorder).rescue() == 1
    assert [job["id"] for job in await room.jobs()] == waiting
    async with room.worker():
        await room.until(extraction_id, "completed")
    assert room.work.runs == [extraction_id]


async def test_worker_back_from_the_dead_changes_nothing(room: Room) -> None:
    """Neither the end nor the putting back of a job by a worker that lost it touches its successor."""
    extraction_id = await room.accept()
    async with managing(room) as old, managing(room) as new:
        mine = await old.fetch_job(["small"], await old.register_worker())
        assert mine is not None
        await Rescuer(new, room.recorder, dead_seconds=-1.0).rescue()
        theirs = await new.fetch_job(["small"], await new.register_worker())
        assert theirs is not None
        await old.finish_job(mine, Status.SUCCEEDED, delete_job=True)
        await old.retry_job(mine)
        await old.finish_job(mine, Status.FAILED, delete_job=False)
        [job] = await room.jobs()
        assert (job["id"], job["status"], job["worker_id"]) == (theirs.id, "doing", theirs.worker_id)
        await new.finish_job(theirs, Status.SUCCEEDED, delete_job=True)
    assert await room.jobs() == []
    assert job["lock"] == extraction_id


async def test_same_worker_cannot_end_a_job_that_was_taken_from_it(room: Room) -> None:
    """The fence asks for the worker, not just for the job."""
    await room.accept()
    async with managing(room) as manager:
        worker_id = await manager.register_worker()
        job = await manager.fetch_job(["small"], worker_id)
        assert job is not None
        await manager.register_worker()
        await room.sql("UPDATE procrastinate_jobs SET worker_id = (SELECT max(id) FROM procrastinate_workers)")
        await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
    assert [job["status"] for job in await room.jobs()] == ["doing"]


async def test_worker_taken_for_dead_is_known_again(room: Room) -> None:
    """A heartbeat after the worker's row was deleted brings it back under its id, and it goes on taking jobs."""
    await room.accept()
    async with managing(room) as manager:
        worker_id = await manager.register_worker()
        await room.sql("DELETE FROM procrastinate_workers")
        assert await manager.fetch_job(["small"], worker_id) is None
        assert await manager.beat()
        assert [row["id"] for row in await room.sql("SELECT id FROM procrastinate_workers")] == [worker_id]
        assert await manager.fetch_job(["small"], worker_id) is not None


async def test_job_that_its_living_worker_never_got_is_put_back(room: Room) -> None:
    """A job whose fetching was answered to a broken connection comes back, and one in hand does not."""
    now = 0.0
    lost, held = await room.accept(), await room.accept()
    async with managing(room) as manager:
        rescuer = Rescuer(manager, room.recorder, dead_seconds=8.0, timer=lambda: now)
        worker_id = await manager.register_worker()
        unanswered = await manager.fetch_job(["small"], worker_id)
        assert unanswered is not None
        manager.held.clear()
        assert await manager.fetch_job(["small"], worker_id) is not None
        assert await rescuer.rescue() == 0
        now = 7.0
        assert await rescuer.rescue() == 0
        now = 8.5
        assert await rescuer.rescue() == 1
    assert {job["lock"]: job["status"] for job in await room.jobs()} == {lost: "todo", held: "doing"}
    assert room.recorder.events == []


async def test_stranded_extraction_gets_a_job(room: Room) -> None:
    """What waits or runs without a job is enqueued once, in its lane; what is new, has a job, or has ended is not."""
    stranded, taken, ended, busy = [await room.accept(lane="large") for _ in range(4)]
    await room.sql("UPDATE extractions SET created_at = now() - interval '1 hour'")
    await room.sql("DELETE FROM procrastinate_jobs WHERE lock = ANY(%s)", [stranded, taken, ended])
    await claim(room, taken)
    await room.sql("UPDATE extractions SET status = 'failed' WHERE id = %s", ended)
    await room.leave_behind(busy)
    new = await room.accept()
    await room.sql("DELETE FROM procrastinate_jobs WHERE lock = %s", new)
    async with managing(room) as manager:
        found = await asyncio.gather(*(Rescuer(manager, room.recorder).pick_up_stranded() for _ in range(4)))
    assert sum(found) == 2
    jobs = {job["lock"]: job for job in await room.jobs()}
    assert set(jobs) == {stranded, taken, busy}
    assert (jobs[stranded]["queue_name"], jobs[stranded]["args"]) == ("large", {"extraction_id": stranded})
    async with room.worker():
        assert (await room.until(taken, "completed")).crashes == 1
        assert (await room.until(stranded, "completed")).crashes == 0


async def test_running_extraction_is_never_taken_for_stranded(room: Room) -> None:
    """While 50 old extractions are run and end, looking for stranded ones again and again finds none."""
    for _ in range(50):
        await room.accept()
    found = 0
    async with managing(room) as manager, room.worker():
        rescuer = Rescuer(manager, room.recorder, stranded_seconds=0.0)
        while await room.jobs():
            found += await rescuer.pick_up_stranded()
    assert found == 0
    assert len(room.work.runs) == 50


async def test_dead_jobs_are_cleaned_after_a_day(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """Jobs of an unknown kind fail, which is said without their arguments, are kept for a day, and then deleted."""
    for _ in range(2):
        await room.accept()
    await room.sql("UPDATE procrastinate_jobs SET task_name = 'of another release'")
    async with room.worker() as worker:
        async for _ in poll():
            if {job["status"] for job in await room.jobs()} == {"failed"}:
                break
        [old, young] = await room.jobs()
        await room.sql("UPDATE procrastinate_events SET at = now() - interval '25 h' WHERE job_id = %s", old["id"])
        await worker._rescuer.tidy()
        assert [job["id"] for job in await room.jobs()] == [young["id"]]
    assert "a job came to nothing: job_error" in caplog.messages
    assert not [message for message in caplog.messages if "traceparent" in message or young["lock"] in message]
