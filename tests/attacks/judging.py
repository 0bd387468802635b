"""The bounds that hold during each attack on two cores, and the table of a run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator

from msgspec import Struct

from tests.attacks.attacks import Answers, Attack
from tests.attacks.witness import Seen

HEALTH_P95, HEALTH_MAX = 0.1, 1.0
UPLOAD_MAX = 5.0
STATUS_P95 = 0.25
MEMORY_MIB = 40.0
RECOVERY_SECONDS = 10.0
COLUMNS = (
    "attack",
    "what is done",
    "health p95 / max (ms)",
    "status p95 (ms)",
    "upload max (s)",
    "memory (MiB)",
    "recovered (s)",
    "the attacker was answered",
    "verdict",
)
DOCUMENTED = {"503", "507"}
"""Statuses of the 5xx class that say what to do."""


class Outcome(Struct, frozen=True):
    """What came of one attack."""

    attack: Attack
    seen: Seen
    answers: Answers
    stopped_after: float | None
    """Seconds from SIGTERM to the process's end; None when it had to be killed."""

    def faults(self) -> Iterator[str]:
        """Every bound that did not hold, with its figure."""
        seen = self.seen
        for what, figure, bound in (
            ("health p95", _p95(seen.health), HEALTH_P95),
            ("health max", max(seen.health, default=0.0), HEALTH_MAX),
            ("upload max", max(seen.upload, default=0.0), UPLOAD_MAX),
            ("status p95", _p95(seen.status), STATUS_P95),
            ("memory MiB", seen.memory_most - seen.memory_before, MEMORY_MIB),
            ("recovery", float("inf") if seen.recovered_after is None else seen.recovered_after, RECOVERY_SECONDS),
        ):
            if figure > bound:
                yield f"{what} {figure:.2f} > {bound:g}"
        if self.stopped_after is None:
            yield "SIGTERM did not end it"
        if seen.faults:
            yield f"others were answered {seen.faults[:3]}"
        broken = {status for status in self.answers if status.startswith("5") and status not in DOCUMENTED}
        if broken:
            yield f"the attacker was answered {sorted(broken)}"


def table(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Render the outcomes as a Markdown table."""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|---" * len(COLUMNS) + "|"
    for outcome in outcomes:
        yield "| " + " | ".join(_row(outcome)) + " |"


def _row(outcome: Outcome) -> tuple[str, ...]:
    seen = outcome.seen
    return (
        f"`{outcome.attack.name}`",
        outcome.attack.does,
        f"{1000 * _p95(seen.health):.0f} / {1000 * max(seen.health, default=0):.0f}",
        f"{1000 * _p95(seen.status):.0f}",
        f"{max(seen.upload, default=0):.2f}",
        f"+{seen.memory_most - seen.memory_before:.0f}",
        "no" if seen.recovered_after is None else f"{seen.recovered_after:.1f}",
        ", ".join(f"{number} of {status}" for status, number in outcome.answers.most_common()),
        "; ".join(outcome.faults()) or "holds",
    )


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else max(values, default=0.0)
