"""What every answer has in common: problem documents, hosts, origins, header fields, what is logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from litestar.exceptions import HTTPException, ImproperlyConfiguredException, ValidationException
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.api.application import create_api
from service.api.errors import InternalError, MalformedRequest, translate
from service.api.failures import observe_failures
from service.api.hosts import AllowedHosts
from service.api.problems import PROBLEMS, problem_of
from service.app import api_config, api_services
from service.features.errors import (
    FeatureAgentError,
    InvalidRequest,
    ModelUnavailable,
    NotAuthenticated,
)
from service.features.events import AuthenticationFailed
from tests.api.conftest import World, caller
from tests.doubles import Recorder

MEMBERS = {
    "type", "title", "status", "detail", "instance", "error_category", "error_code", "error_severity", "retry_after",
    "support_reference", "request_id", "trace_id", "errors",
}  # fmt: skip


def errors_of(root: type[FeatureAgentError]) -> Iterator[type[FeatureAgentError]]:
    """Every error class below."""
    for child in root.__subclasses__():
        yield child
        yield from errors_of(child)


@pytest.mark.parametrize("error", sorted(set(errors_of(FeatureAgentError)), key=lambda error: error.__name__))
def test_every_error_has_a_problem_type_of_its_category(error: type[FeatureAgentError]) -> None:
    """The one table knows every code of the domain and of HTTP, under the category that the error itself states."""
    assert error.code in PROBLEMS
    assert PROBLEMS[error.code].category == error.category


def test_no_problem_type_is_left_over() -> None:
    """Every row of the table belongs to an error."""
    assert {error.code for error in errors_of(FeatureAgentError)} == PROBLEMS.keys()


def test_429_and_503_carry_retry_after() -> None:
    """Every problem type of these statuses has a number of seconds."""
    assert all(kind.retry_after for kind in PROBLEMS.values() if kind.status in {429, 503})


def test_an_unmapped_code_is_an_internal_error() -> None:
    """An error without a problem type is still answered."""
    error = FeatureAgentError("new")
    error.code = "novel"  # type: ignore[misc]

    problem = problem_of(error, "/x")

    assert (problem.status, problem.error_code) == (500, "internal_error")
    assert (problem.request_id, problem.trace_id, problem.support_reference) == ("", "", "FA-")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("x"), InternalError),
        (ImproperlyConfiguredException("x"), InternalError),
        (HTTPException(status_code=503), InternalError),
        (HTTPException(status_code=418), MalformedRequest),
        (ValidationException(detail="x"), InvalidRequest),
        (ValidationException(detail="x", extra=["not a fault"]), InvalidRequest),
    ],
)
def test_foreign_exceptions_are_translated(error: Exception, kind: type[FeatureAgentError]) -> None:
    """The framework's exceptions become errors of ours; their own words are not shown."""
    translated = translate(error)

    assert type(translated) is kind
    assert translated.message != "x"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "route_not_found"),
        ("GET", "/nope", 404, "route_not_found"),
        ("GET", "/api/nope", 404, "route_not_found"),
        ("POST", "/api/v1/nope", 404, "route_not_found"),
        ("GET", "/api/v1/extraction", 404, "route_not_found"),
        ("GET", "/api/assets/nope.js", 404, "route_not_found"),
        ("GET", "/api/assets/%00", 404, "route_not_found"),
        ("GET", "/api/assets/..%2fproblems.py", 404, "route_not_found"),
        ("GET", "/api/problems/nope", 404, "route_not_found"),
        ("GET", "/metrics", 404, "route_not_found"),
        ("PUT", "/api/v1/datasets", 405, "method_not_allowed"),
        ("PATCH", "/api/v1/extraction/x", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("GET", "/api/v1/extract-features", 405, "method_not_allowed"),
        ("DELETE", "/api/openapi.json", 405, "method_not_allowed"),
    ],
)
async def test_unknown_routes_are_problem_documents(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """Unknown paths and methods get the whole document with all its members."""
    answer = await client.request(method, path)
    problem = answer.json()

    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem.keys() == MEMBERS
    assert problem["error_code"] == code
    assert problem["support_reference"] == f"FA-{problem['request_id']}"
    assert len(problem["trace_id"]) == 32
    assert (status == 405) == ("GET" in answer.headers.get("allow", "") or "POST" in answer.headers.get("allow", ""))


async def test_head_is_not_allowed(client: httpx.AsyncClient) -> None:
    """HEAD is a 405 without a body."""
    answer = await client.head("/health")

    assert answer.status_code == 405
    assert answer.content == b""


async def test_a_problem_type_explains_itself(client: httpx.AsyncClient) -> None:
    """The `type` of a problem leads to its description, and all are listed."""
    problem = (await client.get("/nope")).json()

    described = await client.get(problem["type"])
    listed = await client.get("/api/problems")

    assert described.json()["problem_type"]["title"] == problem["title"]
    assert listed.json()["problem_types"].keys() == PROBLEMS.keys()


async def test_every_answer_is_guarded_against_sniffing_and_caching(client: httpx.AsyncClient) -> None:
    """API answers, problems and health carry nosniff and no-store."""
    for path in ("/api/v1/datasets", "/nope", "/health", "/api/v1/datasets/none", "/api/docs"):
        answer = await client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("api.test", True),
        ("API.test:8000", True),
        ("api.test.", True),
        ("deep.example.org", True),
        ("example.org", False),
        ("notexample.org", False),
        ("api.test.evil.org", False),
        ("127.0.0.1:8000", False),
        ("[::1]:8000", True),
        ("", False),
        ("evil.org:80@api.test", False),
        ("api.test:80@evil.org", False),
        ("user@api.test", False),
        ("api.test:x", False),
        ("api.test:65536", False),
        ("api.test:", True),
        ("api.test/a", False),
        ("[::1]evil.org", False),
        ("api.test\n", False),
    ],
)
def test_a_host_is_served_by_name(host: str, served: bool) -> None:  # noqa: FBT001 (the expected outcome)
    """Port, case and a final dot do not matter; a wildcard stands for names below, not for the name itself."""
    assert AllowedHosts(("api.test", "*.example.org", "[::1]")).allows(host) is served


