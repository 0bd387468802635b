"""Propose row features of one column: numbers, categories, times, missing values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from service.agents.builtin.activity_features import has_hours
from service.agents.builtin.candidates import ASIDE, ASKED, NAMED, RELATED, Candidate, capital, describe, slug
from service.agents.builtin.columns import ColumnMatch, has_meaning, named_value, true_value
from service.agents.builtin.events import equals
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.planning_context import PlanningContext
from service.features.operations import (
    AnyOperation,
    CyclicTime,
    DatePart,
    DatePartOf,
    ElapsedDays,
    Flag,
    FrequencyEncoding,
    GroupCount,
    IsMissing,
    IsWeekend,
    Logarithm,
    MinMaxScale,
    PercentRank,
    QuantileBin,
    Value,
    ZScore,
)

SKEWED = 1.3
"""A positive column whose mean is this many medians is skewed enough for a logarithm."""
USUAL_BINS = 4
MAX_FLAGS = 4
"""Values of a category that get a flag each."""
SHOWN_MISSING = 0.01
"""Share of nulls from which missing values may be informative."""

_CYCLES: tuple[tuple[Literal["hour", "day_of_week", "month"], Intent, float], ...] = (
    ("hour", "hour", 0.3), ("day_of_week", "weekday", 0.2), ("month", "season", 0.2),
)  # fmt: skip
_HALVES: tuple[Literal["sine", "cosine"], ...] = ("sine", "cosine")

_PARTS: tuple[tuple[DatePart, Intent, float], ...] = (
    ("hour", "hour", 0.5), ("day_of_week", "weekday", 0.45), ("month", "season", 0.45), ("quarter", "season", 0.15),
    ("day_of_month", "season", 0.15), ("week", "season", 0.1), ("year", "season", 0.12),
)  # fmt: skip


def row_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose every feature of one column, and the time between two time columns."""
    for match in context.numbers:
        yield from _number(context, match)
    for match in (*context.categories, *context.columns.flags):
        yield from _category(context, match)
    for match in context.columns.times:
        yield from _calendar(context, match)
    yield from _elapsed(context)
    yield from _missing(context)


def _wanted(context: PlanningContext, match: ColumnMatch, intent: Intent | None, base: float, *, others: bool) -> float:
    """Score a statistic; it counts as requested unless the sentence names columns for it, as `others` says."""
    if intent is None:
        return context.score(base, match=match)
    score = context.score(base, intent, match=match)
    if score < RELATED and context.reading.says(intent) and not others:
        return ASKED - 1 + base
    return score


