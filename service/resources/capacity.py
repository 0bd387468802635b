"""Open what an API process must know of planning: the models' circuits, and the plans that are cached.

Imports no agent library and needs no model's key: a process that serves the API while workers plan has neither.
"""

from __future__ import annotations

from opentelemetry.trace import TracerProvider

from service import __version__
from service.agents.prompts import prompt_version
from service.features.operations import operations_version
from service.features.ports import Observer
from service.planning.admission import Admission
from service.planning.breaker import Breaker
from service.planning.capacity import PlanningCapacity
from service.planning.circuit import BreakerPolicy
from service.planning.plan_cache import KeptPlans
from service.planning.shared_breaker import SharedBreaker
from service.resources.storage import Storage
from service.settings import BUILTIN_MODEL, Settings
from service.store.plan_cache import RedisPlans
from service.telemetry.clients import redis_watcher

PROBE_MARGIN_SECONDS = 15.0
"""How much longer than a planning run a probe's lease lasts, so that no second probe goes while the first runs."""


def open_capacity(storage: Storage, observer: Observer, tracer_provider: TracerProvider) -> PlanningCapacity:
    """Open it on the circuits and plans that all processes share through the storage's Redis."""
    settings = storage.settings
    return PlanningCapacity(
        {name: _open_breaker(name, storage, observer, tracer_provider) for name in settings.model_names()},
        _open_plans(storage, tracer_provider),
        Admission(concurrency=settings.model_concurrency, queue=settings.model_queue, observer=observer),
    )


def _open_breaker(name: str, storage: Storage, observer: Observer, tracer_provider: TracerProvider) -> Breaker:
    policy = BreakerPolicy(probe_seconds=storage.settings.model_timeout_seconds + PROBE_MARGIN_SECONDS)
    pool = storage.redis_pool
    if pool is None or name == BUILTIN_MODEL:
        return Breaker(name, observer=observer, policy=policy)
    tracer = tracer_provider.get_tracer("service.planning")
    return SharedBreaker(name, pool, observer=observer, policy=policy, tracer=tracer)


def _open_plans(storage: Storage, tracer_provider: TracerProvider) -> KeptPlans | None:
    """Open the plan cache; None when the settings turn it off."""
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
    """Return what plans depend on besides request and models: rules and tools of the release, prompt, servers."""
    servers = (settings.openai_base_url or "", settings.fallback_openai_base_url or "")
    return (__version__, operations_version(), prompt_version(), str(settings.model_temperature), *servers)
