"""Serve with reload: `make dev` runs `feature-agent serve` and starts it again whenever a file of `service/` changes.

What runs is the command that production runs, with the settings of the environment and `.env`. This process uses the
database as well, so the embedded PostgreSQL goes on while `serve` is replaced.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from socket import socket

from uvicorn import Config
from uvicorn.supervisors import ChangeReload

from service import __main__ as command_line
from service.commands.environment import settings_or_refuse
from service.commands.failures import CommandFailed, InputRefused
from service.commands.starting import opening
from service.resources.storage import open_storage
from service.settings import Settings

ROOT = Path(__file__).parents[1]
DEV_WORKER_GRACE_SECONDS = 1
"""For running extractions to end when `serve` is replaced; the next process runs their jobs again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; exit status 0, or that of a `serve` whose settings or database cannot be used."""
    parser = argparse.ArgumentParser(prog="make dev", description=__doc__)
    parser.add_argument("--watch", type=Path, default=ROOT / "service", help="the folder whose .py files are watched")
    watched: Path = parser.parse_args(arguments).watch
    try:
        settings = settings_or_refuse()
        if "worker_grace_seconds" not in settings.model_fields_set:
            os.environ["WORKER_GRACE_SECONDS"] = str(DEV_WORKER_GRACE_SECONDS)
        with open_database(settings):
            config = Config("service.app:create_app", log_config=None, reload=True, reload_dirs=[str(watched)])
            ChangeReload(config, target=serve, sockets=[]).run()
    except (InputRefused, CommandFailed) as error:
        sys.stderr.write(f"dev: {error}\n")
        return 2 if isinstance(error, InputRefused) else 1
    return 0


@contextlib.contextmanager
def open_database(settings: Settings) -> Generator[None]:
    """Keep the embedded PostgreSQL running for the length of the block, if the settings name no other database."""
    with opening():
        storage = open_storage(settings)
    try:
        yield
    finally:
        asyncio.run(storage.close())


def serve(sockets: list[socket] | None = None) -> None:  # noqa: ARG001 - what a reloader gives to what it runs
    """Run `feature-agent serve` in the process that the reloader started."""
    sys.exit(command_line.main(["serve"]))


if __name__ == "__main__":
    sys.exit(main())
