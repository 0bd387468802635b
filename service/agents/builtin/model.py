"""Implement `builtin:planner` as a pydantic-ai model with the same messages and tools as any other model."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from service.agents.builtin.plan import make_plan
from service.agents.output import IMPOSSIBLE_TOOL, PLAN_TOOL, Impossible, decode_plan
from service.agents.prompts import parse
from service.concurrency.threads import run_in_thread
from service.features.model import FeaturePlan

SYSTEM = "builtin"
NAME = "builtin:planner"
CHARACTERS_PER_TOKEN = 4
"""The usual estimate for English and JSON; there is no tokenizer here."""

_FAULTY = re.compile(r"\bfeatures\[(\d+)\]")


class BuiltinPlanner(Model):
    """Plan by rules: no weights, no key, no network, the same answer every time.

    Token counts are estimated as characters of the prompt and answer divided by four. They cost nothing.
    """

    @property
    def model_name(self) -> str:
        """Return the name for spans and metrics."""
        return NAME

    @property
    def model_id(self) -> str:
        """Return the name in settings, which includes the system."""
        return NAME

    @property
    def system(self) -> str:
        """Return the provider's name for telemetry."""
        return SYSTEM

    @property
    def provider(self) -> None:
        """Return None: there is no provider."""
        return

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer with a plan; after a rejection, answer with the rejected plan without its faulty features."""
        self.prepare_request(model_settings, model_request_parameters)
        prompt = _prompt(messages)
        answer = _without_faulty(messages) or await run_in_thread(_plan, prompt)
        tool = IMPOSSIBLE_TOOL if isinstance(answer, Impossible) else PLAN_TOOL
        arguments = msgspec.json.encode(answer).decode()
        usage = RequestUsage(
            input_tokens=sum(map(_length, messages)) // CHARACTERS_PER_TOKEN,
            output_tokens=len(arguments) // CHARACTERS_PER_TOKEN,
        )
        return ModelResponse(parts=[ToolCallPart(tool, arguments)], usage=usage, model_name=NAME, provider_name=SYSTEM)


def _plan(prompt: str) -> FeaturePlan | Impossible:
    return make_plan(parse(prompt))


def _prompt(messages: Sequence[ModelMessage]) -> str:
    """Return the first user message, which has the data block."""
    return next(
        str(part.content)
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart)
    )


def _without_faulty(messages: Sequence[ModelMessage]) -> FeaturePlan | Impossible | None:
    """Return the rejected plan without its faulty features; None if nothing was rejected yet."""
    last = messages[-1]
    rejections = [
        part
        for part in (last.parts if isinstance(last, ModelRequest) else ())
        if isinstance(part, ToolReturnPart) and part.outcome == "retried"
    ]
    calls = [part for message in messages if isinstance(message, ModelResponse) for part in message.tool_calls]
    if not rejections or not calls:
        return None
    plan, _ = decode_plan(calls[-1].args_as_dict())
    faulty = {int(index) for index in _FAULTY.findall(str(rejections[-1].content))}
    kept = tuple(feature for index, feature in enumerate(plan.features if plan else ()) if index not in faulty)
    if plan is None or not kept or not faulty:
        return Impossible("no valid plan was found for this request")
    return msgspec.structs.replace(plan, features=kept)


def _length(message: ModelMessage) -> int:
    """Count the characters of a message's content."""
    instructions = message.instructions or "" if isinstance(message, ModelRequest) else ""
    return len(instructions) + sum(len(str(getattr(part, "content", ""))) for part in message.parts)
