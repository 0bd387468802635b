"""Run `feature-agent worker` with an engine that kills its process or waits for a file, depending on the dataset."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from service.__main__ import main
from service.engines.subprocess.engine import SubprocessEngine
from service.features.model import FeaturePlan
from service.features.tables import Tables
from service.resources import computing


class FaultyEngine(SubprocessEngine):
    """The engine, with faults for two datasets."""

    @asynccontextmanager
    async def compute(self, tables: Tables, plan: FeaturePlan, **options: Any) -> AsyncGenerator[Any]:
        """Kill the process for the dataset `poison`; for `slow`, wait until the file GATE exists."""
        if tables.main.id == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if tables.main.id == "slow":
            await _wait_for_gate()
        async with super().compute(tables, plan, **options) as table:
            yield table


async def _wait_for_gate() -> None:
    gate = Path(os.environ["GATE"])
    while not gate.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
        await asyncio.sleep(0.05)


computing.SubprocessEngine = FaultyEngine  # type: ignore[misc]
sys.exit(main(["worker"]))
