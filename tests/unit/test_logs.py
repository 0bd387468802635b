from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext

from service.features.context import CURRENT, RequestContext
from service.features.errors import DatasetUnreadable
from service.telemetry.access import SLOW_SECONDS, Access, AccessLog, Identity, Sink
from service.telemetry.catalog import LOG_ACCESS, LOG_CORRELATION, LOG_IDENTITY
from service.telemetry.logs import LogFormat, LogLevel, Logs, configure_logging
from service.telemetry.redaction import describe, redact

KEY = f"fa_0123456789ab_{'Zz9-_' * 8}abc"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJvcHMifQ.c2lnbmF0dXJlLWNhbmFyeQ"
CANARIES = [
    (f"key {KEY} refused", "Zz9-_"),
    (f"token was {JWT}", "c2lnbmF0dXJl"),
    ("Authorization: Basic b3BzOmh1bnRlcjI=", "b3Bz"),
    ('{"Authorization": "Token hunter2"}', "hunter2"),
    ("sent Bearer abcdef123456 upstream", "abcdef123456"),
    ("postgresql://svc:hunter2@db:5432/app refused", "hunter2"),
    ("redis://:hunter2@cache/0", "hunter2"),
    ("password=hunter2 host=db", "hunter2"),
    ('{"password": "hunter2 and more"}', "hunter2"),
    ("JWT_SECRET='hunter2'", "hunter2"),
    ("OPENAI_API_KEY=hunter2", "hunter2"),
    ("Cookie: hunter2", "hunter2"),
    ("Incorrect API key provided: sk-proj-abcDEF123456", "abcDEF123456"),
]

Configure = Callable[..., Logs]


@pytest.fixture
def stream() -> io.StringIO:
    """Where the lines go."""
    return io.StringIO()


@pytest.fixture
def configure(stream: io.StringIO) -> Iterator[Configure]:
    """Configures logging onto the stream, and undoes it afterwards."""
    made: list[Logs] = []

    def configure(level: LogLevel = "INFO", log_format: LogFormat = "json") -> Logs:
        made.append(
            configure_logging(
                level=level,
                log_format=log_format,
                service="feature-agent",
                version="9",
                environment="test",
                stream=stream,
            )
        )
        return made[-1]

    yield configure
    for logs in reversed(made):
        logs.close()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line, decoded."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(error: Exception) -> None:
    """Raise, one frame down."""
    raise error


def only(stream: io.StringIO) -> dict[str, Any]:
    """The one line."""
    (line,) = lines(stream)
    return line


