"""A chat-completions server on a real socket that answers from a script: the far end of the OpenAI SDK in tests."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal

DRIP_SECONDS = 0.02
"""Between two bytes of a dripping body."""


@dataclass(frozen=True)
class Reply:
    """One scripted answer: a tool call, plain text, an error status, raw bytes, or no answer at all."""

    tool: str = "propose_plan"
    arguments: object = None
    text: str | None = None
    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    finish_reason: str | None = None
    """Instead of the one that fits."""
    usage: dict[str, int] | None = field(
        default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    )
    raw: bytes | None = None
    """The body, byte by byte as it is."""
    wire: Literal["whole", "reset", "truncated", "drip"] = "whole"
    """How it is sent: all of it, a reset connection instead, the half of what was announced, or a byte at a time."""


@dataclass
class Stub:
    """The running server: its address and what it was asked."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first request."""
    sent: int = 0
    """Bytes of bodies that were written."""


def _completion(reply: Reply, model: str) -> dict[str, Any]:
    arguments = reply.arguments if isinstance(reply.arguments, str) else json.dumps(reply.arguments)
    call = {"id": "call_1", "type": "function", "function": {"name": reply.tool, "arguments": arguments}}
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.text is None:
        message["tool_calls"] = [call]
    finish = reply.finish_reason or ("tool_calls" if reply.text is None else "stop")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": model,
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        **({} if reply.usage is None else {"usage": reply.usage}),
    }


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    request: dict[str, Any] = json.loads(await reader.readexactly(length))
    return request


def _content(reply: Reply, model: str) -> bytes:
    if reply.raw is not None:
        return reply.raw
    return json.dumps(reply.body if reply.body is not None else _completion(reply, model)).encode()


async def _answer(reply: Reply, model: str, writer: asyncio.StreamWriter, stub: Stub) -> None:
    """Send the reply; raises ConnectionError when the connection is to be closed after it."""
    if reply.wire == "reset":
        linger = struct.pack("ii", 1, 0)  # no last words: the peer gets RST
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        raise ConnectionResetError
    content = _content(reply, model)
    headers = {"content-type": "application/json", "content-length": str(len(content)), **reply.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{lines}\r\n".encode())
    size = 1 if reply.wire == "drip" else 65_536
    if reply.wire == "truncated":
        content = content[: len(content) // 2]
    for start in range(0, len(content), size):
        stub.sent += len(chunk := content[start : start + size])
        writer.write(chunk)
        await writer.drain()
        if reply.wire == "drip":
            await asyncio.sleep(DRIP_SECONDS)
    if reply.wire == "truncated":
        raise ConnectionAbortedError


@asynccontextmanager
async def openai_stub(replies: Sequence[Reply]) -> AsyncIterator[Stub]:
    """Serve the replies in turn, the last one for ever."""
    stub = Stub()
    over = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        ended.append(end := asyncio.Event())
        try:
            while True:
                request = await _read(reader)
                stub.requests.append(request)
                stub.asked.set()
                reply = replies[min(len(stub.requests), len(replies)) - 1]
                if reply.hang:
                    await over.wait()
                    return
                await _answer(reply, request["model"], writer, stub)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            end.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield stub
    finally:
        over.set()
        server.close()
        for writer in writers:
            writer.transport.abort()
        for end in ended:
            await end.wait()
        await server.wait_closed()
