"""Receive Alertmanager's notifications: a web server that records them, with a path for each receiver."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator, Sequence
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
    group: str
    """The group of alerts that it was sent with."""


class Message(Struct, frozen=True):
    """One notification, about a group of alerts."""

    receiver: str
    group: str
    status: str
    """`resolved` when no alert of the group fires any more."""
    at: float


class Receiver:
    """The webhooks of all receivers."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.messages: list[Message] = []
        notices, messages = self.notices, self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                at = time.monotonic()
                receiver, group = self.path.strip("/"), body["groupKey"]
                notices.extend(_notice(receiver, alert, at, group) for alert in body["alerts"])
                messages.append(Message(receiver, group, body["status"], at))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def first(self, alert: str, status: str, *, since: float, **labels: str) -> Notice | None:
        """Return the first such notice since that moment; None without one."""
        for notice in list(self.notices):
            same = (notice.alert, notice.status) == (alert, status) and labels.items() <= notice.labels.items()
            if same and notice.at >= since:
                return notice
        return None

    @contextmanager
    def running(self) -> Generator[Receiver]:
        """Listen for the length of the block."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def _notice(receiver: str, alert: dict[str, Any], at: float, group: str) -> Notice:
    labels = alert["labels"]
    return Notice(receiver, labels["alertname"], alert["status"], labels, alert["annotations"], at, group)


def count_pages(messages: Sequence[Message], since: float) -> int:
    """Count the pages: a group that fires pages once until it is resolved, whatever other alerts join it."""
    count, firing = 0, set[str]()
    for message in messages:
        if message.receiver != "pager" or message.at < since:
            continue
        if message.status == "resolved":
            firing.discard(message.group)
        elif message.group not in firing:
            firing.add(message.group)
            count += 1
    return count
