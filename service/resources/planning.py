"""The model that plans and the agent around it, from the settings."""

from __future__ import annotations

from opentelemetry.trace import TracerProvider
from pydantic import SecretStr

from service.agents.planner import AgentPlanner
from service.agents.providers import Model, build_model
from service.features.ports import Observer
from service.settings import Settings


def open_model(settings: Settings) -> Model:
    """The model that PRIMARY_MODEL names. Raises ModelConfigurationError saying how to mend it."""
    return build_model(
        settings.primary_model,
        keys=_keys(settings),
        openai_base_url=settings.openai_base_url,
        temperature=settings.model_temperature,
        max_tokens=settings.model_max_tokens,
        timeout=settings.model_timeout_seconds,
    )


def open_planner(settings: Settings, observer: Observer, tracer_provider: TracerProvider) -> AgentPlanner:
    """The planner on that model. Raises ModelConfigurationError."""
    return AgentPlanner(
        open_model(settings),
        name=settings.primary_model,
        observer=observer,
        tracer_provider=tracer_provider,
        timeout=settings.model_timeout_seconds,
    )


def _keys(settings: Settings) -> dict[str, str]:
    secrets: dict[str, SecretStr | None] = {
        "OPENAI_API_KEY": settings.openai_api_key,
        "ANTHROPIC_API_KEY": settings.anthropic_api_key,
        "GOOGLE_API_KEY": settings.google_api_key,
    }
    return {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
