from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.agents.builtin.model import BuiltinPlanner
from service.agents.configuration_error import ModelConfigurationError
from service.agents.output import (
    Impossible,
    answer_tools,
    decode_plan,
    field_path,
    json_schema,
    plan_schema,
    split_fault,
)
from service.agents.providers import build_model
from service.features.model import FeaturePlan
from service.features.operations import REGISTRY

FEATURE = {"name": "rows", "description": "Rows of a user.", "operation": {"kind": "count"}}
PLAN: dict[str, Any] = {"grain": "entity", "entity": "user", "features": [FEATURE]}


def faults(answer: object) -> list[str]:
    """Return the locations of an undecodable answer's faults."""
    plan, found = decode_plan(answer)
    assert plan is None
    assert all(message for _, message in found)
    return [field_path(location) for location, _ in found]


def test_a_whole_plan_is_decoded() -> None:
    """A well-formed answer is the struct that msgspec makes of it."""
    assert decode_plan(PLAN) == (msgspec.convert(PLAN, FeaturePlan), ())


@pytest.mark.parametrize("answer", [None, 3, "plan", [], b"{}"])
def test_not_an_object(answer: object) -> None:
    """Anything but an object is one fault of the whole answer."""
    assert faults(answer) == [""]


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ({"grain": "planet"}, ["grain"]),
        ({"surprise": 1}, [""]),
        ({"features": []}, ["features"]),
        ({"features": None}, ["features"]),
        ({"features": "many"}, ["features"]),
        ({"steps": ["x" * 501]}, ["steps[0]"]),
        ({"features": [{**FEATURE, "name": "Upper Case"}]}, ["features[0].name"]),
        ({"features": [FEATURE, {**FEATURE, "code": "import os"}]}, ["features[1]"]),
        ({"features": [FEATURE, 7, {**FEATURE, "description": ""}]}, ["features[1]", "features[2].description"]),
        ({"features": [{**FEATURE, "operation": {"kind": "sql", "text": "drop"}}]}, ["features[0].operation.kind"]),
        ({"features": [{**FEATURE, "operation": {"kind": "count", "days": 3}}]}, ["features[0].operation"]),
        ({"grain": "x", "features": [{**FEATURE, "name": "1"}]}, ["grain", "features[0].name"]),
    ],
)
def test_every_fault_has_its_place(change: dict[str, Any], places: list[str]) -> None:
    """All faults are found at once, each with the path to it."""
    assert faults({**PLAN, **change}) == places


def test_missing_fields() -> None:
    """A plan without its required fields is at fault as a whole."""
    assert faults({"grain": "row"}) == [""]


def test_too_many_features() -> None:
    """A plan with too many features is refused."""
    many = [{**FEATURE, "name": f"f{number}"} for number in range(201)]
    assert faults({**PLAN, "features": many}) == ["features"]


def test_schema_is_one_object_of_all_operations() -> None:
    """The tool's schema is an object without references that names every operation."""
    schema = plan_schema()
    assert schema["type"] == "object"
    assert set(schema["required"]) == {"grain", "features"}
    text = json.dumps(schema)
    assert "$ref" not in text
    assert "$defs" not in text
    operation = schema["properties"]["features"]["items"]["properties"]["operation"]
    assert set(operation["properties"]["kind"]["enum"]) == set(REGISTRY)
    assert "description" in schema["properties"]["features"]["items"]["properties"]


def test_both_tools() -> None:
    """A model may answer with a plan or with a reason why there is none."""
    assert [tool.name for tool in answer_tools()] == ["propose_plan", "report_impossible"]
    assert json_schema(Impossible)["properties"]["reason"]["maxLength"] == 500


def test_faults_without_a_path() -> None:
    """A message of msgspec without a location is a fault of the whole answer."""
    assert split_fault("Expected `object`, got `int`") == ((), "Expected `object`, got `int`")
    assert split_fault("Bad - at `$.a[2].b`") == (("a", 2, "b"), "Bad")


def test_the_builtin_model_needs_nothing() -> None:
    """`builtin:planner` is built without keys."""
    assert isinstance(build_model("builtin:planner", keys={}), BuiltinPlanner)


@pytest.mark.parametrize("name", ["", "gpt", "nobody:model", "builtin:other"])
def test_unknown_models(name: str) -> None:
    """A name without a known provider is refused with the names that work."""
    with pytest.raises(ModelConfigurationError, match="PRIMARY_MODEL"):
        build_model(name, keys={})


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("openai:gpt-5", "OPENAI_API_KEY"), ("openai-chat:gpt-5", "OPENAI_API_KEY"),
        ("anthropic:claude-sonnet-5-5", "ANTHROPIC_API_KEY"), ("google:gemini-2.5-pro", "GOOGLE_API_KEY"),
    ],
)  # fmt: skip
def test_missing_keys(name: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider without its key is refused with the setting that is missing."""
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ModelConfigurationError, match=f"export {setting}="):
        build_model(name, keys={setting: ""})


@pytest.mark.parametrize("name", ["groq:llama-3.3-70b-versatile", "mistral:mistral-large-latest"])
def test_missing_sdk(name: str) -> None:
    """A provider whose SDK is not installed is refused with the command that installs it."""
    with pytest.raises(ModelConfigurationError, match=r"pip install 'pydantic-ai-slim\["):
        build_model(name, keys={})


def test_other_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that reads its own settings names what is missing."""
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(ModelConfigurationError, match="DEEPSEEK_API_KEY"):
        build_model("deepseek:deepseek-chat", keys={})


@pytest.mark.parametrize(
    ("name", "key", "taken"),
    [("openai:gpt-5", "OPENAI_API_KEY", {}), ("anthropic:claude-sonnet-5-5", "ANTHROPIC_API_KEY", {}),
     ("google:gemini-2.5-pro", "GOOGLE_API_KEY", {"temperature": 0.3}),
     ("openai-chat:gpt-4o", "OPENAI_API_KEY", {"temperature": 0.3})],
)  # fmt: skip
def test_configured_models(name: str, key: str, taken: dict[str, float]) -> None:
    """A model takes the service's limits and time, and its temperature if it takes any; its SDK never retries."""
    model = build_model(name, keys={key: "secret"}, temperature=0.3, max_tokens=99, timeout=5.0)
    assert model.model_name == name.partition(":")[2]
    assert model.settings == {"max_tokens": 99, "timeout": 5.0, "max_retries": 0} | taken


def test_base_url() -> None:
    """An OpenAI-compatible server needs an address and no key."""
    model = build_model("openai-chat:llama3", keys={}, openai_base_url="http://127.0.0.1:11434/v1")
    assert model.base_url is not None
    assert model.base_url.rstrip("/") == "http://127.0.0.1:11434/v1"


def test_the_package_stays_light() -> None:
    """Importing the package alone does not import pydantic-ai, which takes more than a second."""
    source = (Path(__file__).parents[2] / "service" / "agents" / "__init__.py").read_text()
    assert "import " not in source.replace("importer", "")