def _number(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    column, bins = match.column, context.reading.bins or USUAL_BINS
    tailed = column.mean is not None and column.median is not None and column.median > 0
    skewed = bool(tailed and (column.mean or 0) > SKEWED * (column.median or 0))
    variants: tuple[tuple[AnyOperation, str, str, Intent | None, float], ...] = (
        (Logarithm(match.name), f"log_{match.slug}", f"Signed log1p of {match.name}", "log", 0.75 if skewed else 0.05),
        (ZScore(match.name), f"{match.slug}_z_score",
         f"Z-score: {match.name} in standard deviations from the dataset's mean", "scale", 0.5),
        (MinMaxScale(match.name), f"{match.slug}_scaled",
         f"The column {match.name} scaled to 0 … 1 over the dataset", "minmax", 0.1),
        (PercentRank(match.name), f"{match.slug}_rank", f"Relative rank 0 … 1 of {match.name}", "rank", 0.15),
        (QuantileBin(match.name, bins), f"{match.slug}_{'quartile' if bins == 4 else f'bin_of_{bins}'}",  # noqa: PLR2004 - a quarter
         f"Equal-count bin 1 … {bins} of {match.name}", "bins", 0.2),
        (Value(match.name), match.slug, f"The column {match.name} itself", "asis", 0.3),
    )  # fmt: skip
    for operation, name, words, intent, base in variants:
        score = _wanted(context, match, intent, base, others=context.names_number)
        yield Candidate(operation, name, describe(f"{words}."), score, "number", match.name, f"level:{match.name}")


def _category(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    yes = true_value(match)
    if yes is not None:
        yield Candidate(
            Flag((equals(match.name, yes),)), f"is_{match.slug}", describe(f"1 where {match.name} is {yes!r}, else 0."),
            context.score(0.55, "flag", "encoding", match=match), "flag", match.name, f"flag:{match.name}",
        )  # fmt: skip
        return
    yield from _one_hot(context, match)
    variants: tuple[tuple[AnyOperation, str, str, float], ...] = (
        (Value(match.name), match.slug, f"The column {match.name} itself", 0.25),
        (
            FrequencyEncoding(match.name),
            f"{match.slug}_frequency",
            f"Share of the rows with the same {match.name}",
            0.5,
        ),
        (GroupCount(match.name), f"rows_per_{match.slug}", f"Number of rows with the same {match.name}", 0.2),
    )
    for operation, name, words, base in variants:
        counted = (isinstance(operation, GroupCount) and context.reading.says("count")) or (
            isinstance(operation, FrequencyEncoding) and context.reading.says("frequency")
        )
        score = min(context.score(base, match=match), ASIDE if match in context.groups else ASKED)
        boosted = ASKED + 1 + base if counted and context.named(match) else score
        yield Candidate(operation, name, describe(f"{words}."), boosted, "category", match.name, f"code:{match.name}")


def _one_hot(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    named = named_value(match, context.reading.sentence)
    for rank, entry in enumerate(match.column.values[:MAX_FLAGS]):
        base = 0.45 - 0.12 * rank
        score = min(
            context.score(base, "flag", "encoding", match=match), ASIDE + base if match in context.groups else ASKED + 1
        )
        redundant = match.column.distinct == 2 and rank == 1  # noqa: PLR2004 - the second flag of two repeats the first
        yield Candidate(
            Flag((equals(match.name, entry.value),)),
            f"{match.slug}_is_{slug(str(entry.value), rank)}",
            describe(f"1 where {match.name} is {entry.value!r}, else 0."),
            ASKED + base if entry.value == named else score - 0.9 if redundant else score,
            "flag",
            match.name,
            f"flag:{match.name}" if redundant or match.column.distinct == 2 else "",  # noqa: PLR2004 - likewise
        )


def _calendar(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    hours = has_hours(match)
    for part, intent, base in _PARTS:
        if part != "hour" or hours:
            words = capital(part.replace("_", " "))
            yield Candidate(
                DatePartOf(match.name, part), f"{match.slug}_{part}", describe(f"{words} of {match.name}."),
                context.score(base, intent) + match.strength / 10, "calendar", match.name, f"{part}:{match.name}",
            )  # fmt: skip
    for part, intent, base in _CYCLES:
        for function in _HALVES:
            if part != "hour" or hours:
                words = f"{capital(function)} of the {part.replace('_', ' ')} of {match.name} on its cycle"
                cyclic = any(word.startswith("cycl") for word in context.reading.sentence.set)
                yield Candidate(
                    CyclicTime(match.name, part, function), f"{match.slug}_{part}_{function}", describe(f"{words}."),
                    ASKED + base if cyclic and context.reading.says(intent) else base * (10 if cyclic else 1),
                    "cycle", match.name,
                )  # fmt: skip
    yield Candidate(
        IsWeekend(match.name), f"{match.slug}_is_weekend",
        describe(f"1 where {match.name} is a Saturday or Sunday, else 0."),
        context.score(0.4, "weekday"), "calendar", match.name, f"weekend:{match.name}",
    )  # fmt: skip


def _elapsed(context: PlanningContext) -> Iterator[Candidate]:
    times = sorted(context.columns.times, key=lambda match: (str(match.column.minimum), match.name))
    number_named = any(match.strength > 2 for match in context.numbers)  # noqa: PLR2004 - named whole
    for index, start in enumerate(times):
        for end in times[index + 1 :]:
            named = start.strength > 1 or end.strength > 1 or len(times) == 2  # noqa: PLR2004 - no other can be meant
            spans = context.reading.says("gap", "difference", "tenure", "elapsed") or has_meaning(end, "duration")
            asked = named and spans and not number_named
            yield Candidate(
                ElapsedDays(start.name, end.name),
                f"days_from_{start.slug}_to_{end.slug}",
                describe(f"Days from {start.name} to {end.name}."),
                ASKED if asked else NAMED if start.strength > 1 and end.strength > 1 else 0.7,
                "elapsed",
                start.name,
            )


def _missing(context: PlanningContext) -> Iterator[Candidate]:
    among = tuple(match for match in context.columns.usable if match.column.missing > 0)
    named = any(map(context.named, among))
    for match in among:
        base = 0.3 if match.column.missing > SHOWN_MISSING else 0.05
        score = _wanted(context, match, "missing", base, others=named)
        if not context.reading.says("missing"):
            score = min(score, 0.3)
        yield Candidate(
            IsMissing(match.name), f"{match.slug}_is_missing", describe(f"1 where {match.name} is null, else 0."),
            score, "missing", match.name,
        )  # fmt: skip
