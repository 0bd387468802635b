"""The service as a process of its own: started as anyone would start it, listened to, and stopped in every case."""

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

STOP_SECONDS = 15.0
"""From SIGTERM to SIGKILL: the service flushes its spans and stops its embedded database in this time."""
READER_SECONDS = 1.0
"""For the last lines of an ended process to be read."""
TAIL_LINES = 15
SERVE = (sys.executable, "-m", service.__name__, "serve")
"""The service, run by the interpreter that runs the demonstration."""
_OURS = frozenset({
    "ENVIRONMENT", "DEBUG", "HOST", "PORT", "WORKERS", "ALLOWED_HOSTS", "CORS_ORIGINS", "PRIMARY_MODEL",
    "FALLBACK_MODEL", "API_KEY_HEADER", "RATE_LIMIT_PER_MINUTE", "ARTIFACTS_URL", "ENGINE_URL", "SYNC_WAIT_SECONDS",
    "WORKER_IN_API", "MAX_UPLOAD_BYTES", "DATA_DIR", "TRUST_TRACEPARENT", "SECRETS_DIR",
})  # fmt: skip
_OUR_PREFIXES = ("DATABASE_", "REDIS_", "MODEL_", "PROMETHEUS_", "JAEGER_", "JWT_", "LOG_", "OTEL_", "WORKER_")
"""Settings of the service: those of the shell that the demonstration runs in must not lead it to real data."""
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})
"""All traffic stays on this machine; a proxy would swallow the spans on their way to the collector."""

LogLine = dict[str, object]


class Stopped(BaseException):
    """The demonstration itself was asked to stop by SIGTERM or SIGHUP. Not an Exception: nothing may swallow it."""


class ServiceProcess:
    """A running `serve`, with every line that it wrote."""

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
        """None while it runs."""
        return self._process.poll()

    def log(self) -> tuple[LogLine, ...]:
        """The lines so far that are JSON objects."""
        return tuple(filter(None, map(_log_line, tuple(self._lines))))

    def tail(self) -> tuple[str, ...]:
        """The last lines, whatever they are; all that it wrote when it has ended."""
        if self.exit_code is not None:
            self._reader.join(READER_SECONDS)
        return tuple(self._lines[-TAIL_LINES:])

    def stop(self) -> None:
        """SIGTERM, time to end well, SIGKILL; at once when this process is interrupted while it waits."""
        self._process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
        # A grandchild that outlives the service keeps the pipe open: what it writes is no longer ours to wait for.
        self._reader.join(READER_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 -- it was opened as a pipe
        with self._process.stdout as output:
            for line in output:
                self._lines.append(line.rstrip("\n"))


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Generator[ServiceProcess]:
    """The command with that environment, in that working folder (whose `.env` it reads); stopped as the block ends.

    SIGTERM and SIGHUP to this process end the block too, with `Stopped`.
    """
    with _signals_raise():
        process = ServiceProcess(command, environment, folder)
        try:
            yield process
        finally:
            process.stop()


def service_environment(inherited: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The inherited environment without any setting of the service, then `settings`, with this package importable."""
    kept = {name: value for name, value in inherited.items() if not _is_foreign(name.upper())}
    package = str(Path(service.__file__).resolve().parent.parent)
    path = [package, *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"} | dict(settings)


def free_ports(count: int) -> tuple[int, ...]:
    """Different ports of 127.0.0.1 that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(int(one.getsockname()[1]) for one in sockets)


def _is_foreign(name: str) -> bool:
    return name in _OURS or name in _PROXIES or name.startswith(_OUR_PREFIXES)


def _log_line(line: str) -> LogLine | None:
    try:
        return msgspec.json.decode(line, type=LogLine)
    except msgspec.DecodeError:
        return None


@contextmanager
def _signals_raise() -> Generator[None]:
    """Turn the first SIGTERM or SIGHUP into `Stopped`, so that blocks are left in order; only the main thread may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
