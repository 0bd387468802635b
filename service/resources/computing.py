"""The engine and the use case that feeds it datasets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.trace import TracerProvider

from service.features.datasets import UploadDataset
from service.features.model import Dataset, FeaturePlan, MediaType, Profile
from service.features.ports import Engine, FeatureTable
from service.resources.secrets import private_folder
from service.resources.storage import Storage, new_id
from service.settings import MIB

if TYPE_CHECKING:
    from service.engines.duckdb.engine import DuckDBEngine


class LateEngine:
    """`ports.Engine` for a process that seldom computes: opens the engine when it is first asked for something.

    Until then neither DuckDB nor what writes its SQL is in memory. For one event loop.
    """

    def __init__(self, open_: Callable[[], Engine]) -> None:
        self._open = open_
        self._opening = asyncio.Lock()
        self._engine: Engine | None = None

    async def ingest(self, source_key: str, media_type: MediaType, target_key: str) -> Profile:
        """See `ports.Engine`."""
        return await (await self._opened()).ingest(source_key, media_type, target_key)

    @asynccontextmanager
    async def compute(
        self, dataset: Dataset, plan: FeaturePlan, *, target: str | None, progress: Callable[[float], None]
    ) -> AsyncGenerator[FeatureTable]:
        """See `ports.Engine`."""
        engine = await self._opened()
        async with engine.compute(dataset, plan, target=target, progress=progress) as table:
            yield table

    async def ping(self) -> None:
        """See `ports.Engine`."""
        await (await self._opened()).ping()

    async def export(self, key: str, media_type: MediaType) -> Path:
        """See `ports.Engine`."""
        return await (await self._opened()).export(key, media_type)

    async def _opened(self) -> Engine:
        async with self._opening:
            if self._engine is None:
                self._engine = await asyncio.to_thread(self._open)  # importing takes a while
            return self._engine


def open_engine(storage: Storage, tracer_provider: TracerProvider | None = None) -> DuckDBEngine:
    """The engine that ENGINE_URL names, on the given artifacts, with its scratch space under DATA_DIR."""
    from service.engines.duckdb.engine import DuckDBEngine  # noqa: PLC0415 -- 20 MiB that not every process needs
    from service.engines.duckdb.sandbox import Limits  # noqa: PLC0415

    options = storage.settings.engine_options()
    limits = Limits(
        memory_bytes=options["memory_mib"] * MIB,
        threads=options["threads"],
        scratch_bytes=options["scratch_mib"] * MIB,
        seconds=float(options["timeout_seconds"]),
    )
    scratch = private_folder(storage.settings.data_dir / "scratch")
    return DuckDBEngine(
        storage.artifacts, limits, scratch, concurrency=options["concurrency"], tracer_provider=tracer_provider
    )


def open_upload(storage: Storage, engine: Engine) -> UploadDataset:
    """The upload use case on the given stores."""
    return UploadDataset(
        store=storage.store,
        artifacts=storage.artifacts,
        engine=engine,
        clock=storage.clock,
        new_id=new_id,
        max_bytes=storage.settings.max_upload_bytes,
    )
