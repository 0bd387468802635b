"""Serve health at the root: for people and dashboards, for the process manager, for the load balancer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from service.api.schemas import DependencyStates, HealthView, LivenessView, ReadinessView
from service.api.services import DEPENDENCIES, ApiServices, Config, HealthCheck, Services

PING_SECONDS = 2.0
"""A dependency that takes longer to answer a ping is of no use to a request either."""

State = Literal["healthy", "unhealthy", "disabled"]


@get(
    "/health",
    operation_id="get_health",
    tags=["health"],
    summary="Health of the service and its dependencies",
    response_description="Healthy, or degraded: Redis or the model is unreachable.",
    responses={
        503: ResponseSpec(HealthView, description="Unhealthy: the database is unreachable.", generate_examples=False)
    },
)
async def get_health(services: Services, config: Config) -> Response[HealthView]:
    """Asks every dependency."""
    states = await _states(services.health_checks)
    status = _verdict(services.health_checks, states)
    view = HealthView(status, services.clock.now(), config.version, DependencyStates(**states))
    return Response(view, status_code=503 if status == "unhealthy" else 200)


@get(
    "/health/live",
    operation_id="get_liveness",
    tags=["health"],
    summary="Whether the process runs",
    response_description="It does.",
    responses={
        503: ResponseSpec(
            LivenessView,
            description="Stuck: killed processes of the engine do not end. Restart this one.",
            generate_examples=False,
        )
    },
    sync_to_thread=False,
)
def get_liveness(services: Services) -> Response[LivenessView]:
    """Touches nothing: an unreachable dependency must not get the process killed."""
    alive = services.lifecycle.alive
    return Response(LivenessView("alive" if alive else "stuck"), status_code=200 if alive else 503)


@get(
    "/health/ready",
    operation_id="get_readiness",
    tags=["health"],
    summary="Whether to send traffic here",
    response_description="Send it.",
    responses={
        503: ResponseSpec(
            ReadinessView, description="Starting, draining, stuck, or without the database.", generate_examples=False
        )
    },
)
async def get_readiness(services: Services) -> Response[ReadinessView]:
    """Redis or model trouble does not unready: requests are still worth taking."""
    status = await _readiness(services)
    ready = status == "ready"
    return Response(
        ReadinessView(status), status_code=200 if ready else 503, headers={} if ready else {"Retry-After": "5"}
    )


async def _readiness(services: ApiServices) -> Literal["ready", "starting", "draining", "unavailable"]:
    if services.lifecycle.draining:
        return "draining"
    if not services.lifecycle.ready:
        return "starting"
    if not services.lifecycle.alive:
        return "unavailable"
    critical = [check for check in services.health_checks if check.critical]
    states = await _states(critical)
    return "unavailable" if _verdict(critical, states) == "unhealthy" else "ready"


async def _states(checks: Sequence[HealthCheck]) -> dict[str, State]:
    """Return the state of every known dependency; the pings run concurrently."""
    answers = await asyncio.gather(*(_answers(check) for check in checks))
    states: dict[str, State] = dict.fromkeys(DEPENDENCIES, "disabled")
    for check, answered in zip(checks, answers, strict=True):
        states[check.name] = "healthy" if answered else "unhealthy"
    return states


def _verdict(checks: Sequence[HealthCheck], states: dict[str, State]) -> Literal["healthy", "degraded", "unhealthy"]:
    down = [check for check in checks if states[check.name] == "unhealthy"]
    if any(check.critical for check in down):
        return "unhealthy"
    return "degraded" if down else "healthy"


async def _answers(check: HealthCheck) -> bool:
    try:
        async with asyncio.timeout(PING_SECONDS):
            await check.ping()
    except Exception:  # noqa: BLE001 (whatever a ping raises, the dependency does not answer)
        return False
    return True
