from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from sqlalchemy import make_url

from service.extractions import run as run_module
from service.features.errors import DependencyUnavailable, ModelUnavailable
from service.jobs import manager as manager_module
from service.jobs import worker as worker_module
from service.jobs.monitor import QueueMonitor
from service.store.embedded import start_embedded
from service.store.schema import upgrade
from service.telemetry.logs import configure_logging
from tests.integration.jobs_support import TIMEOUT_SECONDS, Room, poll


@pytest.fixture
async def room(new_database: Callable[[], str]) -> AsyncIterator[Room]:
    """A queue on a database of its own."""
    url = new_database()
    await asyncio.to_thread(upgrade, make_url(url), {})
    room = Room(url)
    yield room
    await room.database.close()


@pytest.fixture
def lines() -> Any:
    """The log lines of the test, as they would be written."""
    stream = io.StringIO()
    logs = configure_logging(
        level="INFO", log_format="json", service="s", version="1", environment="test", stream=stream
    )
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logs.close()


async def test_job_is_stored_with_its_row_or_not_at_all(room: Room) -> None:
    """A transaction that is rolled back leaves no job; one that commits leaves row and job."""
    extraction = room.extraction()
    with pytest.raises(RuntimeError):  # noqa: PT012 - it is the block's end that is tested
        async with room.database.store.begin() as unit:
            await room.queue.enqueue(unit, extraction)
            raise RuntimeError
    assert await room.jobs() == []
    extraction_id = await room.accept()
    [job] = await room.jobs()
    assert (job["status"], job["queue_name"], job["lock"], job["queueing_lock"]) == (
        "todo",
        "small",
        extraction_id,
        extraction_id,
    )
    assert set(job["args"]) == {"extraction_id", "traceparent"}


async def test_job_that_waits_already_is_no_error(room: Room) -> None:
    """Enqueuing an extraction whose job waits changes nothing, and the transaction goes on."""
    extraction_id = await room.accept()
    extraction = await room.find(extraction_id)
    async with room.database.store.begin() as unit:
        await room.queue.enqueue(unit, extraction)
        await unit.extractions.mark_detached(extraction.owner, extraction.id)
    assert len(await room.jobs()) == 1
    assert (await room.find(extraction_id)).detached


async def test_many_enqueue_the_same_at_once(room: Room) -> None:
    """Of transactions that enqueue one extraction at the same time, all succeed and one job waits."""
    extraction = room.extraction()

    async def enqueue() -> None:
        async with room.database.store.begin() as unit:
            await room.queue.enqueue(unit, extraction)

    await asyncio.gather(*(enqueue() for _ in range(8)))
    assert len(await room.jobs()) == 1


async def test_two_workers_run_each_of_200_jobs_once(room: Room) -> None:
    """With two workers on one queue every extraction is run exactly once, and no job is left."""
    ids = [await room.accept(f"owner-{number % 5}") for number in range(200)]
    async with room.worker(), room.worker():
        await room.empty()
    assert Counter(room.work.runs) == Counter(ids)
    rows = [await room.find(extraction_id) for extraction_id in ids]
    assert {(row.status, row.attempt, row.crashes) for row in rows} == {("completed", 1, 0)}
    assert room.recorder.outcomes() == ["completed"] * 200


async def test_small_jobs_pass_while_a_large_one_runs(room: Room) -> None:
    """Small extractions end while a large one holds its lane, however few run at once."""
    room.work.held = {"giant"}
    giants = [await room.accept(dataset="giant", lane="large") for _ in range(3)]
    small = [await room.accept() for _ in range(5)]
    async with room.worker(concurrency=1):
        for extraction_id in small:
            await room.until(extraction_id, "completed")
        assert [(await room.find(giant)).status for giant in giants] == ["processing", "queued", "queued"]
        room.work.gate.set()
        for giant in giants:
            await room.until(giant, "completed")


async def test_principals_take_turns(room: Room) -> None:
    """One principal's many jobs let another's first one through, and then come one by one in turn."""
    many = [await room.accept("ada") for _ in range(30)]
    few = [await room.accept("grace") for _ in range(3)]
    async with room.worker(concurrency=1):
        await room.empty()
    assert room.work.runs[:6] == [many[0], few[0], many[1], few[1], many[2], few[2]]
    assert room.work.runs[6:] == many[3:]


