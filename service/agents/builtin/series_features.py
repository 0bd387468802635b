"""Candidates of the row grain that look back along an entity's earlier rows: lags, changes, rolling windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, capital, days, days_slug, describe
from service.agents.builtin.lexicon import SINCE, Intent
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen
from service.features.operations import (
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
            ASKED if scene.reading.says("count") and _looked_back(scene) else scene.score(0.4, "frequency"),
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
        since = isinstance(operation, DaysSincePrevious) and _since(scene) and scene.reading.says("lag", "latest")
        counted = isinstance(operation, CumulativeCount) and scene.reading.says("count") and not scene.reading.windows
        looked_back = counted and scene.reading.says("lag", "cumulative")
        score = ASKED + base if since or looked_back else scene.score(base, intent)
        yield Candidate(operation, name, describe(f"{words}."), score, "series", "rows")


def _looked_back(scene: Scene) -> bool:
    return bool(scene.reading.windows) or scene.reading.says("rolling", "lag", "cumulative")


def _since(scene: Scene) -> bool:
    """`time since the previous …`: the span of time is asked for, not the previous value."""
    return SINCE in scene.reading.words


def _windows(scene: Scene) -> tuple[float, ...]:
    return tuple(window.days for window in scene.reading.windows) or (WEEK,)


def _of_number(scene: Scene, seen: Seen, entity: str, time: str) -> Iterator[Candidate]:
    previous = f"the previous row of the same {entity}, by {time}"
    earlier: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = tuple(
        (PreviousValue(seen.name, entity, time, steps), f"{seen.slug}_{steps}_rows_ago",
         f"The {seen.name} of the same {entity} {steps} rows ago, by {time}", "lag", 0.5)
        for steps in scene.reading.steps if steps > 1
    )  # fmt: skip
    made: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
        *earlier,
        (PreviousValue(seen.name, entity, time), f"previous_{seen.slug}",
         f"The {seen.name} of {previous}", "lag", 0.55),
        (ChangeFromPrevious(seen.name, entity, time), f"{seen.slug}_change",
         f"Change: {seen.name} less that of {previous}", "change", 0.65),
    )  # fmt: skip
    for operation, name, words, intent, base in made:
        score = _wanted(scene, seen, intent, base)
        if intent == "change" and scene.reading.says("difference") and scene.reading.says("lag"):
            score = max(score, _wanted(scene, seen, "lag", base))
        if intent == "lag" and _since(scene):
            score = min(score, RELATED - 1)
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
