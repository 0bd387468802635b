"""Serve the API with uvicorn, in the only process or in one of several workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from itertools import count
from pathlib import Path
from types import FrameType

import click
import structlog
import uvicorn

from service import __version__
from service.app import build_app
from service.commands.connecting import connection_protocol
from service.commands.failures import CommandFailed
from service.commands.garbage import freeze_after_startup
from service.commands.starting import opening, starting
from service.commands.supervisor import Assignment, SupervisorPipe, set_close_on_exec
from service.resources.runtime import Runtime, open_runtime
from service.resources.telemetry import WorkerIdentity
from service.settings import Settings

SHUTDOWN_TIMEOUT_SECONDS = 30
"""For open requests to end once no new ones are accepted."""
KEEP_ALIVE_SECONDS = 75
"""For an idle connection: longer than load balancers and clients keep theirs (60 s or less), since a server that closes
first may do so while a request is on its way."""
TICK_SECONDS = 0.1
SWITCH_SECONDS = 0.0005
"""How long a thread may hold the interpreter's lock while others wait for it (Python's default: 5 ms). Plans are
compiled in threads, and each time the event loop wakes up, with all requests, it waits for every one of them."""


class Server(uvicorn.Server):
    """uvicorn's server that announces its address, and drains before it shuts down."""

    def __init__(
        self, config: uvicorn.Config, runtime: Runtime, pipe: SupervisorPipe | None, *, announce: bool
    ) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._pipe = pipe
        self._announce = announce
        self._drains = True

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the parts, then serve; an error raised in the lifespan protocol would arrive as 4 kB of text."""
        async with self._runtime.running():
            await super()._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce the address and report to the supervisor, if any, that requests are served."""
        await super().startup(sockets)
        freeze_after_startup()
        if not self.started or not sockets:
            return
        if self._announce:
            _announce(self._runtime, _address(self._runtime.settings, sockets[0]))
        if self._pipe is not None:
            self._pipe.report_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until every load balancer has seen that readiness fell, then accept no more and end open requests."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._runtime.settings.seconds_to_drain() if self._drains else 0.0)
        for tick in count():
            if self.force_exit or loop.time() >= deadline:
                break
            await self.on_tick(tick)
            await asyncio.sleep(TICK_SECONDS)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let readiness fall and begin the shutdown; Ctrl-C at a terminal skips the draining."""
        self._drains = sig != signal.SIGINT
        self._runtime.drain()
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # uvicorn would raise them again at its end, and the stop look like a kill


def serve_alone(settings: Settings, listener: socket.socket) -> int:
    """Serve until a signal; returns the exit status. Raises InputRefused and CommandFailed."""
    return _run(_open(settings), listener)


def serve_among(settings: Settings, assignment: Assignment) -> int:
    """Serve as one of several workers. Raises InputRefused and CommandFailed."""
    pipe = SupervisorPipe(assignment.pipe)
    pipe.on_close(lambda: os.kill(os.getpid(), signal.SIGTERM))
    set_close_on_exec(assignment.listener)
    listener = socket.socket(fileno=assignment.listener)
    runtime = _open(settings, WorkerIdentity(assignment.worker, Path(assignment.folder)))
    return _run(runtime, listener, pipe, announce=assignment.announce)


def _open(settings: Settings, worker: WorkerIdentity | None = None) -> Runtime:
    sys.setswitchinterval(SWITCH_SECONDS)
    with opening():
        return open_runtime(settings, worker=worker)


def _run(
    runtime: Runtime, listener: socket.socket, pipe: SupervisorPipe | None = None, *, announce: bool = True
) -> int:
    config = uvicorn.Config(
        build_app(runtime, running=True),
        http=connection_protocol(runtime),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = Server(config, runtime, pipe, announce=announce)
    with (
        starting(lambda: server.started),
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(server.serve([listener]))
    if not server.started:
        raise CommandFailed("the service did not start; its last log lines say why, and `feature-agent doctor` may too")
    return 0


def _address(settings: Settings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _announce(runtime: Runtime, address: str) -> None:
    """Log where the API listens; print more when a person is at the terminal: only there a new key is shown."""
    key_file = str(runtime.storage.development_key_path) if runtime.development_key else None
    structlog.get_logger("service.serve").info("listening", address=address, key_file=key_file)
    if not sys.stderr.isatty():
        return
    click.echo(f"\nfeature-agent {__version__}\n  API   {address}/api/v1   docs  {address}/api/docs", err=True)
    if runtime.metrics_address:
        click.echo(f"  metrics  {runtime.metrics_address}", err=True)
    if key_file:
        click.echo(f"  key   in {key_file}", err=True)
    if runtime.new_development_key:
        click.echo(f"  key   {runtime.development_key}   (shown this once)", err=True)
