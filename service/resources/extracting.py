"""What a process needs for extractions: everything that plans and computes, or only what accepting them takes.

The agent library and the models' SDKs are imported only by a process that runs extractions; the engine by none, since
it runs in processes of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.engines.scratch import Scratch
from service.engines.selection import Engine
from service.engines.subprocess.engine import SubprocessEngine
from service.features.ports import Reader
from service.resources.capacity import open_capacity
from service.resources.computing import open_engine, open_scratch
from service.resources.overrides import NO_OVERRIDES, CapacityService, Overrides, PlannerService
from service.resources.storage import Storage
from service.resources.telemetry import Telemetry
from service.settings import Settings
from service.telemetry.clients import http_watcher

if TYPE_CHECKING:
    from service.agents.providers import Model


@dataclass(frozen=True, slots=True)
class ExtractionBackend:
    """What runs extractions."""

    planner: PlannerService
    engine: Engine


@dataclass(frozen=True, slots=True)
class Extracting:
    """What accepts requests and files, and what runs the extractions."""

    capacity: CapacityService
    reader: Reader
    backend: ExtractionBackend | None
    """None in a process that runs no extractions."""
    scratch: Scratch

    @property
    def alive(self) -> bool:
        """Whether the engine can still work, as `SubprocessEngine.alive` says."""
        return not isinstance(self.reader, SubprocessEngine) or self.reader.alive

    def start(self) -> None:
        """Start an engine process in advance, in a process that computes."""
        if self.backend is not None and isinstance(self.reader, SubprocessEngine):
            self.reader.start()

    async def close(self) -> None:
        """End the engine's processes, and leave nothing in the scratch space."""
        if isinstance(self.reader, SubprocessEngine):
            await self.reader.close()
        await asyncio.to_thread(self.scratch.close)


def open_configured_models(settings: Settings, telemetry: Telemetry) -> Mapping[str, Model]:
    """Open the models before anything else, so that a bad setting stops the start. Raises ModelConfigurationError."""
    from service.resources.planning import open_models  # noqa: PLC0415 -- see the module's docstring

    return open_models(settings, http_watcher(telemetry.tracing.children))


def open_extracting(
    storage: Storage, telemetry: Telemetry, models: Mapping[str, Model] | None, overrides: Overrides = NO_OVERRIDES
) -> Extracting:
    """Open what extractions need; `models` is None in a process that runs none."""
    scratch = open_scratch(storage.settings)
    provider, observer = telemetry.tracing.provider, telemetry.observer
    engine = overrides.engine or open_engine(storage, scratch, observer, provider, keep_warm=models is not None)
    if models is None:
        return Extracting(overrides.planner or open_capacity(storage, observer, provider), engine, None, scratch)
    if overrides.planner is not None:
        return Extracting(overrides.planner, engine, ExtractionBackend(overrides.planner, engine), scratch)
    from service.resources.planning import open_planning  # noqa: PLC0415 -- see the module's docstring

    capacity = open_capacity(storage, observer, provider)
    planner = open_planning(models, capacity, storage, rehearsal=engine, observer=observer, tracer_provider=provider)
    return Extracting(capacity, engine, ExtractionBackend(planner, engine), scratch)
