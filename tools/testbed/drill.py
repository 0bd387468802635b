"""What drills share: a fleet on servers of its own, and a report as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.testbed.fleet import Fleet, open_fleet
from tools.testbed.postgres import running_postgres
from tools.testbed.redis import REDIS_SERVER, running_redis


@asynccontextmanager
async def open_isolated_fleet(folder: Path, **environment: str) -> AsyncGenerator[Fleet]:
    """Open a fleet on a PostgreSQL of its own, and on a Redis where one is installed."""
    with ExitStack() as servers:
        postgres = servers.enter_context(running_postgres(folder / "postgresql"))
        if REDIS_SERVER is not None:
            environment["REDIS_URL"] = servers.enter_context(running_redis(folder)).url
        async with open_fleet(folder, postgres.url, **environment) as fleet:
            yield fleet


def print_report(command: str, figures: Mapping[str, Any], out: Path | None) -> None:
    """Print the figures as JSON with the command, the date and the machine; write them to `out` as well."""
    report = {
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        **figures,
    }
    text = f"{json.dumps(report, indent=2)}\n"
    sys.stdout.write(text)
    if out:
        out.write_text(text)
