"""Sanitize a model's tool calls before spans or messages can hold their names and ids.

A model may call a tool that does not exist, by a name of any length and content. Such a name becomes `unknown_tool`,
and an id that is no plain token is replaced by a new one; the originals are not kept. Lone surrogates are removed from
text, because no model accepts them back.
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
"""Ids as providers make them: `call_…`, `toolu_…`, two joined by a bar."""


class SanitizedToolCalls(WrapperModel):
    """Wrap a model so that its answers call only known tools or `unknown_tool`."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the wrapped model's answer with sanitized parts."""
        response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        offered = (*model_request_parameters.function_tools, *model_request_parameters.output_tools)
        known = {tool.name for tool in offered}
        return replace(response, parts=[_sanitized(part, known) for part in response.parts])


def _sanitized(part: ModelResponsePart, known: Collection[str]) -> ModelResponsePart:
    if isinstance(part, TextPart | ThinkingPart):
        return replace(part, content=encodable(part.content))
    if not isinstance(part, ToolCallPart):
        return part
    name = part.tool_name if part.tool_name in known else UNKNOWN
    plain = _ID.fullmatch(part.tool_call_id) is not None
    call_id = part.tool_call_id if plain else f"call_{uuid4().hex}"
    return replace(part, tool_name=name, tool_call_id=call_id, args=_as_json(part.args))


def _as_json(arguments: str | Mapping[str, Any] | None) -> str | None:
    """Encode the arguments as JSON text; SDKs give text or a mapping."""
    if arguments is None:
        return None
    return encodable(arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))
