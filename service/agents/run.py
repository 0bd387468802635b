"""Define the dependencies of one planning run, which its validators and tools receive."""

from __future__ import annotations

from msgspec import Struct

from service.features.events import OutputRetried
from service.features.faults import Fault
from service.features.model import ExtractionOptions, Profile
from service.features.ports import Observer, PlanRequest, Rehearsal


class PlanningRun(Struct):
    """Hold one planning run and the faults of its last rejected answer."""

    request: PlanRequest
    observer: Observer
    rehearsal: Rehearsal | None = None
    """None if plans cannot be tried on a sample."""
    faults: tuple[Fault, ...] = ()

    @property
    def profile(self) -> Profile:
        """Return the dataset's profile."""
        return self.request.dataset.profile

    @property
    def options(self) -> ExtractionOptions:
        """Return the options that the client fixed."""
        return self.request.options

    def reject(self, faults: tuple[Fault, ...]) -> None:
        """Record a rejected answer, once, by its first fault."""
        self.faults = faults
        self.observer.record(OutputRetried(faults[0].reason))
