"""A stub model provider on a real socket: it speaks OpenAI's protocols and answers as its scenarios say.

`ModelServer` runs it in a thread. `python -m tools.testbed.model_server` runs it as a process that prints its address
as one line of JSON; `ModelServerProcess` starts such a process and controls it over `/control`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tools.testbed.model_scenarios import DRIP_SECONDS, SCENARIOS, Turn, plan_for, scenario_of
from tools.testbed.model_wire import PATHS, Wire, body_of, error_body, events_of

ROOT = Path(__file__).parents[2]
STEP_SECONDS = 30.0
"""For starting, stopping and one call of the control interface."""
MAX_HEAD = 2**16


@dataclass(frozen=True)
class Asked:
    """One request to a model, as it arrived."""

    model: str
    wire: Wire
    at: float
    """Seconds since the epoch."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: dict[str, Any]


@dataclass
class Provider:
    """Answer requests; knows nothing of threads and processes."""

    asked: list[Asked] = field(default_factory=list[Asked])
    scripts: dict[str, Sequence[Turn]] = field(default_factory=dict[str, Sequence[Turn]])
    """Assigned scenarios by model; other models behave as their names say."""
    _turns: dict[str, int] = field(default_factory=dict[str, int])

    def assign(self, model: str, turns: Sequence[Turn]) -> None:
        """Assign answers to a model, beginning with the first."""
        self.scripts[model] = turns
        self._turns[model] = 0

    def requests(self, model: str | None = None) -> list[Asked]:
        """Return the requests so far, to one model or to all."""
        return [asked for asked in list(self.asked) if model in {None, asked.model}]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            try:
                while await self._exchange(reader, writer):
                    await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        method, target, headers = _parse((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        path = urlsplit(target).path
        if path.startswith("/control/"):
            writer.write(_http(200, {}, json.dumps(self._control(method, target, content)).encode()))
            return True
        if path not in PATHS:
            writer.write(_http(404, {}, error_body(404, "There is no such path.")))
            return True
        asked = Asked(str(json.loads(content)["model"]), PATHS[path], time.time(), headers, json.loads(content))
        return await self._answer(asked, reader, writer)

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.asked.append(asked)
        turn = self._turn(asked.model)
        await asyncio.sleep(turn.delay_seconds)
        answer = _rendered(turn, asked)
        if turn.delivery == "whole":
            writer.write(answer)
            return True
        if turn.delivery == "hang":
            await reader.read(1)  # ends when the caller leaves
        elif turn.delivery == "cut":
            writer.write(answer[: len(answer) - _length(answer) // 2])
            await writer.drain()
        elif turn.delivery == "cut-stream":
            writer.write(_chunked(answer)[: -_length(answer) // 2])
            await writer.drain()
        elif turn.delivery == "drip":
            await _drip(answer, writer)
        else:
            _reset(writer)
        return False

    def _turn(self, model: str) -> Turn:
        turns = self.scripts.get(model) or scenario_of(model)
        index = self._turns.get(model, 0)
        self._turns[model] = index + 1
        return turns[min(index, len(turns) - 1)]

    def _control(self, method: str, target: str, content: bytes) -> object:
        """Serve `/control`: GET requests and times, each with `?model=`, and PUT model/NAME to assign a scenario."""
        url = urlsplit(target)
        model = next(iter(parse_qs(url.query).get("model", ())), None)
        if method == "PUT":
            self.assign(unquote(url.path.removeprefix("/control/model/")), SCENARIOS[json.loads(content)])
            return None
        if url.path == "/control/times":
            return [asked.at for asked in self.requests(model)]
        return [asdict(asked) for asked in self.requests(model)]


def _parse(head: str) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return method, target, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _http(status: int, headers: Mapping[str, str], content: bytes) -> bytes:
    sent = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode() + content


def _length(answer: bytes) -> int:
    return len(answer) - answer.index(b"\r\n\r\n") - 4


def _chunked(answer: bytes) -> bytes:
    """Encode the same answer in chunks of 64 bytes, without Content-Length."""
    head, body = answer[: -_length(answer)], answer[-_length(answer) :]
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    chunks = [body[start : start + 64] for start in range(0, len(body), 64)]
    encoded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"\r\n".join([lines[0], b"transfer-encoding: chunked", *lines[1:]]) + encoded + b"0\r\n\r\n"


def _rendered(turn: Turn, asked: Asked) -> bytes:
    """Encode the whole answer; a stream is sent with its length, which SSE clients accept."""
    if turn.body is not None:
        return _http(turn.status, turn.all_headers(), turn.body)
    message = turn.message or plan_for(asked.body)
    if asked.body.get("stream"):
        events = events_of(asked.wire, message, asked.model)
        return _http(turn.status, {"content-type": "text/event-stream", **turn.all_headers()}, events)
    return _http(turn.status, turn.all_headers(), body_of(asked.wire, message, asked.model))


async def _drip(answer: bytes, writer: asyncio.StreamWriter) -> None:
    head = len(answer) - _length(answer)
    writer.write(answer[:head])
    for byte in answer[head:]:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(DRIP_SECONDS)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection with a TCP reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _run(provider: Provider, host: str, port: int, over: asyncio.Event, ready: Any) -> None:
    """Serve until `over` is set; `ready` is called with the port."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(provider.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, host, port, limit=MAX_HEAD, backlog=1024)
    ready(server.sockets[0].getsockname()[1])
    await over.wait()
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()


class ModelServer(Provider):
    """Run the provider in a thread of this process; `url` is what OPENAI_BASE_URL takes."""

    def __init__(self) -> None:
        super().__init__()
        self.url = ""
        self._over = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(STEP_SECONDS):
            raise RuntimeError("the model server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(STEP_SECONDS)

    def _main(self) -> None:
        asyncio.run(_run(self, "127.0.0.1", 0, self._over, self._note))

    def _note(self, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.url = f"http://127.0.0.1:{port}/v1"
        self._started.set()


class ModelServerProcess:
    """Run the provider as a process of its own, so that it takes no time from the event loops that are measured."""

    def __init__(self, module: str = "tools.testbed.model_server") -> None:
        self._module = module

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", self._module]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url: str = json.loads(self._process.stdout.readline())["url"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=STEP_SECONDS)

    def assign(self, model: str, scenario: str) -> None:
        """Have a model behave as the scenario of that name."""
        self._call("PUT", f"/control/model/{model}", json.dumps(scenario).encode())

    def times(self, model: str) -> list[float]:
        """Return when the model was asked, in seconds since the epoch."""
        return self._call("GET", f"/control/times?model={model}")

    def _call(self, method: str, path: str, body: bytes | None = None) -> Any:
        address = self.url.removesuffix("/v1") + path
        request = urllib.request.Request(address, data=body, method=method)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=STEP_SECONDS) as answer:  # noqa: S310 - our own server
            return json.loads(answer.read())


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="Run the stub model provider.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args()

    def print_address(port: int) -> None:
        sys.stdout.write(json.dumps({"url": f"http://{options.host}:{port}/v1"}) + "\n")
        sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(Provider(), options.host, options.port, asyncio.Event(), print_address))


if __name__ == "__main__":
    main()
