from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Keeper(HTTPServer):
    """A server on a free port that answers every path with one status and remembers the paths."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.paths: list[str] = []


class Answer(BaseHTTPRequestHandler):
    """Answers for the keeper."""

    server: Keeper

    def do_GET(self) -> None:
        """Answer any path."""
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Stay quiet."""


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """A running server."""
    with Keeper() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def healthcheck(port: int) -> int:
    """Exit status of the Dockerfile's health check, in an environment that points to a proxy which is not there."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    command = re.search(r"HEALTHCHECK .*?CMD (\[.*?\])\n", text, re.DOTALL)
    assert command is not None
    _, *arguments = json.loads(command.group(1))
    proxies = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **proxies, "PORT": str(port)},
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    return done.returncode


def test_a_living_service_passes_the_image_s_health_check(keeper: Keeper) -> None:
    """The check asks for liveness on the configured port, past any proxy, and succeeds on 200."""
    assert healthcheck(keeper.server_port) == 0
    assert keeper.paths == ["/health/live"]


def test_a_failing_service_fails_the_image_s_health_check(keeper: Keeper) -> None:
    """An answer of 503 is a failure."""
    keeper.status = 503
    assert healthcheck(keeper.server_port) == 1


def test_an_absent_service_fails_the_image_s_health_check(keeper: Keeper) -> None:
    """A port on which nobody listens is a failure."""
    port = keeper.server_port
    keeper.shutdown()
    keeper.server_close()
    assert healthcheck(port) == 1
