"""What stands outside: a model that answers at once, and a collector that takes every span and keeps none.

One process for both, whose CPU is nobody's: `python -m loadtest.benchmarks.api.sinks` prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

TRACES = "/v1/traces"
_FEATURES = [
    {"name": "row_count", "description": "How many events.", "operation": {"kind": "count"}},
    {
        "name": "mean_price",
        "description": "The mean price of an entity's events.",
        "operation": {"kind": "aggregate", "column": "price", "function": "mean"},
    },
]
PLAN = {"grain": "entity", "entity": "user_id", "features": _FEATURES, "steps": ["One row for each user."]}
"""For the benchmark's own event log; both designs are answered with it, under the name of their output tool."""


def completion(request: dict[str, Any]) -> bytes:
    """The answer to a chat completion that offers an output tool."""
    offered = [tool["function"]["name"] for tool in request.get("tools", ())]
    tool = next(name for name in offered if name in {"propose_plan", "final_result"})
    call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": json.dumps(PLAN)}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 120, "total_tokens": 1020},
    }
    return json.dumps(answer).encode()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                (
                    int(line.partition(":")[2])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length:")
                ),
                0,
            )
            body = await reader.readexactly(length)
            spans = head.split(" ", 2)[1].endswith(TRACES)
            content = b"" if spans else completion(json.loads(body))
            kind = "application/x-protobuf" if spans else "application/json"
            writer.write(
                f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