class TestEveryLine:
    """The form that all lines share."""

    def test_identity_comes_first(self, configure: Configure, stream: io.StringIO) -> None:
        """A line starts with the identity keys in their order, its time is RFC 3339 in UTC, its own fields follow."""
        configure()
        structlog.stdlib.get_logger("service.store").info("opened %s", "pool", percent=5)
        line = only(stream)
        assert tuple(line)[: len(LOG_IDENTITY)] == LOG_IDENTITY
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
        assert line == {
            "level": "info",
            "message": "opened pool",
            "logger": "service.store",
            "service": "feature-agent",
            "version": "9",
            "environment": "test",
            "percent": 5,
        }

    def test_libraries_write_the_same_line(self, configure: Configure, stream: io.StringIO) -> None:
        """A record of standard logging becomes the same object, without its extra fields."""
        configure()
        logging.getLogger("some.library").warning("took %d s", 3, extra={"color_message": "x", "rows": ["cell"]})
        line = only(stream)
        assert (line["message"], line["logger"], line["level"]) == ("took 3 s", "some.library", "warning")
        assert set(line) == set(LOG_IDENTITY)

    def test_uvicorn_and_its_silent_access_log(self, configure: Configure, stream: io.StringIO) -> None:
        """Uvicorn's own lines come through at INFO; its access log, which has the query string, has no handler."""
        configure()
        logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
        logging.getLogger("uvicorn.access").info("GET /x?key=1")
        assert not logging.getLogger("uvicorn.access").hasHandlers()
        assert only(stream)["message"] == "Started server process [7]"

    def test_warnings_are_lines(self, configure: Configure, stream: io.StringIO) -> None:
        """A Python warning is logged as JSON on one line."""
        configure()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=False)
            logging.captureWarnings(capture=True)
            warnings.warn("old\nspelling", UserWarning, stacklevel=1)
        assert "old\nspelling" in only(stream)["message"]
        assert only(stream)["logger"] == "py.warnings"

    def test_levels(self, configure: Configure, stream: io.StringIO) -> None:
        """The level is the service's own; libraries stay at WARNING, for below it they write parameters and rows."""
        configure("DEBUG")
        structlog.stdlib.get_logger("service.x").debug("ours")
        logging.getLogger("sqlalchemy.engine").info("SELECT with parameters")
        logging.getLogger("uvicorn.error").debug("theirs")
        assert [line["message"] for line in lines(stream)] == ["ours"]

    def test_quiet_level(self, configure: Configure, stream: io.StringIO) -> None:
        """At ERROR nothing below it is written, access lines included."""
        logs = configure("ERROR")
        structlog.stdlib.get_logger("service.x").warning("ours")
        logging.getLogger("uvicorn.error").warning("theirs")
        logs.access.write(Access("GET", "/a", "/a", 200, 0.1, "::1", "b" * 16), RequestContext("r"))
        assert stream.getvalue() == ""

    def test_ids_of_request_and_span(self, configure: Configure, stream: io.StringIO) -> None:
        """Within a request its ids are on the line, those that are known; the span's own go before."""
        configure()
        token = CURRENT.set(RequestContext("req-1", trace_id="c" * 32, user_id="ops"))
        try:
            structlog.stdlib.get_logger("service.x").info("a")
            with trace.use_span(NonRecordingSpan(SpanContext(0xAB, 0xCD, is_remote=False))):
                logging.getLogger("lib").warning("b")
        finally:
            CURRENT.reset(token)
        first, second = lines(stream)
        assert {key: first[key] for key in LOG_CORRELATION if key in first} == {
            "request_id": "req-1",
            "user_id": "ops",
            "trace_id": "c" * 32,
        }
        assert (second["trace_id"], second["span_id"]) == (f"{0xAB:032x}", f"{0xCD:016x}")

    def test_field_values_are_flat(self, configure: Configure, stream: io.StringIO) -> None:
        """Scalars stay, a list is flat and bounded, a mapping or object is named only: its keys may be data."""
        configure()
        structlog.stdlib.get_logger("service.x").info(
            "values",
            reason=None,
            percent=float("nan"),
            dropped=1 << 80,
            stage=datetime(2026, 1, 2, tzinfo=UTC),
            key_file=PurePosixPath("a/b"),
            worker=UUID(int=1),
            model=["a", 1, None],
            lane=range(3),
            metrics=list(range(99)),
            state={"cell": "Ann"},
            unit="\udc80 é",
        )
        line = only(stream)
        assert line["reason"] is None
        assert line["percent"] is None
        assert line["dropped"] == str(1 << 80)
        assert (line["stage"], line["key_file"]) == ("2026-01-02 00:00:00+00:00", "a/b")
        assert line["worker"] == "00000000-0000-0000-0000-000000000001"
        assert line["model"] == ["a", 1, "None"]
        assert (line["lane"], line["state"]) == ("<range>", "<dict>")
        assert len(line["metrics"]) == 50
        assert line["unit"] == "\\udc80 é"

    def test_only_fields_of_the_catalog(self, configure: Configure, stream: io.StringIO) -> None:
        """A field outside the catalog, or one that would replace the identity, is left out, and reported once."""
        configure()
        data = {"Customer Name": 1, "password": 2, "service": 3, "timestamp": 4, "exception": 5, "percent": 7}
        for _ in range(2):
            structlog.stdlib.get_logger("service.x").info("data", **data)
        warning, first, second = lines(stream)
        assert (warning["level"], warning["source"]) == ("warning", "service.x")
        assert set(first) == set(second) == {*LOG_IDENTITY, "percent"}
        assert first["service"] == "feature-agent"

    def test_a_line_that_cannot_be_rendered(self, configure: Configure, stream: io.StringIO) -> None:
        """A record with wrong arguments neither raises nor breaks the format of the stream."""
        configure()
        logging.getLogger("lib").warning("%d items", "many")
        assert (only(stream)["message"], only(stream)["logger"]) == ("unrenderable line", "lib")

    def test_a_reader_that_went_away(self) -> None:
        """Writing to a closed stream does not raise."""
        stream = io.StringIO()
        sink = Sink(stream)
        stream.close()
        sink.write("x\n")
        assert stream.closed

    def test_closing_puts_everything_back(self, configure: Configure) -> None:
        """After close the root logger, named loggers and structlog are as they were."""
        root = logging.getLogger()
        before = (list(root.handlers), root.level, logging.getLogger("service").level, structlog.is_configured())
        configure().close()
        after = (list(root.handlers), root.level, logging.getLogger("service").level, structlog.is_configured())
        assert after == before


