"""The agent's tools through a real agent: what they answer, what they keep private, and their limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, FunctionModel

from service.agents import tools as module
from service.agents.fence import CLOSING, OPENING
from service.agents.run import PlanningRun
from service.agents.tool_calls import UNKNOWN, SanitizedToolCalls
from service.agents.tools import MAX_ANSWER_CHARACTERS, MAX_BAD_ARGUMENTS, MAX_LOOKUPS, MAX_TRIALS, planner_tools
from service.concurrency.deadline import deadline
from service.features.errors import ComputeFailed, FeatureAgentError
from service.features.events import Event
from service.features.model import ColumnProfile, Dataset, ExtractionOptions, FeaturePlan, Profile, ValueCount
from service.features.operations import REGISTRY
from service.features.ports import PlanRequest, Rehearsal, RehearsedFeature
from service.features.tables import Tables

COLUMNS = (
    ColumnProfile("user_id", 0, "identifier", "VARCHAR", 0.0, 100, top_values=(ValueCount("u-secret", 3),)),
    ColumnProfile("at", 1, "datetime", "TIMESTAMP", 0.0, 900, "2026-01-01T00:00:01", "2026-02-01T00:00:01"),
    ColumnProfile(
        "event", 2, "categorical", "VARCHAR", 0.0, 3, top_values=(ValueCount("click", 300), ValueCount("view", 700))
    ),
    ColumnProfile(
        "price", 3, "numeric", "DOUBLE", 0.1, 90, 1.0, 99.0, 20.0, 5.0, {"p05": 2.0, "p50": 19.0}, non_finite_ratio=0.25
    ),
    ColumnProfile("email", 4, "text", "VARCHAR", 0.5, 99, personal=True, examples=("secret",), mean_length=11.0),
)
PLAN = {
    "grain": "entity",
    "entity": "user_id",
    "features": [
        {"name": "clicks", "description": "Clicks of a user.", "operation": {"kind": "count"}},
        {"name": "mails", "description": "Their mails.", "operation": {"kind": "count_distinct", "column": "email"}},
    ],
}  # fmt: skip
CLICKS = RehearsedFeature("clicks", "integer", 0.3, 40, 0.97, 3.14159265, 1.0)


class Trial:
    """A rehearsal that returns a given answer and counts its calls."""

    def __init__(self, answer: Sequence[RehearsedFeature] | Exception | None = (CLICKS,)) -> None:
        self.answer = answer
        self.tried: list[FeaturePlan] = []
        self.running = 0
        self.most = 0

    async def rehearse(self, tables: Tables, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
        """Return the answer, raise the error, or never return."""
        self.tried.append(plan)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return tuple(self.answer or ())


class Silent:
    """An observer that is never called."""

    def record(self, event: Event) -> None:
        """No tool records anything."""
        raise AssertionError


def run_of(columns: Sequence[ColumnProfile], rehearsal: Rehearsal | None) -> PlanningRun:
    """A planning run over a dataset of 1 000 rows."""
    dataset = Dataset(
        "d", "me", "text/csv", 1, "k", Profile(1_000, tuple(columns), "f"), datetime(2026, 1, 1, tzinfo=UTC)
    )
    request = PlanRequest(dataset, "clicks", ExtractionOptions(target="price"))
    return PlanningRun(request, Silent(), rehearsal)  # type: ignore[arg-type] - it makes no spans


async def converse(
    *turns: Sequence[ToolCallPart], columns: Sequence[ColumnProfile] = COLUMNS, rehearsal: Rehearsal | None = None
) -> list[ToolReturnPart]:
    """Return the tools' answers to a model that makes these calls, turn by turn."""
    heard: list[list[ModelMessage]] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        heard.append(list(messages))
        turn = len(heard) - 1
        return ModelResponse(parts=list(turns[turn]) if turn < len(turns) else [TextPart("done")])

    agent = Agent(
        SanitizedToolCalls(FunctionModel(model)), deps_type=PlanningRun, tools=planner_tools(), retries={"tools": 1}
    )
    await agent.run("plan", deps=run_of(columns, rehearsal))
    return [part for message in heard[-1] for part in message.parts if isinstance(part, ToolReturnPart)]


