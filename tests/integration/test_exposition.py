"""The metrics port: a real listener, asked over a real socket."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanContext, TraceFlags
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.telemetry.exposition import MetricsPortUnavailable, MetricsServer, render
from service.telemetry.metrics import Metrics, exemplar_of

PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry with one observed request that carries an exemplar."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, version="1", environment="test")
    metrics.expect_routes([("GET", "/a")])
    span = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    metrics.histogram("api_request_duration_seconds").child("GET", "/a").observe(0.2, exemplar_of(span))
    return registry


@pytest.fixture
def server(registry: CollectorRegistry) -> Iterator[MetricsServer]:
    """The server on a free port."""
    server = MetricsServer(registry, host="127.0.0.1", port=0)
    yield server
    server.close()


def ask(server: MetricsServer, path: str = "/metrics", accept: str | None = None) -> tuple[str, str]:
    """Content type and text of an answer."""
    headers = {} if accept is None else {"Accept": accept}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- likewise
        return answer.headers["Content-Type"], answer.read().decode()


def test_openmetrics_for_prometheus(server: MetricsServer) -> None:
    """To what Prometheus asks for, OpenMetrics with the exemplar is answered, valid by the reference parser."""
    content_type, text = ask(server, accept=PROMETHEUS_ACCEPT)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    families = {family.name: family for family in parse_openmetrics(text)}
    (exemplar,) = [s.exemplar for s in families["api_request_duration_seconds"].samples if s.exemplar]
    assert exemplar.labels == {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}
    assert {"process_cpu_seconds", "application", "telemetry_spans_dropped"} <= set(families)


def test_plain_text_for_people(server: MetricsServer) -> None:
    """Without an Accept header the plain text format is answered, with the same families."""
    content_type, text = ask(server, "/metrics?x=1")
    assert content_type.startswith("text/plain; version=0.0.4")
    names = {family.name for family in parse_text(text)}
    assert {"api_request_duration_seconds", "application_info", "model_cost_usd"} <= names


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=abc", "text/plain;version=", ";;,=", "a/b"])
def test_a_wish_that_makes_no_sense(registry: CollectorRegistry, accept: str) -> None:
    """A junk Accept header gets the plain text format, never an error."""
    content_type, body = render(registry, accept)
    assert content_type.startswith("text/plain")
    assert b"api_requests_total" in body


def test_other_paths(server: MetricsServer) -> None:
    """Anything but /metrics is 404, and says where the metrics are."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, "/")
    with refused.value as answer:
        assert answer.code == 404
        assert b"/metrics" in answer.read()


def test_a_client_that_hangs_up(server: MetricsServer, capfd: pytest.CaptureFixture[str]) -> None:
    """A scraper that resets its connection costs nothing and prints nothing; the next one is answered."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert "api_requests_total" in ask(server)[1]
    server.close()
    assert capfd.readouterr() == ("", "")


def test_a_taken_port(server: MetricsServer, registry: CollectorRegistry) -> None:
    """A port in use is refused at start with a message that names it and the setting."""
    with pytest.raises(
        MetricsPortUnavailable, match=rf"port {server.port} on 127.0.0.1 is already in use.*PROMETHEUS_PORT"
    ):
        MetricsServer(registry, host="127.0.0.1", port=server.port)


def test_an_address_that_is_not_ours(registry: CollectorRegistry) -> None:
    """Another reason for not listening is reported as well."""
    with pytest.raises(MetricsPortUnavailable, match="cannot be used"):
        MetricsServer(registry, host="192.0.2.1", port=0)


def test_the_port_is_free_after_closing(server: MetricsServer, registry: CollectorRegistry) -> None:
    """Closing frees the port at once, and closing again is harmless."""
    server.close()
    server.close()
    again = MetricsServer(registry, host="127.0.0.1", port=server.port)
    assert "api_requests_total" in ask(again)[1]
    again.close()


def test_ipv6(registry: CollectorRegistry) -> None:
    """An IPv6 address is listened on as such."""
    try:
        server = MetricsServer(registry, host="::1", port=0)
    except MetricsPortUnavailable as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with socket.create_connection(("::1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.0 200"
    server.close()