class TestExceptions:
    """How exceptions are logged."""

    def test_one_line_with_a_structured_stack(self, configure: Configure, stream: io.StringIO) -> None:
        """An exception is an object on the same line: type, message, frames without locals, and its cause."""
        configure()
        secret_local = "hunter2"  # noqa: F841 -- must not be seen
        try:
            try:
                int("no number")
            except ValueError as error:
                raise DatasetUnreadable("row 3 is not a table's") from error
        except DatasetUnreadable:
            structlog.stdlib.get_logger("service.x").exception("failed")
        line = only(stream)
        assert line["level"] == "error"
        assert line["exception"]["type"] == "service.features.errors.DatasetUnreadable"
        assert line["exception"]["message"] == "row 3 is not a table's"
        assert re.search(r":\d+ TestExceptions\.test_one_line", line["exception"]["stack"][0])
        assert line["exception"]["cause"]["type"] == "builtins.ValueError"
        assert "hunter2" not in stream.getvalue()

    def test_exceptions_of_libraries(self, configure: Configure, stream: io.StringIO) -> None:
        """`exc_info` is understood as a flag and as an exception, from standard loggers too."""
        configure()
        try:
            fail(OSError(111, "Connection refused"))
        except OSError as error:
            logging.getLogger("lib").error("a", exc_info=True)  # noqa: G201 -- the form under test
            structlog.stdlib.get_logger("service.x").error("b", exc_info=error)
        first, second = lines(stream)
        assert first["exception"] == second["exception"]
        assert first["exception"]["message"] == "[Errno 111] Connection refused"

    def test_no_exception_to_tell(self, configure: Configure, stream: io.StringIO) -> None:
        """Asking for an exception when there is none gives a plain line."""
        configure()
        structlog.stdlib.get_logger("service.x").error("a", exc_info=True)
        assert "exception" not in only(stream)

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (ValueError("could not convert string to float: 'Ann Smith'"), "could not convert string to float: '…'"),
            (KeyError("Ann"), "'…'"),
            (RuntimeError('Conversion Error: "Ann"\nLINE 1: Ann, 3'), "Conversion Error: '…'"),
            (FileNotFoundError(2, "No such file", "artifacts/a"), "[Errno 2] No such file: 'artifacts/a'"),
        ],
    )
    def test_messages_quote_no_cell(self, error: Exception, message: str) -> None:
        """Other errors show their first line without quoted text; the operating system's are shown in full."""
        assert describe(error)["message"] == message

    def test_groups_and_long_chains(self) -> None:
        """A group shows its first member as cause, a long chain of causes ends, a suppressed one is not shown."""
        assert describe(ExceptionGroup("two", [OSError("a"), OSError("b")]))["cause"] == describe(OSError("a"))
        chain: Exception = ValueError("0")
        for number in range(20):
            following = ValueError(str(number))
            following.__cause__ = chain
            chain = following
        depth = 0
        node: Any = describe(chain)
        while "cause" in node:
            node, depth = node["cause"], depth + 1
        assert depth == 5
        assert node["message"] == "0", "where the chain began is lost"
        assert next(iter(describe(chain))) == "cause", "a line that is cut on its way would lose it"
        shown = ValueError("shown")
        shown.__context__ = OSError("hidden")
        assert "cause" in describe(shown)
        shown.__suppress_context__ = True
        assert "cause" not in describe(shown)


