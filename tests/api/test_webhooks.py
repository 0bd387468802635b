"""`callback_url`, its webhooks and their secrets, as clients see them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from service.api.schemas import ExtractionBody
from tests.api.conftest import World, caller, calling, extract, until

URL = "https://example.org/hooks/features?key=1"


async def test_the_end_is_sent_to_the_callback_url(serve: Callable[..., World]) -> None:
    """The address is in the answer, and the webhook's data is the status that a client would have read."""
    world = serve()
    async with calling(world) as client:
        data = (await extract(client, callback_url=URL)).json()["data"]
        status = (await client.get(data["links"]["status"])).json()["data"]
        answer = (await client.get(data["links"]["deliveries"])).json()["data"]

    (delivery,) = await world.deliveries()
    assert (data["callback_url"], delivery.url, delivery.owner) == (URL, URL, "ada")
    event = json.loads(delivery.body)
    assert (event["type"], event["timestamp"]) == ("extraction.completed", data["finished_at"])
    assert {name: event["data"][name] for name in status} == status
    links = event["data"]["links"]
    assert links == {name: data["links"][name] for name in links}
    assert answer == {
        "deliveries": [
            {
                "webhook_id": delivery.id, "type": "extraction.completed", "url": URL, "state": "pending",
                "created_at": data["finished_at"], "next_attempt_at": data["finished_at"], "finished_at": None,
                "attempts": [],
            }
        ]
    }  # fmt: skip
    await until(lambda: [sent.id for sent in world.sender.sent] == [delivery.id])


async def test_a_webhook_holds_no_results(serve: Callable[..., World]) -> None:
    """No feature, statistic or sentence: those need credentials."""
    world = serve()
    async with calling(world) as client:
        await extract(client, callback_url=URL, feature_description="The sentence of the client")
    (delivery,) = await world.deliveries()
    assert "click_rate" not in delivery.body
    assert "sentence" not in delivery.body


async def test_without_a_callback_there_is_no_webhook(serve: Callable[..., World]) -> None:
    """No link to deliveries, and an empty list of them."""
    world = serve()
    async with calling(world) as client:
        data = (await extract(client)).json()["data"]
        answer = await client.get(f"/api/v1/extraction/{data['extraction_id']}/deliveries")

    assert (data["callback_url"], data["links"]["deliveries"]) == (None, None)
    assert (answer.status_code, answer.json()["data"]) == (200, {"deliveries": []})
    assert await world.deliveries() == []


async def test_cancelling_a_queued_extraction_sends_a_webhook(serve: Callable[..., World]) -> None:
    """The cancellation and its webhook are one transaction."""
    world = serve(worker_in_api=False)
    async with calling(world) as client:
        path = (await extract(client, {"Prefer": "respond-async"}, callback_url=URL)).headers["location"]
        await client.delete(path)

    assert [delivery.event_type for delivery in await world.deliveries()] == ["extraction.cancelled"]
    (job,) = await world.sql(
        "SELECT scheduled_at IS NULL AS at_once FROM procrastinate_jobs WHERE queue_name = 'webhooks'"
    )
    assert job == {"at_once": True}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://169.254.169.254/latest/meta-data", "leads to an address that is not on the public Internet"),
        ("http://localhost:8000/", "must not lead to this machine"),
        ("https://ada:pw@example.org/", "must not hold a user name or password"),
        ("javascript:alert(1)", "must begin with https:// or http://"),
        ("https://example.org:6379/", "must not use port 6379"),
    ],
)
async def test_a_forbidden_address_is_refused(client: httpx.AsyncClient, dataset: str, url: str, why: str) -> None:
    """422 with the reason, before anything is stored."""
    answer = await extract(client, callback_url=url)

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "callback_url", "message": why}]
    assert (await client.get("/api/v1/extractions")).json()["data"]["items"] == []


async def test_webhooks_of_another_principal_are_not_found(serve: Callable[..., World]) -> None:
    """404, as for its extraction."""
    world = serve()
    async with calling(world) as ada, caller(world, await world.api_key("bob")) as bob:
        path = (await extract(ada, callback_url=URL)).json()["data"]["links"]["deliveries"]
        answer = await bob.get(path)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "extraction_not_found")


async def test_each_principal_reads_its_own_secrets(world: World) -> None:
    """All keys of a principal get the same secrets, other principals get others, and a read-only key gets 403."""
    keys = [await world.api_key("ada"), await world.api_key("ada"), await world.api_key("bob")]
    secrets = []
    for key in keys:
        async with caller(world, key) as client:
            answer = await client.get("/api/v1/webhooks/secrets")
            secrets.append(answer.json()["data"]["secrets"])
            assert answer.headers["cache-control"] == "no-store"
    async with caller(world, await world.api_key("ada", "extractions:read")) as client:
        refused = await client.get("/api/v1/webhooks/secrets")

    assert secrets[0] == secrets[1] != secrets[2]
    assert [len(found) for found in secrets] == [1, 1, 1]
    assert secrets[0][0].startswith("whsec_")
    assert (refused.status_code, refused.json()["error_code"]) == (403, "scope_missing")


async def test_a_replayed_request_sends_no_second_webhook(serve: Callable[..., World]) -> None:
    """Sent again under its key, a request is neither run nor announced again; another address is another request."""
    world = serve()
    async with calling(world) as client:
        answers = [await extract(client, {"Idempotency-Key": "k"}, callback_url=URL) for _ in range(2)]
        other = await extract(client, {"Idempotency-Key": "k"}, callback_url=URL + "2")

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert (other.status_code, other.json()["error_code"]) == (422, "idempotency_key_reused")
    assert len(await world.deliveries()) == 1


def test_digest_of_a_request_without_callback_is_that_of_older_releases() -> None:
    """During a rollout, a key claimed by the release before stands for the same request."""
    body: dict[str, Any] = {
        "dataset_id": "events", "feature_description": "Click rate", "quality_threshold": "medium",
        "completion_date": None, "options": {"max_features": 20, "entity": None, "time": None, "target": None},
    }  # fmt: skip
    decoded = msgspec.convert(body, ExtractionBody)
    assert decoded.canonical() == msgspec.json.encode(body)
    told = msgspec.convert({**body, "callback_url": URL}, ExtractionBody)
    assert hashlib.sha256(told.canonical()).digest() != hashlib.sha256(decoded.canonical()).digest()


async def test_webhooks_are_documented(client: httpx.AsyncClient) -> None:
    """Each event stands in the OpenAPI document's webhooks, with its header fields and the shape of its body."""
    document = (await client.get("/api/openapi.json")).json()

    assert document["webhooks"].keys() == {"extraction.completed", "extraction.failed", "extraction.cancelled"}
    operation = document["webhooks"]["extraction.failed"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == [
        "webhook-id", "webhook-timestamp", "webhook-signature",
    ]  # fmt: skip
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/WebhookEvent"}
    assert document["components"]["schemas"]["WebhookEvent"]["required"] == ["type", "timestamp", "data"]
