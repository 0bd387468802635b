"""Write OpenAI's two wire formats, chat completions and responses, as a server does: whole or as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

JSON = dict[str, Any]
Wire = Literal["chat", "responses"]
Finish = Literal["done", "length", "content_filter"]

PATHS: dict[str, Wire] = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}
CREATED = 1_760_000_000
"""Seconds since the epoch; every answer says the same."""


@dataclass(frozen=True)
class Message:
    """A model's output: a tool call, or else text, or else a refusal, and why it stopped."""

    tool: str = "propose_plan"
    arguments: str | None = None
    """Of the tool call, as JSON that may be broken; None calls nothing."""
    text: str | None = None
    refusal: str | None = None
    finish: Finish = "done"
    input_tokens: int = 100
    output_tokens: int = 20


def body_of(wire: Wire, message: Message, model: str) -> bytes:
    """Encode an answer in one piece."""
    return json.dumps((_chat if wire == "chat" else _response)(message, model)).encode()


def events_of(wire: Wire, message: Message, model: str) -> bytes:
    """Encode an answer as a stream of server-sent events."""
    return b"".join(_chat_events(message, model) if wire == "chat" else _response_events(message, model))


def error_body(status: int, text: str, code: str | None = None) -> bytes:
    """Encode an error as both interfaces write it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return json.dumps({"error": {"message": text, "type": kind, "param": None, "code": code}}).encode()


def words_of(request: JSON) -> Iterable[str]:
    """Yield the texts of the user's messages in a request of either format."""
    for message in request.get("messages") or request.get("input") or ():
        if message.get("role") != "user":
            continue
        content = message["content"]
        if isinstance(content, str):
            yield content
        else:
            yield from (part["text"] for part in content if "text" in part)


# -------------------------------------------------------------------------------------------------- chat completions


def _chat(message: Message, model: str) -> JSON:
    choice = {"index": 0, "finish_reason": _chat_finish(message), "logprobs": None, "message": _chat_message(message)}
    return {**_chat_head(model, "chat.completion"), "choices": [choice], "usage": _chat_usage(message)}


def _chat_head(model: str, kind: str) -> JSON:
    return {"id": "chatcmpl-1", "object": kind, "created": CREATED, "model": model}


def _chat_message(message: Message) -> JSON:
    said: JSON = {"role": "assistant", "content": message.text, "refusal": message.refusal}
    if message.arguments is not None:
        function = {"name": message.tool, "arguments": message.arguments}
        said["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    return said


def _chat_finish(message: Message) -> str:
    if message.finish != "done":
        return message.finish
    return "stop" if message.arguments is None else "tool_calls"


def _chat_usage(message: Message) -> JSON:
    return {
        "prompt_tokens": message.input_tokens,
        "completion_tokens": message.output_tokens,
        "total_tokens": message.input_tokens + message.output_tokens,
    }


def _chat_events(message: Message, model: str) -> Iterable[bytes]:
    head = {**_chat_head(model, "chat.completion.chunk"), "usage": None}
    said = _chat_message(message)
    for index, call in enumerate(said.get("tool_calls", ())):
        call["index"] = index
    yield _event({**head, "choices": [{"index": 0, "delta": said, "finish_reason": None}]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": _chat_finish(message)}]})
    yield _event({**head, "choices": [], "usage": _chat_usage(message)})
    yield b"data: [DONE]\n\n"


# --------------------------------------------------------------------------------------------------------- responses


def _response(message: Message, model: str) -> JSON:
    return {**_response_head(message, model), "output": [_response_item(message)], "usage": _response_usage(message)}


def _response_head(message: Message, model: str) -> JSON:
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(message.finish)
    return {
        "id": "resp_1", "object": "response", "created_at": CREATED, "model": model, "error": None,
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None, "metadata": {}, "parallel_tool_calls": True, "tool_choice": "required", "tools": [],
        "temperature": 0.0, "top_p": 1.0,
    }  # fmt: skip


def _response_item(message: Message) -> JSON:
    status = "completed" if message.finish == "done" else "incomplete"
    if message.arguments is not None:
        return {
            "type": "function_call", "id": "fc_1", "call_id": "call_1", "status": status,
            "name": message.tool, "arguments": message.arguments,
        }  # fmt: skip
    if message.refusal is not None:
        part: JSON = {"type": "refusal", "refusal": message.refusal}
    else:
        part = {"type": "output_text", "text": message.text or "", "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": [part]}


def _response_usage(message: Message) -> JSON:
    return {
        "input_tokens": message.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": message.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": message.input_tokens + message.output_tokens,
    }


def _response_events(message: Message, model: str) -> Iterable[bytes]:
    item = _response_item(message)
    whole = _response(message, model)
    begun: JSON = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    steps: list[JSON] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": _begun(item)},
        *_response_deltas(item),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": f"response.{whole['status']}", "response": whole},
    ]
    for number, step in enumerate(steps):
        yield _event({**step, "sequence_number": number}, name=step["type"])


def _begun(item: JSON) -> JSON:
    empty: JSON = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
    return {**item, **empty, "status": "in_progress"}


def _response_deltas(item: JSON) -> list[JSON]:
    place: JSON = {"item_id": item["id"], "output_index": 0}
    if item["type"] == "function_call":
        kind, place["delta"] = "function_call_arguments", item["arguments"]
        return [{"type": f"response.{kind}.delta", **place}]
    [part] = item["content"]
    kind = part["type"]
    text = part["refusal"] if kind == "refusal" else part["text"]
    empty = {**part, "refusal" if kind == "refusal" else "text": ""}
    place["content_index"] = 0
    return [
        {"type": "response.content_part.added", **place, "part": empty},
        {"type": f"response.{kind}.delta", **place, "delta": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
    ]


def _event(value: JSON, name: str | None = None) -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"
