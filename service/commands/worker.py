"""`feature-agent worker`: run extractions until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from types import FrameType
from typing import NoReturn

import click
import structlog

from service import __version__
from service.commands.environment import settings_or_refuse
from service.commands.garbage import rest, settle
from service.commands.starting import opening, starting
from service.resources.runtime import Runtime
from service.worker import create_worker

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@click.command()
def worker() -> None:
    """Run extractions that the API accepted. Health is beside the metrics, on PROMETHEUS_PORT.

    On SIGTERM no more are taken; those that run have WORKER_GRACE_SECONDS to end, then another worker gets them.
    """
    settings = settings_or_refuse()
    signal.signal(signal.SIGTERM, _leave)
    rest()
    with opening():
        runtime = create_worker(settings)
    with starting(lambda: runtime.lifecycle.ready):
        asyncio.run(_work(runtime))


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Asked to stop before there is anything to drain: leave in order, so that the embedded database stops too."""
    raise SystemExit(0)


async def _work(runtime: Runtime) -> None:
    async with runtime.running():
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, stop.set)
        settle()
        _announce(runtime)
        await stop.wait()
        structlog.get_logger("service.worker").info("draining")


def _announce(runtime: Runtime) -> None:
    """One log line for machines, a few words for a person at a terminal."""
    structlog.get_logger("service.worker").info("working", metrics=runtime.metrics_address)
    if sys.stderr.isatty():
        click.echo(f"\nfeature-agent {__version__}, worker\n  metrics  {runtime.metrics_address}", err=True)
