"""What the stub answers: OpenAI's chat completions, with a call of the plan's tool for the dataset of the prompt."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Struct

TOOL = "propose_plan"
OPENING, CLOSING = '<untrusted-data format="json">', "</untrusted-data>"
MAX_MEANS = 3
NUMBERS = frozenset({"numeric", "integer"})


class _Dataset(Struct):
    columns: list[dict[str, Any]] = []


def completion(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request for a chat completion with a plan: rows and means for each value of the first identifier."""
    arguments = json.dumps(plan_for(_columns(request)))
    call = {"id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    prompt_tokens = len(json.dumps(request.get("messages", ""))) // 4
    return {
        "id": "chatcmpl-loadtest",
        "object": "chat.completion",
        "created": 0,
        "model": str(request.get("model", "")),
        "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": None, "message": message}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(arguments) // 4,
            "total_tokens": prompt_tokens + len(arguments) // 4,
        },
    }


def plan_for(columns: list[dict[str, Any]]) -> dict[str, Any]:
    """Make a plan that is valid for a dataset with an identifier."""
    entity = next((column["name"] for column in columns if column.get("type") == "identifier"), "user_id")
    numbers = [column["name"] for column in columns if column.get("type") in NUMBERS][:MAX_MEANS]
    features = [_feature("row_count", "Rows of the entity", {"kind": "count"})]
    features += [
        _feature(f"mean_{index}", f"Mean of {name}", {"kind": "aggregate", "column": name, "function": "mean"})
        for index, name in enumerate(numbers)
    ]
    return {"grain": "entity", "entity": entity, "features": features, "steps": ["One row for each entity."]}


def _feature(name: str, description: str, operation: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": f"{description}.", "operation": operation}


def _columns(request: dict[str, Any]) -> list[dict[str, Any]]:
    for message in request.get("messages", ()):
        content = message.get("content")
        texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content or ()]
        for text in texts:
            _, opening, rest = text.partition(OPENING)
            if opening and message.get("role") == "user":
                return msgspec.json.decode(rest.partition(CLOSING)[0], type=_Dataset).columns
    return []
