"""Serve `GET /metrics`, as an ASGI application on the API port or as a small server on the metrics port.

A process without an API port serves its health on the metrics port too, at the API's paths and with the same answers.

The server has its own thread instead of the event loop: it answers while the loop is stalled, when the numbers matter
most, and never waits behind traffic. A second uvicorn would replace the first one's signal handlers.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Literal, Protocol, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder

PATH = "/metrics"
LIVE_PATH = "/health/live"
READY_PATH = "/health/ready"
_SCRAPE_TIMEOUT_SECONDS = 10.0
"""Prometheus' default `scrape_timeout`: no scraper waits longer."""

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class Health(Protocol):
    """What a process says of its health; called in another thread."""

    def liveness(self) -> Literal["alive", "stuck"]:
        """Return whether it must be replaced."""
        ...

    def readiness(self) -> Literal["ready", "starting", "draining", "unavailable"]:
        """Return whether it can do its work."""
        ...


class MetricsPortUnavailable(OSError):
    """The metrics port cannot be opened; the message names it and the setting that changes it."""


def render(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Render the registry in the format that `accept` asks for; returns content type and body.

    Prometheus asks for OpenMetrics, which carries exemplars; anything not understood gets the plain text format.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # the client raises for a version that is not a number
        encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    return content_type, encode(registry)


def metrics_app(registry: CollectorRegistry) -> Application:
    """Return an ASGI application that answers any GET with the registry."""

    async def answer(scope: Message, _receive: object, send: Callable[[Message], Awaitable[None]]) -> None:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        content_type, body = await asyncio.to_thread(render, registry, accept)
        headers = [(b"content-type", content_type.encode("latin-1")), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return answer


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True  # no wait for TIME_WAIT after a restart; a second listener is still refused
    daemon_threads = True

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry | None, health: Health | None) -> None:
        self.registry = registry
        self.health = health
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a scraper that disconnected or stalled; it will scrape again."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _SCRAPE_TIMEOUT_SECONDS

    def do_GET(self) -> None:
        server = cast("_Server", self.server)
        path = self.path.partition("?")[0]
        if path == PATH and server.registry is not None:
            self._answer(200, *render(server.registry, self.headers.get("Accept", "")))
        elif path == LIVE_PATH and server.health is not None:
            self._send_status(server.health.liveness(), good="alive")
        elif path == READY_PATH and server.health is not None:
            self._send_status(server.health.readiness(), good="ready")
        else:
            self._answer(404, "text/plain; charset=utf-8", f"Metrics are at {PATH}.\n".encode())

    def _send_status(self, status: str, *, good: str) -> None:
        self._answer(200 if status == good else 503, "application/json", f'{{"status":"{status}"}}'.encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "feature-agent"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Do not log scrapes."""


class MetricsServer:
    """Serve `GET /metrics` on its own port until closed. Raises MetricsPortUnavailable if the port cannot be opened."""

    def __init__(
        self, registry: CollectorRegistry | None, *, host: str, port: int, health: Health | None = None
    ) -> None:
        """Listen at once; with `port` 0, the attribute `port` is the one that was chosen.

        Without a registry there are no metrics; with `health`, it is served as well.
        """
        try:
            self._server = _Server((host, port), registry, health)
        except OSError as error:
            reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise MetricsPortUnavailable(
                f"Metrics port {port} on {host} {reason}; set PROMETHEUS_PORT to a free one."
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and free the port; blocks for half a second at most. Closing twice is harmless."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
