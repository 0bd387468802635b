"""The engine and the use case that feeds it datasets."""

from __future__ import annotations

from opentelemetry.trace import TracerProvider

from service.engines.duckdb.engine import DuckDBEngine
from service.engines.duckdb.sandbox import Limits
from service.features.datasets import UploadDataset
from service.features.ports import Engine
from service.resources.secrets import private_folder
from service.resources.storage import Storage, new_id
from service.settings import MIB


def open_engine(storage: Storage, tracer_provider: TracerProvider | None = None) -> DuckDBEngine:
    """The engine that ENGINE_URL names, on the given artifacts, with its scratch space under DATA_DIR."""
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
