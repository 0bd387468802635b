"""A chat-completions server on a real socket that answers from a script: the far end of the OpenAI SDK in tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One scripted answer: a tool call, plain text, an error status, or no answer at all."""

    tool: str = "propose_plan"
    arguments: object = None
    text: str | None = None
    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


@dataclass
class Stub:
    """The running server: its address and what it was asked."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first request."""


def _completion(reply: Reply, model: str) -> dict[str, Any]:
    arguments = reply.arguments if isinstance(reply.arguments, str) else json.dumps(reply.arguments)
    call = {"id": "call_1", "type": "function", "function": {"name": reply.tool, "arguments": arguments}}
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.text is None:
        message["tool_calls"] = [call]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "tool_calls" if reply.text is None else "stop", "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


async def _read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    return json.loads(await reader.readexactly(length))


@asynccontextmanager
async def openai_stub(replies: Sequence[Reply]) -> AsyncIterator[Stub]:
    """Serve the replies in turn, the last one for ever."""
    stub = Stub()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await _read(reader)
                stub.requests.append(request)
                stub.asked.set()
                reply = replies[min(len(stub.requests), len(replies)) - 1]
                if reply.hang:
                    await over.wait()
                    return
                body = reply.body if reply.body is not None else _completion(reply, request["model"])
                content = json.dumps(body).encode()
                headers = {"content-type": "application/json", "content-length": str(len(content)), **reply.headers}
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{lines}\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield stub
    finally:
        over.set()
        server.close()
        await server.wait_closed()
