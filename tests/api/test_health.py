"""Health, readiness and metrics at the root."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service import __version__
from tests.api.conftest import World, caller


async def test_health_lists_each_dependency(serve: Callable[..., World]) -> None:
    """Healthy, degraded without the model, unhealthy without the database; what is not used is disabled."""
    world = serve()
    async with caller(world) as client:
        healthy = await client.get("/health")
        world.planner.away = True
        degraded = await client.get("/health")
        still_ready = await client.get("/health/ready")
        world.store.away = True
        unhealthy = await client.get("/health")
        unready = await client.get("/health/ready")
        alive = await client.get("/health/live")

    assert healthy.json() == {
        "status": "healthy",
        "timestamp": "2026-11-23T12:00:00Z",
        "version": __version__,
        "services": {"database": "healthy", "redis": "disabled", "ai_model": "healthy"},
    }
    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    assert still_ready.json() == {"status": "ready"}
    assert (unhealthy.status_code, unhealthy.json()["status"]) == (503, "unhealthy")
    assert unhealthy.json()["services"]["database"] == "unhealthy"
    assert (unready.status_code, unready.json()["status"]) == (503, "unavailable")
    assert "retry-after" in unready.headers
    assert (alive.status_code, alive.json()["status"]) == (200, "alive")


async def test_a_service_whose_engine_is_lost_asks_to_be_replaced(serve: Callable[..., World]) -> None:
    """When no engine process ends any more, liveness and readiness fail, though the database answers."""
    world = serve()

    class Lost:
        alive = False

    world.runtime.lifecycle.extracting = Lost()  # type: ignore[assignment] - what health asks of it
    async with caller(world) as client:
        live, ready = await client.get("/health/live"), await client.get("/health/ready")

    assert (live.status_code, live.json()) == (503, {"status": "stuck"})
    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable"})


@pytest.mark.parametrize(
    ("ready", "draining", "status"), [(False, False, "starting"), (True, True, "draining"), (True, False, "ready")]
)
async def test_readiness_follows_the_lifecycle(
    serve: Callable[..., World],
    ready: bool,  # noqa: FBT001 (a state)
    draining: bool,  # noqa: FBT001 (a state)
    status: str,
) -> None:
    """Starting and draining send traffic elsewhere."""
    world = serve()
    world.runtime.lifecycle.ready, world.runtime.lifecycle.draining = ready, draining
    async with caller(world) as client:
        answer = await client.get("/health/ready")

    assert answer.json()["status"] == status
    assert answer.status_code == (200 if status == "ready" else 503)


async def test_a_ping_that_hangs_is_unhealthy(serve: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """A dependency that does not answer in time does not hold up the probe."""
    monkeypatch.setattr("service.api.health_routes.PING_SECONDS", 0.01)
    world = serve()
    world.store.hangs = True
    async with caller(world) as client:
        answer = await client.get("/health/ready")

    assert answer.json()["status"] == "unavailable"


@pytest.mark.parametrize("environment", ["staging", "test"])
async def test_metrics_are_elsewhere(serve: Callable[..., World], environment: str) -> None:
    """In staging, and where they are disabled, the API's port says at which port they are."""
    world = serve(prometheus_enabled=environment == "staging", environment=environment)
    async with caller(world) as client:
        answer = await client.get("/metrics")

    assert (answer.status_code, answer.json()["error_code"]) == (404, "route_not_found")
    assert "PROMETHEUS_PORT" in answer.json()["detail"]


async def test_metrics_are_served_where_they_are_enabled(serve: Callable[..., World]) -> None:
    """In development and test the exposition is at /metrics of the API's port, in public."""
    world = serve(prometheus_enabled=True)
    async with caller(world) as client:
        answer = await client.get("/metrics")

    assert answer.status_code == 200
    assert "# TYPE api_requests_total counter" in answer.text
