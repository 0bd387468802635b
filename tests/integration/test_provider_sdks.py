"""Every provider SDK that comes with the service, over a socket: its own wire format in, the same behaviour out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import stamina

from service.agents.http_client import MAX_ANSWER_BYTES
from service.agents.planner import AgentPlanner
from service.agents.providers import build_model
from service.features.errors import ModelUnavailable
from tests.integration.test_planner import GOOD, ModelRecorder, propose

KEYS = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2", "GOOGLE_API_KEY": "sk-3"}
MODELS = (
    "openai-chat:gpt-4o-mini", "openai:gpt-5", "anthropic:claude-sonnet-5-5", "google:gemini-2.5-flash",
    "deepseek:deepseek-chat",
)  # fmt: skip
"""The last one's provider reads its key by itself."""


def _chat() -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "propose_plan", "arguments": json.dumps(GOOD)}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_760_000_000, "model": "m",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }  # fmt: skip


def _response() -> dict[str, Any]:
    call = {
        "type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed", "name": "propose_plan",
        "arguments": json.dumps(GOOD),
    }  # fmt: skip
    usage = {
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 120,
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1_760_000_000, "model": "m", "status": "completed",
        "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "parallel_tool_calls": True,
        "tool_choice": "required", "tools": [], "temperature": 0.0, "top_p": 1.0, "output": [call], "usage": usage,
    }  # fmt: skip


def _message() -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "stop_reason": "tool_use",
        "stop_sequence": None,
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "propose_plan", "input": GOOD}],
        "usage": {"input_tokens": 100, "output_tokens": 20},
    }  # fmt: skip


def _content() -> dict[str, Any]:
    part = {"functionCall": {"name": "propose_plan", "args": GOOD}}
    return {
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "modelVersion": "gemini-2.5-flash", "responseId": "r1",
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120},
    }  # fmt: skip


def good_answer(path: str) -> bytes:
    """A good plan in the wire format that the path belongs to."""
    ends = {"/chat/completions": _chat, "/responses": _response, "/messages": _message, ":generateContent": _content}
    [made] = [make for end, make in ends.items() if path.partition("?")[0].endswith(end)]
    return json.dumps(made()).encode()


@dataclass
class Far:
    """The server of any SDK: answers all requests alike, and counts them."""

    status: int = 200
    body: bytes | None = None
    """None is a good plan."""
    headers: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            await reader.readexactly(length)
            self.paths.append(head.split(" ")[1].replace(":generatecontent", ":generateContent"))
            body = good_answer(self.paths[-1]) if self.body is None else self.body
            sent = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
            writer.write(f"HTTP/1.1 {self.status} Scripted\r\nconnection: close\r\n{lines}\r\n".encode() + body)
            await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """Serve, where the SDKs look for their providers."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        monkeypatch.setenv("ANTHROPIC_BASE_URL", self.url)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", self.url)
        monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-4")
        monkeypatch.setattr("pydantic_ai.providers.deepseek.DeepSeekProvider.base_url", f"{self.url}/v1")
        async with server:
            yield


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Repeated requests follow without a wait."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def planner(name: str, far: Far, recorder: ModelRecorder) -> AgentPlanner:
    """A planner on that model, whose provider is the far end."""
    return AgentPlanner(build_model(name, keys=KEYS, openai_base_url=f"{far.url}/v1"), name=name, observer=recorder)


@pytest.mark.parametrize("name", MODELS)
async def test_any_provider_plans(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request in the provider's own format gives the plan, with its tokens."""
    far, recorder = Far(), ModelRecorder()
    async with far.listening(monkeypatch):
        proposal = await propose(planner(name, far, recorder))
    assert [feature.name for feature in proposal.plan.features] == [feature["name"] for feature in GOOD["features"]]
    assert (proposal.usage.input_tokens, proposal.usage.output_tokens) == (100, 20)
    assert len(far.paths) == 1


@pytest.mark.parametrize("name", MODELS)
async def test_no_sdk_repeats_a_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing provider is called as often as the service reports, and not once more by its SDK."""
    far, recorder = Far(status=503, body=b'{"error": {"message": "down", "type": "server_error"}}'), ModelRecorder()
    async with far.listening(monkeypatch):
        with pytest.raises(ModelUnavailable, match="answered with HTTP status 503"):
            await propose(planner(name, far, recorder))
    assert [call.status for call in recorder.calls] == ["error"] * 3
    assert len(far.paths) == 3


@pytest.mark.parametrize("name", MODELS)
async def test_every_provider_s_wish_to_be_left_alone_is_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long Retry-After is not waited for but passed on to the client."""
    far, recorder = (
        Far(status=429, body=b'{"error": {"message": "slow down"}}', headers={"retry-after": "77"}),
        ModelRecorder(),
    )
    async with far.listening(monkeypatch):
        with pytest.raises(ModelUnavailable, match="is limiting the service's requests") as raised:
            await propose(planner(name, far, recorder))
    assert raised.value.retry_after == pytest.approx(77, abs=1)
    assert len(far.paths) == 1


@pytest.mark.parametrize("name", MODELS)
async def test_no_provider_s_answer_is_read_without_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer over the limit is refused, whichever SDK reads it."""
    far, recorder = Far(body=b" " * (MAX_ANSWER_BYTES + 1) + b"{}"), ModelRecorder()
    async with far.listening(monkeypatch):
        with pytest.raises(ModelUnavailable, match="cannot be read"):
            await propose(planner(name, far, recorder))
    assert len(far.paths) == 1
