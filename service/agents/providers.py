"""Create the pydantic-ai model that a setting names; provider SDKs are imported only on use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx2
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.settings import ModelSettings, merge_model_settings

from service.agents.builtin.model import NAME as BUILTIN_NAME
from service.agents.builtin.model import BuiltinPlanner
from service.agents.configuration_error import ModelConfigurationError
from service.agents.http_client import bounded_client

KEY_SETTINGS: Mapping[str, str] = {
    "openai": "OPENAI_API_KEY",
    "openai-chat": "OPENAI_API_KEY",
    "openai-responses": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GOOGLE_API_KEY",
}
"""Providers that get their key from the service, and the setting that holds it; others read their own."""
EXTRAS = frozenset({"openai", "anthropic", "google"})
"""SDKs that are extras of this package; pydantic-ai has extras for the others."""

_NAMED_EXTRA = re.compile(r"pydantic-ai-slim\[([a-z0-9-]+)\]")
"""Matches the extra in pydantic-ai's error message (`azure:` needs `openai`)."""
_NAMED_VARIABLE = re.compile(r"[Ss]et the `([A-Z][A-Z0-9_]{2,63})` environment variable")
"""Matches the environment variable of a provider's key or address in pydantic-ai's error message."""


class _Configured(WrapperModel):
    """Wrap a model with the service's settings, and close the service's HTTP client with it."""

    def __init__(self, wrapped: Model, settings: ModelSettings, client: httpx2.AsyncClient) -> None:
        super().__init__(wrapped)
        self._configured = settings
        self._client = client

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        try:
            return await super().__aexit__(exc_type, exc_val, exc_tb)
        finally:
            await self._client.aclose()

    @property
    def settings(self) -> ModelSettings | None:
        """Return the model's settings, overridden by the service's."""
        return merge_model_settings(self.wrapped.settings, self._configured)


def build_model(
    name: str,
    *,
    keys: Mapping[str, str],
    setting: str = "PRIMARY_MODEL",
    openai_base_url: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 8_192,
    timeout: float = 60.0,
    watch: Callable[[httpx2.AsyncClient], object] = lambda _: None,
) -> Model:
    """Build `builtin:planner` or any `provider:model` of pydantic-ai.

    `keys` maps setting names (`OPENAI_API_KEY` …) to secrets; `setting` is the one that named the model; `timeout` is
    in seconds, for one request. The SDKs do not retry, because the service does. Entered as an async context, once, the
    model keeps its connections open. `watch` is called with its HTTP client. Raises ModelConfigurationError for an
    unknown name, a missing package extra or a missing key.
    """
    if name == BUILTIN_NAME:
        return BuiltinPlanner()
    provider_name, _, model_name = name.partition(":")
    if not model_name:
        raise ModelConfigurationError(_unknown(name, setting))
    client = bounded_client()
    watch(client)

    def provider(provider_name: str) -> Provider[Any]:
        return _provider(provider_name, keys, openai_base_url, client)

    try:
        infer_provider_class(provider_name)
        model = infer_model(name, provider)
    except ImportError as error:
        command = f"pip install '{_package(provider_name, error)}'"
        raise ModelConfigurationError(f"{setting}={name!r} needs its provider's SDK: run `{command}`.") from error
    except ValueError as error:
        raise ModelConfigurationError(_unknown(name, setting)) from error
    except Exception as error:  # pydantic-ai's UserError, or an SDK's own, such as for missing credentials
        raise ModelConfigurationError(_refused(name, provider_name, setting, keys, error)) from error
    _keep_schemas(model, provider_name)
    settings = ModelSettings(max_tokens=max_tokens, timeout=timeout, max_retries=0)
    if _takes_temperature(model.profile):
        settings["temperature"] = temperature
    return _Configured(model, settings, client)


def _provider(
    name: str, keys: Mapping[str, str], openai_base_url: str | None, client: httpx2.AsyncClient
) -> Provider[Any]:
    setting = KEY_SETTINGS.get(name)
    if setting is None:
        return _other_provider(name, client)
    arguments: dict[str, Any] = {"http_client": client}
    if keys.get(setting):
        arguments["api_key"] = keys[setting]
    if setting == "OPENAI_API_KEY" and openai_base_url:
        arguments["base_url"] = openai_base_url
        # Local servers (Ollama, vLLM) accept any key, but the SDK requires one.
        arguments.setdefault("api_key", "none")
    return infer_provider_class(name)(**arguments)


def _other_provider(name: str, client: httpx2.AsyncClient) -> Provider[Any]:
    """Create a provider that reads its own key, with our HTTP client if it accepts one."""
    if name.startswith("gateway/"):
        return infer_provider(name)
    kind = infer_provider_class(name)
    arguments: dict[str, Any] = {"http_client": client} if "http_client" in inspect.signature(kind).parameters else {}
    return kind(**arguments)


def _package(provider: str, error: ImportError) -> str:
    """Return what to install, from pydantic-ai's message if it names an extra."""
    named = _NAMED_EXTRA.search(str(error))
    extra = named[1] if named else provider
    return f"feature-agent[{extra}]" if extra in EXTRAS else f"pydantic-ai-slim[{extra}]"


def _unknown(name: str, setting: str) -> str:
    return (
        f"There is no model provider for {setting}={name!r}: set {setting} to {BUILTIN_NAME!r} or to `provider:model`, "
        "such as 'openai:gpt-5', 'anthropic:claude-sonnet-5-5' or 'openai-chat:llama3' with OPENAI_BASE_URL."
    )


def _keep_schemas(model: Model, provider: str) -> None:
    """Keep pydantic-ai from rewriting the tools' schemas for OpenAI: 11 ms of CPU, three times a run.

    It rewrites strict mode, titles and references, none of which our schemas have (`output.json_schema`).
    """
    if KEY_SETTINGS.get(provider) == "OPENAI_API_KEY":
        profile = model.profile.copy()
        profile["json_schema_transformer"] = None
        model.profile = profile


def _takes_temperature(profile: Mapping[str, Any]) -> bool:
    """Check for reasoning models, which refuse a temperature; pydantic-ai would warn at every request."""
    if profile.get("anthropic_disallows_sampling_settings"):
        return False
    rests = profile.get("openai_supports_reasoning_effort_none") and not profile.get("thinking_enabled_by_default")
    return bool(rests) or not profile.get("openai_supports_reasoning")


def _refused(name: str, provider: str, setting: str, keys: Mapping[str, str], error: Exception) -> str:
    """Explain a refused configuration: usually a missing key, otherwise the library's first sentence."""
    key = KEY_SETTINGS.get(provider)
    if key is not None and not keys.get(key):
        server = ", set OPENAI_BASE_URL if the model is on a server of your own" if key == "OPENAI_API_KEY" else ""
        return f"{setting}={name!r} needs a key: run `export {key}=…`{server}, or set {setting}={BUILTIN_NAME}."
    if isinstance(error, UserError):
        if (named := _NAMED_VARIABLE.search(error.message)) is not None:
            return f"{setting}={name!r} needs {named[1]}: run `export {named[1]}=…`, or set {setting}={BUILTIN_NAME}."
        return f"{setting}={name!r} cannot be used: {error.message.split('. ')[0].rstrip('.')}."
    return f"{setting}={name!r} cannot be used: {type(error).__name__}."
