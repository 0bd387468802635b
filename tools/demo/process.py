"""Run the service as a process of its own: start it as a user would, read its output, and always stop it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import msgspec

import service

STOP_TIMEOUT_SECONDS = 15.0
"""From SIGTERM to SIGKILL, for the service to flush its spans and stop its embedded database."""
READER_TIMEOUT_SECONDS = 1.0
"""For the last lines of an ended process to be read."""
TAIL_LINES = 15
SERVE = (sys.executable, "-m", service.__name__, "serve")
"""The service, run by the interpreter that runs the demo."""
_SETTINGS = frozenset({
    "ENVIRONMENT", "DEBUG", "HOST", "PORT", "WORKERS", "ALLOWED_HOSTS", "CORS_ORIGINS", "PRIMARY_MODEL",
    "FALLBACK_MODEL", "API_KEY_HEADER", "RATE_LIMIT_PER_MINUTE", "ARTIFACTS_URL", "ENGINE_URL", "SYNC_WAIT_SECONDS",
    "WORKER_IN_API", "MAX_UPLOAD_BYTES", "DATA_DIR", "TRUST_TRACEPARENT", "SECRETS_DIR",
})  # fmt: skip
_SETTING_PREFIXES = ("DATABASE_", "REDIS_", "MODEL_", "PROMETHEUS_", "JAEGER_", "JWT_", "LOG_", "OTEL_", "WORKER_")
"""Settings of the service: those of the user's shell must not lead the demo to real data."""
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})
"""All traffic stays on this machine; a proxy would take the spans meant for the collector."""

LogLine = dict[str, object]


class StopSignal(BaseException):
    """The demo received SIGTERM or SIGHUP. Not an Exception, so that no handler of errors swallows it."""


class ServiceProcess:
    """Run `serve` and keep every line that it writes."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._lines: list[str] = []
        self._process = subprocess.Popen(  # noqa: S603 -- this interpreter and this package
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="service-output", daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self._process.poll()

    def log(self) -> tuple[LogLine, ...]:
        """Return the lines so far that are JSON objects."""
        return tuple(filter(None, map(_log_line, tuple(self._lines))))

    def tail(self) -> tuple[str, ...]:
        """Return the last lines of any form."""
        if self.exit_code is not None:
            self._reader.join(READER_TIMEOUT_SECONDS)
        return tuple(self._lines[-TAIL_LINES:])

    def stop(self) -> None:
        """Send SIGTERM, wait, and send SIGKILL; at once when this process is interrupted while it waits."""
        self._process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
        # A grandchild that outlives the service keeps the pipe open: do not wait for what it writes.
        self._reader.join(READER_TIMEOUT_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 -- it was opened as a pipe
        with self._process.stdout as output:
            for line in output:
                self._lines.append(line.rstrip("\n"))


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Generator[ServiceProcess]:
    """Run the command in that working folder (whose `.env` it reads) for the length of the block.

    SIGTERM and SIGHUP to this process end the block with `StopSignal`.
    """
    with _signals_raise():
        process = ServiceProcess(command, environment, folder)
        try:
            yield process
        finally:
            process.stop()


def service_environment(inherited: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings of the service, plus `settings`, with the package importable."""
    kept = {name: value for name, value in inherited.items() if not _is_removed(name.upper())}
    package = str(Path(service.__file__).resolve().parent.parent)
    path = [package, *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"} | dict(settings)


def free_ports(count: int) -> tuple[int, ...]:
    """Return different ports of 127.0.0.1 that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(int(one.getsockname()[1]) for one in sockets)


def _is_removed(name: str) -> bool:
    return name in _SETTINGS or name in _PROXIES or name.startswith(_SETTING_PREFIXES)


def _log_line(line: str) -> LogLine | None:
    try:
        return msgspec.json.decode(line, type=LogLine)
    except msgspec.DecodeError:
        return None


@contextmanager
def _signals_raise() -> Generator[None]:
    """Raise `StopSignal` at the first SIGTERM or SIGHUP, so that blocks end in order; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise StopSignal(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
