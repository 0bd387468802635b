"""The observer around a real Litestar application on a real uvicorn, asked over a real socket."""

from __future__ import annotations

import asyncio
import io
import json
import random
import socket
import string
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from litestar import Litestar, Request, get, post
from litestar.exceptions import NotAuthorizedException
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

from service.telemetry.exposition import metrics_app
from service.telemetry.http import HttpObserver
from service.telemetry.logs import configure_logging
from service.telemetry.metrics import Metrics

CANARY = f"fa_0123456789ab_{'k' * 43}"


class Service:
    """A small Litestar application behind the observer, served by uvicorn in a thread."""

    def __init__(self, http: str) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, version="1", environment="test")
        self.memory = InMemorySpanExporter()
        self.stream = io.StringIO()
        self.logs = configure_logging(
            level="INFO", log_format="json", service="s", version="1", environment="test", stream=self.stream
        )
        self.lifespan: list[str] = []
        self.waiting = threading.Event()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.memory))
        app = self._application()
        app.asgi_handler = HttpObserver(
            app.asgi_handler, metrics=self.metrics, access=self.logs.access, tracer_provider=provider
        )
        self.metrics.expect_routes((method, route.path_format) for route in app.routes for method in route.methods)
        self.socket = listen()
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, http=http, loop="asyncio", log_config=None))  # type: ignore[arg-type]
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        wait_for(lambda: self.server.started)

    def _application(self) -> Litestar:
        @get("/items/{item_id:int}")
        async def item(item_id: FromPath[int]) -> dict[str, int]:
            return {"item_id": item_id}

        @get("/secret")
        async def secret() -> None:
            raise NotAuthorizedException("no")

        @get("/broken")
        async def broken() -> None:
            raise RuntimeError(f"said '{CANARY}' password={CANARY}")

        @get("/stream")
        async def stream(breaks: FromQuery[bool | None] = None) -> Stream:
            async def chunks() -> AsyncIterator[bytes]:
                yield b"one "
                await asyncio.sleep(0)
                if breaks:
                    raise RuntimeError("source broke")
                yield b"two"

            return Stream(chunks())

        @post("/upload")
        async def upload(request: Request[Any, Any, Any]) -> int:
            self.waiting.set()
            return len(await request.body())

        @asynccontextmanager
        async def lifespan(_app: Litestar) -> AsyncIterator[None]:
            self.lifespan.append("started")
            yield
            self.lifespan.append("stopped")

        return Litestar(
            [item, secret, broken, stream, upload],
            logging_config=None,
            openapi_config=None,
            lifespan=[lifespan],
        )

    def stop(self) -> None:
        """End the server and undo the logging."""
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()
        self.logs.close()

    def lines(self) -> list[dict[str, Any]]:
        """Every line, decoded."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def access(self, count: int = 1) -> list[dict[str, Any]]:
        """The access lines, of which there must come to be `count`: the last byte leaves before its line is written."""

        def written() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line["logger"] == "service.access"]

        wait_for(lambda: len(written()) == count)
        return written()

    def counted(self, method: str, endpoint: str, status: int) -> float | None:
        """Requests counted under these labels."""
        labels = {"method": method, "endpoint": endpoint, "status": str(status)}
        return self.registry.get_sample_value("api_requests_total", labels)

    def series(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        """Every series of the HTTP metrics."""
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name.startswith("api_")
        }


def listen() -> socket.socket:
    """A listening socket; asyncio sets TCP_NODELAY only on connections of one that names its protocol."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, or the test fails."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.005)


@pytest.fixture(params=["httptools", "h11"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The running service, on both of uvicorn's protocols."""
    service = Service(request.param)
    yield service
    service.stop()


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    """A client of the service."""
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "endpoint"),
    [
        ("GET", "/items/7?token=canary", 200, "/items/{item_id}"),
        ("GET", "/items/seven", 404, "unmatched"),
        ("GET", "/nothing/here", 404, "unmatched"),
        ("POST", "/items/7", 405, "unmatched"),
        ("GET", "/secret", 401, "/secret"),
        ("GET", "/broken", 500, "/broken"),
    ],
)
def test_each_answer_is_seen_as_it_is(
    service: Service, client: httpx.Client, method: str, path: str, status: int, endpoint: str
) -> None:
    """Status, route, ids and span agree for successes and for what routing, guards and handlers refuse."""
    answer = client.request(method, path, headers={"X-Request-ID": "r-1"})
    assert answer.status_code == status
    (line,) = service.access()
    assert (line["status"], line["endpoint"], line["path"]) == (status, endpoint, path.partition("?")[0])
    assert line["request_id"] == answer.headers["x-request-id"] == "r-1"
    assert line["trace_id"] == answer.headers["x-trace-id"]
    assert float(answer.headers["x-process-time"]) * 1000 <= line["duration_ms"] + 0.001
    assert service.counted(method, endpoint, status) == 1
    (span,) = service.memory.get_finished_spans()
    assert span.name == (method if endpoint == "unmatched" else f"{method} {endpoint}")
    assert (span.kind, span.parent) == (SpanKind.SERVER, None)
    assert "canary" not in service.stream.getvalue() + span.to_json()


