"""One process that serves the API: alone, or as one of several workers."""

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
from service.commands.failures import CommandFailed
from service.commands.garbage import settle
from service.commands.starting import opening, starting
from service.commands.supervisor import Assignment, Leash, own
from service.resources.runtime import Runtime, open_runtime
from service.resources.telemetry import Place
from service.settings import Settings

GRACE_SECONDS = 30
"""Time that open requests have to end, once no new ones are taken."""
IDLE_SECONDS = 75
"""For which a connection is kept between two requests: longer than balancers and clients keep theirs (60 s or less),
since a server that closes first may do so under a request that is on its way."""
TICK_SECONDS = 0.1
SWITCH_SECONDS = 0.0005
"""How long a thread may hold the interpreter while others want it (Python's own: 5 ms). Plans are compiled in threads;
each time the event loop wakes up it waits for all of them in turn, and so does every request."""


class Server(uvicorn.Server):
    """uvicorn's server, that says where it listens and lets readiness fall as soon as it is asked to stop."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime, leash: Leash | None, *, announce: bool) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._leash = leash
        self._announce = announce
        self._patient = True

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the resources, then serve: within the lifespan protocol a reason would be a text of 4 kB."""
        async with self._runtime.running():
            await super()._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce the address, and tell the supervisor where there is one."""
        await super().startup(sockets)
        settle()
        if not self.started or not sockets:
            return
        if self._announce:
            _announce(self._runtime, _address(self._runtime.settings, sockets[0]))
        if self._leash is not None:
            self._leash.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Go on until every balancer has seen that readiness fell, then take nothing more, and end what is open."""
        loop = asyncio.get_running_loop()
        last = loop.time() + (self._runtime.settings.seconds_to_drain() if self._patient else 0.0)
        for tick in count():
            if self.force_exit or loop.time() >= last:
                break
            await self.on_tick(tick)
            await asyncio.sleep(TICK_SECONDS)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Asked to stop: new traffic belongs elsewhere from now on. Somebody at a terminal is not kept waiting.

        uvicorn would raise the signal again once it has stopped, and a clean stop would look like a kill.
        """
        self._patient = sig != signal.SIGINT
        self._runtime.drain()
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


def serve_alone(settings: Settings, listener: socket.socket) -> int:
    """Serve until told to stop, and give the exit status. Raises InputRefused and CommandFailed."""
    return _run(_open(settings), listener)


def serve_among(settings: Settings, assignment: Assignment) -> int:
    """Serve as one of several workers. Raises InputRefused and CommandFailed."""
    leash = Leash(assignment.leash)
    leash.when_cut(lambda: os.kill(os.getpid(), signal.SIGTERM))
    own(assignment.listener)
    listener = socket.socket(fileno=assignment.listener)
    runtime = _open(settings, Place(assignment.worker, Path(assignment.folder)))
    return _run(runtime, listener, leash, announce=assignment.announce)


def _open(settings: Settings, place: Place | None = None) -> Runtime:
    sys.setswitchinterval(SWITCH_SECONDS)
    with opening():
        return open_runtime(settings, place=place)


def _run(runtime: Runtime, listener: socket.socket, leash: Leash | None = None, *, announce: bool = True) -> int:
    config = uvicorn.Config(
        build_app(runtime, running=True),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
    )
    server = Server(config, runtime, leash, announce=announce)
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
    """One log line for machines; a few words for a person at a terminal, who alone is shown a new key."""
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
