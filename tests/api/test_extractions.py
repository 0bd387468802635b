"""`/api/v1/extract-features` and the routes that read what became of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.api.problems import PROBLEMS
from service.features.errors import (
    BudgetExceeded,
    ComputeFailed,
    ComputeOutOfMemory,
    DeadlineExceeded,
    DependencyUnavailable,
    FeatureAgentError,
    ModelOutputInvalid,
    ModelTimeout,
    ModelUnavailable,
    PlanningBusy,
    QualityTooLow,
    RequestImpossible,
)
from service.features.events import PlanningAdmitted
from service.features.model import FieldError
from tests.api.conftest import World, caller, calling, extract, upload
from tests.doubles import NOW, Gate

FAULTS = [FieldError("features[0]", "is constant")]


async def test_the_answer_holds_the_whole_result(client: httpx.AsyncClient, dataset: str) -> None:
    """Features with lineage and quality, the model, the links and the ids come in one answer."""
    answer = await extract(client, quality_threshold="low", completion_date="2026-11-23", options={"max_features": 5})

    data = answer.json()["data"]
    assert answer.status_code == 200, answer.text
    assert answer.headers["location"] == f"/api/v1/extraction/{data['extraction_id']}" == data["links"]["self"]
    assert data["links"]["features"] == f"{data['links']['self']}/features"
    assert data["links"]["status"] == f"{data['links']['self']}/status"
    assert data["status"] == "completed"
    assert data["dataset_id"] == dataset
    rate = next(feature for feature in data["features"] if feature["name"] == "click_rate")
    assert rate["operation"]["kind"] == "rate"
    assert rate["dtype"] == "number"
    assert 0 < rate["quality_score"] <= 1
    assert rate["statistics"]["count"] == 100
    assert rate["source_columns"] == ["event"]
    assert data["feature_pipeline_steps"] == ["Grouped by user_id."]
    assert data["quality"]["threshold"] == "low"
    assert data["model"] == {
        "name": "builtin:planner", "input_tokens": 10, "output_tokens": 20, "cost_usd": 0.0, "fallback": False,
        "cached": False,
    }  # fmt: skip
    assert data["row_count"] == 100
    assert data["grain"] == "entity"
    assert data["options"]["max_features"] == 5
    assert data["completion_date"] == "2026-11-23"
    assert len(data["trace_id"]) == 32
    assert data["failure"] is None
    assert answer.json()["request_id"]


async def test_all_routes_agree_about_an_extraction(client: httpx.AsyncClient, dataset: str) -> None:
    """The result is read again as it was answered; status and list agree with it."""
    answered = (await extract(client)).json()["data"]
    path = answered["links"]["self"]

    read = (await client.get(path)).json()["data"]
    status = (await client.get(f"{path}/status")).json()["data"]
    listed = (await client.get("/api/v1/extractions?limit=1")).json()["data"]["items"]

    assert read == answered
    assert status == {
        "extraction_id": answered["extraction_id"], "status": "completed", "progress": 100, "stage": None,
        "estimated_completion": "2026-11-23T12:00:00Z", "error_message": None,
    }  # fmt: skip
    assert listed[0]["extraction_id"] == answered["extraction_id"]
    assert listed[0]["links"] == answered["links"]


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"dataset_id": ""}, {"dataset_id"}),
        ({"dataset_id": "x" * 101}, {"dataset_id"}),
        ({"dataset_id": 7}, {"dataset_id"}),
        ({"dataset_id": "../x"}, {"dataset_id"}),
        ({"feature_description": "abcd"}, {"feature_description"}),
        ({"feature_description": "    a   "}, {"feature_description"}),
        ({"feature_description": "null \0 character"}, {"feature_description"}),
        ({"feature_description": "x" * 10_001}, {"feature_description"}),
        ({"feature_description": None}, {"feature_description"}),
        ({"quality_threshold": "extreme"}, {"quality_threshold"}),
        ({"quality_threshold": None}, {"quality_threshold"}),
        ({"completion_date": "2026-11-22"}, {"completion_date"}),
        ({"completion_date": "tomorrow"}, {"completion_date"}),
        ({"completion_date": "2026-12-01T00:00:00Z"}, {"completion_date"}),
        ({"completion_date": 20261201}, {"completion_date"}),
        ({"options": {"max_features": 0}}, {"options.max_features"}),
        ({"options": {"max_features": 201}}, {"options.max_features"}),
        ({"options": {"max_features": "5"}}, {"options.max_features"}),
        ({"options": {"max_features": 5.5}}, {"options.max_features"}),
        ({"options": {"entity": "", "depth": 3}}, {"options.entity", "options.depth"}),
        ({"options": {"target": "no such column"}}, {"options.target"}),
        ({"options": []}, {"options"}),
        ({"callback_url": "ftp://example.org"}, {"callback_url"}),
        ({"callback_url": "http://127.0.0.1:8000/"}, {"callback_url"}),
        ({"callback_url": ""}, {"callback_url"}),
        (
            {"dataset_id": 1, "quality_threshold": "x", "completion_date": "x", "options": {"time": 1}, "more": 1},
            {"dataset_id", "quality_threshold", "completion_date", "options.time", "more"},
        ),
    ],
)
async def test_every_fault_of_the_body_is_named(
    client: httpx.AsyncClient, dataset: str, fields: dict[str, Any], faults: set[str]
) -> None:
    """A 422 lists each field that is wrong, missing or unknown, at any depth; nothing is stored."""
    answer = await extract(client, **fields)

    assert answer.status_code == 422, answer.text
    assert answer.json()["error_code"] == "request_invalid"
    assert {fault["field"] for fault in answer.json()["errors"]} == faults
    assert (await client.get("/api/v1/extractions")).json()["data"]["items"] == []


async def test_a_bad_choice_lists_the_valid_ones(client: httpx.AsyncClient) -> None:
    """The message for a threshold names them."""
    fault = (await extract(client, quality_threshold="extreme")).json()["errors"][0]

    assert fault["message"] == "must be one of: low, medium, high"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "request_malformed"),
        (b"{", 400, "request_malformed"),
        (b"{'dataset_id': 1}", 400, "request_malformed"),
        (b'{"dataset_id": NaN}', 400, "request_malformed"),
        (b'{"options": {"max_features": 1e999}}', 400, "request_malformed"),
        (b'{"dataset_id": "\xff"}', 400, "request_malformed"),
        (b'{"feature_description": "\\ud800 alone"}', 400, "request_malformed"),
        (b"[" * 200_000, 400, "request_malformed"),
        (b"null", 422, "request_invalid"),
        (b"[]", 422, "request_invalid"),
        (b'"text"', 422, "request_invalid"),
        (b"{}", 422, "request_invalid"),
        (b'{"dataset_id": "' + b"x" * (1024 * 1024) + b'"}', 413, "payload_too_large"),
    ],
)
async def test_an_unreadable_body_is_refused(client: httpx.AsyncClient, body: bytes, status: int, code: str) -> None:
    """Malformed JSON, another type of value, or too much of it: each has its own answer, and none is a 5xx."""
    answer = await client.post(
        "/api/v1/extract-features", content=body, headers={"Content-Type": "application/json; charset=utf-8"}
    )

    assert (answer.status_code, answer.json()["error_code"]) == (status, code)


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_another_content_type_is_unsupported(client: httpx.AsyncClient, media_type: str | None) -> None:
    """A 415 says that JSON is wanted."""
    headers = {} if media_type is None else {"Content-Type": media_type}

    answer = await client.post("/api/v1/extract-features", content=b"{}", headers=headers)

    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


async def test_an_unknown_dataset_is_not_found(client: httpx.AsyncClient) -> None:
    """404 before anything is stored."""
    answer = await extract(client, dataset_id="missing")

    assert answer.status_code == 404
    assert answer.json()["error_code"] == "dataset_not_found"
    assert "extraction_id" not in answer.json()


@pytest.mark.parametrize(
    ("error", "status", "category"),
    [
        (RequestImpossible("There is no such thing; the columns are user_id, amount."), 422, "validation"),
        (QualityTooLow("All were rejected.", errors=FAULTS), 422, "quality"),
        (ComputeOutOfMemory("Too much."), 422, "validation"),
        (ComputeFailed("It broke."), 500, "internal"),
        (RuntimeError("secret inside"), 500, "internal"),
        (ModelUnavailable("None answers."), 503, "model"),
        (ModelOutputInvalid("No valid plan.", errors=FAULTS), 503, "model"),
        (DependencyUnavailable("Gone."), 503, "dependency"),
        (ModelTimeout("Too slow."), 504, "timeout"),
        (DeadlineExceeded("Too slow."), 504, "timeout"),
        (PlanningBusy("Too many wait.", retry_after=3), 503, "model"),
        (BudgetExceeded("Spent.", retry_after=7), 429, "budget"),
    ],
)
async def test_every_failure_has_its_problem(
    serve: Callable[..., World], error: Exception, status: int, category: str
) -> None:
    """Each error of the domain is answered with its own status and code, and the extraction keeps the reason."""
    world = serve()
    world.planner.error = error
    async with caller(world, await world.api_key()) as client:
        await upload(client)
        answer = await extract(client)
        problem = answer.json()
        kept = (await client.get(f"/api/v1/extraction/{problem['extraction_id']}")).json()["data"]
        read = await client.get(f"/api/v1/extraction/{problem['extraction_id']}/status")
        table = await client.get(f"/api/v1/extraction/{problem['extraction_id']}/features")

    code = error.code if isinstance(error, FeatureAgentError) else "internal_error"
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["error_code"], problem["error_category"]) == (code, category)
    assert problem["type"] == f"/api/problems/{code}"
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (problem["retry_after"] is not None) == (status in {429, 503, 504})
    if problem["retry_after"] is not None:
        asked = error.retry_after if isinstance(error, FeatureAgentError) else None
        assert answer.headers["retry-after"] == str(math.ceil(asked) if asked else PROBLEMS[code].retry_after)
    if isinstance(error, FeatureAgentError):
        assert problem["errors"] == [{"field": e.field, "message": e.message} for e in error.errors]
    assert kept["status"] == "failed"
    assert kept["failure"]["error_code"] == code
    assert kept["failure"]["detail"] == read.json()["data"]["error_message"]
    assert table.status_code == 409


async def test_an_extraction_ends_at_its_deadline(serve: Callable[..., World]) -> None:
    """A run that does not end by itself is stopped at the deadline: 504, and the extraction is stored as failed."""
    world = serve(extraction_timeout_seconds=0.2)
    world.planner.gate = Gate()
    async with caller(world, await world.api_key()) as client:
        await upload(client)
        answer = await extract(client)
        listed = (await client.get("/api/v1/extractions")).json()["data"]["items"]
    world.planner.gate.set()

    assert (answer.status_code, answer.json()["error_code"]) == (504, "deadline_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    assert [item["status"] for item in listed] == ["failed"]


async def test_more_waiting_clients_than_allowed_are_refused(serve: Callable[..., World]) -> None:
    """503 with Retry-After at once, nothing is stored, and the place is free again afterwards."""
    world = serve(model_concurrency=1, model_queue=0)
    world.planner.gate = Gate()
    async with caller(world, await world.api_key()) as client:
        await upload(client)
        first = asyncio.create_task(extract(client))
        await asyncio.to_thread(world.planner.started.wait, 10)
        second = await extract(client)
        stored = len(await world.extractions())
        world.planner.gate.set()
        third = (await first, await extract(client))[1]

    assert (second.status_code, second.json()["error_code"]) == (503, "planning_busy")
    assert 2 <= int(second.headers["retry-after"]) <= 8
    assert stored == 1
    assert third.status_code == 200
    assert PlanningAdmitted("refused") in world.recorder.events


async def test_a_client_that_disconnects_keeps_its_extraction(serve: Callable[..., World]) -> None:
    """The extraction runs on after its client disconnected, is marked detached, and is found completed."""
    world = serve(sync_wait_seconds=300)
    world.planner.gate = Gate()
    async with caller(world, await world.api_key()) as client:
        await upload(client)
        asking = asyncio.create_task(extract(client))
        await asyncio.to_thread(world.planner.started.wait, 10)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        listed = (await client.get("/api/v1/extractions")).json()["data"]["items"]
        running = {"stage": None}
        while running["stage"] is None or not (await world.extraction()).detached:
            running = (await client.get(f"{listed[0]['links']['self']}/status")).json()["data"]
        table = await client.get(f"{listed[0]['links']['self']}/features")
        whole = (await client.get(listed[0]["links"]["self"])).json()["data"]
        world.planner.gate.set()
        ended = running
        while ended["status"] == "processing":
            ended = (await client.get(f"{listed[0]['links']['self']}/status")).json()["data"]

    assert (running["status"], running["stage"]) == ("processing", "plan")
    assert 0 < running["progress"] < 100
    assert running["estimated_completion"] is not None
    assert table.json()["error_code"] == "extraction_not_ready"
    assert int(table.headers["retry-after"]) > 0
    assert (whole["features"], whole["quality"], whole["links"]["features"]) == ([], None, None)
    assert ended["status"] == "completed"


async def test_extractions_are_filtered_and_paged(serve: Callable[..., World]) -> None:
    """`status` and `dataset_id` select; the cursor goes on where the page ended."""
    world = serve()
    async with calling(world) as client:
        identities: list[str] = []
        for _ in range(3):
            identities.append((await extract(client)).json()["data"]["extraction_id"])
            world.clock.advance(seconds=1)
        await world.change(identities[0], status="queued")

        async def listed(query: str) -> list[str]:
            items = (await client.get(f"/api/v1/extractions?{query}")).json()["data"]["items"]
            return [item["extraction_id"] for item in items]

        assert await listed("") == identities[::-1]
        assert await listed("status=queued") == identities[:1]
        assert await listed("status=completed&limit=1") == identities[2:]
        assert await listed("dataset_id=other") == []
        first = (await client.get("/api/v1/extractions?limit=2")).json()["data"]
        assert await listed(f"limit=2&cursor={first['next_cursor']}") == identities[:1]


@pytest.mark.parametrize("query", ["status=done", "status=", "dataset_id=../x", "limit=0", "limit=101", "state=failed"])
async def test_bad_filters_are_named(client: httpx.AsyncClient, query: str) -> None:
    """A misspelt filter is refused instead of selecting everything."""
    answer = await client.get(f"/api/v1/extractions?{query}")

    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize("identity", ["missing", "%00", "_", "x" * 101])
@pytest.mark.parametrize("tail", ["", "/status", "/features", "/events"])
async def test_an_unknown_extraction_is_not_found(client: httpx.AsyncClient, identity: str, tail: str) -> None:
    """Each route answers 404 for an id that does not exist."""
    answer = await client.get(f"/api/v1/extraction/{identity}{tail}")

    assert answer.status_code == 404
    assert answer.json()["error_code"] == "extraction_not_found"


async def test_estimates_need_a_start(client: httpx.AsyncClient, world: World, dataset: str) -> None:
    """A queued extraction has no estimate; half way, as much time again is still to come."""
    identity = (await extract(client)).json()["data"]["extraction_id"]
    waiting = {"status": "queued", "progress": 0, "started_at": None, "finished_at": None, "result": None}
    half = {**waiting, "status": "processing", "progress": 50, "started_at": NOW - timedelta(seconds=10)}

    estimates = []
    for state in (waiting, half):
        await world.change(identity, **state)
        status = (await client.get(f"/api/v1/extraction/{identity}/status")).json()["data"]
        estimates.append(status["estimated_completion"])

    assert estimates == [None, "2026-11-23T12:00:10Z"]