async def test_another_host_is_refused_and_probes_are_not(serve: Callable[..., World]) -> None:
    """A wrong Host is a 400 on every route but health, which is asked by address."""
    world = serve(allowed_hosts=("api.test",), prometheus_enabled=True)
    async with caller(world, await world.api_key()) as client:
        wrong = [await client.get(path) for path in ("/api/v1/datasets", "/api/docs", "/metrics")]
        right = await client.get("/api/v1/datasets", headers={"Host": "api.test:1234"})
        probes = [await client.get(path) for path in ("/health", "/health/live", "/health/ready")]
        malformed = await client.get("/health", headers={"Host": "a b"})

    assert [answer.json()["error_code"] for answer in wrong] == ["host_not_allowed"] * 3
    assert wrong[0].status_code == 400
    assert right.status_code == 200
    assert [answer.status_code for answer in probes] == [200] * 3
    assert malformed.status_code == 400
    assert malformed.json()["error_code"] == "request_malformed"


@pytest.mark.parametrize("allowed", ["api.test", "*"])
async def test_no_field_that_decides_comes_twice(serve: Callable[..., World], allowed: str) -> None:
    """Two Host or two Authorization fields are a 400 under any server: a proxy could have read the other one."""
    world = serve(allowed_hosts=(allowed,))
    key = f"Bearer {await world.api_key()}"
    fields = [("Host", "api.test"), ("Authorization", key), ("Connection", "close")]
    for again in (("Host", "evil.test"), ("Authorization", "Bearer x")):
        lines = "".join(f"{field}: {value}\r\n" for field, value in (*fields, again))
        answer = await raw_answer(world, f"GET /api/v1/datasets HTTP/1.1\r\n{lines}\r\n")
        assert answer.startswith("HTTP/1.1 400")
        assert '"error_code":"request_malformed"' in answer


async def raw_answer(world: World, request: str) -> str:
    """What a request is answered that no client library would send."""
    address = httpx.URL(world.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request.encode())
    try:
        async with asyncio.timeout(10):
            return (await reader.read()).decode()
    finally:
        writer.close()


async def test_an_allowed_origin_may_call(serve: Callable[..., World]) -> None:
    """Preflight and answer name the origin and expose the service's header fields, on problems too."""
    world = serve(cors_origins=("https://app.test",))
    asked = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    async with caller(world, Origin="https://app.test") as client:
        preflight = await client.options(
            "/api/v1/extract-features", headers={**asked, "Access-Control-Request-Headers": "authorization,x-api-key"}
        )
        change = await client.options(
            "/api/v1/datasets/events", headers={**asked, "Access-Control-Request-Method": "PATCH"}
        )
        answer = await client.get("/api/v1/datasets")
        stranger = await client.get("/api/v1/datasets", headers={"Origin": "https://evil.test"})
        refused = await client.options("/api/v1/datasets", headers={**asked, "Origin": "https://evil.test"})

    assert preflight.status_code == change.status_code == 204
    assert "PATCH" in change.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-origin"] == "https://app.test"
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in stranger.headers
    assert refused.status_code == 400


async def test_without_origins_no_page_may_call(client: httpx.AsyncClient) -> None:
    """No CORS field is sent unless origins are configured."""
    answer = await client.get("/api/v1/datasets", headers={"Origin": "https://app.test"})

    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_only_the_services_own_failures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is logged with its stack and marks the span; a dependency's without; a client's never."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    recorder = Recorder()
    observe = observe_failures(recorder)
    scope: Any = {}

    with caplog.at_level(logging.INFO), provider.get_tracer("test").start_as_current_span("request"):
        await observe(RuntimeError("boom"), scope)
        await observe(ModelUnavailable("none answers"), scope)
        await observe(MalformedRequest("bad"), scope)
        await observe(NotAuthenticated("no", reason="expired"), scope)
    provider.shutdown()

    lines = [(line.levelname, bool(line.exc_info)) for line in caplog.records if line.name == "service.api.failures"]
    assert lines == [("ERROR", True), ("WARNING", False)]
    (span,) = exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["exception", "exception"]
    assert recorder.events == [AuthenticationFailed("expired")]


async def test_without_an_observer_the_ids_are_empty(world: World) -> None:
    """Without the HTTP observer, which sets the ids of a request, the API still serves."""
    headers = {"Authorization": f"Bearer {await world.api_key()}"}
    runtime = world.runtime
    transport = httpx.ASGITransport(create_api(api_services(runtime, running=True), api_config(runtime.settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        answer = (await client.get("/api/v1/datasets")).json()
        problem = (await client.get("/nope")).json()

    assert (answer["request_id"], answer["processing_time"]) == ("", 0.0)
    assert (problem["request_id"], problem["trace_id"]) == ("", "")
