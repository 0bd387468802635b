"""How long `POST /extract-features` waits for the end, and what it answers when that does not come in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, timedelta

import pytest
from msgspec.structs import replace

from service.api.preferences import read_preferences
from service.features.errors import ModelUnavailable
from service.features.model import Extraction, ExtractionRequest
from service.store.extractions import SqlExtractions
from service.store.tables import extractions as table
from tests.api.conftest import World, calling, extract, until
from tests.doubles import NOW, Gate, result_of

LONG, SHORT = 300, 0.05
"""Seconds that a request waits at most."""


def completed(extraction_id: str, seconds: float) -> Extraction:
    """Build an extraction that completed at noon after so many seconds."""
    extraction = Extraction(
        extraction_id, "ada", ExtractionRequest("events", "Click rate"), "completed", NOW - timedelta(days=1),
        progress=100, attempt=1, started_at=NOW - timedelta(seconds=seconds), finished_at=NOW,
    )  # fmt: skip
    return replace(extraction, result=result_of(extraction))


@pytest.mark.parametrize(
    ("lines", "seconds", "finished", "unfinished"),
    [
        ([], 25, None, None),
        (["respond-async"], 0, None, "respond-async"),
        (["Respond-Async; please"], 0, None, "respond-async"),
        (["wait=7"], 7, "wait=7", "wait=7"),
        (["WAIT = 7"], 7, "wait=7", "wait=7"),
        (['wait="7"'], 7, "wait=7", "wait=7"),
        (["wait=0"], 0, "wait=0", "wait=0"),
        (["wait=1000"], 25, "wait=25", "wait=25"),
        (["wait=3, wait=9"], 3, "wait=3", "wait=3"),
        (["respond-async", "wait=5"], 5, "wait=5", "respond-async, wait=5"),
        (['foo="a, wait=1; b", wait=5;x=y'], 5, "wait=5", "wait=5"),
        (["wait=-1"], 25, None, None),
        (["wait=1.5"], 25, None, None),
        (["wait=٣"], 25, None, None),
        (["wait"], 25, None, None),
        (["wait=" + "9" * 5000], 25, None, None),
        (['"', "=", ",,", "return=minimal", 'handling="lenient'], 25, None, None),
    ],
)
def test_prefer_header_is_parsed(
    lines: list[str], seconds: float, finished: str | None, unfinished: str | None
) -> None:
    """RFC 7240: the first of a name counts, parameters and case are ignored, and so is what is not understood."""
    preferences = read_preferences(lines, 25)

    assert preferences.seconds == seconds
    assert preferences.applied(unfinished=False).get("Preference-Applied") == finished
    assert preferences.applied(unfinished=True).get("Preference-Applied") == unfinished


@pytest.mark.parametrize(
    ("prefer", "applied"), [("respond-async", "respond-async"), ("wait=0", "wait=0"), ("respond-async, wait=0", None)]
)
async def test_async_preference_is_answered_202(serve: Callable[..., World], prefer: str, applied: str | None) -> None:
    """202 at once with Location, Retry-After and the status; its failures are retried, as it is detached."""
    world = serve(sync_wait_seconds=LONG, worker_in_api=False)
    async with calling(world) as client:
        answer = await extract(client, {"Prefer": prefer})
        status = await client.get(f"{answer.headers['location']}/status")

    row = await world.extraction()
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/v1/extraction/{row.id}"
    assert answer.headers["preference-applied"] == (applied or prefer)
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert answer.json()["data"] == status.json()["data"]
    assert answer.json()["data"]["status"] == "queued"
    assert (row.detached, row.version) == (True, 0)


async def test_wait_that_is_over_is_answered_202_and_the_run_continues(serve: Callable[..., World]) -> None:
    """After the longest wait the answer is 202, and the extraction completes all the same."""
    world = serve(sync_wait_seconds=SHORT)
    world.planner.gate = Gate()
    async with calling(world) as client:
        answer = await extract(client)
        assert answer.status_code == 202, answer.text
        assert (await world.extraction()).detached
        world.planner.gate.set()
        while (await client.get(f"{answer.headers['location']}/status")).json()["data"]["status"] != "completed":
            pass
        whole = (await client.get(answer.headers["location"])).json()["data"]

    assert len(whole["features"]) == 2
    assert "preference-applied" not in answer.headers


async def test_result_is_answered_as_soon_as_it_is_ready(serve: Callable[..., World]) -> None:
    """However long the client would wait, it is answered at the end, also when the notice is lost."""
    for deaf in (False, True):
        world = serve(sync_wait_seconds=LONG)
        world.planner.gate = Gate()
        world.notices.deaf = deaf
        async with calling(world) as client:
            asking = asyncio.create_task(extract(client, {"Prefer": "wait=200"}))
            await asyncio.to_thread(world.planner.started.wait, 10)
            world.planner.gate.set()
            answer = await asking

        assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=200")
        assert world.notices.watches == {}


async def test_a_waiting_request_does_not_poll_the_database(serve: Callable[..., World]) -> None:
    """Two seconds of waiting without a change take at most five reads."""
    world = serve(sync_wait_seconds=LONG, worker_in_api=False)
    async with calling(world) as client:
        answer = await extract(client, {"Prefer": "wait=2"})

    assert answer.status_code == 202
    assert world.store.watching <= 5


async def test_run_that_ends_at_the_end_of_the_wait_is_answered(
    serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the run ends between the last read and the detaching, the answer is the result."""
    world = serve(sync_wait_seconds=SHORT)
    world.planner.gate = Gate()
    note = SqlExtractions.mark_detached

    async def late(extractions: SqlExtractions, owner: str, extraction_id: str) -> None:
        end = {"status": "completed", "progress": 100, "result": completed(extraction_id, 1).result, "finished_at": NOW}
        await extractions._change(table.c.id == extraction_id, **end)
        await note(extractions, owner, extraction_id)

    async with calling(world) as client:
        monkeypatch.setattr(SqlExtractions, "mark_detached", late)
        answer = await extract(client)
        world.planner.gate.set()

    assert answer.status_code == 200
    assert answer.json()["data"]["status"] == "completed"