class TestSecrets:
    """What must not be logged."""

    @pytest.mark.parametrize(("text", "canary"), CANARIES)
    def test_redaction(self, text: str, canary: str) -> None:
        """What looks like a secret is masked, and something of the sentence around it stays."""
        assert canary not in redact(text)
        assert "***" in redact(text)

    def test_a_keys_public_id_stays(self) -> None:
        """Of an API key the public id remains, so that it can be found and revoked."""
        assert redact(KEY) == "fa_0123456789ab_***"

    @pytest.mark.parametrize(
        "text",
        ["12 input_tokens used", "risk-averse task-queue", "GET /api/v1/datasets/sales", "token expired", "a:b@c"],
    )
    def test_plain_words_stay(self, text: str) -> None:
        """Ordinary text is left as it is."""
        assert redact(text) == text

    @pytest.mark.parametrize(("text", "canary"), CANARIES)
    def test_no_way_into_the_stream(self, configure: Configure, stream: io.StringIO, text: str, canary: str) -> None:
        """A secret in a message, an argument, a field, a list, an exception or a path reaches no line."""
        logs = configure()
        logger = structlog.stdlib.get_logger("service.x")
        logger.info(text)
        logger.info("said %s", text, reason=text, state=[text])
        logging.getLogger("lib").warning("%s", text)
        try:
            fail(DatasetUnreadable(text))
        except DatasetUnreadable:
            logger.exception("failed")
        logs.access.write(Access("GET", "unmatched", f"/{text}", 404, 0.1, "::1", "b" * 16), RequestContext("r"))
        assert len(lines(stream)) == 5
        assert canary not in stream.getvalue()

    def test_long_text_is_cut(self) -> None:
        """Of a long text 4000 characters stay: its beginning, and its end, where a traceback says what happened."""
        kept = redact(f"begins {'a' * 10_000} OSError: refused")
        assert len(kept) == 4001
        assert kept.startswith("begins aa")
        assert kept.endswith("aa OSError: refused")

    def test_a_secret_where_a_text_is_cut_is_masked(self) -> None:
        """The end of a long text is what follows the cut; no secret that begins before the cut shows its rest."""
        for before in range(2_940, 3_060):
            long = f"{'a ' * 4_000}password={'hunter2' * 12} {'b' * (before - 85)}"
            assert "hunter2" not in redact(long)

    @given(st.text())
    def test_any_text_can_be_encoded(self, text: str) -> None:
        """Whatever the text, what is left of it is valid UTF-8."""
        assert isinstance(redact(text).encode(), bytes)