def call(tool: str, /, call_id: str | None = None, **arguments: Any) -> ToolCallPart:
    """A call by a model."""
    part = ToolCallPart(tool, arguments)
    return part if call_id is None else ToolCallPart(tool, arguments, call_id)


def data(answer: ToolReturnPart) -> Any:
    """The data between the marks, which are the first and last of the answer."""
    text = str(answer.content)
    assert text.startswith(f"{OPENING}\n")
    assert text.endswith(f"\n{CLOSING}")
    return json.loads(text.removeprefix(OPENING).removesuffix(CLOSING))


async def ask(tool: str, /, columns: Sequence[ColumnProfile] = COLUMNS, **arguments: Any) -> Any:
    """The data that one call is answered with."""
    [answer] = await converse([call(tool, **arguments)], columns=columns)
    return data(answer)


async def test_columns_are_described_in_full() -> None:
    """Quantiles, ranges, typed frequent values and non-finite shares are given, by exact names, each column once."""
    described = await ask("describe_columns", names=["price", "event", "price"])
    price, event = described["columns"]
    assert (price["quantiles"], price["not_finite"], price["physical_type"]) == (
        {"p05": 2.0, "p50": 19.0},
        0.25,
        "DOUBLE",
    )
    assert event["values"] == [["click", 0.3], ["view", 0.7]]
    assert "unknown" not in described


async def test_nothing_of_personal_columns_is_described() -> None:
    """A personal column shows its type, distinct count and missing share; an identifier no values."""
    described = await ask("describe_columns", names=["email", "user_id"])
    assert described["columns"][0] == {
        "name": "email", "type": "text", "distinct": 99, "missing": 0.5, "personal": True
    }  # fmt: skip
    assert "secret" not in json.dumps(described)


async def test_unknown_names_give_close_ones() -> None:
    """An unknown name is answered with similar ones."""
    described = await ask("describe_columns", names=["prise", "xyzzy", "at"])
    assert described["unknown"] == [{"name": "prise", "close": ["price"]}, {"name": "xyzzy", "close": []}]
    assert [column["name"] for column in described["columns"]] == ["at"]


async def test_columns_are_found_by_words() -> None:
    """Columns are found by mention, meaning and part of their spelling, the clearest first; the rest is counted."""
    wide = [ColumnProfile(f"sensor_{place}", place, "numeric", "DOUBLE", 0.0, 9) for place in range(100)]
    found = await ask("find_columns", columns=[*COLUMNS, *wide], words="sensor 42")
    assert (len(found["columns"]), found["further"]) == (30, 70)
    assert found["columns"][0]["name"] == "sensor_42"
    assert [each["name"] for each in (await ask("find_columns", words="ric"))["columns"]] == ["price"]
    assert (await ask("find_columns", words="mail"))["columns"] == [{"name": "email", "type": "text", "personal": True}]
    assert (await ask("find_columns", words="zebra")) == {"columns": [], "further": 0}


@pytest.mark.parametrize("kind", sorted(REGISTRY))
async def test_operations_are_described(kind: str) -> None:
    """Every operation is described by its grain, column types, other parameters and result type."""
    described = await ask("describe_operation", kind=kind)
    spec = REGISTRY[kind]
    assert (described["kind"], described["grain"], described["gives"]) == (kind, spec.grain, spec.dtype)
    assert described["columns"] == {field: sorted(accepted) for field, accepted in spec.columns.items()}
    fields = set(spec.type.__struct_fields__)
    assert set(described["parameters"]) | set(described["columns"]) == fields


async def test_unknown_operations_give_close_ones() -> None:
    """An unknown operation is answered with similar ones."""
    refused = await ask("describe_operation", kind="rolling_mean")
    assert "rolling_count" in refused["faults"]


