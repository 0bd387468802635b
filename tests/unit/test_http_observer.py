from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

from service.features.context import CURRENT, RequestContext
from service.telemetry.http import HttpObserver
from service.telemetry.logs import configure_logging
from service.telemetry.metrics import Metrics
from tests.support import DroppedIds, KeptIds

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def answering(status: int = 200, template: str | None = "/items/{id}", body: bytes = b"ok") -> App:
    """An application that routes to `template` and answers."""

    async def app(scope: Message, receive: Any, send: Any) -> None:
        if template is not None:
            scope["path_template"] = template
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-app", b"1")]})
        await send({"type": "http.response.body", "body": body})

    return app


class World:
    """An observer around an application, with everything it records."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, version="1", environment="test")
        self.metrics.expect_routes([("GET", "/items/{id}"), ("POST", "/items/{id}")])
        self.memory = InMemorySpanExporter()
        self.stream = io.StringIO()
        self.logs = configure_logging(
            level="INFO", log_format="json", service="s", version="1", environment="test", stream=self.stream
        )

    def provider(self, sampler: Any = DEFAULT_ON) -> TracerProvider:
        """A provider whose spans end in `memory`, and whose traces are not kept by their ids."""
        provider = TracerProvider(sampler=sampler, id_generator=DroppedIds(), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.memory))
        return provider

    async def ask(
        self,
        app: App,
        *,
        method: str = "GET",
        path: str = "/items/1",
        headers: list[tuple[bytes, bytes]] | None = None,
        incoming: list[Message] | None = None,
        sampler: Any = DEFAULT_ON,
        scope: Message | None = None,
        **options: Any,
    ) -> list[Message]:
        """Send one request through an observer around `app`, and return what the client received."""
        options.setdefault("tracer_provider", self.provider(sampler))
        observer = HttpObserver(app, metrics=self.metrics, access=self.logs.access, **options)
        sent: list[Message] = []
        messages = iter(incoming or [{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Message:
            return next(messages)

        async def send(message: Message) -> None:
            sent.append(message)

        asked = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"token=canary",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("10.1.2.3", 5555),
            "headers": headers or [],
            **(scope or {}),
        }
        await observer(asked, receive, send)
        return sent

    def lines(self) -> list[Message]:
        """Every log line so far."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def access(self) -> Message:
        """The one access line."""
        (line,) = [line for line in self.lines() if line["logger"] == "service.access"]
        return line

    def span(self) -> ReadableSpan:
        """The one finished span."""
        (span,) = self.memory.get_finished_spans()
        return span

    def counted(self, method: str, endpoint: str, status: int) -> float | None:
        """Requests counted under these labels; None when there is no such series."""
        labels = {"method": method, "endpoint": endpoint, "status": str(status)}
        return self.registry.get_sample_value("api_requests_total", labels)

    def in_flight(self) -> float | None:
        """The in-flight gauge."""
        return self.registry.get_sample_value("api_requests_in_flight")


@pytest.fixture
def world() -> Iterator[World]:
    """A fresh world, its logging undone afterwards."""
    world = World()
    yield world
    world.logs.close()


def header(sent: list[Message], name: bytes) -> bytes:
    """The one value of a header of the answer."""
    (value,) = [value for key, value in sent[0]["headers"] if key == name]
    return value


