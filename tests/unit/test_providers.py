from __future__ import annotations

import importlib.util
import sys

import pytest

from service.agents.builtin.model import BuiltinPlanner
from service.agents.configuration_error import ModelConfigurationError
from service.agents.providers import build_model

KEYS = (
    "OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No provider's key is in the environment."""
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)


def test_builtin() -> None:
    """The built-in planner needs nothing."""
    assert isinstance(build_model("builtin:planner", keys={}), BuiltinPlanner)


async def test_settings_of_every_request() -> None:
    """Every request has the configured limits, and the SDK repeats none."""
    model = build_model("openai:gpt-4o", keys={"OPENAI_API_KEY": "sk-test"}, temperature=0.5, max_tokens=77, timeout=9)
    async with model:
        assert model.settings == {"temperature": 0.5, "max_tokens": 77, "timeout": 9, "max_retries": 0}


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("openai:gpt-5", False), ("openai-chat:o3", False), ("openai:gpt-5.1", True), ("openai-chat:llama3", True),
        ("anthropic:claude-sonnet-5-5", False), ("anthropic:claude-haiku-4-5", True),
    ],
)  # fmt: skip
async def test_temperature_of_models_that_take_one(name: str, takes: bool) -> None:  # noqa: FBT001 - a table
    """A model that refuses a temperature is sent none."""
    async with build_model(name, keys={"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}) as model:
        assert ("temperature" in (model.settings or {})) is takes


async def test_openai_compatible_server() -> None:
    """An OpenAI-compatible server needs its address and no key."""
    async with build_model("openai-chat:llama3", keys={}, openai_base_url="http://127.0.0.1:11434/v1") as model:
        assert model.base_url == "http://127.0.0.1:11434/v1/"


@pytest.mark.parametrize("setting", ["PRIMARY_MODEL", "FALLBACK_MODEL"])
@pytest.mark.parametrize("name", ["nope:x", "nope", "", "test", "openai", "openai:"])
def test_unknown_model(name: str, setting: str) -> None:
    """An unknown name is refused with its setting and possible values."""
    with pytest.raises(ModelConfigurationError, match=rf"{setting}='{name}'.*set {setting} to 'builtin:planner'"):
        build_model(name, keys={}, setting=setting)


@pytest.mark.parametrize(
    ("name", "key"),
    [("openai:gpt-5", "OPENAI_API_KEY"), ("anthropic:c", "ANTHROPIC_API_KEY"), ("google:g", "GOOGLE_API_KEY")],
)
@pytest.mark.parametrize("setting", ["PRIMARY_MODEL", "FALLBACK_MODEL"])
def test_missing_key(name: str, key: str, setting: str) -> None:
    """A missing key is asked for by its name, beside the setting of the model that needs it."""
    with pytest.raises(ModelConfigurationError, match=f"{setting}=.*export {key}=.*{setting}=builtin:planner"):
        build_model(name, keys={}, setting=setting)


def test_missing_key_of_another_provider() -> None:
    """A provider whose key is not passed by the service names what is missing."""
    with pytest.raises(ModelConfigurationError, match=r"FALLBACK_MODEL='deepseek:c' needs .*export DEEPSEEK_API_KEY="):
        build_model("deepseek:c", keys={}, setting="FALLBACK_MODEL")


@pytest.mark.parametrize(("provider", "module"), [("groq", "groq"), ("mistral", "mistralai"), ("cohere", "cohere")])
def test_missing_sdk(provider: str, module: str) -> None:
    """A provider whose SDK is not installed says what to install."""
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"the SDK {module} is installed")
    with pytest.raises(ModelConfigurationError, match=rf"pip install 'pydantic-ai-slim\[{provider}\]'"):
        build_model(f"{provider}:model", keys={}, setting="FALLBACK_MODEL")


def test_missing_sdk_of_our_own_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is an extra of this package is installed by that extra."""
    monkeypatch.setitem(sys.modules, "anthropic", None)
    for name in [name for name in sys.modules if name.startswith("pydantic_ai.") and "anthropic" in name]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModelConfigurationError, match=r"pip install 'feature-agent\[anthropic\]'"):
        build_model("anthropic:claude", keys={"ANTHROPIC_API_KEY": "sk-test"})


def test_sdk_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK's own error is shown by its type only: its message may hold a secret."""

    def refuse(*_arguments: object) -> None:
        raise OSError("sk-secret")

    monkeypatch.setattr("service.agents.providers.infer_model", refuse)
    with pytest.raises(ModelConfigurationError, match="PRIMARY_MODEL='openai:g' cannot be used: OSError") as raised:
        build_model("openai:g", keys={"OPENAI_API_KEY": "sk-secret"})
    assert "sk-secret" not in str(raised.value)
