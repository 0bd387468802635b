"""`DELETE /api/v1/extraction/{id}`: cancel what has not ended, delete what has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from service.features.errors import DependencyUnavailable
from service.features.events import ExtractionFinished, JobAttempted
from service.features.model import Extraction
from service.store.extractions import SqlExtractions
from service.worker import create_worker
from tests.api.conftest import World, calling, extract, until
from tests.doubles import Gate

ASYNC = {"Prefer": "respond-async"}


async def test_a_queued_extraction_is_cancelled_at_once(serve: Callable[..., World]) -> None:
    """The answer is its status, it is counted as cancelled, and a worker finds nothing to do for its job."""
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        path = (await extract(client, ASYNC)).headers["location"]
        answer = await client.delete(path)
        read = await client.get(path)

    data = answer.json()["data"]
    assert (answer.status_code, data["status"], data["progress"]) == (200, "cancelled", 100)
    assert data["estimated_completion"] == "2026-11-23T12:00:00Z"
    assert read.json()["data"]["status"] == "cancelled"
    assert ExtractionFinished(data["extraction_id"], "medium", "cancelled", 0.0) in world.recorder.events
    async with create_worker(world.settings, overrides=world.overrides).running():
        await until(lambda: world.recorder.of(JobAttempted) != [])
    assert world.planner.asked == 0
    assert world.recorder.of(JobAttempted) == [JobAttempted(data["extraction_id"], "gone")]


async def test_a_running_extraction_is_cancelled(serve: Callable[..., World]) -> None:
    """The run stops, its status is answered, and a request that waits for the result gets 409."""
    world = serve()
    world.planner.gate = Gate()
    async with calling(world) as client:
        asking = asyncio.create_task(extract(client))
        await asyncio.to_thread(world.planner.started.wait, 10)
        identity = (await world.extraction()).id
        answer = await client.delete(f"/api/v1/extraction/{identity}")
        waited = await asking

    assert (answer.status_code, answer.json()["data"]["status"]) == (200, "cancelled")
    assert (waited.status_code, waited.json()["error_code"]) == (409, "extraction_cancelled")
    assert waited.json()["extraction_id"] == identity
    assert world.recorder.of(ExtractionFinished) == [ExtractionFinished(identity, "medium", "cancelled", 0.0)]


async def test_cancelling_a_slow_run_is_answered_202(
    serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """202 with the status when the run has not stopped soon; asking again is harmless."""
    monkeypatch.setattr("service.api.extraction_routes.CANCEL_SECONDS", 0.0)
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        path = (await extract(client, ASYNC)).headers["location"]
        await world.change((await world.extraction()).id, status="processing", attempt=1)
        answers = [await client.delete(path) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["data"]["status"] == "processing"
    assert (await world.extraction()).cancel_requested


@pytest.mark.parametrize("error", [None, DependencyUnavailable("Gone.")])
async def test_an_ended_extraction_is_deleted(serve: Callable[..., World], error: Exception | None) -> None:
    """Row and table are removed, and asking again is a 404; a failed one, without a table, is removed too."""
    world = serve()
    world.planner.error = error
    async with calling(world) as client:
        await extract(client)
        row = await world.extraction()
        kept = set(world.artifacts.files)
        path = f"/api/v1/extraction/{row.id}"
        answer = await client.delete(path)
        gone = [await client.request(method, path) for method in ("GET", "DELETE")]
        table = await client.get(f"{path}/features")

    assert (answer.status_code, answer.content) == (204, b"")
    assert await world.extractions() == []
    assert kept - set(world.artifacts.files) == ({row.result.artifact_key} if row.result else set())
    assert [reply.status_code for reply in (*gone, table)] == [404, 404, 404]


async def test_a_table_that_cannot_be_deleted_keeps_its_row(
    serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, and a later request deletes both."""
    world = serve()
    async with calling(world) as client:
        path = (await extract(client)).headers["location"]

        async def refuse(_: str) -> None:
            raise DependencyUnavailable("The artifact store does not answer.")

        with monkeypatch.context() as patched:
            patched.setattr(world.artifacts, "delete", refuse)
            refused = await client.delete(path)
        read = await client.get(path)
        again = await client.delete(path)

    assert [answer.status_code for answer in (refused, read, again)] == [503, 200, 204]


async def test_an_extraction_of_another_principal_is_not_found(serve: Callable[..., World]) -> None:
    """404 whether it has ended or not, and it stays; without the scope to write it is a 403."""
    world = serve()
    async with calling(world) as client:
        ended = (await extract(client)).headers["location"]
        world.planner.gate = Gate()
        running = (await extract(client, ASYNC)).headers["location"]
        client.headers["Authorization"] = f"Bearer {await world.api_key('bob')}"
        foreign = [await client.delete(path) for path in (ended, running, "/api/v1/extraction/none")]
        client.headers["Authorization"] = f"Bearer {await world.api_key('ada', 'extractions:read')}"
        forbidden = await client.delete(ended)

    assert [answer.json()["error_code"] for answer in foreign] == ["extraction_not_found"] * 3
    assert forbidden.status_code == 403
    assert [row.cancel_requested for row in await world.extractions()] == [False, False]


async def test_an_extraction_revived_during_its_deletion_is_kept(
    serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revived between the look and the deletion, it is kept: 409."""
    world = serve()
    world.planner.error = DependencyUnavailable("Gone.")
    remove = SqlExtractions.remove

    async def revived_before(extractions: SqlExtractions, owner: str, extraction_id: str) -> Extraction:
        await extractions.revive(extraction_id)
        return await remove(extractions, owner, extraction_id)

    async with calling(world) as client:
        identity = (await extract(client)).json()["extraction_id"]
        monkeypatch.setattr(SqlExtractions, "remove", revived_before)
        answer = await client.delete(f"/api/v1/extraction/{identity}")

    assert (answer.status_code, answer.json()["error_code"]) == (409, "extraction_not_ready")
    assert (await world.extraction()).id == identity
