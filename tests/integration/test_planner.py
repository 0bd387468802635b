from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import stamina
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai.models import Model

from service.agents.builtin.model import BuiltinPlanner
from service.agents.planner import AgentPlanner
from service.agents.providers import build_model
from service.features.errors import ModelOutputInvalid, ModelTimeout, ModelUnavailable, RequestImpossible
from service.features.events import ModelCalled, OutputRetried
from service.features.model import ColumnProfile, Dataset, ExtractionOptions, FeaturePlan, Profile, ValueCount
from service.features.plan import validate
from service.features.ports import PlanRequest
from tests.doubles import Recorder
from tests.integration.openai_stub import Reply, openai_stub

CANARY = "canary-7f3a"
NAME = "openai-chat:gpt-4o-mini"
PROFILE = Profile(
    row_count=1_000,
    columns=(
        ColumnProfile("user_id", 0, "identifier", "VARCHAR", 0.0, 100),
        ColumnProfile("at", 1, "datetime", "TIMESTAMP", 0.0, 900, "2026-01-01T00:00:01", "2026-02-01T00:00:01"),
        ColumnProfile(
            "event", 2, "categorical", "VARCHAR", 0.0, 3,
            top_values=(ValueCount("click", 300), ValueCount("impression", 690), ValueCount(CANARY, 10)),
        ),
        ColumnProfile("price", 3, "numeric", "DOUBLE", 0.1, 90, 1.0, 99.0, 20.0, 5.0, {"p50": 19.0}),
    ),
    fingerprint="0" * 64,
)  # fmt: skip
GOOD = {
    "grain": "entity",
    "entity": "user_id",
    "features": [
        {"name": "clicks", "description": "Clicks of a user.", "operation": {"kind": "count", "where": [
            {"column": "event", "comparison": "eq", "values": ["click"]}]}},
        {"name": "mean_price", "description": "Mean price of a user.", "operation": {
            "kind": "aggregate", "column": "price", "function": "mean"}},
    ],
    "steps": ["One row a user."],
}  # fmt: skip
UNDECODABLE = {
    "grain": "entity",
    "entity": "user_id",
    "features": [
        {"name": "Bad Name", "description": "Clicks of a user.", "operation": {"kind": "count"}},
        {"name": "fine", "description": "Clicks of a user.", "operation": {"kind": "count"}},
        {"name": "unknown", "description": "Clicks of a user.", "operation": {"kind": "exec", "code": CANARY}},
    ],
}
UNKNOWN_COLUMN = {
    "grain": "entity",
    "entity": "user_id",
    "features": [
        {"name": "spend", "description": "Spend of a user.", "operation": {
            "kind": "aggregate", "column": "revenue", "function": "sum"}},
    ],
}  # fmt: skip


class ModelRecorder(Recorder):
    """An observer that also lists the model requests and the rejected answers."""

    @property
    def calls(self) -> list[ModelCalled]:
        """Return the model requests."""
        return self.of(ModelCalled)

    @property
    def retries(self) -> list[str]:
        """Return the reasons of the rejected answers."""
        return [event.reason for event in self.of(OutputRetried)]


class Traced:
    """A tracer provider whose finished spans can be read."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, the innermost first."""
        return self._exporter.get_finished_spans()


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Repeated requests follow without a wait."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
def recorder() -> Recorder:
    """An observer."""
    return ModelRecorder()


@pytest.fixture
def traced() -> Traced:
    """A tracer provider."""
    return Traced()


def stub_model(url: str, **settings: Any) -> Model:
    """The OpenAI SDK pointed at the stub."""
    return build_model(NAME, keys={"OPENAI_API_KEY": "sk-test"}, openai_base_url=url, **settings)


def request(sentence: str) -> PlanRequest:
    """A request for the profile's dataset."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return PlanRequest(
        Dataset("clicks", "acme", "text/csv", 1, "datasets/clicks", PROFILE, now), sentence, ExtractionOptions()
    )


async def propose(planner: AgentPlanner, sentence: str = f"clicks per user {CANARY}") -> Any:
    """One planning run with the model's connections open."""
    async with planner:
        return await planner.propose(request(sentence))


async def test_good_plan(recorder: ModelRecorder, traced: Traced) -> None:
    """A valid plan of a chat-completions model is decoded, measured and traced."""
    async with openai_stub([Reply(arguments=GOOD)]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, tracer_provider=traced.provider)
        proposal = await propose(planner)
    assert proposal.plan == msgspec.convert(GOOD, FeaturePlan)
    assert (proposal.usage.name, proposal.usage.input_tokens, proposal.usage.output_tokens) == (NAME, 100, 20)
    assert proposal.usage.cost_usd is not None
    assert proposal.usage.cost_usd > 0
    [call] = recorder.calls
    assert (call.model, call.status, call.input_tokens, call.output_tokens) == (NAME, "success", 100, 20)
    assert call.cost_usd == proposal.usage.cost_usd
    assert recorder.retries == []
    attempt, chat, agent = traced.spans
    assert (attempt.name, chat.name, agent.name) == ("model.attempt", "chat gpt-4o-mini", "invoke_agent planner")
    assert attempt.parent is not None
    assert attempt.parent.span_id == chat.context.span_id
    assert chat.parent is not None
    assert chat.parent.span_id == agent.context.span_id


