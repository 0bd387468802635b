"""`feature-agent serve`: run the API until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
import msgspec
import structlog

from service.commands.environment import settings_or_refuse
from service.commands.failures import PORT_REMEDY, CommandFailed
from service.commands.garbage import rest, settle
from service.commands.supervisor import Assignment, Supervisor
from service.engines.scratch import Scratch
from service.resources.telemetry import open_logs, shared_registry
from service.settings import Settings
from service.telemetry.exposition import MetricsPortUnavailable, MetricsServer

END_SECONDS = 40.0
"""For a worker to end what it is doing and close everything, beside its jobs' own time."""
MEMORY = Path("/dev/shm")  # noqa: S108 -- see `memory_of_our_own`
BACKLOG = 2048
"""Connections that may wait to be accepted; uvicorn's own default."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Log JSON, whatever LOG_FORMAT says, and print nothing else.")
@click.option("--assignment", hidden=True, help="What a supervisor tells its worker.")
def serve(*, as_json: bool, assignment: str | None) -> int:
    """Run the API. In development the first start makes an API key, shows it once, and keeps it in DATA_DIR."""
    settings = settings_or_refuse(**({"log_format": "json"} if as_json else {}))
    signal.signal(signal.SIGTERM, _leave)
    rest()
    if assignment is not None:
        return int(_serving().serve_among(settings, msgspec.json.decode(assignment, type=Assignment)))
    listener = _bind("PORT", settings.host, settings.port)
    if settings.workers > 1:
        settle()
        return _supervise(settings, listener, ("--json",) if as_json else ())
    return int(_serving().serve_alone(settings, listener))


def _serving() -> Any:
    """The module with the framework and everything behind it, which a supervisor never needs."""
    return import_module("service.commands.serving")


def _supervise(settings: Settings, listener: socket.socket, arguments: tuple[str, ...]) -> int:
    """Keep WORKERS processes, and answer the metrics port for all of them."""
    listener.listen(BACKLOG)
    with contextlib.ExitStack() as cleanup:
        folder = cleanup.enter_context(contextlib.closing(Scratch(memory_of_our_own(settings)))).folder / "numbers"
        folder.mkdir()
        cleanup.callback(open_logs(settings).close)
        if settings.prometheus_enabled:
            metrics = _serve_metrics(settings, folder)
            cleanup.callback(metrics.close)
            address = f"http://{settings.host}:{metrics.port}/metrics"
            structlog.get_logger("service.serve").info("keeping workers", metrics=address)
        grace = settings.seconds_to_drain() + settings.worker_grace_seconds + END_SECONDS
        return Supervisor(settings.workers, listener, folder, arguments, grace_seconds=grace).run()


def memory_of_our_own(settings: Settings) -> Path:
    """Where the workers' numbers are kept: in memory, where this user can have a folder there, else under DATA_DIR.

    Everybody may write where it is made, so a folder of that name that is not ours alone is left to whoever made it.
    """
    folder = MEMORY / f"feature-agent-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return settings.data_dir / "scratch"
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if ours else settings.data_dir / "scratch"


def _serve_metrics(settings: Settings, folder: Path) -> MetricsServer:
    try:
        return MetricsServer(shared_registry(settings, folder), host=settings.host, port=settings.prometheus_port)
    except MetricsPortUnavailable as error:
        raise CommandFailed(str(error)) from None


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Asked to stop before the server listens to signals: leave in order, so that the embedded database stops too."""
    raise SystemExit(0)


def _bind(setting: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # uvicorn sets TCP_NODELAY by it
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CommandFailed(
            f"{setting}: cannot listen on {host}:{port}: {error.strerror}. {PORT_REMEDY.format(setting)}"
        ) from None
    return listener
