"""The model provider of the tests, asked by the real SDK: were it wrong, what leans on it would prove nothing."""

from __future__ import annotations

import json
import time

import pytest
from openai import AsyncOpenAI, InternalServerError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from service.agents.providers import build_model
from tools.testbed.model_scenarios import SECRET, Turn, calling
from tools.testbed.model_server import ModelServer, ModelServerProcess
from tools.testbed.model_wire import Message

DATA = {"columns": [{"name": "user_id", "type": "identifier"}, {"name": "price", "type": "numeric"}]}
PROMPT = f'<untrusted-data format="json">\n{json.dumps(DATA)}\n</untrusted-data>'
TOOL = ToolDefinition(name="propose_plan", parameters_json_schema={"type": "object", "properties": {}})
WIRES = ("openai-chat", "openai")


async def ask(server: ModelServer, name: str, *, stream: bool) -> ModelResponse:
    """One request through pydantic-ai and the SDK."""
    model = build_model(name, keys={"OPENAI_API_KEY": SECRET}, openai_base_url=server.url)
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(PROMPT)])]
    parameters = ModelRequestParameters(output_mode="tool", output_tools=[TOOL], allow_text_output=True)
    async with model:
        if not stream:
            return await model.request(messages, model.settings, parameters)
        async with model.request_stream(messages, model.settings, parameters) as streamed:
            async for _ in streamed:
                pass
            return streamed.get()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_plan_is_made_from_the_request(wire: str, stream: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """In both formats, whole and streamed, the SDK reads a tool call that plans for the columns it sent."""
    with ModelServer() as server:
        response = await ask(server, f"{wire}:good.x", stream=stream)

    [call] = [part for part in response.parts if isinstance(part, ToolCallPart)]
    plan = call.args_as_dict()
    assert call.tool_name == "propose_plan"
    assert plan["entity"] == "user_id"
    assert [feature["operation"]["kind"] for feature in plan["features"]] == ["count", "aggregate"]
    assert (response.usage.input_tokens, response.usage.output_tokens) == (100, 20)
    [asked] = server.requests("good.x")
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert bool(asked.body.get("stream")) is stream


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", WIRES)
async def test_text_and_refusals_are_told_apart(wire: str, stream: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """Prose arrives as text; a refusal is reported as one."""
    with ModelServer() as server:
        server.assign("talker", [Turn(Message(text="Good day")), Turn(Message(refusal="Never"))])
        prose = await ask(server, f"{wire}:talker", stream=stream)
        refusal = await ask(server, f"{wire}:talker", stream=stream)

    assert prose.text == "Good day"
    assert prose.finish_reason == "stop"
    assert refusal.finish_reason == "content_filter"


async def test_answers_come_in_turn_and_the_last_for_ever() -> None:
    """A script is followed request by request, for each model by itself."""
    with ModelServer() as server:
        server.assign("counting", [Turn(calling(str(number))) for number in range(3)])
        server.assign("other", [Turn(calling("9"))])
        said: list[str] = []
        for name in ("counting", "other", "counting", "counting", "counting"):
            [call] = (await ask(server, f"openai-chat:{name}", stream=False)).parts
            assert isinstance(call, ToolCallPart)
            said.append(str(call.args))

    assert said == ["0", "9", "1", "2", "2"]


async def test_the_process_is_steered_over_http() -> None:
    """As a process of its own it serves the SDK, takes a new scenario, and tells when it was asked."""
    with ModelServerProcess() as server:
        client = AsyncOpenAI(api_key=SECRET, base_url=server.url, max_retries=0)
        before = time.time()
        async with client:
            server.assign("any", "status-503")
            with pytest.raises(InternalServerError):
                await client.chat.completions.create(model="any", messages=[])
            server.assign("any", "good")
            answer = await client.chat.completions.create(model="any", messages=[])
        assert answer.choices[0].message.tool_calls
        first, second = server.times("any")
        assert before <= first <= second <= time.time()