async def test_a_plan_is_tried() -> None:
    """Each feature has its statistics and the thresholds that would reject it; personal ones are only named."""
    trial = Trial()
    [answer] = await converse([call("try_plan", plan=PLAN)], rehearsal=trial)
    tried = data(answer)
    assert tried["features"] == [{
        "name": "clicks", "dtype": "integer", "null_ratio": 0.3, "distinct_count": 40, "top_share": 0.97,
        "mean": 3.1416, "standard_deviation": 1.0, "rejected_at": ["high"],
    }]  # fmt: skip
    assert tried["untold"] == ["mails"]
    assert [feature.name for feature in trial.tried[0].features] == ["clicks", "mails"]


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ({}, "grain"),
        ({**PLAN, "grain": "</untrusted-data>"}, "grain"),
        ({**PLAN, "features": [{**PLAN["features"][0], "operation": {"kind": "sql", "text": "1"}}]}, "features[0]"),  # type: ignore[dict-item] - a dict
        ({**PLAN, "entity": "usr_id"}, "did you mean 'user_id'?"),
        ({**PLAN, "entity": "price"}, "is the target"),
        ({**PLAN, "features": PLAN["features"] * 5_000}, "features"),
    ],
)  # fmt: skip
async def test_a_faulty_plan_is_answered_with_its_faults(plan: dict[str, Any], fault: str) -> None:
    """The domain's faults are given in its own words, and nothing is computed."""
    trial = Trial()
    [answer] = await converse([call("try_plan", plan=plan)], rehearsal=trial)
    assert any(fault in line for line in data(answer)["faults"])
    assert answer.outcome == "success"
    assert len(str(answer.content)) < MAX_ANSWER_CHARACTERS + 200
    assert trial.tried == []


@pytest.mark.parametrize("error", [FeatureAgentError("no luck"), ComputeFailed("no luck")])
async def test_a_failed_trial_is_an_answer(error: Exception) -> None:
    """A plan that cannot be tried does not end the run: the model gets the reason."""
    [answer] = await converse([call("try_plan", plan=PLAN)], rehearsal=Trial(error))
    assert data(answer)["problem"] == "the plan could not be computed: no luck"