async def test_request_on_the_wire(recorder: ModelRecorder) -> None:
    """The request offers two object-typed tools without references, fences the data, and sets the limits."""
    async with openai_stub([Reply(arguments=GOOD)]) as stub:
        model = stub_model(stub.url, temperature=0.25, max_tokens=777)
        await propose(AgentPlanner(model, name=NAME, observer=recorder))
    [request] = stub.requests
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in request["tools"]}
    assert set(tools) == {"propose_plan", "report_impossible"}
    assert all(schema["type"] == "object" and schema["additionalProperties"] is False for schema in tools.values())
    assert "$ref" not in json.dumps(tools)
    assert (
        len(
            tools["propose_plan"]["properties"]["features"]["items"]["properties"]["operation"]["properties"]["kind"][
                "enum"
            ]
        )
        > 40
    )
    assert request["temperature"] == 0.25
    assert 777 in (request.get("max_tokens"), request.get("max_completion_tokens"))
    user = next(message["content"] for message in request["messages"] if message["role"] == "user")
    assert user.count("<untrusted-data") == user.count("</untrusted-data>") == 1


async def test_corrected_after_faults(recorder: ModelRecorder) -> None:
    """Every fault is sent back with its location, once for each answer, and the corrected plan is accepted."""
    async with openai_stub([
        Reply(arguments=UNDECODABLE), Reply(arguments=UNKNOWN_COLUMN), Reply(text="A plan"), Reply(arguments=GOOD)
    ]) as stub:  # fmt: skip
        proposal = await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))
    assert proposal.plan.features[0].name == "clicks"
    assert recorder.retries == ["schema", "unknown_column", "schema"]
    assert [call.status for call in recorder.calls] == ["success"] * 4
    assert proposal.usage.input_tokens == 400
    first = next(message["content"] for message in stub.requests[1]["messages"] if message["role"] == "tool")
    assert "features[0].name" in first
    assert "features[2].operation" in first
    assert "features[1]" not in first
    second = [message["content"] for message in stub.requests[2]["messages"] if message["role"] == "tool"][-1]
    assert "features[0].operation.column" in second
    assert "price" in second


async def test_malformed_arguments_are_a_schema_fault(recorder: ModelRecorder) -> None:
    """Arguments that are no JSON are sent back like any other fault."""
    async with openai_stub([Reply(arguments='{"grain": '), Reply(arguments=GOOD)]) as stub:
        proposal = await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))
    assert len(proposal.plan.features) == 2
    assert recorder.retries == ["schema"]


async def test_faults_without_end(recorder: ModelRecorder) -> None:
    """After its retries a faulty model fails, and the error holds the last faults."""
    async with openai_stub([Reply(arguments=UNKNOWN_COLUMN)]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, retries=2)
        with pytest.raises(ModelOutputInvalid) as raised:
            await propose(planner)
    assert [error.field for error in raised.value.errors] == ["features[0].operation.column"]
    assert len(stub.requests) == 3
    assert recorder.retries == ["unknown_column"] * 3


async def test_prose_without_end(recorder: ModelRecorder) -> None:
    """A model that only writes prose fails as well."""
    async with openai_stub([Reply(text="I would count the clicks.")]) as stub:
        with pytest.raises(ModelOutputInvalid):
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, retries=1))
    assert recorder.retries == ["schema"] * 2


async def test_impossible(recorder: ModelRecorder) -> None:
    """A model's report that the request is impossible reaches the client with the dataset's columns."""
    reply = Reply(tool="report_impossible", arguments={"reason": "No column holds blood pressure."})
    async with openai_stub([reply]) as stub:
        with pytest.raises(RequestImpossible, match=r"No column holds blood pressure\. .*user_id, at, event, price\."):
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))
    assert recorder.retries == []


