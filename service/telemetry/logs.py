"""Configure logging: one JSON object on a line for the service, uvicorn, warnings and libraries.

Every line passes one handler of the standard library and one processor chain, except the access line (`access.py`).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, Literal, TextIO, cast
from uuid import UUID

import msgspec
import structlog
from opentelemetry import trace
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from service.features.context import CURRENT
from service.telemetry.access import AccessLog, Identity, LogFormat, Sink
from service.telemetry.catalog import LOG_ACCESS, LOG_CORRELATION, LOG_EXCEPTION, LOG_FIELDS
from service.telemetry.redaction import describe, redact

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_FIELDS = frozenset({*LOG_FIELDS, *LOG_ACCESS, *LOG_CORRELATION})
"""Fields that code may add to a line: the catalog's. A field's name never comes from data."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_ITEMS = 50
_JSON_INTEGER_BITS = 64
_ENCODER = msgspec.json.Encoder()
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class _Handler(logging.Handler):
    def __init__(self, sink: Sink, formatter: logging.Formatter) -> None:
        super().__init__()
        self._sink = sink
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sink.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 -- a line that cannot be rendered must not fail the caller, nor be shown raw
            line = {
                "timestamp": datetime.now(UTC),
                "level": "error",
                "message": "unrenderable line",
                "logger": record.name,
            }
            self._sink.write(f"{_ENCODER.encode(line).decode()}\n")


class Logs:
    """Hold this process's access log, and restore the previous logging for a test or an embedding program."""

    def __init__(self, access: AccessLog, restore: Callable[[], None]) -> None:
        self.access = access
        self._restore = restore

    def close(self) -> None:
        """Restore the previous logging."""
        self._restore()


def configure_logging(
    *,
    level: LogLevel,
    log_format: LogFormat,
    service: str,
    version: str,
    environment: str,
    access_sample: float = 1.0,
    stream: TextIO | None = None,
) -> Logs:
    """Write every log line of this process to `stream` (default: standard output), as JSON or as readable text.

    `level` is the service's own. Libraries stay at WARNING or above (uvicorn: INFO): at INFO and DEBUG several of them
    write statements with parameters, prompts, or rows. Start uvicorn with `log_config=None`; its own access log, which
    has the query string, is disabled. `access_sample` is the share of successful requests that get an access line.
    """
    identity = Identity(service, version, environment)
    number = logging.getLevelNamesMapping()[level]
    sink = Sink(stream or sys.stdout)
    restore = _remember()
    _configure_structlog()
    renderer = [_render_json] if log_format == "json" else [_plain, structlog.dev.ConsoleRenderer(colors=sink.terminal)]
    handler = _Handler(sink, _formatter(identity, renderer))
    logging.getLogger().handlers[:] = [handler]
    _set_levels(number)
    logging.captureWarnings(capture=True)
    return Logs(AccessLog(sink, identity, level=number, log_format=log_format, sample=access_sample), restore)


_NAMED = ("service", "__main__", "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")


def _remember() -> Callable[[], None]:
    root = logging.getLogger()
    handlers = list(root.handlers)
    named = [logging.getLogger(name) for name in _NAMED]
    before = [(logger, logger.level, logger.propagate, list(logger.handlers)) for logger in named]
    root_level = root.level

    def restore() -> None:
        root.handlers[:] = handlers
        root.setLevel(root_level)
        for logger, level, propagate, own in before:
            logger.setLevel(level)
            logger.propagate = propagate
            logger.handlers[:] = own
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()

    return restore


def _set_levels(level: int) -> None:
    logging.getLogger().setLevel(max(level, logging.WARNING))
    for name in _NAMED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # uvicorn then sees no handler, and writes no access lines
        logger.setLevel(max(level, logging.INFO) if name == "uvicorn" else logging.NOTSET)
    for name in ("service", "__main__"):
        logging.getLogger(name).setLevel(level)


def _configure_structlog() -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a logger made at import must follow a later configuration
    )


def _formatter(identity: Identity, render: Iterable[Processor]) -> ProcessorFormatter:
    return ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level],
        processors=[ProcessorFormatter.remove_processors_meta, _assemble(identity), *render],
    )


def correlation() -> dict[str, str]:
    """Return the ids of the current request or job and span; empty outside of both."""
    ids: dict[str, str] = {}
    context = CURRENT.get()
    if context is not None:
        ids = {name: value for name in LOG_CORRELATION[:-1] if (value := cast("str", getattr(context, name)))}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        ids["trace_id"] = f"{span.trace_id:032x}"
        ids["span_id"] = f"{span.span_id:016x}"
    return ids


class _UnknownFields:
    """Warn once for each logger that uses a field outside the catalog, without the field's name, which may be data."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def warn_once(self, logger: str) -> None:
        if logger not in self._told:
            self._told.add(logger)
            _LOGGER.warning("log field outside the catalog is left out", source=logger)


def _assemble(identity: Identity) -> Processor:
    """Return the processor that builds a line: identity, message, ids, then the fields given by code."""
    constant = msgspec.structs.asdict(identity)
    unknown = _UnknownFields()

    def assemble(_logger: WrappedLogger, _name: str, given: EventDict) -> EventDict:
        error = _exception(given.pop("exc_info", None))
        line: dict[str, Any] = {
            "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": given.pop("level"),
            "message": redact(str(given.pop("event"))).strip(),
            "logger": given.pop("logger"),
            **constant,
            **correlation(),
        }
        for name, value in given.items():
            if name in _FIELDS:
                line[name] = _value(value)
            elif name != "stack_info":
                unknown.warn_once(line["logger"])
        if error is not None:
            line[LOG_EXCEPTION] = describe(error)
        return line

    return assemble


def _exception(given: object) -> BaseException | None:
    """Return the exception in `exc_info`, in any form that logging allows."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return cast("tuple[object, BaseException | None, object]", given)[1]
    return sys.exc_info()[1] if given else None


def _value(value: object) -> object:
    """Convert a field's value to a JSON scalar or flat list; a mapping's keys would be field names from data."""
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if value.bit_length() < _JSON_INTEGER_BITS else str(value)
        case str():
            return redact(value)
        case datetime() | PurePath() | UUID():
            return redact(str(value))
        case list() | tuple() | set() | frozenset():
            items = list(cast("Iterable[object]", value))[:_MAX_ITEMS]
            return [item if isinstance(item, (bool, int, float)) else redact(str(item)) for item in items]
        case _:
            return f"<{type(value).__qualname__}>"


def _render_json(_logger: WrappedLogger, _name: str, line: EventDict) -> str:
    return _ENCODER.encode(line).decode()


def _plain(_logger: WrappedLogger, _name: str, line: EventDict) -> EventDict:
    """Prepare a line for people: message first, no constants, no control characters that could affect the terminal."""
    for name in ("service", "version", "environment"):
        line.pop(name)
    line["event"] = line.pop("message")
    error = cast("dict[str, Any] | None", line.pop(LOG_EXCEPTION, None))
    shown = {name: _CONTROL.sub("?", value) if isinstance(value, str) else value for name, value in line.items()}
    if error is not None:
        shown[LOG_EXCEPTION] = "\n".join(_readable(error))
    return shown


def _readable(error: dict[str, Any]) -> Iterator[str]:
    if cause := error.get("cause"):
        yield from _readable(cause)
    yield from (f"  {frame}" for frame in error["stack"])
    yield _CONTROL.sub("?", f"{error['type']}: {error['message']}")
