"""What must be seen on the boards during faults of the game day: which panel shows what, in which colour."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from observability.source.dashboards.names import MODEL, OVERVIEW, SATURATION
from tests.monitoring.look.seen import Panel
from tools.gameday.fault import Fault
from tools.gameday.faults import FAULTS


class Sight(Struct, frozen=True):
    """A word in a colour or, without a word, a row of a state timeline that ends in it."""

    panel: str
    colour: str
    word: str = ""
    board: str = OVERVIEW

    def seen(self, panels: Sequence[Panel]) -> bool:
        """Whether the panel shows it."""
        return any(self.colour in self._colours(panel) for panel in panels if panel.title == self.panel)

    def _colours(self, panel: Panel) -> set[str]:
        return panel.colours(self.word) if self.word else set(panel.state_colours)

    def __str__(self) -> str:
        """In words, for a failure."""
        return f"{self.board} / {self.panel}: {self.word or 'a row'} in {self.colour}"


class Scene(Struct, frozen=True):
    """A fault of the game day by its name, and what must be seen of it."""

    fault: str
    sights: tuple[Sight, ...]

    def inflicted(self) -> Fault:
        """The fault itself."""
        return next(fault for fault in FAULTS if fault.name == self.fault)


API_UP, WORKER_UP = Sight("API processes", "green", "up"), Sight("Worker processes", "green", "up")
HEALTHY = (API_UP, WORKER_UP, Sight("Dependencies now", "green", "all up"), Sight("Dependencies", "green"))
"""Before any fault."""
SCENES = (
    Scene(
        "api-stopped",
        (Sight("API processes", "red", "down"), WORKER_UP, Sight("Worst alert", "red", "critical")),
    ),
    Scene(
        "worker-killed",
        (API_UP, Sight("Worker processes", "red", "down"), Sight("Worst alert", "red", "critical")),
    ),
    Scene(
        "postgres-killed",
        (
            Sight("Dependencies now", "red", "no database"),
            Sight("Dependencies", "red"),
            Sight("Worst alert", "red", "critical"),
        ),
    ),
    Scene(
        "redis-killed",
        (
            API_UP,
            Sight("Dependencies now", "orange", "degraded"),
            Sight("Dependencies", "red"),
            Sight("Dependencies, as the service sees them", "red", board=SATURATION),
        ),
    ),
    Scene(
        "model-500",
        (
            API_UP,
            Sight("Dependencies now", "orange", "degraded"),
            Sight("Circuit breakers now", "red", "open", MODEL),
            Sight("Circuit breakers", "red", board=MODEL),
        ),
    ),
)
