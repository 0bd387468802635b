"""A verdict for machines and terminals: JUnit XML, annotations in Grafana, plain text."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar
from xml.etree import ElementTree as ET

import msgspec
import pytest

from loadtest.report import console, junit
from loadtest.report.grafana import annotate
from loadtest.verdict import Check, Reason, Verdict
from tests.unit.test_loadtest_report_samples import BEGAN, failing, passing, unmeasured, verdict

HOSTILE = "\x1b[31mred\x00 \ud800 ]]> <script>&amp; \u202eevil\x07 \ufffe"
TOKEN = "glsa_secret"


class Grafana(BaseHTTPRequestHandler):
    """Takes annotations as Grafana does, or answers what the test wants."""

    seen: ClassVar[list[tuple[str, dict[str, str], dict[str, object]]]]
    answers: ClassVar[list[int]]

    def do_POST(self) -> None:
        """Note the request and answer with the next status; 200 when none is left."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, dict(self.headers), json.loads(body)))
        status = self.answers.pop(0) if self.answers else 200
        # The reason repeats the token, as a debugging proxy might.
        self.send_response(status, f"Bearer {TOKEN}")
        self.send_header("Location", f"http://{self.headers['Host']}/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
        """Keep quiet."""


@pytest.fixture
def grafana() -> Iterator[tuple[str, type[Grafana]]]:
    """The URL of a server on a real socket, and the class that holds what it saw."""

    class Handler(Grafana):
        seen: ClassVar = []
        answers: ClassVar = []

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Handler
    server.shutdown()
    thread.join()
    server.server_close()


def suite(judged: Verdict) -> ET.Element:
    """The only suite of a verdict's JUnit XML, read back from bytes."""
    root = ET.fromstring(junit.render(judged).encode())  # noqa: S314 - our own
    assert root.tag == "testsuites"
    (found,) = root.findall("testsuite")
    return found


def test_junit_counts_its_cases() -> None:
    """The numbers that CI shows are those of the cases, in the suite and above it."""
    found = suite(failing()[0])
    cases = found.findall("testcase")
    assert (len(cases), len(found.findall("*/failure")), len(found.findall("*/error"))) == (6, 3, 1)
    expected = {"tests": "6", "failures": "3", "errors": "1", "time": "360.000", "timestamp": "2026-11-30T00:53:20"}
    root = ET.fromstring(junit.render(failing()[0]))  # noqa: S314 - our own
    assert expected.items() <= found.attrib.items()
    assert expected.items() <= root.attrib.items()


def test_junit_says_what_was_wrong() -> None:
    """A failed gate is a failure, one that was not measured an error, each with its sentence; a pass is neither."""
    found = {case.get("name"): case for case in suite(failing()[0]).findall("testcase")}
    failure, error = found["lost"].find("failure"), found["memory_growth"].find("error")
    assert failure is not None
    assert (failure.get("message") or "").startswith("2 accepted extractions were not found")
    assert (failure.text or "").endswith("\nMeasured: 2. Allowed: 0.")
    assert error is not None
    assert (error.get("type"), (error.text or "").splitlines()[-1]) == (
        "not_measured",
        "Measured: nothing. Allowed: 10.",
    )
    assert [child.tag for child in found["doubled"]] == ["system-out"]


def test_junit_takes_any_text() -> None:
    """Control characters, half surrogates and markup in a sentence or a gate leave well-formed XML that shows them."""
    found = suite(verdict("fail", [Check(HOSTILE, "fail", None, None, HOSTILE)]))
    failure = found.find("testcase/failure")
    assert failure is not None
    assert r"\x1b[31mred\x00 \ud800 ]]> <script>&amp; \u202eevil\x07 \ufffe" in (failure.get("message") or "")


@pytest.mark.parametrize("outcome", ["fail", "not_measured"])
def test_junit_is_never_green_without_a_pass(outcome: str) -> None:
    """A verdict without gates that is no pass has a case that is red."""
    raw = {"verdict": outcome, "reasons": [], "checks": [], "shape": "smoke", "host": "h", "run_id": "r"}
    bare = msgspec.convert({**raw, "began": BEGAN, "ended": BEGAN}, Verdict)
    reason = Reason("machine", 2.0, 0.5, "The machine was busy.")
    for judged, name in ((bare, "verdict"), (msgspec.structs.replace(bare, reasons=[reason]), "machine")):
        found = suite(judged)
        assert [case.get("name") for case in found.findall("testcase")] == [name]
        assert int(found.attrib["failures"]) + int(found.attrib["errors"]) == 1


def test_console_aligns_a_line_for_each_gate() -> None:
    """Every gate has one line with its numbers in the same columns; sentences only where something is wrong."""
    lines = console.render(failing()[0]).splitlines()
    assert lines[0] == "outcome       gate                  measured  allowed"
    assert lines[1] == "FAIL          slo:api-latency-read     91.27       99"
    assert lines[7] == "pass          achieved_rate            0.998     0.95"
    assert lines[-3] == "not measured  memory_growth                -       10"
    assert lines[-2] == "  Memory growth needs a run of 10 min; this one lasted 6 min."
    assert lines[-1] == "FAIL: 3 of 6 gates did not hold. 1 could not be measured."


@pytest.mark.parametrize(
    ("judged", "last"),
    [
        (passing, "pass: Every gate held: 6 of 6."),
        (unmeasured, "not measured: This run says neither yes nor no. 2 of 2 gates could not be measured."),
    ],
)
def test_console_ends_with_the_verdict(judged: object, last: str) -> None:
    """The last line is the verdict in words."""
    assert callable(judged)
    assert console.render(judged()[0]).splitlines()[-1] == last


class Terminal(io.TextIOWrapper):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_console_colours_on_a_terminal_alone() -> None:
    """A file gets no colour codes, a terminal does, and without them both read the same."""
    terminal, file = Terminal(io.BytesIO(), encoding="utf-8"), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    texts: list[str] = []
    for stream in (terminal, file):
        console.write(failing()[0], stream)
        stream.seek(0)
        texts.append(stream.read())
    assert "\x1b[31mFAIL\x1b[0m" in texts[0]
    assert "\x1b" not in texts[1]
    assert (
        texts[0].replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[33m", "").replace("\x1b[0m", "")
        == texts[1]
    )


def test_console_lets_no_text_steer_the_terminal() -> None:
    """An escape sequence in a gate or a sentence is shown, not obeyed, also where the terminal knows ASCII alone."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console.write(verdict("fail", [Check(HOSTILE, "fail", 1, 0, f"{HOSTILE} größer")]), stream)
    stream.seek(0)
    text = stream.read()
    assert {character for character in text if not character.isprintable()} == {"\n"}
    assert r"gr\xf6\xdfer" in text


def test_grafana_gets_the_run_and_its_stages(grafana: tuple[str, type[Grafana]]) -> None:
    """One region for the load test with its verdict, one for each stage, in milliseconds, with the token as header."""
    url, server = grafana
    judged, run = failing()
    assert annotate(f"{url}/grafana/", f" {TOKEN}\n", judged, [run]) is None
    paths, headers, bodies = zip(*server.seen, strict=True)
    assert set(paths) == {"/grafana/api/annotations"}
    assert {header["Authorization"] for header in headers} == {f"Bearer {TOKEN}"}
    assert len(bodies) == 1 + 6
    assert bodies[0] == {
        "time": 1_796_000_000_000,
        "timeEnd": 1_796_000_360_000,
        "tags": ["load-test", "feature-agent", "steps", "fail"],
        "text": "Load test steps: Fail. 3 of 6 gates did not hold. 1 could not be measured. "
        "Run 2026-11-30-0753-steady.",
    }
    assert bodies[-1]["text"] == "Stage 80/s: 48 of 80 clients a second. Run 2026-11-30-0753-steady."
    assert (bodies[-1]["time"], bodies[-1]["timeEnd"]) == (1_796_000_300_000, 1_796_000_360_000)
    assert TOKEN not in json.dumps(bodies)


def test_grafana_shows_texts_as_text(grafana: tuple[str, type[Grafana]]) -> None:
    """Markup in the name of a run is escaped, since Grafana shows annotations as HTML."""
    url, server = grafana
    judged = msgspec.structs.replace(passing()[0], run_id="<img src=x onerror=alert(1)>")
    assert annotate(url, TOKEN, judged, []) is None
    assert "&lt;img src=x" in str(server.seen[0][2]["text"])


@pytest.mark.parametrize(
    ("status", "words"), [(401, "it answered 401"), (307, "it answered 307"), (500, "it answered 500")]
)
def test_grafana_that_refuses_is_one_warning(grafana: tuple[str, type[Grafana]], status: int, words: str) -> None:
    """A refusal or a redirect ends it with one line, which does not hold the token that the server repeats."""
    url, server = grafana
    server.answers = [200, status]
    judged, run = failing()
    assert annotate(url, TOKEN, judged, [run]) == f"Grafana took 1 of 7 annotations of this run: {words}"
    assert [path for path, *_ in server.seen] == ["/api/annotations"] * 2


def test_grafana_is_asked_without_proxy(grafana: tuple[str, type[Grafana]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment sees neither the annotations nor the token."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    url, server = grafana
    assert annotate(url, TOKEN, passing()[0], []) is None
    assert len(server.seen) == 1


def test_grafana_that_is_away_is_one_warning() -> None:
    """Nothing listens: one line says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        warning = annotate(f"http://127.0.0.1:{taken.getsockname()[1]}", TOKEN, passing()[0], [])
    assert warning == "Grafana took 0 of 1 annotations of this run: it cannot be reached (Connection refused)"


@pytest.mark.timeout(20)
def test_grafana_that_keeps_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing costs one time limit, and one line."""
    monkeypatch.setattr("loadtest.report.grafana.TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        judged, run = failing()
        warning = annotate(f"http://127.0.0.1:{silent.getsockname()[1]}", TOKEN, judged, [run])
    assert warning == "Grafana took 0 of 7 annotations of this run: it cannot be reached (no answer within 0.2 s)"


@pytest.mark.parametrize(
    ("url", "token", "words"),
    [
        ("ftp://grafana", TOKEN, "its URL must begin with http:// or https:// and name a host"),
        ("grafana:3000", TOKEN, "its URL must begin with http:// or https:// and name a host"),
        ("http://[", TOKEN, "its URL cannot be read"),
        ("http://grafana:port", TOKEN, "its URL cannot be read"),
        ("http://admin:s3cret@grafana", TOKEN, "its URL must hold no user, password, query or fragment"),
        ("http://grafana", f"{TOKEN}\nX: y", "the token must be one word of ASCII characters"),
        ("http://grafana", "", "the token must be one word of ASCII characters"),
        ("http://grafana", f"{TOKEN}ö", "the token must be one word of ASCII characters"),
    ],
)
def test_grafana_arguments_that_cannot_be_used(url: str, token: str, words: str) -> None:
    """A URL or a token that cannot be used is one line that shows neither."""
    assert annotate(url, token, passing()[0], []) == f"Grafana has no annotation of this run: {words}"
