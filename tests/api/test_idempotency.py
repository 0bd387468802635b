"""`Idempotency-Key`: sending a request again is safe, at once, later, elsewhere, and after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.features.errors import ModelUnavailable
from service.features.events import ExtractionStarted
from tests.api.conftest import World, caller, calling, extract, until, upload
from tests.doubles import Gate

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


async def test_a_repeated_request_gets_the_first_answer(serve: Callable[..., World]) -> None:
    """Nothing new is made: status, body and Location are those of the first answer, marked as replayed."""
    world = serve()
    async with calling(world) as client:
        first = await extract(client, KEY)
        again = await extract(client, {**KEY, "Prefer": "respond-async", "X-Request-ID": "other"})
        other = await extract(client)

    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert first.headers["content-type"] == again.headers["content-type"] == other.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert world.planner.asked == 2
    assert other.json()["data"]["extraction_id"] != first.json()["data"]["extraction_id"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"dataset_id":"events","feature_description":"Click rate of each user"}',
        b'{"feature_description": "Click rate\\u0020of each user",\n  "dataset_id": "events"}',
        b'{"dataset_id":"events","feature_description":"Click rate of each user","quality_threshold":"medium"}',
    ],
)
async def test_spelling_of_the_json_does_not_matter(serve: Callable[..., World], body: bytes) -> None:
    """Spacing, order, escapes and explicit defaults make no other request."""
    world = serve()
    async with calling(world) as client:
        first = await extract(client, KEY)
        again = await client.post(
            "/api/v1/extract-features", content=body, headers={**KEY, "Content-Type": "application/json"}
        )

    assert again.content == first.content


async def test_another_request_under_the_key_is_refused(serve: Callable[..., World]) -> None:
    """Another body under a used key is a 422 that names the header, and changes nothing."""
    world = serve()
    async with calling(world) as client:
        first = await extract(client, KEY)
        other = await extract(client, KEY, quality_threshold="low")
        again = await extract(client, KEY)

    assert (other.status_code, other.json()["error_code"]) == (422, "idempotency_key_reused")
    assert [fault["field"] for fault in other.json()["errors"]] == ["Idempotency-Key"]
    assert again.content == first.content
    assert len(await world.extractions()) == 1


async def test_keys_belong_to_their_owner(serve: Callable[..., World]) -> None:
    """Two principals may use the same key for different things."""
    world = serve()
    async with calling(world) as ada, caller(world, await world.api_key("bob")) as bob:
        await upload(bob)
        hers = await extract(ada, KEY)
        his = await extract(bob, KEY, quality_threshold="low")

    assert hers.status_code == his.status_code == 200
    assert hers.json()["data"]["extraction_id"] != his.json()["data"]["extraction_id"]


@pytest.mark.parametrize("key", ["", "k" * 256, "two words", "tab\there", "clé"])
async def test_an_invalid_key_is_refused(serve: Callable[..., World], key: str) -> None:
    """A key has 1 to 255 visible ASCII characters; otherwise 422 names the header, and nothing is stored."""
    world = serve()
    async with calling(world) as client:
        answer = await client.post(
            "/api/v1/extract-features",
            json={"dataset_id": "events", "feature_description": "Click rate of each user"},
            headers=[("Idempotency-Key", key.encode("latin-1"))],  # type: ignore[list-item]
        )

    assert answer.status_code == 422, answer.text
    assert [fault["field"] for fault in answer.json()["errors"]] == ["Idempotency-Key"]
    assert await world.extractions() == []


async def test_two_keys_are_refused(serve: Callable[..., World]) -> None:
    """The header may be sent once."""
    world = serve()
    async with calling(world) as client:
        answer = await client.post(
            "/api/v1/extract-features",
            json={"dataset_id": "events", "feature_description": "Click rate of each user"},
            headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
        )

    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["Idempotency-Key"]


async def test_the_longest_key_is_accepted(serve: Callable[..., World]) -> None:
    """255 characters, with quotes and signs."""
    world = serve()
    async with calling(world) as client:
        answers = [await extract(client, {"Idempotency-Key": '"!~' + "k" * 252}) for _ in range(2)]

    assert answers[0].content == answers[1].content


async def test_fifty_concurrent_requests_make_one_extraction(serve: Callable[..., World]) -> None:
    """Fifty equal requests at the same time make one extraction and get fifty equal answers."""
    world = serve()
    world.planner.gate = Gate()
    async with calling(world) as client:
        asking = [asyncio.create_task(extract(client, {**KEY, "X-Request-ID": f"n-{n}"})) for n in range(50)]
        await until(lambda: [*world.notices.watches.values()] == [50])
        world.planner.gate.set()
        answers = await asyncio.gather(*asking)

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) <= 1
    assert len(await world.extractions()) == len(world.recorder.of(ExtractionStarted)) == world.planner.asked == 1


async def test_a_failure_is_replayed(serve: Callable[..., World]) -> None:
    """The problem document of a failed extraction is replayed with its Retry-After, though it would succeed now."""
    world = serve()
    world.planner.error = ModelUnavailable("No model answers.")
    async with calling(world) as client:
        first = await extract(client, KEY)
        world.planner.error = None
        again = await extract(client, KEY)

    assert first.status_code == again.status_code == 503
    assert first.content == again.content
    assert first.headers["retry-after"] == again.headers["retry-after"] == "30"
    assert again.headers["content-type"] == "application/problem+json"
    assert first.json()["extraction_id"]


async def test_a_refused_request_leaves_the_key_free(serve: Callable[..., World]) -> None:
    """A 404 for the dataset is not stored: the same request succeeds once the dataset exists."""
    world = serve()
    async with calling(world) as client:
        missing = await extract(client, KEY, dataset_id="later")
        await client.post("/api/v1/datasets?dataset_id=later", content=b"a\n1\n", headers={"Content-Type": "text/csv"})
        found = await extract(client, KEY, dataset_id="later")

    assert (missing.status_code, found.status_code) == (404, 200)
    assert "idempotency-replayed" not in found.headers


async def test_a_202_is_not_replayed(serve: Callable[..., World]) -> None:
    """The same request waits as its own preference says, and gets the result when it is ready."""
    world = serve()
    world.planner.gate = Gate()
    async with calling(world) as client:
        first = await extract(client, {**KEY, "Prefer": "respond-async"})
        second = await extract(client, {**KEY, "Prefer": "wait=0"})
        world.planner.gate.set()
        third = await extract(client, KEY)
        fourth = await extract(client, KEY)

    assert [answer.status_code for answer in (first, second, third, fourth)] == [202, 202, 200, 200]
    assert [answer.headers.get("idempotency-replayed") for answer in (first, second, third)] == [None, "true", "true"]
    assert second.headers["location"] == first.headers["location"] == third.headers["location"]
    assert fourth.content == third.content


async def test_a_past_completion_date_is_replayed(serve: Callable[..., World]) -> None:
    """A request accepted in time is answered again after its completion date; a new one with it is refused."""
    world = serve()
    async with calling(world) as client:
        first = await extract(client, KEY, completion_date="2026-11-23")
        world.clock.advance(days=1, hours=-1)
        again = await extract(client, KEY, completion_date="2026-11-23")
        new = await extract(client, {"Idempotency-Key": "new"}, completion_date="2026-11-23")

    assert again.content == first.content
    assert (new.status_code, new.json()["errors"][0]["field"]) == (422, "completion_date")


async def test_keys_expire_after_24_hours(serve: Callable[..., World]) -> None:
    """Then the same key stands for a new extraction."""
    world = serve()
    async with calling(world) as client:
        first = await extract(client, KEY)
        world.clock.advance(hours=24)
        again = await extract(client, KEY)

    assert "idempotency-replayed" not in again.headers
    assert first.json()["data"]["extraction_id"] != again.json()["data"]["extraction_id"]


async def test_another_process_answers_the_same(serve: Callable[..., World]) -> None:
    """Two processes on one database wait for the same extraction and give the same bytes."""
    one = serve()
    two = serve(database_url=one.database_url)
    one.planner.gate = two.planner.gate = Gate()
    key = await one.api_key()
    async with caller(one, key) as first, caller(two, key) as second:
        await upload(first)
        asking = [asyncio.create_task(extract(client, KEY)) for client in (second, first)]
        await until(lambda: [*one.notices.watches.values(), *two.notices.watches.values()] == [1, 1])
        one.planner.gate.set()
        answers = await asyncio.gather(*asking)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert len(await one.extractions()) == 1


async def test_a_lost_answer_is_rebuilt(serve: Callable[..., World]) -> None:
    """When a process died before it stored the answer, it is built from the extraction, and stored."""
    world = serve()
    async with calling(world) as client:
        first = await extract(client, KEY)
        await world.sql("UPDATE idempotency_keys SET answer_status = NULL, answer_headers = NULL, answer_body = NULL")
        rebuilt = await extract(client, KEY)
        again = await extract(client, KEY)

    def without_request(answer: httpx.Response) -> dict[str, Any]:
        return answer.json() | {"request_id": "", "processing_time": 0}

    assert without_request(rebuilt) == without_request(first)
    assert again.content == rebuilt.content
    assert rebuilt.headers["idempotency-replayed"] == "true"


async def test_an_answer_is_given_though_its_key_is_gone(serve: Callable[..., World]) -> None:
    """A key that was removed, or stands for another extraction by now, is left alone."""
    world = serve()
    world.planner.gate = Gate()
    async with calling(world) as client:
        asking = asyncio.create_task(extract(client, KEY))
        await asyncio.to_thread(world.planner.started.wait, 10)
        await world.sql("UPDATE idempotency_keys SET extraction_id = 'another'")
        world.planner.gate.set()
        answer = await asking

    assert answer.status_code == 200
    (kept,) = await world.sql("SELECT extraction_id, answer_status FROM idempotency_keys")
    assert kept == {"extraction_id": "another", "answer_status": None}


async def test_a_deleted_extraction_is_not_replayed(serve: Callable[..., World]) -> None:
    """Its key answers 404."""
    world = serve()
    async with calling(world) as client:
        first = await extract(client, KEY)
        await client.delete(first.headers["location"])
        again = await extract(client, KEY)

    assert (again.status_code, again.json()["error_code"]) == (404, "extraction_not_found")


async def test_cors_allows_the_header(serve: Callable[..., World]) -> None:
    """An allowed origin may send the header and read the answer's."""
    world = serve(cors_origins=("https://app.test",))
    asked = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    async with calling(world) as client:
        preflight = await client.options(
            "/api/v1/extract-features",
            headers={**asked, "Access-Control-Request-Headers": "idempotency-key,prefer,last-event-id"},
        )
        answer = await extract(client, {**KEY, "Origin": "https://app.test"})

    assert preflight.status_code == 204, preflight.text
    assert "Idempotency-Replayed" in answer.headers["access-control-expose-headers"]