async def test_waiting_jobs_are_not_overtaken_for_ever(room: Room) -> None:
    """A principal whose turn has come gets it before jobs that others ask for later."""
    many = [await room.accept("ada") for _ in range(20)]
    await room.sql("DELETE FROM procrastinate_jobs WHERE lock = ANY(%s)", many[:10])
    await room.sql("UPDATE extractions SET status = 'completed' WHERE id = ANY(%s)", many[:10])
    later = [await room.accept(f"stranger-{number}") for number in range(5)]
    async with room.worker(concurrency=1):
        await room.empty()
    assert room.work.runs == [many[10], *later, *many[11:]]


async def test_retry_waits_its_time_and_stays_one_trace(new_database: Callable[[], str]) -> None:
    """From the request over the queue through a retry all spans are of one trace, each run beneath its enqueuing."""
    url = new_database()
    await asyncio.to_thread(upgrade, make_url(url), {})
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    room = Room(url, provider)
    room.work.failures = {"events": [ModelUnavailable("not now", retry_after=0.1)]}
    with pytest.MonkeyPatch.context() as patch, provider.get_tracer("test").start_as_current_span("request") as request:
        patch.setattr(run_module, "FIRST_RETRY_SECONDS", 0.1)
        extraction_id = await room.accept(detached=True)
        async with room.worker():
            row = await room.until(extraction_id, "completed")
            await room.empty()
    await room.database.close()
    found = [span for span in spans.get_finished_spans() if span.name == "job extract_features"]
    assert [span.kind for span in found] == [SpanKind.PRODUCER, SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CONSUMER]
    first, again, ran, ran_again = found
    assert {span.context.trace_id for span in found} == {request.get_span_context().trace_id}
    parents = [span.parent.span_id for span in (first, ran, again, ran_again) if span.parent]
    before = [request.get_span_context(), first.context, ran.context, again.context]
    assert parents == [context.span_id for context in before]
    assert [span.attributes["feature_agent.job.outcome"] for span in (ran, ran_again)] == ["retried", "completed"]
    assert (row.attempt, row.retries, row.crashes) == (2, 1, 0)


async def test_job_without_a_trace_begins_one(room: Room) -> None:
    """A job that carries no trace context, as one that was picked up, runs all the same."""
    extraction_id = await room.accept()
    await room.sql("UPDATE procrastinate_jobs SET args = args - 'traceparent'")
    async with room.worker():
        await room.until(extraction_id, "completed")


