"""`python -m loadtest.model_stub serve | record`: answer like a provider, or record a distribution from metrics."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path

import msgspec

from loadtest.errors import BadInput
from loadtest.measure.selector import parse_exposition
from loadtest.measure.watch import fetch
from loadtest.model_stub.latency import METRIC, Latency, from_metrics, load_latency
from loadtest.model_stub.plans import completion

MAX_HEAD = 2**16
MAX_BODY = 2**23
PATH = "/v1/chat/completions"


class Stub:
    """Answers requests for chat completions, each after a delay of the distribution."""

    def __init__(self, latency: Latency, seed: int) -> None:
        self._latency = latency
        self._chance = random.Random(seed)  # noqa: S311 - delays are no secret

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its client leaves."""
        try:
            while await self._exchange(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError, IndexError):
            pass  # the client left, or speaks no HTTP
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if length > MAX_BODY:
            return False
        body = await reader.readexactly(length)
        path = first.split(" ")[1]
        if path != PATH:
            writer.write(_answer(404, b'{"error": {"message": "There is no such path.", "type": "not_found"}}'))
            return True
        await asyncio.sleep(self._latency.draw(self._chance))
        writer.write(_answer(200, json.dumps(completion(json.loads(body))).encode()))
        return True


def _answer(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Stub\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _serve(stub: Stub, host: str, port: int) -> None:
    server = await asyncio.start_server(stub.serve, host, port, limit=MAX_HEAD)
    address = server.sockets[0].getsockname()
    sys.stdout.write(json.dumps({"url": f"http://{address[0]}:{address[1]}/v1"}) + "\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def _record(metrics: str, model: str, out: Path) -> None:
    try:
        values = parse_exposition(fetch(metrics), [METRIC])
    except OSError as error:
        raise BadInput(f"--metrics {metrics}: cannot be read: {error}") from None
    latency = from_metrics(values, model, f"recorded: {METRIC} of {model}")
    try:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(latency), indent=2) + b"\n")
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written: {error.strerror}") from None


def main() -> int:
    """Run the command; exit status 2 with one line on bad input."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.model_stub", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="answer like a provider; prints the address for OPENAI_BASE_URL")
    serving.add_argument("--latency", default="typical-llm", help="a name, or a file")
    serving.add_argument("--host", default="127.0.0.1")
    serving.add_argument("--port", type=int, default=0, help="0 takes a free one")
    serving.add_argument("--seed", type=int, default=1)
    recording = commands.add_parser("record", help="write a distribution from a service's metrics")
    recording.add_argument("--metrics", required=True, help="address of the service's metrics")
    recording.add_argument("--model", required=True, help="as its label says")
    recording.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    try:
        if asked.command == "record":
            _record(asked.metrics, asked.model, asked.out)
        else:
            asyncio.run(_serve(Stub(load_latency(asked.latency), asked.seed), asked.host, asked.port))
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
