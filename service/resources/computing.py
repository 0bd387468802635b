"""The engine and the use case that feeds it datasets."""

from __future__ import annotations

from opentelemetry.trace import TracerProvider

from service.engines import selection
from service.engines.scratch import Scratch
from service.engines.selection import Engine
from service.engines.subprocess.reader import SubprocessReader
from service.features.datasets import UploadDataset
from service.features.model import StorageLimits
from service.features.ports import Reader
from service.features.quotas import StorageQuotas
from service.resources.secrets import private_folder
from service.resources.storage import Storage
from service.settings import Settings


def open_scratch(settings: Settings) -> Scratch:
    """Scratch space for this process under DATA_DIR."""
    return Scratch(private_folder(settings.data_dir / "scratch"))


def open_engine(storage: Storage, scratch: Scratch, tracer_provider: TracerProvider | None = None) -> Engine:
    """The engine that ENGINE_URL names, on the given artifacts."""
    return selection.open_engine(storage.settings.engine_url, storage.artifacts, scratch.folder, tracer_provider)


def open_reader(storage: Storage, scratch: Scratch, tracer_provider: TracerProvider | None = None) -> SubprocessReader:
    """The engine's reader, in a process of its own, for uploads and downloads alone."""
    limits, concurrency = selection.reader_limits(storage.settings.engine_url)
    return SubprocessReader(
        storage.artifacts, limits, scratch.folder, concurrency=concurrency, tracer_provider=tracer_provider
    )


def open_quotas(storage: Storage) -> StorageQuotas:
    """What each principal may keep, on the given stores."""
    settings = storage.settings
    limits = StorageLimits(settings.max_datasets, settings.max_stored_bytes)
    return StorageQuotas(limits, store=storage.store, retention_days=settings.retention_days)


def open_upload(storage: Storage, reader: Reader) -> UploadDataset:
    """The upload use case on the given stores."""
    return UploadDataset(
        store=storage.store,
        artifacts=storage.artifacts,
        reader=reader,
        clock=storage.clock,
        new_id=storage.new_id,
        max_bytes=storage.settings.max_upload_bytes,
        quotas=open_quotas(storage),
    )
