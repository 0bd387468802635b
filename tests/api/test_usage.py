"""`/api/v1/usage`, and what an upload and a request for features are answered when a quota is used up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from service.features.events import QuotaRefused
from service.features.ports import Spending
from service.store.budgets import PostgresBudgets
from service.store.database import open_database
from tests.api.conftest import World, caller, extract, upload
from tests.doubles import TABLE

FIELDS = ("datasets-limit", "datasets-remaining", "stored-bytes-limit", "stored-bytes-remaining")
BODY = b"a\n1\n"
STORED = 2 * len(BODY)
"""Bytes of the original and of the table, which the engine's double copies."""


async def spend(world: World, principal: str) -> None:
    """Charge the principal for a planning of today."""
    database = open_database(world.database_url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    await PostgresBudgets(database.store).charge(principal, date(2026, 11, 23), Spending(700, 50, 0.25))
    await database.close()


async def test_usage_shows_every_quota(serve: Callable[..., World]) -> None:
    """What is kept, what was spent today and what may still be asked, each beside its limit; of the caller alone."""
    world = serve(
        max_datasets=5, max_stored_bytes=1000, rate_limit_per_minute=60, budget_tokens_per_day=1000,
        budget_usd_per_day=0.5, max_rows=77, max_cells=99, max_streams_per_principal=3, max_uploads_per_principal=0,
    )  # fmt: skip
    await spend(world, "ada")
    async with caller(world, await world.api_key()) as client, caller(world, await world.api_key("bob")) as other:
        await upload(client)
        answer = await client.get("/api/v1/usage")
        others = await other.get("/api/v1/usage")

    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data["datasets"] == {"used": 1, "limit": 5}
    assert data["stored_bytes"] == {"used": STORED, "limit": 1000}
    assert data["upload"] == {"bytes": 200_000, "rows": 77, "cells": 99}
    assert data["open"]["streams"] == {"used": 0, "limit": 3}
    assert data["open"]["uploads"] == {"used": 0, "limit": None}
    assert data["requests_per_minute"]["limit"] == 60
    assert data["requests_per_minute"]["remaining"] == int(answer.headers["ratelimit-remaining"]) == 58
    assert data["model_today"] == {
        "tokens": {"used": 750, "limit": 1000},
        "usd": {"used": 0.25, "limit": 0.5},
        "resets_at": "2026-11-24T00:00:00Z",
    }
    assert others.json()["data"]["datasets"] == {"used": 0, "limit": 5}
    assert others.json()["data"]["model_today"]["tokens"]["used"] == 0


async def test_without_limits_usage_has_none(serve: Callable[..., World]) -> None:
    """A limit that is off is null, and upload answers have no quota fields."""
    world = serve(max_datasets=0, max_stored_bytes=0)
    async with caller(world, await world.api_key()) as client:
        stored = await client.post("/api/v1/datasets", content=BODY, headers={"Content-Type": "text/csv"})
        data = (await client.get("/api/v1/usage")).json()["data"]

    assert stored.status_code == 201
    assert not [name for name in stored.headers if name.startswith("quota-")]
    assert data["datasets"] == {"used": 1, "limit": None}
    assert data["stored_bytes"] == {"used": STORED, "limit": None}
    assert data["requests_per_minute"] == {"limit": None, "remaining": None, "reset": None}


async def test_either_reading_scope_suffices(world: World) -> None:
    """Whoever may read datasets or extractions may read the usage; others may not, and strangers need a credential."""
    statuses = {}
    for scope in ("datasets:read", "extractions:read", "datasets:write"):
        async with caller(world, await world.api_key("scoped", scope)) as client:
            statuses[scope] = (await client.get("/api/v1/usage")).status_code
    async with caller(world) as stranger:
        statuses["none"] = (await stranger.get("/api/v1/usage")).status_code

    assert statuses == {"datasets:read": 200, "extractions:read": 200, "datasets:write": 403, "none": 401}


async def test_a_dataset_too_many_is_refused(serve: Callable[..., World]) -> None:
    """507 with the quota, what it is, what is used and what to delete; after a deletion there is room again."""
    world = serve(max_datasets=2, max_stored_bytes=1000)
    async with caller(world, await world.api_key()) as client:
        for name in ("first", "second"):
            await upload(client, name)
        consumed = world.artifacts.consumed
        refused = await client.post(
            "/api/v1/datasets?dataset_id=third", content=b"a\n1234\n", headers={"Content-Type": "text/csv"}
        )
        await client.delete("/api/v1/datasets/first")
        again = await client.post(
            "/api/v1/datasets?dataset_id=third", content=BODY, headers={"Content-Type": "text/csv"}
        )

    problem = refused.json()
    assert refused.status_code == 507, refused.text
    assert (problem["error_code"], problem["error_category"], problem["error_severity"]) == (
        "quota_exceeded", "quota", "medium",
    )  # fmt: skip
    assert problem["errors"] == [{"field": "datasets", "message": "limit 2, used 2"}]
    assert "first, second" in problem["detail"]
    assert problem["retry_after"] is None
    assert world.artifacts.consumed == consumed
    assert [refused.headers[f"quota-{name}"] for name in FIELDS] == ["2", "0", "1000", "984"]
    assert again.status_code == 201, again.text
    assert [again.headers[f"quota-{name}"] for name in FIELDS] == ["2", "0", "1000", "984"]
    assert [event.quota for event in world.recorder.of(QuotaRefused)] == ["datasets"]


async def test_extractions_are_refused_when_storage_is_full(serve: Callable[..., World]) -> None:
    """With no byte left a request for features is 507, and neither it, its job nor its key is stored."""
    world = serve(max_stored_bytes=STORED)
    async with caller(world, await world.api_key()) as client:
        await upload(client)
        refused = await extract(client, {"Idempotency-Key": "k"})
        await client.delete("/api/v1/datasets/events")

    assert refused.status_code == 507, refused.text
    assert refused.json()["errors"][0]["field"] == "stored_bytes"
    assert await world.extractions() == []
    assert await world.sql("SELECT 1 FROM idempotency_keys UNION ALL SELECT 1 FROM procrastinate_jobs") == []
    assert [event.quota for event in world.recorder.of(QuotaRefused)] == ["stored_bytes"]


async def test_a_completed_extraction_counts(serve: Callable[..., World]) -> None:
    """The bytes of a published table are used, and come back when it is deleted."""
    world = serve()
    async with caller(world, await world.api_key()) as client:
        await upload(client)
        done = await extract(client)
        with_table = (await client.get("/api/v1/usage")).json()["data"]["stored_bytes"]["used"]
        await client.delete(f"/api/v1/extraction/{done.json()['data']['extraction_id']}")
        without = (await client.get("/api/v1/usage")).json()["data"]["stored_bytes"]["used"]

    assert done.status_code == 200, done.text
    assert with_table == STORED + len(TABLE)
    assert without == STORED
