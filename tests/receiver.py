"""A receiver of webhooks on a real socket: remembers what it was sent, and answers what a test wants."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    def signed_with(self, secret: str) -> bool:
        """Whether the signature is right, by the specification and not by the service's code."""
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256)
        expected = "v1," + base64.b64encode(mac.digest()).decode()
        return expected in self.headers["webhook-signature"].split(" ")


class Receiver:
    """Serves while its `with` block lasts; `answer` is given each handler after the request was remembered."""

    def __init__(
        self,
        answer: int | Callable[[BaseHTTPRequestHandler], None] = 200,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer = answer
        self.had: list[Received] = []
        self.arrived = threading.Event()
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] -- clients that hang up are the test
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "http" if tls is None else "https"
        self.port: int = self._server.server_address[1]

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        """An address of it."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            """Takes one request a connection."""

            def do_POST(self) -> None:
                """Remember, then answer."""
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.had.append(Received(self.path, headers, body))
                receiver.arrived.set()
                if callable(receiver.answer):
                    receiver.answer(self)
                else:
                    self.send_response(receiver.answer)
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        return Handler
