"""The engine, and the use case that feeds it datasets."""

from __future__ import annotations

from opentelemetry.trace import TracerProvider

from service.engines import selection
from service.engines.apart.reader import ReaderProcess
from service.engines.scratch import Scratch
from service.engines.selection import Engine
from service.features.datasets import UploadDataset
from service.features.ports import Reader
from service.resources.secrets import private_folder
from service.resources.storage import Storage, new_id
from service.settings import Settings


def open_scratch(settings: Settings) -> Scratch:
    """Scratch space for this process under DATA_DIR."""
    return Scratch(private_folder(settings.data_dir / "scratch"))


def open_engine(storage: Storage, scratch: Scratch, tracer_provider: TracerProvider | None = None) -> Engine:
    """The engine that ENGINE_URL names, on the given artifacts."""
    return selection.open_engine(storage.settings.engine_url, storage.artifacts, scratch.folder, tracer_provider)


def open_reader(storage: Storage, scratch: Scratch, tracer_provider: TracerProvider | None = None) -> ReaderProcess:
    """The engine's reader, in a process of its own, for uploads and downloads alone."""
    limits, concurrency = selection.reader_limits(storage.settings.engine_url)
    return ReaderProcess(
        storage.artifacts, limits, scratch.folder, concurrency=concurrency, tracer_provider=tracer_provider
    )


def open_upload(storage: Storage, reader: Reader) -> UploadDataset:
    """The upload use case on the given stores."""
    return UploadDataset(
        store=storage.store,
        artifacts=storage.artifacts,
        reader=reader,
        clock=storage.clock,
        new_id=new_id,
        max_bytes=storage.settings.max_upload_bytes,
    )
