"""Numbers, texts and depths that no plan has, in the answer of a real HTTP model: faults of the plan like any other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from service.agents.planner import AgentPlanner
from service.features.errors import ModelOutputInvalid
from service.features.operations import REGISTRY
from service.features.operations.registry import OperationSpec
from tests.integration.openai_stub import Reply, openai_stub
from tests.integration.test_planner import GOOD, NAME, ModelRecorder, request, stub_model

HERE = "@here@"
HUGE = "1" + "0" * 400
BEYOND_BIGINT = "9223372036854775808"
"""One more than the largest BIGINT; a float like any other."""
ODD = (
    HUGE, f"-{HUGE}", "1" + "0" * 4_299, "1" + "0" * 5_000, BEYOND_BIGINT, "NaN", "Infinity", "-Infinity",
    "1e400", "-1e999999", json.dumps("x" * 900_000), "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300,
    '"0001-01-01T00:00:00+14:00"', '"\\ud800"', '"\\u0000"',
)  # fmt: skip
"""JSON, or what some models take for it."""
PREDICATES = [("price", "gt"), ("price", "in"), ("at", "gt"), ("at", "ne")]
NUMBERS = [
    (kind, field.encode_name, literal)
    for kind, spec in REGISTRY.items()
    for field in fields(spec.type)
    for literal in ODD
    if any(word in str(field.type) for word in ("int", "float"))
    if not (literal == BEYOND_BIGINT and "float" in str(field.type))
]
"""Every parameter of an operation that takes a number, with what it does not take."""


def predicate(column: str, comparison: str) -> dict[str, Any]:
    """Return a plan that compares a column with what stands at HERE."""
    where = [{"column": column, "comparison": comparison, "values": [HERE]}]
    feature = {"name": "odd", "description": "Odd rows.", "operation": {"kind": "count", "where": where}}
    return {"grain": "entity", "entity": "user_id", "features": [feature]}


def parameter(spec: OperationSpec, field: str) -> dict[str, Any]:
    """Return a plan with one operation whose parameter stands at HERE."""
    columns = dict.fromkeys(spec.columns, "price") | {"kind": spec.kind, field: HERE}
    feature = {"name": "odd", "description": "Odd rows.", "operation": columns}
    return {"grain": spec.grain, "entity": "user_id", "features": [feature]}


def written(plan: dict[str, Any], literal: str) -> str:
    """Return the plan's JSON with the literal in its place."""
    return json.dumps(plan).replace(f'"{HERE}"', literal)


async def outcome(arguments: str, recorder: ModelRecorder) -> list[str]:
    """Return why the answer was sent back, from a model that repeats it until it is given up."""
    async with openai_stub([Reply(arguments=arguments)] * 2) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, retries=1)
        async with planner:
            with pytest.raises(ModelOutputInvalid):
                await planner.propose(request("clicks per user"))
    return recorder.retries


@pytest.mark.parametrize("literal", ODD, ids=lambda literal: literal[:12])
@pytest.mark.parametrize(("column", "comparison"), PREDICATES)
async def test_odd_literals_of_predicates(column: str, comparison: str, literal: str) -> None:
    """A literal that no column can be compared with goes back to the model twice, and then no plan is made."""
    assert await outcome(written(predicate(column, comparison), literal), ModelRecorder())


async def test_the_model_may_correct_itself() -> None:
    """An odd number is a fault that the model is told, and a good answer after it is taken."""
    recorder = ModelRecorder()
    replies = [Reply(arguments=written(predicate("price", "gt"), HUGE)), Reply(arguments=GOOD)]
    async with openai_stub(replies) as stub, AgentPlanner(
        stub_model(stub.url), name=NAME, observer=recorder
    ) as planner:  # fmt: skip
        proposal = await planner.propose(request("clicks per user"))
    assert [feature.name for feature in proposal.plan.features] == ["clicks", "mean_price"]
    assert recorder.retries == ["type_mismatch"]


@given(st.sampled_from(NUMBERS))
@example(("clip", "lower", "NaN"))
@example(("bin_by_edges", "edges", "[0, NaN]"))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_odd_numbers_of_operations(number: tuple[str, str, str]) -> None:
    """No number that a parameter could be given ends otherwise than as an answer that cannot be used."""
    kind, field, literal = number
    assert await outcome(written(parameter(REGISTRY[kind], field), literal), ModelRecorder())


@pytest.mark.parametrize("field", ["grain", "entity", "time", "features", "steps", "unheard_of"])
@pytest.mark.parametrize(
    "literal", [HUGE, "NaN", "[" * 300 + "]" * 300, json.dumps("x" * 900_000)], ids=lambda x: x[:9]
)
async def test_odd_fields_of_plans(field: str, literal: str) -> None:
    """Neither does one in a plan's own fields."""
    assert await outcome(written({**GOOD, field: HERE}, literal), ModelRecorder())
