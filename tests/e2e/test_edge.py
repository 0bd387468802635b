"""Each limit of connections against a real `serve`: what the client gets, what is counted, and who is served."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("edge")

PATIENCE = 90.0
LIMITS = {
    "MAX_URL_BYTES": "2000",
    "MAX_HEADER_BYTES": "8000",
    "MAX_HEADERS": "20",
    "HEADER_TIMEOUT_SECONDS": "1",
    "MAX_CONNECTIONS": "40",
    "MAX_CONNECTIONS_PER_ADDRESS": "20",
}
GET = b"GET /api/problems HTTP/1.1\r\nHost: localhost\r\n"
MEMBERS = {
    "type", "title", "status", "detail", "instance", "error_category", "error_code", "error_severity", "retry_after",
    "support_reference", "request_id", "trace_id", "errors",
}  # fmt: skip


class Served:
    """A service by its command line, and what it wrote."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            command = [sys.executable, "-m", "service", "serve", "--json"]
            self.process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        until(lambda: bool(self.lines("listening")) or self.process.poll() is not None, "not listening")
        self.port = int(self.lines("listening")[0]["address"].rpartition(":")[2])

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The log lines of that message."""
        whole = self._log.read_text().rpartition("\n")[0].splitlines()
        return [line for line in map(json.loads, whole) if line["message"] == message]

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=15, source_address=(source, 0))

    def ask(self, data: bytes, source: str = "127.0.0.1") -> tuple[int, dict[str, str], dict[str, Any]]:
        """Send bytes on a connection of their own; the answer's status, header and problem document."""
        with self.connect(source) as connection:
            connection.sendall(data)
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        return int(head.split()[1]), fields, json.loads(body)

    def total(self, series: str) -> float:
        """The value of one series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=15) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def served(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with small limits."""
    folder = tmp_path_factory.mktemp("edge")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ENVIRONMENT": "test",
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": new_database().replace("+psycopg", ""),
        "PORT": "0",
        "PROMETHEUS_PORT": "0",
        **LIMITS,
    }
    served = Served(environment, folder / "log")
    try:
        yield served
    finally:
        served.process.terminate()
        assert served.process.wait(60) == 0


@pytest.mark.parametrize(
    ("data", "status", "code", "reason"),
    [
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "url_too_long", "url_too_long"),
        (GET + b"X: " + b"a" * 20_000, 431, "headers_too_large", "headers_too_large"),
        (GET + b"A: b\r\n" * 30 + b"\r\n", 431, "headers_too_large", "too_many_headers"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "request_malformed", "malformed"),
        (GET + b"Host: evil\r\n\r\n", 400, "request_malformed", "ambiguous"),
        (GET + b"Authorization: a\r\nAuthorization: b\r\n\r\n", 400, "request_malformed", "ambiguous"),
        (b"GET http://evil/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "request_malformed", "ambiguous"),
        (GET, 408, "request_timeout", "header_timeout"),
    ],
)
def test_a_refusal_is_a_problem_document_and_is_counted(
    served: Served, data: bytes, status: int, code: str, reason: str
) -> None:
    """It has all members and guards of the API's own problems, its type explains itself, and its reason is counted."""
    series = f'connections_refused_total{{reason="{reason}"}}'
    before = served.total(series)

    found, fields, problem = served.ask(data)

    assert (found, problem["status"], problem["error_code"]) == (status, status, code)
    assert problem.keys() == MEMBERS
    assert problem["support_reference"] == f"FA-{problem['request_id']}"
    assert fields["x-request-id"] == problem["request_id"]
    assert fields["content-type"] == "application/problem+json"
    assert (fields["x-content-type-options"], fields["cache-control"]) == ("nosniff", "no-store")
    explain = f"GET {problem['type']} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert served.ask(explain.encode())[0] == 200
    until(lambda: served.total(series) == before + 1, "not counted")


def test_a_host_with_a_user_is_refused(served: Served) -> None:
    """`localhost:x@evil` is not localhost, although it begins so."""
    status, _, problem = served.ask(
        b"GET /api/problems HTTP/1.1\r\nHost: localhost:x@evil\r\nConnection: close\r\n\r\n"
    )
    assert (status, problem["error_code"]) == (400, "host_not_allowed")


def test_connections_of_an_address_are_bounded(served: Served) -> None:
    """Beyond its places an address gets 429, another is served, and the log has few lines without a word of theirs."""
    ask = GET + b"X-Secret: hunter2\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(20):
            kept = stack.enter_context(served.connect("127.0.0.2"))
            kept.sendall(GET + b"\r\n")
            kept.recv(100)
        refused = [served.ask(ask, "127.0.0.2") for _ in range(30)]
        assert {(status, problem["error_code"]) for status, _, problem in refused} == {
            (429, "too_many_connections_of_address")
        }
        assert refused[0][1]["retry-after"] == "1"
        assert served.ask(ask)[0] == 200
        until(lambda: served.total("connections_open") >= 20, "not measured")
        assert served.total("connections_limit") == 40
    until(lambda: sum(line["refused"] for line in _lines_of(served)) >= 30, "not logged")
    assert len(_lines_of(served)) < 15
    assert "hunter2" not in json.dumps(_lines_of(served))


def _lines_of(served: Served) -> list[dict[str, Any]]:
    reason = "too_many_connections_of_address"
    return [line for line in served.lines("connections refused") if reason in line["reasons"]]


def test_all_connections_are_bounded_and_idle_ones_make_room(served: Served) -> None:
    """With all places taken a newcomer gets that of an idle connection."""
    before = served.total('connections_refused_total{reason="evicted"}')
    with ExitStack() as stack:
        for number in range(60):
            stack.enter_context(served.connect(f"127.0.1.{1 + number % 10}"))
        assert served.ask(GET + b"Connection: close\r\n\r\n")[0] == 200
        assert served.ask(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == 200
    until(lambda: served.total('connections_refused_total{reason="evicted"}') > before, "not counted")


def test_few_files_lower_the_bound(new_database: Callable[[], str], tmp_path: Path) -> None:
    """A process that may open few files says so and takes fewer connections, instead of failing at the last of them."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ENVIRONMENT": "test",
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": new_database().replace("+psycopg", ""),
        "PORT": "0",
        "PROMETHEUS_PORT": "0",
    }
    code = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (512, 640));"
        " runpy.run_module('service', run_name='__main__')"
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-c", code, "serve", "--json"]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        until(lambda: "listening" in log.read_text() or process.poll() is not None, "not listening")
    finally:
        process.terminate()
        process.wait(60)
    [line] = [json.loads(line) for line in log.read_text().splitlines() if "MAX_CONNECTIONS is lowered" in line]
    assert (line["limit"], line["files"]) == (640 - 20 - 256 - 64, 640)