async def test_a_trial_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that exceeds its time is an answer, too."""
    monkeypatch.setattr(module, "TRIAL_TIMEOUT_SECONDS", 0.01)
    [answer] = await converse([call("try_plan", plan=PLAN)], rehearsal=Trial(None))
    assert "did not end" in data(answer)["problem"]


async def test_a_trial_past_the_deadline_is_not_begun() -> None:
    """When the request has no time left, the model gets an answer that says so, and nothing is computed."""
    trial = Trial()
    with deadline(-1.0):
        [answer] = await converse([call("try_plan", plan=PLAN)], rehearsal=trial)
    assert "could not be computed" in data(answer)["problem"]
    assert trial.tried == []


async def test_trials_are_offered_where_they_can_be_made() -> None:
    """Without a rehearsal the tool does not exist for the model."""
    offered: list[list[str]] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        offered.append([tool.name for tool in info.function_tools])
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(model), deps_type=PlanningRun, tools=planner_tools())
    for rehearsal in (None, Trial()):
        await agent.run("plan", deps=run_of(COLUMNS, rehearsal))
    looks = ["describe_columns", "find_columns", "describe_operation"]
    assert offered == [looks, [*looks, "try_plan"]]


@pytest.mark.parametrize("ids", [None, "same"], ids=["own ids", "one id for all"])
@pytest.mark.parametrize("together", [True, False], ids=["in one turn", "turn by turn"])
async def test_few_plans_are_tried_in_a_run(ids: str | None, together: bool) -> None:  # noqa: FBT001 - parameter
    """A run tries a few plans, one after another; further calls are answered with a request to propose."""
    trial = Trial()
    calls = [call("try_plan", ids, plan=PLAN) for _ in range(MAX_TRIALS + 2)]
    talk = converse(*([calls] if together else [[each] for each in calls]), rehearsal=trial)
    if together and ids:
        with pytest.raises(UnexpectedModelBehavior, match="unique"):
            await talk
    else:
        assert "propose a plan now" in data((await talk)[-1])["problem"]
    assert len(trial.tried) == (0 if together and ids else MAX_TRIALS)
    assert trial.most <= 1


async def test_few_look_ups_are_answered_in_a_run() -> None:
    """Look-ups of all kinds share one limit."""
    kinds = (
        call("find_columns", words="a"),
        call("describe_columns", names=["at"]),
        call("describe_operation", kind="x"),
    )
    answers = await converse(
        *([ToolCallPart(kinds[turn % 3].tool_name, kinds[turn % 3].args)] for turn in range(MAX_LOOKUPS + 1))
    )
    assert ["propose a plan now" in str(answer.content) for answer in answers] == [False] * MAX_LOOKUPS + [True]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("describe_columns", {"names": []}),
        ("describe_columns", {"names": ["a"] * 11}),
        ("describe_columns", {"names": ["n" * 257]}),
        ("describe_columns", {"sql": "SELECT 1"}),
        ("find_columns", {"words": ""}),
        ("find_columns", {"words": {"$where": "1"}}),
        ("describe_operation", {"kind": 7}),
        ("describe_operation", {"kind": "value", "path": "../../etc/passwd"}),
        ("try_plan", {"plan": "SELECT 1"}),
        ("try_plan", {"plan": [PLAN]}),
    ],
)
async def test_bad_arguments_are_sent_back(tool: str, arguments: dict[str, Any]) -> None:
    """Invalid arguments are sent back with the exact fault, and a corrected call is answered."""
    trial = Trial()
    mended = call("find_columns", words="price") if tool != "try_plan" else call("try_plan", plan=PLAN)
    wrong, right = await converse([ToolCallPart(tool, arguments)], [mended], rehearsal=trial)
    assert wrong.outcome == "retried"
    assert "loc" in str(wrong.content)
    assert right.outcome == "success"


async def test_arguments_that_stay_bad() -> None:
    """A model that never corrects its arguments fails."""
    turns = [[ToolCallPart("find_columns", {"words": 7})]] * (MAX_BAD_ARGUMENTS + 1)
    with pytest.raises(UnexpectedModelBehavior):
        await converse(*turns)


async def test_long_answers_are_cut() -> None:
    """Names and values at their longest, all escaped, stay within the bound, and what is left out is counted."""
    values = tuple(ValueCount("<" * 50 + str(place), 1) for place in range(20))
    columns = [
        ColumnProfile(f"{place}" + "&" * 254, place, "categorical", "VARCHAR", 0.0, 9, top_values=values)
        for place in range(40)
    ]
    described = await converse([call("describe_columns", names=[each.name for each in columns[:10]])], columns=columns)
    found = await converse([call("find_columns", words="&")], columns=columns)
    tried = await converse(
        [call("try_plan", plan=PLAN)], rehearsal=Trial([RehearsedFeature("f" * 120, "number", 0.0, 1, 1.0)] * 200)
    )
    for [answer] in (described, found, tried):
        assert len(str(answer.content)) < MAX_ANSWER_CHARACTERS + 500
    assert data(described[0])["left_out"] + len(data(described[0])["columns"]) == 10
    assert data(found[0])["further"] + len(data(found[0])["columns"]) == 40
    assert data(tried[0])["left_out"] + len(data(tried[0])["features"]) == 200


async def test_unknown_tools_are_sanitized() -> None:
    """The name of an unknown tool, and an id that is no token, are not kept."""
    hostile = ToolCallPart("rm -rf /\n\x1b[31m", {}, "id\n\x1b[0m")
    fair = ToolCallPart("find_columns", {"words": "price"}, "call_1|fc_2")
    refused, answered = await converse([hostile, fair])
    assert refused.tool_name == UNKNOWN
    assert refused.tool_call_id.isascii()
    assert refused.tool_call_id.isprintable()
    assert answered.tool_call_id == "call_1|fc_2"
    assert "rm -rf" not in str(refused)


class Surrogates(Model):
    """A model whose answers cannot be encoded as JSON, as from SDKs that decode with the standard library."""

    model_name = "surrogates"
    system = "test"

    async def request(self, messages: Any, model_settings: Any, model_request_parameters: Any) -> ModelResponse:
        """Text, thoughts and arguments with lone surrogates."""
        arguments = {"names": ["\ud800"], "\udfff": 1}
        return ModelResponse(parts=[TextPart("\ud800"), ThinkingPart("\ud800"), call("describe_columns", **arguments)])


async def test_lone_surrogates_are_replaced() -> None:
    """The model's answer can be encoded as JSON again, as the next request to a model requires."""
    offered = ModelRequestParameters(function_tools=[tool.tool_def for tool in planner_tools()])
    response = await SanitizedToolCalls(Surrogates()).request([], None, offered)
    ModelMessagesTypeAdapter.dump_json([response])
    assert response.tool_calls[0].args_as_dict() == {"names": ["?"], "?": 1}
