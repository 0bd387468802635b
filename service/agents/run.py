"""What one run of the planning agent is about: the dependencies that its validators and tools receive."""

from __future__ import annotations

from msgspec import Struct

from service.features.events import OutputRetried
from service.features.model import ExtractionOptions, Profile
from service.features.plan import Fault
from service.features.ports import Observer, PlanRequest, Rehearsal


class PlanningRun(Struct):
    """One planning run, and what was wrong with its last rejected answer."""

    request: PlanRequest
    observer: Observer
    rehearsal: Rehearsal | None = None
    """None when plans cannot be tried on a sample."""
    faults: tuple[Fault, ...] = ()

    @property
    def profile(self) -> Profile:
        """The dataset's profile."""
        return self.request.dataset.profile

    @property
    def options(self) -> ExtractionOptions:
        """What the client fixed beforehand."""
        return self.request.options

    def reject(self, faults: tuple[Fault, ...]) -> None:
        """Note a rejected answer: once, by its first fault."""
        self.faults = faults
        self.observer.record(OutputRetried(faults[0].reason))
