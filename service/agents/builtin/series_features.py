"""Candidates of the row grain that look back along an entity's earlier rows: lags, changes, rolling windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, capital, days, days_slug, describe
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen
from service.features.operations.types import (
    AnyOperation,
    ChangeFromPrevious,
    CumulativeCount,
    DaysSincePrevious,
    PreviousValue,
    RollingCount,
    RollingStatistic,
)

WEEK = 7.0
"""The rolling window in days when the sentence gives none."""
_ROLLING: tuple[
    tuple[Literal["sum", "mean", "minimum", "maximum", "standard_deviation"], Intent, str, float], ...
] = (
    ("mean", "mean", "average", 0.6), ("standard_deviation", "spread", "standard deviation", 0.45),
    ("maximum", "maximum", "highest", 0.2), ("minimum", "minimum", "lowest", 0.15), ("sum", "sum", "total", 0.1),
)  # fmt: skip
_SHORT = {"standard_deviation": "std", "maximum": "max", "minimum": "min"}


def series_candidates(scene: Scene) -> Iterator[Candidate]:
    """Everything that looks back; nothing without both an entity and a time."""
    if scene.entity is None or scene.time is None:
        return
    entity, time = scene.entity.name, scene.time.name
    for seen in scene.numbers:
        yield from _of_number(scene, seen, entity, time)
    for window in _windows(scene):
        yield Candidate(
            RollingCount(entity, time, window),
            f"rows_last_{days_slug(window)}",
            describe(f"Rows of the same {entity} in the {days(window)} of {time} before the row."),
            scene.score(0.4, "frequency") if not scene.reading.says("count") else ASKED,
            "window",
            "rows",
        )
    made: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
        (DaysSincePrevious(entity, time), "days_since_previous_row",
         f"Days of {time} since the previous row of the same {entity}", "gap", 0.6),
        (CumulativeCount(entity, time), "rows_so_far", f"Earlier rows of the same {entity}, by {time}",
         "cumulative", 0.35),
    )  # fmt: skip
    for operation, name, words, intent, base in made:
        yield Candidate(operation, name, describe(f"{words}."), scene.score(base, intent), "series", "rows")


def _windows(scene: Scene) -> tuple[float, ...]:
    return tuple(window.days for window in scene.reading.windows) or (WEEK,)


def _of_number(scene: Scene, seen: Seen, entity: str, time: str) -> Iterator[Candidate]:
    previous = f"the previous row of the same {entity}, by {time}"
    made: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
        (PreviousValue(seen.name, entity, time), f"previous_{seen.slug}",
         f"The {seen.name} of {previous}", "lag", 0.55),
        (ChangeFromPrevious(seen.name, entity, time), f"{seen.slug}_change",
         f"Change: {seen.name} less that of {previous}", "change", 0.65),
    )  # fmt: skip
    for operation, name, words, intent, base in made:
        score = _wanted(scene, seen, intent, base)
        yield Candidate(operation, name, describe(f"{words}."), score, "series", seen.name)
    for window in _windows(scene):
        yield from _rolling(scene, seen, (entity, time, window))


def _rolling(scene: Scene, seen: Seen, along: tuple[str, str, float]) -> Iterator[Candidate]:
    entity, time, window = along
    named = scene.reading.says("mean", "spread", "maximum", "minimum", "sum")
    for function, intent, words, base in _ROLLING:
        score = _wanted(scene, seen, "rolling", base)
        others = any(scene.named(other) for other in scene.numbers) and not scene.named(seen)
        if scene.reading.windows and score < ASKED and not others:
            score = max(score, RELATED + base)
        if named and not scene.reading.says(intent):
            score = min(score, RELATED - 1 + base)
        yield Candidate(
            RollingStatistic(seen.name, entity, time, window, function),
            f"{_SHORT.get(function, words)}_{seen.slug}_last_{days_slug(window)}",
            describe(
                f"{capital(words)} of {seen.name} over the same {entity}'s rows in the {days(window)} of {time} before."
            ),
            score,
            "window",
            seen.name,
        )


def _wanted(scene: Scene, seen: Seen, intent: Intent, base: float) -> float:
    score = scene.score(base, intent, seen=seen)
    if score < RELATED and scene.reading.says(intent) and not any(scene.named(other) for other in scene.numbers):
        return ASKED - 1 + base
    return score
