"""`feature-agent worker`: run extractions until SIGTERM or SIGINT."""

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
from service.commands.garbage import freeze_after_startup, pause_gc
from service.commands.starting import opening, starting
from service.resources.runtime import Runtime
from service.worker import create_worker

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@click.command()
def worker() -> None:
    """Run extractions that the API accepted. Health is beside the metrics, on PROMETHEUS_PORT.

    On SIGTERM it takes no more; running ones have WORKER_GRACE_SECONDS to end, then another worker runs them again.
    """
    settings = settings_or_refuse()
    signal.signal(signal.SIGTERM, _exit)
    pause_gc()
    with opening():
        runtime = create_worker(settings)
    with starting(lambda: runtime.lifecycle.ready):
        asyncio.run(_work(runtime))


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exit in order on a signal during the start, so that the embedded database stops as well."""
    raise SystemExit(0)


async def _work(runtime: Runtime) -> None:
    async with runtime.running():
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, stop.set)
        freeze_after_startup()
        _announce(runtime)
        await stop.wait()
        structlog.get_logger("service.worker").info("draining")


def _announce(runtime: Runtime) -> None:
    """Log where the metrics are; print it as well when a person is at the terminal."""
    structlog.get_logger("service.worker").info("working", metrics=runtime.metrics_address)
    if sys.stderr.isatty():
        click.echo(f"\nfeature-agent {__version__}, worker\n  metrics  {runtime.metrics_address}", err=True)
