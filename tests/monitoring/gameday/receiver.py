"""Where Alertmanager's notifications arrive: a web server that remembers them, a path for each receiver."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct


class Notice(Struct, frozen=True):
    """One alert in one notification."""

    receiver: str
    alert: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    at: float
    """When it arrived, on the monotonic clock."""


class Receiver:
    """The webhook of every receiver."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        notices = self.notices

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                at = time.monotonic()
                notices.extend(_notice(self.path.strip("/"), alert, at) for alert in body["alerts"])
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def first(self, alert: str, status: str, *, since: float, **labels: str) -> Notice | None:
        """The first such notice after that moment."""
        for notice in list(self.notices):
            same = (notice.alert, notice.status) == (alert, status) and labels.items() <= notice.labels.items()
            if same and notice.at >= since:
                return notice
        return None

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        """Listen while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def _notice(receiver: str, alert: dict[str, Any], at: float) -> Notice:
    return Notice(receiver, alert["labels"]["alertname"], alert["status"], alert["labels"], alert["annotations"], at)
