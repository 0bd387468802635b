"""Replacements for parts of the composition, for programs that embed the service and for its tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from opentelemetry.sdk.trace.export import SpanExporter

from service.engines.selection import Engine
from service.features.delivery import WebhookSender
from service.features.ports import Artifacts, Capacity, Clock, Observer, Planner
from service.features.stores import Notices, Store


class CapacityService(Capacity, Protocol):
    """Capacity whose health can be checked."""

    async def ping(self) -> None:
        """Raise ModelUnavailable while the preferred model cannot be used; ask no model."""
        ...


class PlannerService(Planner, Protocol):
    """A planner with connections of its own, which are open while its `async with` block lasts."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_error: object) -> None: ...


class PlanningService(PlannerService, CapacityService, Protocol):
    """A planner that also knows its capacity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Parts to use instead of those that the settings name; None opens what the settings name."""

    clock: Clock | None = None
    new_id: Callable[[], str] | None = None
    """Generates the ids of datasets and extractions."""
    wrap_store: Callable[[Store], Store] | None = None
    """Gives what requests and runs use instead of the database's store, which it is given."""
    wrap_notices: Callable[[Notices], Notices] | None = None
    """Gives what waiting requests use instead of the database's notices, which it is given."""
    artifacts: Artifacts | None = None
    engine: Engine | None = None
    """Reads uploads and computes features; no engine is loaded."""
    planner: PlanningService | None = None
    """Plans; no model is configured, and no plan cache, budget or admission stands in front of it."""
    webhook_sender: WebhookSender | None = None
    observer: Observer | None = None
    """Receives the events of the domain instead of the metrics, traces and logs."""
    span_exporters: Sequence[SpanExporter] | None = None
    """Receive the spans instead of the exporter that the settings name; they switch tracing on."""
    log_stream: TextIO | None = None
    """Receives the log lines instead of stderr."""


NO_OVERRIDES = Overrides()
