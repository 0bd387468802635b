"""Propose row features that look back along an entity's earlier rows: lags, changes, rolling windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, capital, days, days_slug, describe
from service.agents.builtin.columns import ColumnMatch
from service.agents.builtin.lexicon import SINCE, Intent
from service.agents.builtin.planning_context import PlanningContext
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
"""Rolling window in days when the sentence names no window."""
_ROLLING: tuple[
    tuple[Literal["sum", "mean", "minimum", "maximum", "standard_deviation"], Intent, str, float], ...
] = (
    ("mean", "mean", "average", 0.6), ("standard_deviation", "spread", "standard deviation", 0.45),
    ("maximum", "maximum", "highest", 0.2), ("minimum", "minimum", "lowest", 0.15), ("sum", "sum", "total", 0.1),
)  # fmt: skip
_SHORT = {"standard_deviation": "std", "maximum": "max", "minimum": "min"}


def series_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose every feature that looks back; none without both an entity and a time column."""
    if context.entity is None or context.time is None:
        return
    entity, time = context.entity.name, context.time.name
    for match in context.numbers:
        yield from _of_number(context, match, entity, time)
    for window in _windows(context):
        yield Candidate(
            RollingCount(entity, time, window),
            f"rows_last_{days_slug(window)}",
            describe(f"Rows of the same {entity} in the {days(window)} of {time} before the row."),
            ASKED if context.reading.says("count") and _looked_back(context) else context.score(0.4, "frequency"),
            "window",
            "rows",
        )
    variants: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
        (DaysSincePrevious(entity, time), "days_since_previous_row",
         f"Days of {time} since the previous row of the same {entity}", "gap", 0.6),
        (CumulativeCount(entity, time), "rows_so_far", f"Earlier rows of the same {entity}, by {time}",
         "cumulative", 0.35),
    )  # fmt: skip
    for operation, name, words, intent, base in variants:
        since = isinstance(operation, DaysSincePrevious) and _since(context) and context.reading.says("lag", "latest")
        counted = (
            isinstance(operation, CumulativeCount) and context.reading.says("count") and not context.reading.windows
        )
        looked_back = counted and context.reading.says("lag", "cumulative")
        score = ASKED + base if since or looked_back else context.score(base, intent)
        yield Candidate(operation, name, describe(f"{words}."), score, "series", "rows")


def _looked_back(context: PlanningContext) -> bool:
    return bool(context.reading.windows) or context.reading.says("rolling", "lag", "cumulative")


def _since(context: PlanningContext) -> bool:
    """Check for `time since the previous …`, which asks for the time span and not for the previous value."""
    return SINCE in context.reading.sentence


def _windows(context: PlanningContext) -> tuple[float, ...]:
    return tuple(window.days for window in context.reading.windows) or (WEEK,)


def _of_number(context: PlanningContext, match: ColumnMatch, entity: str, time: str) -> Iterator[Candidate]:
    previous = f"the previous row of the same {entity}, by {time}"
    earlier: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = tuple(
        (PreviousValue(match.name, entity, time, steps), f"{match.slug}_{steps}_rows_ago",
         f"The {match.name} of the same {entity} {steps} rows ago, by {time}", "lag", 0.5)
        for steps in context.reading.steps if steps > 1
    )  # fmt: skip
    variants: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
        *earlier,
        (PreviousValue(match.name, entity, time), f"previous_{match.slug}",
         f"The {match.name} of {previous}", "lag", 0.55),
        (ChangeFromPrevious(match.name, entity, time), f"{match.slug}_change",
         f"Change: {match.name} less that of {previous}", "change", 0.65),
    )  # fmt: skip
    for operation, name, words, intent, base in variants:
        score = _wanted(context, match, intent, base)
        if intent == "change" and context.reading.says("difference") and context.reading.says("lag"):
            score = max(score, _wanted(context, match, "lag", base))
        if intent == "lag" and _since(context):
            score = min(score, RELATED - 1)
        yield Candidate(operation, name, describe(f"{words}."), score, "series", match.name)
    for window in _windows(context):
        yield from _rolling(context, match, (entity, time, window))


def _rolling(context: PlanningContext, match: ColumnMatch, along: tuple[str, str, float]) -> Iterator[Candidate]:
    entity, time, window = along
    named = context.reading.says("mean", "spread", "maximum", "minimum", "sum")
    for function, intent, words, base in _ROLLING:
        score = _wanted(context, match, "rolling", base)
        others = context.names_number and not context.named(match)
        if context.reading.windows and score < ASKED and not others:
            score = max(score, RELATED + base)
        if named and not context.reading.says(intent):
            score = min(score, RELATED - 1 + base)
        statistic = f"{capital(words)} of {match.name}"
        yield Candidate(
            RollingStatistic(match.name, entity, time, window, function),
            f"{_SHORT.get(function, words)}_{match.slug}_last_{days_slug(window)}",
            describe(f"{statistic} over the same {entity}'s rows in the {days(window)} of {time} before."),
            score,
            "window",
            match.name,
        )


def _wanted(context: PlanningContext, match: ColumnMatch, intent: Intent, base: float) -> float:
    score = context.score(base, intent, match=match)
    if score < RELATED and context.reading.says(intent) and not context.names_number:
        return ASKED - 1 + base
    return score
