"""The DuckDB engine behind `ports.Reader`, `Compute`, `Measure` and `Rehearsal`."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import duckdb
from sqlglot import exp

from service.engines.duckdb.compute import DuckDBTable, Request, compute, measure_table
from service.engines.duckdb.export import write_table
from service.engines.duckdb.ingest import Upload, ingest
from service.engines.duckdb.rehearse import rehearse
from service.engines.duckdb.sandbox import sandbox
from service.engines.limits import Limits
from service.engines.sql.dialects import render
from service.features.errors import ComputeFailed
from service.features.model import (
    NO_OVERRIDES,
    FeatureEvidence,
    FeaturePlan,
    MediaType,
    Profile,
    ReadOptions,
    TableForm,
)
from service.features.ports import Files, RehearsedFeature
from service.features.tables import Tables


class DuckDBEngine:
    """Reads uploads and runs plans in this process, each in its own sandbox; see `ports` for the promises.

    What its library does cannot be killed here: the service runs it in processes of their own.
    """

    def __init__(self, artifacts: Files, limits: Limits, scratch: Path) -> None:
        """Read and write `artifacts`; each sandbox works within `limits`."""
        self._artifacts = artifacts
        self._limits = limits
        self._scratch = scratch

    async def ping(self) -> None:
        """Raises ComputeFailed when no sandbox can be opened and used."""
        try:
            async with sandbox(self._limits, scratch=self._scratch, readable=[]) as box:
                await box.execute(render(exp.select(exp.Literal.number(1)), "duckdb"))
        except (duckdb.Error, OSError) as error:
            raise ComputeFailed(f"The engine cannot start ({type(error).__name__}).") from error

    async def ingest(
        self, source_key: str, media_type: MediaType, target_key: str, *, overrides: ReadOptions = NO_OVERRIDES
    ) -> Profile:
        """Read an upload, write it as typed Parquet, and profile it."""
        upload = Upload(source_key, media_type, target_key, overrides)
        return await ingest(self._artifacts, self._limits, self._scratch, upload)

    @asynccontextmanager
    async def compute(
        self,
        tables: Tables,
        plan: FeaturePlan,
        *,
        progress: Callable[[float], None] = lambda _: None,
    ) -> AsyncGenerator[DuckDBTable]:
        """Run the plan into a table of a sandbox; see `ports.Compute`."""
        request = Request(tables, plan, progress)
        async with compute(self._artifacts, self._limits, self._scratch, request) as table:
            yield table

    async def measure(
        self, table: DuckDBTable, *, target: str | None, progress: Callable[[float], None] = lambda _: None
    ) -> tuple[FeatureEvidence, ...]:
        """Measure the table in its own sandbox; see `ports.Measure`."""
        return await measure_table(table, target, progress)

    async def rehearse(self, tables: Tables, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
        """Try the plan on a sample; see `ports.Rehearsal`."""
        return await rehearse(self._artifacts, self._limits, self._scratch, tables, plan)

    async def export(self, key: str, form: TableForm) -> Path:
        """Render a published Parquet table into a temporary file that the caller removes.

        Raises ComputeFailed, DeadlineExceeded.
        """
        rendered = await asyncio.to_thread(self._temporary)
        try:
            async with self._artifacts.local(key) as source:
                await self._render(source, rendered, form)
        except BaseException:
            rendered.unlink(missing_ok=True)
            raise
        return rendered

    async def _render(self, source: Path, rendered: Path, form: TableForm) -> None:
        if form == "application/vnd.apache.parquet":
            await asyncio.to_thread(shutil.copyfile, source, rendered)
            return
        async with sandbox(self._limits, scratch=self._scratch, readable=[source]) as box:
            written = box.folder / "export"
            try:
                await write_table(box, source, written, form)
            except duckdb.Error as error:
                raise ComputeFailed(f"The table cannot be exported ({type(error).__name__}).") from None
            await asyncio.to_thread(written.replace, rendered)

    def _temporary(self) -> Path:
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix="export-", delete=False) as file:
            return Path(file.name)
