"""Compose the planner of one process: models from the settings, behind the gates of `service.planning`.

Outermost first: `Planning` sets the deadline, then cache, budgets, admission, fallback, and an agent for each model.
`docs/decisions/0003-planning-when-providers-fail.md` gives the reasons for this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

from opentelemetry.trace import TracerProvider
from pydantic import SecretStr

from service.agents.fallback import FallbackPlanner
from service.agents.planner import AgentPlanner
from service.agents.providers import Model, build_model
from service.agents.tools import planner_tools
from service.concurrency.deadline import deadline
from service.features.ports import Observer, Planner, PlanRequest, Proposal, Rehearsal
from service.planning.admission import AdmittedPlanner
from service.planning.budgets import BudgetedPlanner
from service.planning.capacity import PlanningCapacity
from service.planning.plan_cache import CachedPlanner
from service.resources.storage import Storage
from service.settings import BUILTIN_MODEL, Settings
from service.store.budgets import PostgresBudgets
from service.telemetry.clients import WatchHttp


class Planning:
    """The composed planner, and the life of its connections; implements `ports.Planner`."""

    def __init__(self, planner: Planner, models: FallbackPlanner, *, timeout: float) -> None:
        """`timeout` bounds each request in seconds: waiting for a place, every model, attempt and retry."""
        self._planner = planner
        self._models = models
        self._timeout = timeout
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._opened.enter_async_context(self._models)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._opened.aclose()

    async def propose(self, request: PlanRequest) -> Proposal:
        """Plan the described features, within the timeout. Raises what `ports.Planner` says."""
        with deadline(self._timeout):
            return await self._planner.propose(request)


def open_models(settings: Settings, watch: WatchHttp = lambda _: None) -> Mapping[str, Model]:
    """Open each configured model by its name, in the order in which they are asked; `watch` instruments HTTP clients.

    Raises ModelConfigurationError, which names the setting and says how to fix it.
    """
    return {name: _open_model(settings, name, watch) for name in settings.model_names()}


def open_planning(
    models: Mapping[str, Model],
    capacity: PlanningCapacity,
    storage: Storage,
    *,
    rehearsal: Rehearsal,
    observer: Observer,
    tracer_provider: TracerProvider,
) -> Planning:
    """Open the planner on those models, which passes what the capacity consists of."""
    settings = storage.settings
    agents = [
        AgentPlanner(
            model,
            name=name,
            observer=observer,
            breaker=capacity.breakers[name],
            tracer_provider=tracer_provider,
            timeout=settings.model_timeout_seconds,
            retries=settings.model_output_retries,
            rehearsal=rehearsal,
            tools=() if name == BUILTIN_MODEL else planner_tools(),
        )
        for name, model in models.items()
    ]
    fallback = FallbackPlanner(agents, observer=observer, timeout=settings.model_timeout_seconds)
    planner = _budgeted(AdmittedPlanner(fallback, capacity.admission), storage, observer)
    if capacity.plans is not None:
        planner = CachedPlanner(planner, capacity.plans, observer)
    return Planning(planner, fallback, timeout=settings.model_timeout_seconds)


def _budgeted(planner: Planner, storage: Storage, observer: Observer) -> Planner:
    settings = storage.settings
    limited = settings.budget_tokens_per_day > 0 or settings.budget_usd_per_day > 0
    if not limited or list(settings.model_names()) == [BUILTIN_MODEL]:
        return planner
    return BudgetedPlanner(
        planner,
        budgets=PostgresBudgets(storage.database.store),
        observer=observer,
        clock=storage.clock,
        tokens_per_day=settings.budget_tokens_per_day,
        usd_per_day=settings.budget_usd_per_day,
    )


def _open_model(settings: Settings, name: str, watch: WatchHttp) -> Model:
    primary = name == settings.primary_model
    keys, base_url = _keys(settings), settings.openai_base_url
    if not primary:
        base_url = settings.fallback_openai_base_url or base_url
        if settings.fallback_openai_api_key is not None:
            keys["OPENAI_API_KEY"] = settings.fallback_openai_api_key.get_secret_value()
    return build_model(
        name,
        keys=keys,
        setting="PRIMARY_MODEL" if primary else "FALLBACK_MODEL",
        openai_base_url=base_url,
        temperature=settings.model_temperature,
        max_tokens=settings.model_max_tokens,
        timeout=settings.model_timeout_seconds,
        watch=watch,
    )


def _keys(settings: Settings) -> dict[str, str]:
    secrets: dict[str, SecretStr | None] = {
        "OPENAI_API_KEY": settings.openai_api_key,
        "ANTHROPIC_API_KEY": settings.anthropic_api_key,
        "GOOGLE_API_KEY": settings.google_api_key,
    }
    return {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
