"""`feature-agent serve`: run the API until SIGTERM or SIGINT."""

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
from service.commands.garbage import freeze_after_startup, pause_gc
from service.commands.supervisor import Assignment, Supervisor
from service.engines.scratch import Scratch
from service.resources.telemetry import open_logs, shared_registry
from service.settings import Settings
from service.telemetry.exposition import MetricsPortUnavailable, MetricsServer

SHUTDOWN_SECONDS = 40.0
"""For a worker to answer its open requests and close everything, on top of draining and its jobs' grace."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- see `metrics_folder`
BACKLOG = 2048
"""Connections that may wait to be accepted; uvicorn's default."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Log JSON, whatever LOG_FORMAT says, and print nothing else.")
@click.option("--assignment", hidden=True, help="JSON with which the supervisor starts a worker.")
def serve(*, as_json: bool, assignment: str | None) -> int:
    """Run the API. In development the first start creates an API key, shows it once, and keeps it in DATA_DIR."""
    settings = settings_or_refuse(**({"log_format": "json"} if as_json else {}))
    signal.signal(signal.SIGTERM, _exit)
    pause_gc()
    if assignment is not None:
        return int(_serving().serve_among(settings, msgspec.json.decode(assignment, type=Assignment)))
    listener = _bind("PORT", settings.host, settings.port)
    if settings.workers > 1:
        freeze_after_startup()
        return _supervise(settings, listener, ("--json",) if as_json else ())
    return int(_serving().serve_alone(settings, listener))


def _serving() -> Any:
    """Import the module with the web framework and all behind it, which a supervisor never needs."""
    return import_module("service.commands.serving")


def _supervise(settings: Settings, listener: socket.socket, arguments: tuple[str, ...]) -> int:
    """Run WORKERS processes, and serve the metrics of all of them on the metrics port."""
    listener.listen(BACKLOG)
    with contextlib.ExitStack() as cleanup:
        folder = cleanup.enter_context(contextlib.closing(Scratch(metrics_folder(settings)))).folder / "metrics"
        folder.mkdir()
        cleanup.callback(open_logs(settings).close)
        if settings.prometheus_enabled:
            metrics = _serve_metrics(settings, folder)
            cleanup.callback(metrics.close)
            address = f"http://{settings.host}:{metrics.port}/metrics"
            structlog.get_logger("service.serve").info("keeping workers", metrics=address)
        grace = settings.seconds_to_drain() + settings.worker_grace_seconds + SHUTDOWN_SECONDS
        return Supervisor(settings.workers, listener, folder, arguments, grace_seconds=grace).run()


def metrics_folder(settings: Settings) -> Path:
    """Choose the folder for the workers' metrics: in shared memory when this user can have one there, else in DATA_DIR.

    Every user may write to shared memory, so a folder of that name is used only when no other user can write to it.
    """
    folder = SHARED_MEMORY / f"feature-agent-{os.getuid()}"
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


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exit in order on a signal before the server handles signals, so that the embedded database stops as well."""
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
