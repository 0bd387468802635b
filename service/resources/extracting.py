"""What a process has for extractions: all that plans and computes, or as much as taking them in needs.

The agent library, the models' SDKs and the engine are imported here when extractions run in this process, not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.engines.apart.reader import ReaderProcess
from service.engines.scratch import Scratch
from service.engines.selection import Engine
from service.features.ports import Reader
from service.resources.capacity import PlanningCapacity, open_capacity
from service.resources.computing import open_engine, open_reader, open_scratch
from service.resources.storage import Storage
from service.resources.telemetry import Telemetry
from service.settings import Settings
from service.telemetry.clients import http_watcher

if TYPE_CHECKING:
    from service.agents.providers import Model
    from service.resources.planning import Planning


@dataclass(frozen=True, slots=True)
class Means:
    """What runs extractions."""

    planning: Planning
    engine: Engine


@dataclass(frozen=True, slots=True)
class Extracting:
    """What takes requests and files in, and what runs them."""

    capacity: PlanningCapacity
    reader: Reader
    means: Means | None
    """None in a process that runs no extractions."""
    scratch: Scratch

    async def close(self) -> None:
        """End what reads files, and leave nothing in the scratch space."""
        if isinstance(self.reader, ReaderProcess):
            await self.reader.close()
        await asyncio.to_thread(self.scratch.close)


def open_models_early(settings: Settings, telemetry: Telemetry) -> Mapping[str, Model]:
    """The configured models, before anything else is opened. Raises ModelConfigurationError."""
    from service.resources.planning import open_models  # noqa: PLC0415 -- see above

    return open_models(settings, http_watcher(telemetry.tracing.children))


def open_extracting(storage: Storage, telemetry: Telemetry, models: Mapping[str, Model] | None) -> Extracting:
    """On those models; with None, for a process that runs no extractions."""
    provider, observer = telemetry.tracing.provider, telemetry.observer
    scratch = open_scratch(storage.settings)
    if models is None:
        capacity = open_capacity(storage, observer, provider)
        return Extracting(capacity, open_reader(storage, scratch, provider), None, scratch)
    from service.resources.planning import open_planning  # noqa: PLC0415 -- see above

    engine = open_engine(storage, scratch, provider)
    planning = open_planning(models, storage, rehearsal=engine.rehearsal, observer=observer, tracer_provider=provider)
    return Extracting(planning, engine.reader, Means(planning, engine), scratch)
