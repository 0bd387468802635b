"""The engine and the use case that feeds it datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import TracerProvider

from service.engines.limits import Limits
from service.engines.scratch import Scratch
from service.engines.subprocess.reader import SubprocessReader
from service.features.datasets import UploadDataset
from service.features.ports import Reader
from service.resources.secrets import private_folder
from service.resources.storage import Storage
from service.settings import MIB, Settings

if TYPE_CHECKING:
    from service.engines.duckdb.engine import DuckDBEngine


def open_scratch(settings: Settings) -> Scratch:
    """Scratch space for this process under DATA_DIR."""
    return Scratch(private_folder(settings.data_dir / "scratch"))


def open_engine(storage: Storage, scratch: Scratch, tracer_provider: TracerProvider | None = None) -> DuckDBEngine:
    """The engine that ENGINE_URL names, on the given artifacts."""
    from service.engines.duckdb.engine import DuckDBEngine  # noqa: PLC0415 -- 60 MiB that not every process needs

    limits, concurrency = _room(storage)
    return DuckDBEngine(
        storage.artifacts, limits, scratch.folder, concurrency=concurrency, tracer_provider=tracer_provider
    )


def open_reader(storage: Storage, scratch: Scratch, tracer_provider: TracerProvider | None = None) -> SubprocessReader:
    """The same engine, in a process of its own, for uploads and downloads alone."""
    limits, concurrency = _room(storage)
    return SubprocessReader(
        storage.artifacts, limits, scratch.folder, concurrency=concurrency, tracer_provider=tracer_provider
    )


def _room(storage: Storage) -> tuple[Limits, int]:
    """The limits of one computation, and how many there may be at once."""
    options = storage.settings.engine_options()
    limits = Limits(
        memory_bytes=options["memory_mib"] * MIB,
        threads=options["threads"],
        scratch_bytes=options["scratch_mib"] * MIB,
        seconds=float(options["timeout_seconds"]),
    )
    return limits, options["concurrency"]


def open_upload(storage: Storage, reader: Reader) -> UploadDataset:
    """The upload use case on the given stores."""
    return UploadDataset(
        store=storage.store,
        artifacts=storage.artifacts,
        reader=reader,
        clock=storage.clock,
        new_id=storage.new_id,
        max_bytes=storage.settings.max_upload_bytes,
    )
