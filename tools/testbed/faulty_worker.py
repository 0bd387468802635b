"""`feature-agent worker` with an engine in trouble: it waits for a file to appear, or dies, as the dataset is named."""

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
from service.engines.duckdb import engine as duckdb_engine
from service.engines.duckdb.engine import DuckDBEngine
from service.features.model import Dataset, FeaturePlan


class TroubledEngine(DuckDBEngine):
    """The engine, but for two datasets."""

    @asynccontextmanager
    async def compute(self, dataset: Dataset, plan: FeaturePlan, **options: Any) -> AsyncGenerator[Any]:
        """Die over `poison`; wait over `slow` until the gate is there."""
        if dataset.id == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if dataset.id == "slow":
            await _gate_opens()
        async with super().compute(dataset, plan, **options) as table:
            yield table


async def _gate_opens() -> None:
    gate = Path(os.environ["GATE"])
    while not gate.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
        await asyncio.sleep(0.05)


duckdb_engine.DuckDBEngine = TroubledEngine  # type: ignore[misc]
sys.exit(main(["worker"]))