class TestAnAnsweredRequest:
    """The records of an answered request."""

    async def test_one_story_in_three_signals(self, world: World) -> None:
        """Metric, span, line and headers describe the same request, with the same ids."""
        sent = await world.ask(answering(), headers=[(b"x-request-id", b"abc.1-2_3")])
        assert world.counted("GET", "/items/{id}", 200) == 1
        span, line = world.span(), world.access()
        assert span.context is not None
        trace_id = f"{span.context.trace_id:032x}"
        assert (span.name, span.kind) == ("GET /items/{id}", SpanKind.SERVER)
        assert header(sent, b"x-trace-id").decode() == line["trace_id"] == trace_id
        assert line["span_id"] == f"{span.context.span_id:016x}"
        assert header(sent, b"x-request-id") == b"abc.1-2_3"
        assert (line["request_id"], line["method"], line["status"]) == ("abc.1-2_3", "GET", 200)
        assert (line["endpoint"], line["path"], line["client"]) == ("/items/{id}", "/items/1", "10.1.2.3")
        assert re.fullmatch(rb"\d+\.\d{6}", header(sent, b"x-process-time"))
        assert header(sent, b"x-app") == b"1"
        assert sent[1]["body"] == b"ok"

    async def test_the_span_tells_no_query_string(self, world: World) -> None:
        """The span has the route, but neither query string nor headers except the user agent."""
        headers = [
            (b"user-agent", b"tester/1 password=canary"),
            (b"authorization", b"Bearer canary"),
            (b"host", b"canary.test"),
        ]
        await world.ask(answering(), headers=headers)
        attributes = dict(world.span().attributes or {})
        assert attributes["http.route"] == "/items/{id}"
        assert attributes["http.response.status_code"] == 200
        assert "tester/1 password=***" in attributes.values()
        assert "canary" not in world.span().to_json()
        assert "canary" not in world.stream.getvalue()

    async def test_what_the_span_says(self, world: World) -> None:
        """Its attributes follow the semantic conventions for HTTP servers, with the right types."""
        await world.ask(answering(), headers=[(b"user-agent", b"tester/1")])
        assert dict(world.span().attributes or {}) == {
            "http.request.method": "GET",
            "http.route": "/items/{id}",
            "http.response.status_code": 200,
            "url.scheme": "http",
            "url.path": "/items/1",
            "network.protocol.version": "1.1",
            "client.address": "10.1.2.3",
            "client.port": 5555,
            "server.address": "127.0.0.1",
            "server.port": 80,
            "user_agent.original": "tester/1",
        }

    async def test_what_the_span_cannot_say(self, world: World) -> None:
        """A client behind a Unix socket has no port, and an unknown method is recorded as both names."""
        scope = {"client": None, "server": ("/run/api.sock", None)}
        await world.ask(answering(405, template=None), method="BREW", scope=scope)
        assert dict(world.span().attributes or {}) == {
            "http.request.method": "_OTHER",
            "http.request.method_original": "BREW",
            "http.response.status_code": 405,
            "url.scheme": "http",
            "url.path": "/items/1",
            "network.protocol.version": "1.1",
            "server.address": "/run/api.sock",
        }

    async def test_the_span_ends_with_the_last_byte(self, world: World) -> None:
        """Work that the application does after its answer is not part of the request's time."""
        answered: list[int] = []

        async def app(scope: Message, receive: Any, send: Any) -> None:
            await answering()(scope, receive, send)
            answered.append(time.time_ns())
            await asyncio.sleep(0.2)

        await world.ask(app)
        span = world.span()
        assert (span.start_time or 0) <= (span.end_time or 0) < answered[0] + 100_000_000

    async def test_exemplar_of_a_sampled_request(self, world: World) -> None:
        """The duration of a sampled request carries its trace as exemplar where that is kept, that of another none."""
        await world.ask(answering(), sampler=ALWAYS_OFF)
        buckets = [sample for family in world.registry.collect() for sample in family.samples if sample.exemplar]
        assert buckets == []
        provider = TracerProvider(id_generator=KeptIds(), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(world.memory))
        await world.ask(answering(), tracer_provider=provider)
        (bucket,) = [sample for family in world.registry.collect() for sample in family.samples if sample.exemplar]
        assert bucket.name == "api_request_duration_seconds_bucket"
        assert bucket.exemplar is not None
        assert world.span().context is not None
        assert bucket.exemplar.labels["trace_id"] == f"{world.span().context.trace_id:032x}"

    @pytest.mark.parametrize("sampler", [DEFAULT_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
    async def test_the_application_sees_the_context(self, world: World, sampler: Any) -> None:
        """Within the request CURRENT and the current span are set and the scope is the server's; then they are gone."""
        seen: list[Any] = []

        async def app(scope: Message, receive: Any, send: Any) -> None:
            context = CURRENT.get()
            assert context is not None
            context.user_id = "ops"
            context.extraction_id = "x-1"
            ids = trace.get_current_span().get_span_context()
            seen.extend([f"{ids.trace_id:032x}", context.trace_id, scope["query_string"], world.in_flight()])
            seen.append(context.started > 0)
            await answering()(scope, receive, send)

        await world.ask(app, sampler=sampler)
        line = world.access()
        assert seen == [line["trace_id"], line["trace_id"], b"token=canary", 1, True]
        assert (line["user_id"], line["extraction_id"]) == ("ops", "x-1")
        assert CURRENT.get() is None
        assert not trace.get_current_span().get_span_context().is_valid
        assert world.in_flight() == 0

    async def test_children_follow_the_decision(self, world: World) -> None:
        """A span made within an unsampled or quiet request is not recorded, within a sampled one it is its child."""
        provider = world.provider(ParentBased(DEFAULT_ON))

        async def app(scope: Message, receive: Any, send: Any) -> None:
            with provider.get_tracer("db").start_as_current_span("query"):
                await answering()(scope, receive, send)

        await world.ask(app, path="/health", tracer_provider=provider)
        await world.ask(app, tracer_provider=None)
        assert world.memory.get_finished_spans() == ()
        await world.ask(app, tracer_provider=provider)
        child, server = sorted(world.memory.get_finished_spans(), key=lambda span: span.name, reverse=True)
        assert child.parent is not None
        assert server.context is not None
        assert (child.name, child.parent.span_id) == ("query", server.context.span_id)
        assert server.parent is None


class TestIds:
    """Where the ids come from."""

    @pytest.mark.parametrize(
        "given", [b"x" * 65, b"", b"a b", b"a\nb", b"<script>", "é".encode(), b"a;b", b"a\n"], ids=repr
    )
    async def test_unsafe_request_ids_are_replaced(self, world: World, given: bytes) -> None:
        """An id that is too long or has other characters than the safe ones never gets into header or log."""
        sent = await world.ask(answering(), headers=[(b"x-request-id", given)])
        assert re.fullmatch(rb"[0-9a-f]{32}", header(sent, b"x-request-id"))

    async def test_a_request_id_of_64_characters_is_kept(self, world: World) -> None:
        """The longest allowed id is the caller's own."""
        sent = await world.ask(answering(), headers=[(b"x-request-id", b"x" * 64)])
        assert header(sent, b"x-request-id") == b"x" * 64

    async def test_an_outsiders_traceparent_is_ignored(self, world: World) -> None:
        """Untrusted, the request starts a trace of its own."""
        await world.ask(answering(), headers=[(b"traceparent", TRACEPARENT)])
        assert world.span().parent is None
        assert world.access()["trace_id"] != "0af7651916cd43dd8448eb211c80319c"

    async def test_a_trusted_traceparent_is_continued(self, world: World) -> None:
        """Trusted, the caller's trace goes on, with its trace state."""
        headers = [(b"traceparent", TRACEPARENT), (b"tracestate", b"vendor=1")]
        sent = await world.ask(answering(), headers=headers, trust_traceparent=True)
        span = world.span()
        assert span.parent is not None
        assert span.context is not None
        assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
        assert header(sent, b"x-trace-id") == b"0af7651916cd43dd8448eb211c80319c"
        assert span.context.trace_state.get("vendor") == "1"

    @pytest.mark.parametrize("junk", [b"", b"00-zz", b"\xff\xfe", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01"])
    async def test_a_trusted_junk_traceparent_starts_anew(self, world: World, junk: bytes) -> None:
        """A traceparent that cannot be read is no parent."""
        await world.ask(answering(), headers=[(b"traceparent", junk)], trust_traceparent=True)
        assert world.span().parent is None

    async def test_ids_exist_without_tracing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """With no provider, or one that OTEL_SDK_DISABLED switches off, X-Trace-ID is still a valid, logged id."""
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        for provider in (None, TracerProvider(shutdown_on_exit=False)):
            sent = await world.ask(answering(), tracer_provider=provider)
            assert re.fullmatch(rb"(?!0{32})[0-9a-f]{32}", header(sent, b"x-trace-id"))
            assert world.lines()[-1]["trace_id"].encode() == header(sent, b"x-trace-id")
        assert world.memory.get_finished_spans() == ()


class TestRoutes:
    """How requests are named."""

    @pytest.mark.parametrize("status", [404, 405])
    async def test_unmatched(self, world: World, status: int) -> None:
        """Without a route the endpoint is `unmatched` and the span is named by the method alone."""
        await world.ask(answering(status, template=None), path="/nowhere/1")
        assert world.counted("GET", "unmatched", status) == 1
        assert (world.span().name, world.access()["endpoint"]) == ("GET", "unmatched")
        assert "http.route" not in (world.span().attributes or {})
        assert world.span().status.status_code is StatusCode.UNSET

    async def test_a_strange_method(self, world: World) -> None:
        """A method outside the known ones is `_OTHER` in the metric and HTTP in the span's name."""
        await world.ask(answering(405, template=None), method="BREW")
        assert world.counted("_OTHER", "unmatched", 405) == 1
        assert world.span().name == "HTTP"

    async def test_quiet_paths(self, world: World) -> None:
        """A quiet path is counted, and neither logged nor traced; its answer has the ids all the same."""
        world.metrics.expect_routes([("GET", "/health/live")])
        sent = await world.ask(answering(template="/health/live"), path="/health/live")
        assert world.counted("GET", "/health/live", 200) == 1
        assert world.lines() == []
        assert world.memory.get_finished_spans() == ()
        assert len(header(sent, b"x-trace-id")) == 32

    async def test_the_callers_path_is_logged(self, world: World) -> None:
        """The line shows the path as asked, though frameworks rewrite the scope's."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            scope["path"] = "/rewritten"
            await answering()(scope, receive, send)

        await world.ask(app, path="/items/77/", scope={"client": None})
        assert (world.access()["path"], world.access()["client"]) == ("/items/77/", "")

    async def test_other_scopes_pass_through(self, world: World) -> None:
        """What is not HTTP reaches the application untouched and leaves no trace."""
        seen: list[str] = []

        async def app(scope: Message, receive: Any, send: Any) -> None:
            seen.append(scope["type"])

        await world.ask(app, scope={"type": "lifespan"})
        await world.ask(app, scope={"type": "websocket"})
        assert seen == ["lifespan", "websocket"]
        assert world.lines() == []


class TestFailures:
    """Failures of the application."""

    @pytest.mark.parametrize("sampler", [DEFAULT_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
    async def test_an_error_before_the_answer(self, world: World, sampler: Any) -> None:
        """The observer answers a problem document with the ids, and logs the error once."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            scope["path_template"] = "/items/{id}"
            raise ValueError("cell 'Ann'")

        sent = await world.ask(app, path="/items/ü", sampler=sampler)
        problem = msgspec.json.decode(sent[1]["body"])
        assert sent[0]["status"] == problem["status"] == 500
        assert header(sent, b"content-type") == b"application/problem+json"
        assert int(header(sent, b"content-length")) == len(sent[1]["body"])
        assert problem["trace_id"].encode() == header(sent, b"x-trace-id")
        assert problem["request_id"] == world.access()["request_id"]
        assert problem["support_reference"] == f"FA-{problem['request_id']}"
        assert problem["instance"] == "/items/%C3%BC"
        assert "Ann" not in str(problem)
        failed, access = world.lines()
        assert (failed["message"], failed["exception"]["type"]) == ("request failed", "builtins.ValueError")
        assert failed["request_id"] == access["request_id"]
        assert (access["status"], access["level"]) == (500, "error")
        assert world.counted("GET", "/items/{id}", 500) == 1
        assert "Ann" not in world.stream.getvalue()

    async def test_its_span(self, world: World) -> None:
        """The span of a failed request has the error's type, and not its message."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            raise ValueError("Ann")

        await world.ask(app)
        span = world.span()
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "ValueError"
        assert (span.attributes or {})["http.response.status_code"] == 500
        assert "Ann" not in span.to_json()

    async def test_head_gets_no_body(self, world: World) -> None:
        """To HEAD the problem document's headers are sent without it."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            raise ValueError

        sent = await world.ask(app, method="HEAD")
        assert sent[1]["body"] == b""

    async def test_no_answer_at_all(self, world: World) -> None:
        """A request is answered even if the application returns without an answer."""

        async def app(scope: Message, receive: Any, send: Any) -> None: ...

        sent = await world.ask(app)
        assert sent[0]["status"] == 500
        assert world.lines()[0]["message"] == "application gave no answer"
        assert (world.span().attributes or {})["error.type"] == "no_answer"

    @pytest.mark.parametrize("sampler", [DEFAULT_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
    async def test_an_error_after_the_start(self, world: World, sampler: Any) -> None:
        """An answer that breaks off counts as 500 in metric, line and span, and is not answered twice."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            scope["path_template"] = "/items/{id}"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise RuntimeError("source broke")

        sent = await world.ask(app, sampler=sampler)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert world.counted("GET", "/items/{id}", 500) == 1
        assert world.access()["status"] == 500
        if sampler is DEFAULT_ON:
            assert world.span().status.status_code is StatusCode.ERROR
            assert (world.span().attributes or {})["http.response.status_code"] == 500

    async def test_an_answer_that_is_not_finished(self, world: World) -> None:
        """An application that returns in the middle of its answer counts as 500 too."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})

        await world.ask(app)
        assert world.lines()[0]["message"] == "application did not finish its answer"
        assert world.access()["status"] == 500

    async def test_an_error_after_the_end(self, world: World) -> None:
        """An error after the complete answer is logged, and does not change the client's answer."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            await answering()(scope, receive, send)
            raise RuntimeError("in the background")

        await world.ask(app)
        assert [line["message"] for line in world.lines()] == ["request failed", "request"]
        assert world.access()["status"] == 200
        assert world.span().status.status_code is StatusCode.UNSET

    async def test_a_cancelled_request(self, world: World) -> None:
        """A request that the server cancels counts as 500 and is logged, and the cancellation is passed on."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await world.ask(app)
        assert world.access()["status"] == 500
        assert world.in_flight() == 0
        assert CURRENT.get() is None


class TestAClientThatLeft:
    """Requests whose client disconnected."""

    LEFT: list[Message] = [{"type": "http.disconnect"}]  # noqa: RUF012 -- read only

    @pytest.mark.parametrize("sampler", [DEFAULT_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
    async def test_before_the_answer(self, world: World, sampler: Any) -> None:
        """However the framework reacts to the disconnect, it is 499: no server error, and nothing is sent."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            await receive()
            await answering(500)(scope, receive, send)

        sent = await world.ask(app, method="POST", incoming=self.LEFT, sampler=sampler)
        assert sent == []
        assert world.counted("POST", "/items/{id}", 499) == 1
        assert (world.access()["status"], world.access()["level"]) == (499, "info")
        if sampler is DEFAULT_ON:
            assert world.span().name == "POST /items/{id}"
            assert world.span().status.status_code is StatusCode.UNSET
            assert (world.span().attributes or {})["http.response.status_code"] == 499

    @pytest.mark.parametrize("error", [None, ConnectionError("gone")], ids=["returns", "raises"])
    async def test_the_application_gives_up(self, world: World, error: Exception | None) -> None:
        """An application that stops or raises because its client left is no failure."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            await receive()
            if error:
                raise error

        assert await world.ask(app, incoming=self.LEFT) == []
        assert world.counted("GET", "unmatched", 499) == 1
        assert len(world.lines()) == 1

    async def test_the_framework_fails_on_the_way(self, world: World) -> None:
        """An error while answering a client that left is no failure either."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            await receive()
            await answering(500)(scope, receive, send)
            raise ConnectionError("gone")

        assert await world.ask(app, incoming=self.LEFT) == []
        assert world.access()["status"] == 499

    async def test_within_the_answer(self, world: World) -> None:
        """A client that disconnects during the answer counts with the answer's status."""

        async def app(scope: Message, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await receive()
            await send({"type": "http.response.body", "body": b"rest"})

        await world.ask(app, incoming=self.LEFT)
        assert world.access()["status"] == 200


async def test_access_lines_can_be_off(world: World) -> None:
    """At a level above INFO a served request is counted but not logged."""
    world.logs.access._level = logging.WARNING
    await world.ask(answering())
    assert world.lines() == []
    assert world.counted("GET", "/items/{id}", 200) == 1


def test_the_context_type_is_the_domains() -> None:
    """The correlation context that the observer sets is the one that the domain declares."""
    assert CURRENT.get() is None
    assert RequestContext("r").started == 0.0