@pytest.mark.parametrize(
    ("reply", "words", "status", "retry_after", "requests"),
    [
        (Reply(status=500, body={"error": {"message": CANARY}}), "HTTP status 500", "error", None, 3),
        (Reply(status=401, body={"error": {"message": CANARY}}), "refused the service's credentials", "error", None, 1),
        (
            Reply(status=429, body={"error": {"message": CANARY}}, headers={"retry-after": "17"}),
            "limiting", "rate_limited", 17.0, 1,
        ),
        (Reply(status=503, body={"error": {"message": CANARY}}), "HTTP status 503", "error", None, 3),
    ],
)  # fmt: skip
async def test_provider_errors(
    reply: Reply,
    words: str,
    status: str,
    retry_after: float | None,
    requests: int,
    recorder: ModelRecorder,
    traced: Traced,
) -> None:
    """A provider's error that lasts ends the run, each request measured, without the provider's own words."""
    async with openai_stub([reply]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, tracer_provider=traced.provider)
        with pytest.raises(ModelUnavailable, match=words) as raised:
            await propose(planner)
    assert CANARY not in raised.value.message
    assert raised.value.retry_after == retry_after
    assert [call.status for call in recorder.calls] == [status] * requests
    assert len(stub.requests) == requests
    assert all(CANARY not in span.to_json() for span in traced.spans)


async def test_unreachable(recorder: ModelRecorder) -> None:
    """A server that is not there makes the model unavailable."""
    planner = AgentPlanner(stub_model("http://127.0.0.1:9/v1"), name=NAME, observer=recorder)
    with pytest.raises(ModelUnavailable, match="could not be reached"):
        await propose(planner)
    assert [call.status for call in recorder.calls] == ["error"] * 3


async def test_run_over_its_time(recorder: ModelRecorder) -> None:
    """A model that never answers is cut off when the run's time is over, and counts as a timeout."""
    async with openai_stub([Reply(hang=True)]) as stub:
        with pytest.raises(ModelTimeout, match="within"):
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, timeout=0.3))
    assert [call.status for call in recorder.calls] == ["timeout"]


async def test_request_over_its_time(recorder: ModelRecorder) -> None:
    """A request that goes over its own time is a timeout, too."""
    async with openai_stub([Reply(hang=True)]) as stub:
        with pytest.raises(ModelTimeout, match="in time"):
            await propose(AgentPlanner(stub_model(stub.url, timeout=0.2), name=NAME, observer=recorder))
    assert [call.status for call in recorder.calls] == ["timeout"] * 3


async def test_cancelled_by_the_client(recorder: ModelRecorder) -> None:
    """A run that its caller cancels stays cancelled and does not count against the model."""
    async with openai_stub([Reply(hang=True)]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder)
        task = asyncio.ensure_future(propose(planner))
        await stub.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert recorder.calls == []


async def test_unknown_price(recorder: ModelRecorder) -> None:
    """The cost of a model without a known price is unknown, not nothing."""
    async with openai_stub([Reply(arguments=GOOD)]) as stub:
        model = build_model("openai-chat:home-grown-model", keys={}, openai_base_url=stub.url)
        proposal = await propose(AgentPlanner(model, name="openai-chat:home-grown-model", observer=recorder))
    assert proposal.usage.cost_usd is None
    assert recorder.calls[0].cost_usd is None


@pytest.mark.parametrize("replies", [
    [Reply(arguments=GOOD)],
    [Reply(arguments=UNDECODABLE), Reply(arguments=f'{{"{CANARY}"'), Reply(arguments=GOOD)],
    [Reply(arguments={**UNDECODABLE, CANARY: CANARY})],
    [Reply(text=CANARY)],
])  # fmt: skip
async def test_no_content_in_spans(replies: list[Reply], recorder: ModelRecorder, traced: Traced) -> None:
    """Neither the sentence, a value of the dataset, nor an answer of the model is in any span."""
    async with openai_stub(replies) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, tracer_provider=traced.provider)
        with suppress(ModelOutputInvalid):
            await propose(planner)
    assert CANARY in json.dumps(stub.requests[0])
    assert traced.spans
    assert all(CANARY not in span.to_json() for span in traced.spans)


async def test_builtin_planner(recorder: ModelRecorder, traced: Traced) -> None:
    """The built-in planner is handled like any model: spans, metrics, estimated tokens, no cost."""
    planner = AgentPlanner(BuiltinPlanner(), name="builtin:planner", observer=recorder, tracer_provider=traced.provider)
    proposal = await propose(planner, f"click-through features for each user {CANARY}")
    assert validate(proposal.plan, PROFILE, ExtractionOptions()) == ()
    assert "click_through_rate" in {feature.name for feature in proposal.plan.features}
    assert proposal.usage.cost_usd == 0.0
    [call] = recorder.calls
    assert (call.model, call.status, call.cost_usd) == ("builtin:planner", "success", 0.0)
    assert call.input_tokens > 100
    assert call.output_tokens > 10
    assert [span.name for span in traced.spans] == ["model.attempt", "chat builtin:planner", "invoke_agent planner"]
    assert all(CANARY not in span.to_json() for span in traced.spans)


async def test_builtin_planner_refuses(recorder: ModelRecorder) -> None:
    """The built-in planner reports what no column can provide."""
    with pytest.raises(RequestImpossible, match="blood pressure"):
        await propose(
            AgentPlanner(BuiltinPlanner(), name="builtin:planner", observer=recorder),
            "average blood pressure per hospital",
        )
