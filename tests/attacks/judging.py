"""The bounds that hold during each attack on two cores, and the table of a run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator

from msgspec import Struct

from tests.attacks.attacks import Answers, Attack
from tests.attacks.witness import Seen

STOP_SECONDS = 40.0
"""Open requests may take 30 s to end, and then everything is closed."""
COLUMNS = (
    "attack",
    "what is done",
    "health p95 / max (ms)",
    "status p95 (ms)",
    "upload max (s)",
    "memory (MiB)",
    "engine (MiB)",
    "recovered (s)",
    "SIGTERM (s)",
    "the attacker was answered",
    "verdict",
)
DOCUMENTED = {"503", "507"}
"""Statuses of the 5xx class that say what to do."""


class Bounds(Struct, frozen=True):
    """What everybody else may notice of an attack, in seconds and MiB."""

    health_p95: float
    health_max: float
    status_p95: float
    upload_max: float
    memory_mib: float
    recovery: float
    """Until a health check and a small upload are as quick as `health_p95` and a fifth of `upload_max` again."""

    def in_words(self) -> str:
        """Say them in a sentence."""
        return (
            f"`/health/live` p95 < {1000 * self.health_p95:.0f} ms and max < {self.health_max:g} s, status p95 < "
            f"{1000 * self.status_p95:.0f} ms, upload < {self.upload_max:g} s, memory at most {self.memory_mib:g} MiB "
            f"above its start, everything as before within {self.recovery:g} s, ended within {STOP_SECONDS:g} s of "
            "SIGTERM"
        )


BOUNDS = Bounds(health_p95=0.1, health_max=1.0, status_p95=0.25, upload_max=5.0, memory_mib=40.0, recovery=10.0)
SHORT_BOUNDS = Bounds(health_p95=0.5, health_max=3.0, status_p95=1.0, upload_max=10.0, memory_mib=80.0, recovery=60.0)
"""For a machine that has other work, and a service that has been through the attacks before."""


class Outcome(Struct):
    """What came of one attack."""

    attack: Attack
    seen: Seen
    answers: Answers
    stopped_after: float | None = None
    """Seconds from SIGTERM to the process's end, infinite when it had to be killed; None when it was not stopped."""

    def faults(self, bounds: Bounds) -> Iterator[str]:
        """Every bound that did not hold, with its figure."""
        seen = self.seen
        for what, figure, bound in (
            ("health p95", _p95(seen.health), bounds.health_p95),
            ("health max", max(seen.health, default=math.inf), bounds.health_max),
            ("upload max", max(seen.upload, default=math.inf), bounds.upload_max),
            ("status p95", _p95(seen.status), bounds.status_p95),
            ("memory MiB", seen.memory_most - seen.memory_before, bounds.memory_mib),
            ("recovery", math.inf if seen.recovered_after is None else seen.recovered_after, bounds.recovery),
            ("SIGTERM", self.stopped_after or 0.0, STOP_SECONDS),
        ):
            if figure > bound:
                yield f"{what} {figure:.2f} > {bound:g}"
        if seen.faults:
            yield f"others were answered {seen.faults[:3]}"
        broken = {status for status in self.answers if status.startswith("5") and status not in DOCUMENTED}
        if broken:
            yield f"the attacker was answered {sorted(broken)}"


def table(outcomes: Iterable[Outcome], bounds: Bounds) -> Iterator[str]:
    """Render the outcomes as a Markdown table."""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|---" * len(COLUMNS) + "|"
    for outcome in outcomes:
        yield "| " + " | ".join(_row(outcome, bounds)) + " |"


def _row(outcome: Outcome, bounds: Bounds) -> tuple[str, ...]:
    seen = outcome.seen
    return (
        f"`{outcome.attack.name}`",
        outcome.attack.does,
        f"{1000 * _p95(seen.health):.0f} / {1000 * max(seen.health, default=0):.0f}",
        f"{1000 * _p95(seen.status):.0f}",
        f"{max(seen.upload, default=0):.2f}",
        f"+{seen.memory_most - seen.memory_before:.0f}",
        f"{seen.engine_most:.0f}",
        "no" if seen.recovered_after is None else f"{seen.recovered_after:.1f}",
        "" if outcome.stopped_after is None else f"{outcome.stopped_after:.1f}",
        ", ".join(f"{number} of {status}" for status, number in outcome.answers.most_common()),
        "; ".join(outcome.faults(bounds)) or "holds",
    )


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else max(values, default=math.inf)
