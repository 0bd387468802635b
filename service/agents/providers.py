"""From a model's name in the settings to a pydantic-ai model; provider SDKs are imported only when they are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.settings import ModelSettings, merge_model_settings

from service.agents.builtin.model import NAME as BUILTIN_NAME
from service.agents.builtin.model import BuiltinPlanner

KEY_SETTINGS: Mapping[str, str] = {
    "openai": "OPENAI_API_KEY",
    "openai-chat": "OPENAI_API_KEY",
    "openai-responses": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GOOGLE_API_KEY",
}
"""Providers whose keys the service hands over itself, and the setting that holds each; others read their own."""
EXTRAS: Mapping[str, str] = {
    "openai": "openai", "openai-chat": "openai", "openai-responses": "openai", "anthropic": "anthropic",
    "google": "google",
}  # fmt: skip
"""The package extra that brings a provider's SDK."""


class ModelConfigurationError(ValueError):
    """The configured model cannot be built; the message says what to do about it."""


class _Configured(WrapperModel):
    """A model whose own settings are the service's."""

    def __init__(self, wrapped: Model, settings: ModelSettings) -> None:
        super().__init__(wrapped)
        self._configured = settings

    @property
    def settings(self) -> ModelSettings | None:
        """The service's settings over the model's."""
        return merge_model_settings(self.wrapped.settings, self._configured)


def build_model(
    name: str,
    *,
    keys: Mapping[str, str],
    openai_base_url: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 8_192,
    timeout: float = 60.0,
) -> Model:
    """Build `builtin:planner` or any `provider:model` of pydantic-ai.

    `keys` maps the names of settings (`OPENAI_API_KEY` …) to secrets; `timeout` is in seconds, for one request. The
    SDKs do not retry: retrying is the service's. Raises ModelConfigurationError for an unknown name, a missing
    package extra or a missing key.
    """
    if name == BUILTIN_NAME:
        return BuiltinPlanner()
    provider_name = name.partition(":")[0]

    def provider(provider_name: str) -> Provider[Any]:
        return _provider(provider_name, keys, openai_base_url)

    try:
        infer_provider_class(provider_name)
        model = infer_model(name, provider)
    except ImportError as error:
        extra = EXTRAS.get(provider_name)
        package = f"feature-agent[{extra}]" if extra else f"pydantic-ai-slim[{provider_name}]"
        raise ModelConfigurationError(
            f"The model {name!r} needs its provider's SDK: run `pip install '{package}'`."
        ) from error
    except ValueError as error:
        raise ModelConfigurationError(_unknown(name)) from error
    except UserError as error:
        raise ModelConfigurationError(_refused(name, provider_name, error)) from error
    return _Configured(
        model, ModelSettings(temperature=temperature, max_tokens=max_tokens, timeout=timeout, max_retries=0)
    )


def _provider(name: str, keys: Mapping[str, str], openai_base_url: str | None) -> Provider[Any]:
    setting = KEY_SETTINGS.get(name)
    if setting is None:
        return infer_provider(name)
    arguments: dict[str, Any] = {"api_key": keys[setting]} if keys.get(setting) else {}
    if setting == "OPENAI_API_KEY" and openai_base_url:
        arguments["base_url"] = openai_base_url
        # Local servers (Ollama, vLLM) take any key, and the SDK insists on one.
        arguments.setdefault("api_key", "none")
    return infer_provider_class(name)(**arguments)


def _unknown(name: str) -> str:
    return (
        f"There is no model provider for {name!r}: set PRIMARY_MODEL to {BUILTIN_NAME!r} or to `provider:model`, such "
        "as 'openai:gpt-5', 'anthropic:claude-sonnet-4-5' or 'openai-chat:llama3' with OPENAI_BASE_URL."
    )


def _refused(name: str, provider: str, error: UserError) -> str:
    """A missing key is by far the commonest reason; the library's own first sentence says what else it was."""
    setting = KEY_SETTINGS.get(provider)
    if setting is not None:
        return f"The model {name!r} needs a key: run `export {setting}=…`, or set PRIMARY_MODEL={BUILTIN_NAME}."
    return f"The model {name!r} cannot be used: {error.message.split('. ')[0].rstrip('.')}."