async def test_a_stopping_service_answers_waiting_requests_with_202(serve: Callable[..., World]) -> None:
    """Draining, the service answers 202 to waiting requests; a running job is put back into the queue."""
    world = serve(sync_wait_seconds=LONG)
    world.planner.gate = Gate()
    async with calling(world) as client:
        asking = asyncio.create_task(extract(client))
        await asyncio.to_thread(world.planner.started.wait, 10)
        world.runtime.lifecycle.draining = True
        answer = await asking
    world.stop()

    assert await asyncio.to_thread(world.has_ended)
    assert answer.status_code == 202
    row = await world.extraction()
    assert (row.status, row.detached, row.attempt, row.failure) == ("queued", True, 1, None)
    (job,) = await world.sql("SELECT lock, status, scheduled_at IS NULL AS at_once FROM procrastinate_jobs")
    assert job == {"lock": row.id, "status": "todo", "at_once": True}


async def test_a_failure_that_will_be_retried_ends_the_wait(serve: Callable[..., World]) -> None:
    """A second caller who waits for a detached extraction gets 202 and why its last run failed."""
    world = serve(sync_wait_seconds=LONG)
    world.planner.gate, world.planner.error = Gate(), ModelUnavailable("No model answers.", retry_after=7)
    key = {"Idempotency-Key": "k"}
    async with calling(world) as client:
        first = await extract(client, {"Prefer": "respond-async", **key})
        await asyncio.to_thread(world.planner.started.wait, 10)
        asking = asyncio.create_task(extract(client, key))
        world.planner.gate.set()
        answer = await asking
        summary = (await client.get("/api/v1/extractions")).json()["data"]["items"][0]

    row = await world.extraction()
    assert first.status_code == answer.status_code == 202
    assert answer.json()["data"]["status"] == "queued"
    assert answer.json()["data"]["error_message"].endswith("will be tried again: No model answers.")
    assert summary["error_message"] == answer.json()["data"]["error_message"]
    assert row.retries == 1
    (job,) = await world.sql(
        "SELECT lock, scheduled_at > now() AS delayed FROM procrastinate_jobs WHERE status = 'todo'"
    )
    assert job == {"lock": row.id, "delayed": True}


async def test_an_outage_of_the_database_does_not_end_the_wait(
    serve: Callable[..., World],
) -> None:
    """The wait outlives the outage and is answered with the result."""
    world = serve(sync_wait_seconds=LONG, worker_in_api=False)
    async with calling(world) as client:
        asking = asyncio.create_task(extract(client))
        await until(lambda: len(world.notices.watches) == 1)
        world.store.away = True
        await until(lambda: world.store.refused > 0)
        world.store.away = False
        waiting = (await world.extraction()).id
        done = completed(waiting, 1)
        await world.change(waiting, status="completed", result=done.result, finished_at=done.finished_at)
        answer = await asking

    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["extraction_id"] == waiting


async def test_an_unreachable_completion_date_is_refused(serve: Callable[..., World]) -> None:
    """422 when extractions of its lane usually take longer, and nothing is stored."""
    world = serve()
    async with calling(world) as client:
        await world.add(*(completed(f"old-{number}", 13 * 3600) for number in range(5)))
        today = await extract(client, completion_date=date(2026, 11, 23).isoformat())
        tomorrow = await extract(client, completion_date=date(2026, 11, 24).isoformat())

    assert (today.status_code, today.json()["error_code"]) == (422, "completion_date_unreachable")
    assert [fault["field"] for fault in today.json()["errors"]] == ["completion_date"]
    assert tomorrow.status_code == 200
    assert len(await world.extractions()) == 6


async def test_estimates_come_from_completed_extractions(serve: Callable[..., World]) -> None:
    """From five completed ones on: the start plus the median time; linear in the progress when it takes longer."""
    world = serve(worker_in_api=False)
    await world.add(*(completed(f"old-{number}", 20 + number) for number in range(5)))
    await world.add(Extraction("one", "ada", ExtractionRequest("events", "Click rate"), "queued", NOW))
    async with calling(world) as client:

        async def estimate(**values: object) -> str | None:
            await world.change("one", **values)
            answer = await client.get("/api/v1/extraction/one/status")
            return answer.json()["data"]["estimated_completion"]

        queued = await estimate(status="queued", progress=0, started_at=None)
        running = await estimate(status="processing", progress=5, started_at=NOW - timedelta(seconds=10))
        late = await estimate(status="processing", progress=50, started_at=NOW - timedelta(seconds=40))
        no_idea = await estimate(status="processing", progress=0, started_at=NOW - timedelta(seconds=40))
        again = await estimate(status="queued", progress=0, started_at=NOW - timedelta(hours=1))

    assert queued == again == "2026-11-23T12:00:22Z"
    assert running == "2026-11-23T12:00:12Z"
    assert late == "2026-11-23T12:00:40Z"
    assert no_idea is None