def test_a_stream(service: Service, client: httpx.Client) -> None:
    """A streamed answer is one request with one span, however many chunks it has."""
    assert client.get("/stream").text == "one two"
    (line,) = service.access()
    assert line["status"] == 200
    assert [span.name for span in service.memory.get_finished_spans()] == ["GET /stream"]


def test_a_stream_that_breaks(service: Service, client: httpx.Client) -> None:
    """When the source breaks the client sees a cut connection, and metric and line say 500."""
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/stream?breaks=true")
    (line,) = service.access()
    assert (line["status"], service.counted("GET", "/stream", 500)) == (500, 1)
    failed = next(line for line in service.lines() if line["message"] == "request failed")
    assert failed["request_id"] == line["request_id"]
    assert failed["exception"]["cause"]["cause"]["message"] == "source broke"


def test_a_client_that_leaves(service: Service) -> None:
    """A client that goes in the middle of its upload is counted as 499, which burns no error budget."""
    with socket.create_connection(("127.0.0.1", service.socket.getsockname()[1])) as connection:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this")
        assert service.waiting.wait(30)
    (line,) = service.access()
    assert (line["status"], line["level"]) == (499, "info")
    assert service.counted("POST", "/upload", 499) == 1


def test_startup_and_shutdown_run_through(service: Service, client: httpx.Client) -> None:
    """The application's lifespan runs behind the observer, and uvicorn's own lines are JSON like ours."""
    assert service.lifespan == ["started"]
    service.stop()
    assert service.lifespan == ["started", "stopped"]
    messages = [line["message"] for line in service.lines() if line["logger"].startswith("uvicorn")]
    assert any(message.startswith("Started server process") for message in messages)
    assert any(message.startswith("Finished server process") for message in messages)


def test_no_secret_reaches_a_line(service: Service, client: httpx.Client) -> None:
    """A key sent as header, query, path and id, and one inside an error's message, appears in no line or span."""
    for path in (f"/items/{CANARY}", f"/items/1?key={CANARY}", "/broken"):
        client.get(path, headers={"Authorization": f"Bearer {CANARY}", "X-API-Key": CANARY, "Cookie": CANARY})
    service.access(3)
    spans = "".join(span.to_json() for span in service.memory.get_finished_spans())
    assert "kkkkkkkk" not in service.stream.getvalue() + spans


def test_junk_makes_no_series(service: Service) -> None:
    """Five hundred paths and methods of chance leave the number of series where it was, all labels in their sets."""
    chance = random.Random(7)  # noqa: S311 -- chance, not secrecy

    def junk(batch: int) -> None:
        with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
            for number in range(batch):
                path = "".join(
                    chance.choices(string.ascii_letters + string.digits + "/-._~%2f", k=chance.randint(1, 60))
                )
                method = chance.choice(["GET", "POST", "PURGE", "PROPFIND", "DELETE", "MKCOL", "PUT"])
                client.request(method, f"/{path}{number}")

    junk(60)  # each method once and more
    before = service.series()
    junk(500)
    assert service.series() == before
    endpoints = {dict(labels).get("endpoint") for _, labels in before} - {None}
    assert endpoints == {"/items/{item_id}", "/secret", "/broken", "/stream", "/upload", "unmatched"}
    assert {dict(labels).get("method") for _, labels in before} >= {"_OTHER"}
    names = {span.name for span in service.memory.get_finished_spans()}
    assert names <= {"GET", "POST", "DELETE", "PUT", "HTTP"}


def test_metrics_can_be_mounted_beside_the_api(service: Service) -> None:
    """The exposition application answers a plain ASGI server too."""
    socket_ = listen()
    server = uvicorn.Server(uvicorn.Config(metrics_app(service.registry), log_config=None, lifespan="off"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket_]})
    thread.start()
    try:
        wait_for(lambda: server.started)
        address = f"http://127.0.0.1:{socket_.getsockname()[1]}/metrics"
        answer = httpx.get(address, trust_env=False)
        assert "api_requests_in_flight 0.0" in answer.text
        head = httpx.head(address, trust_env=False)
        assert (head.status_code, head.content) == (200, b"")
    finally:
        server.should_exit = True
        thread.join()
        socket_.close()