async def test_new_job_wakes_a_worker_whose_listening_was_cut(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is notified of new jobs, and listens again after its connection was cut."""
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 86_400.0)
    async with room.worker():
        before = await room.listeners()
        await room.until(await room.accept(), "completed")
        await room.sql("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", list(before))
        await room.listeners(but=before)
        await room.until(await room.accept(), "completed")


async def test_stopping_worker_lets_running_jobs_end(room: Room) -> None:
    """A worker that stops takes nothing more, keeps its heartbeat, and leaves when its last job has ended."""
    room.work.held = {"slow"}
    slow = await room.accept(dataset="slow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module, "BEAT_SECONDS", 0.05)
        async with room.worker(concurrency=1) as worker:
            await room.until(slow, "processing")
            queued = await room.accept()
            worker.stop()
            beats = "SELECT max(last_heartbeat) AS at FROM procrastinate_workers"
            await worker._stopping.wait()
            [before] = await room.sql(beats)
            async for _ in poll():
                [now] = await room.sql(beats)
                if now["at"] > before["at"]:
                    break
            assert now["at"] > before["at"]
            room.work.gate.set()
    assert (await room.find(slow)).status == "completed"
    assert (await room.find(queued)).status == "queued"
    assert [job["lock"] for job in await room.jobs()] == [queued]
    assert await room.sql("SELECT id FROM procrastinate_workers") == []


async def test_stopped_worker_hands_back_what_does_not_end(room: Room) -> None:
    """What still runs after the grace is queued again at once, without counting as a crash, and run by another."""
    room.work.held = {"slow"}
    slow = await room.accept(dataset="slow")
    async with room.worker(grace_seconds=0.0):
        await room.until(slow, "processing")
    row = await room.find(slow)
    assert (row.status, row.attempt, row.crashes) == ("queued", 1, 0)
    assert [(job["status"], job["lock"]) for job in await room.jobs()] == [("todo", slow)]
    assert room.recorder.outcomes() == ["handed_back"]
    room.work.gate.set()
    async with room.worker():
        row = await room.until(slow, "completed")
    assert (row.attempt, row.crashes) == (2, 0)


async def test_unexpected_failure_is_logged_once_with_its_stack(room: Room, lines: Any) -> None:
    """A bug ends the extraction as failed, leaves no job, and is one line with the stack and without arguments."""
    room.work.failures = {"events": [ZeroDivisionError("a cell")]}
    extraction_id = await room.accept()
    async with room.worker():
        row = await room.until(extraction_id, "failed")
        await room.empty()
    assert row.failure is not None
    assert row.failure.code == "internal_error"
    errors = [line for line in lines() if line["level"] == "error"]
    assert [(line["extraction_id"], line["exception"]["type"]) for line in errors] == [
        (extraction_id, "builtins.ZeroDivisionError")
    ]
    assert errors[0]["exception"]["stack"]
    assert not [line for line in lines() if "traceparent" in json.dumps(line)]


async def test_absent_store_brings_the_job_back(room: Room) -> None:
    """A run that the database's absence breaks off is tried again later, with the same job."""
    extraction_id = await room.accept()
    calls: list[str] = []

    async def run(given: str) -> str:
        calls.append(given)
        if len(calls) == 1:
            raise DependencyUnavailable("away")
        return await room.run()(given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager_module, "RETRY_SECONDS", 0)
        async with room.worker(run):
            await room.until(extraction_id, "completed")
            await room.empty()
    assert calls == [extraction_id, extraction_id]
    assert room.recorder.outcomes() == ["crashed", "completed"]


async def test_queue_is_measured(room: Room) -> None:
    """Jobs are counted by state, and the age is that of the oldest one that could run."""
    monitor = QueueMonitor(room.database.store, room.recorder)
    assert (await monitor.measure()).oldest_seconds == 0.0
    await room.sql("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now()), (now() - interval '100 s')")
    assert (await monitor.measure()).workers == 1
    await room.accept(delay=3600.0)
    measured = await monitor.measure()
    assert (measured.queued, measured.scheduled, measured.running, measured.oldest_seconds) == (0, 1, 0, 0.0)
    waiting, running = await room.accept(), await room.accept()
    await room.leave_behind(running)
    await room.sql("UPDATE procrastinate_events SET at = now() - interval '100 s' WHERE type = 'deferred'")
    measured = await monitor.measure()
    assert (measured.queued, measured.scheduled, measured.running) == (1, 1, 1)
    assert 100.0 <= measured.oldest_seconds < 100.0 + TIMEOUT_SECONDS
    await room.sql("UPDATE procrastinate_jobs SET scheduled_at = now() - interval '300 s' WHERE lock = %s", waiting)
    assert 300.0 <= (await monitor.measure()).oldest_seconds < 300.0 + TIMEOUT_SECONDS
    assert room.recorder.events[-1] == replace(measured, oldest_seconds=room.recorder.events[-1].oldest_seconds)


async def test_worker_outlives_a_restart_of_the_database(
    tmp_path: Path, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the database was killed and restarted the worker is notified of jobs, and running ones complete."""
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 86_400.0)
    server = await asyncio.to_thread(start_embedded, tmp_path / "postgresql")
    await asyncio.to_thread(upgrade, make_url(server.url), {})
    room = Room(server.url)
    room.work.held = {"slow"}
    slow = await room.accept(dataset="slow")
    async with room.worker() as worker:
        await room.until(slow, "processing")
        os.kill(int((tmp_path / "postgresql/data/postmaster.pid").read_text().splitlines()[0]), signal.SIGQUIT)
        async for _ in poll():
            if worker._manager._unavailable:
                break
        again = await asyncio.to_thread(start_embedded, tmp_path / "postgresql")
        await room.listeners()
        queued = await room.accept()
        await room.until(queued, "completed")
        room.work.gate.set()
        row = await room.until(slow, "completed")
        await room.empty()
    assert (row.attempt, row.crashes) == (1, 0)
    assert room.work.runs == [slow, queued]
    assert not [line for line in lines() if line["level"] == "error"]
    await room.database.close()
    await asyncio.to_thread(again.stop)
    await asyncio.to_thread(server.stop)
