"""Answers of a model, closed before anything else sees them: names and ids of its calls end up in spans and messages.

A model may call a tool that does not exist by a name of any length and content. Such a name becomes `unknown_tool`,
and an id that is no plain token a new one; what they said is nowhere kept. Text loses its lone surrogates, which could
not be sent back to any model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponsePart, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from service.agents.fence import encodable

UNKNOWN = "unknown_tool"

_ID = re.compile(r"[A-Za-z0-9_.:|-]{1,128}")
"""What providers make: `call_…`, `toolu_…`, two of them joined by a bar."""


class ClosedCalls(WrapperModel):
    """Passes requests on, and answers with calls of known tools or of `unknown_tool`."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """The wrapped model's answer, its parts closed."""
        response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        offered = (*model_request_parameters.function_tools, *model_request_parameters.output_tools)
        known = {tool.name for tool in offered}
        return replace(response, parts=[_closed(part, known) for part in response.parts])


def _closed(part: ModelResponsePart, known: Collection[str]) -> ModelResponsePart:
    if isinstance(part, TextPart | ThinkingPart):
        return replace(part, content=encodable(part.content))
    if not isinstance(part, ToolCallPart):
        return part
    name = part.tool_name if part.tool_name in known else UNKNOWN
    plain = _ID.fullmatch(part.tool_call_id) is not None
    call_id = part.tool_call_id if plain else f"call_{uuid4().hex}"
    return replace(part, tool_name=name, tool_call_id=call_id, args=_written(part.args))


def _written(arguments: str | Mapping[str, Any] | None) -> str | None:
    """The arguments as JSON text, whichever way the provider's SDK gives them."""
    if arguments is None:
        return None
    return encodable(arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))
