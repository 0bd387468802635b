"""The engine and the use case that feeds it datasets."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager, closing, nullcontext

from opentelemetry.trace import TracerProvider

from service.engines.scratch import Scratch
from service.engines.selection import select_engine
from service.engines.subprocess.engine import SubprocessEngine
from service.features.datasets import UploadDataset
from service.features.events import Event
from service.features.model import Stage, StorageLimits
from service.features.ports import Observer, Reader
from service.features.quotas import StorageQuotas
from service.resources.secrets import private_folder
from service.resources.storage import Storage
from service.settings import Settings


def open_scratch(settings: Settings) -> Scratch:
    """Scratch space for this process under DATA_DIR."""
    return Scratch(private_folder(settings.data_dir / "scratch"))


def open_engine(
    storage: Storage,
    scratch: Scratch,
    observer: Observer,
    tracer_provider: TracerProvider | None = None,
    *,
    keep_warm: bool = False,
) -> SubprocessEngine:
    """The engine that ENGINE_URL names, in processes of its own, on the given artifacts.

    With `keep_warm` one process is kept at all times, for a service that computes.
    """
    settings = storage.settings
    selected = select_engine(settings.engine_url, max_rows=settings.max_rows, max_cells=settings.max_cells)
    return SubprocessEngine(
        storage.artifacts,
        selected,
        scratch.folder,
        observer=observer,
        tracer_provider=tracer_provider,
        keep_warm=keep_warm,
    )


class _NoTelemetry:
    """Implement `ports.Observer` for a command, which measures nothing."""

    def record(self, event: Event) -> None:
        """Ignore the event."""

    def stage(self, extraction_id: str, stage: Stage) -> AbstractContextManager[None]:  # noqa: ARG002 -- the port's
        """Surround nothing."""
        return nullcontext()


@asynccontextmanager
async def command_engine(storage: Storage) -> AsyncGenerator[SubprocessEngine]:
    """Open the engine and scratch space for a command; both are closed when the block ends."""
    with closing(open_scratch(storage.settings)) as scratch:
        engine = open_engine(storage, scratch, _NoTelemetry())
        try:
            yield engine
        finally:
            await engine.close()


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
