"""What a process that takes requests in must know of planning: the models' circuits, and the plans that are kept.

It imports no agent library and needs no model's key: a process that serves the API while workers plan has no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from opentelemetry.trace import TracerProvider

from service import __version__
from service.agents.breaker import Breaker, BreakerPolicy, open_breaker
from service.agents.gate import Gate, Gates
from service.agents.prompts import prompt_version
from service.features.operations import operations_version
from service.features.ports import Capacity, Observer, PlanRequest
from service.planning.plan_cache import CachedCapacity, KeptPlans
from service.resources.storage import Storage
from service.settings import BUILTIN_MODEL, Settings
from service.store.plan_cache import RedisPlans
from service.telemetry.clients import redis_watcher

PROBE_MARGIN_SECONDS = 15.0
"""How much longer than a planning run a probe's lease lasts, so that no second probe goes while the first runs."""


class PlanningCapacity(Capacity, Protocol):
    """Capacity whose health can be asked."""

    async def ping(self) -> None:
        """Raises ModelUnavailable while the preferred model is left alone; asks no model, costs nothing."""
        ...


class WatchedCapacity:
    """The `PlanningCapacity` of a process that plans nothing itself."""

    def __init__(self, gates: Gates, plans: KeptPlans | None) -> None:
        self._gates = gates
        self._capacity = gates if plans is None else CachedCapacity(gates, plans)

    async def ping(self) -> None:
        """Raises ModelUnavailable while the first model is left alone."""
        await self._gates.ping()

    async def require_capacity(self, request: PlanRequest) -> None:
        """Raises ModelUnavailable while every model is left alone and no plan is kept that serves."""
        await self._capacity.require_capacity(request)


def open_capacity(storage: Storage, observer: Observer, tracer_provider: TracerProvider) -> WatchedCapacity:
    """On the circuits and plans that all processes share through the storage's Redis."""
    breakers = open_breakers(storage, observer, tracer_provider)
    gates = Gates([Gate(name, breaker) for name, breaker in breakers.items()])
    return WatchedCapacity(gates, open_plans(storage, tracer_provider))


def open_breakers(storage: Storage, observer: Observer, tracer_provider: TracerProvider) -> Mapping[str, Breaker]:
    """The circuit of each configured model, in the order in which they are asked."""
    settings = storage.settings
    return {
        name: open_breaker(
            name,
            observer=observer,
            pool=None if name == BUILTIN_MODEL else storage.redis_pool,
            watch=redis_watcher(tracer_provider),
            policy=BreakerPolicy(probe_seconds=settings.model_timeout_seconds + PROBE_MARGIN_SECONDS),
        )
        for name in settings.model_names()
    }


def open_plans(storage: Storage, tracer_provider: TracerProvider) -> KeptPlans | None:
    """Where plans are kept; None when the settings have none kept."""
    settings, pool = storage.settings, storage.redis_pool
    seconds = settings.plan_cache_seconds
    if seconds == 0:
        return None
    return KeptPlans(
        shared=None if pool is None else RedisPlans(pool, seconds=seconds, watch=redis_watcher(tracer_provider)),
        seconds=seconds,
        entries=settings.plan_cache_entries,
        models=settings.model_names(),
        versions=_versions(settings),
    )


def _versions(settings: Settings) -> tuple[str, ...]:
    """All that plans depend on beside request and model names: rules and tools of the release, prompt, servers."""
    servers = (settings.openai_base_url or "", settings.fallback_openai_base_url or "")
    return (__version__, operations_version(), prompt_version(), str(settings.model_temperature), *servers)