class TestAccessLine:
    """The line of each request."""

    def test_its_keys(self, configure: Configure, stream: io.StringIO) -> None:
        """The access line has the contract's keys, a cut path, the known ids and no empty ones."""
        logs = configure()
        access = Access("GET", "/a/{id}", f"/a/{'x' * 400}", 200, 0.0123456, "10.0.0.1", "b" * 16)
        logs.access.write(access, RequestContext("r-1", trace_id="c" * 32, user_id="ops"))
        line = only(stream)
        assert set(line) == {*LOG_IDENTITY, *LOG_ACCESS, "request_id", "trace_id", "span_id", "user_id"}
        assert (line["message"], line["level"], line["status"], line["duration_ms"]) == ("request", "info", 200, 12.346)
        assert len(line["path"]) == 256
        assert line["timestamp"].endswith("Z")

    def test_server_errors_are_errors(self, configure: Configure, stream: io.StringIO) -> None:
        """A 5xx is written at level error, also when the level is above INFO."""
        configure("ERROR").access.write(Access("GET", "/a", "/a", 503, 0.1, "", "b" * 16), RequestContext("r"))
        assert only(stream)["level"] == "error"

    def test_a_sample_of_successes(self, stream: io.StringIO) -> None:
        """Of quick successes the share that the traces' sampler keeps has its line; errors and slow ones do."""
        ids = [hashlib.sha256(number.to_bytes(2)).hexdigest()[:32] for number in range(400)]
        logs = configure_logging(
            level="INFO",
            log_format="json",
            service="s",
            version="1",
            environment="e",
            access_sample=0.25,
            stream=stream,
        )
        for trace_id in ids:
            logs.access.write(Access("GET", "/a", "/a", 200, 0.1, "", "b" * 16), RequestContext("r", trace_id=trace_id))
        sampler = TraceIdRatioBased(0.25)
        kept = [t for t in ids if sampler.should_sample(None, int(t, 16), "GET /a").decision.is_sampled()]
        assert [line["trace_id"] for line in lines(stream)] == kept
        assert 50 < len(kept) < 150
        for status, seconds in ((404, 0.1), (500, 0.1), (200, SLOW_SECONDS)):
            logs.access.write(
                Access("GET", "/a", "/a", status, seconds, "", "b"), RequestContext("r", trace_id="f" * 32)
            )
        assert len(lines(stream)) == len(kept) + 3
        logs.close()

    def test_standard_output_is_the_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without a stream the lines go to standard output."""
        logs = configure_logging(level="INFO", log_format="json", service="s", version="1", environment="e")
        structlog.stdlib.get_logger("service.x").info("hello")
        logs.close()
        assert json.loads(capsys.readouterr().out)["message"] == "hello"


class TestConsole:
    """The rendering for people."""

    def test_readable_lines(self, configure: Configure, stream: io.StringIO) -> None:
        """People get the message, the fields and the whole stack on lines of their own; no control character passes."""
        configure(log_format="console")
        try:
            try:
                fail(OSError("first"))
            except OSError as error:
                raise DatasetUnreadable("bad \x1b[2J table") from error
        except DatasetUnreadable:
            structlog.stdlib.get_logger("service.x").exception("failed", model="a\x1b]0;evil\x07")
        text = stream.getvalue()
        assert "failed" in text
        assert "builtins.OSError: first" in text
        assert "service.features.errors.DatasetUnreadable: bad ?[2J table" in text
        assert "test_readable_lines" in text
        assert "\x1b[2J" not in text
        assert "\x1b]0" not in text

    def test_colours_are_for_terminals(self, configure: Configure, stream: io.StringIO) -> None:
        """Into a file or pipe no escape codes are written, to a terminal they are."""
        configure(log_format="console")
        structlog.stdlib.get_logger("service.x").info("plain")
        assert "\x1b" not in stream.getvalue()
        stream.isatty = lambda: True  # type: ignore[method-assign]
        configure(log_format="console")
        structlog.stdlib.get_logger("service.x").info("coloured")
        assert "\x1b" in stream.getvalue()

    def test_access_lines(self, configure: Configure, stream: io.StringIO) -> None:
        """Access lines are readable too, and as harmless."""
        logs = configure(log_format="console")
        logs.access.write(Access("GET", "/a", "/a\x1b[2Jb", 200, 0.1, "::1", "b" * 16), RequestContext("r"))
        assert "request" in stream.getvalue()
        assert "\x1b[2J" not in stream.getvalue()


def test_an_access_log_can_stand_alone(stream: io.StringIO) -> None:
    """The access log needs a sink and an identity, no global configuration."""
    access = AccessLog(Sink(stream), Identity("s", "1", "e"), level=logging.INFO, log_format="json")
    access.write(Access("GET", "/a", "/a", 200, 0.1, "::1", "b" * 16), RequestContext("r"))
    assert only(stream)["service"] == "s"
