"""Candidates of the row grain that look at one column: numbers, categories, times, gaps in the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from service.agents.builtin.activity_features import has_hours
from service.agents.builtin.candidates import ASIDE, ASKED, NAMED, RELATED, Candidate, capital, describe, slug
from service.agents.builtin.events import equals
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen, means, named_value, truth
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
"""A positive column whose mean is over so many medians has a tail worth a logarithm."""
USUAL_BINS = 4
MOST_FLAGS = 4
"""Values of a category that get a flag of their own."""
SHOWN_MISSING = 0.01
"""Share of nulls from which missingness may tell something."""

_CYCLES: tuple[tuple[Literal["hour", "day_of_week", "month"], Intent, float], ...] = (
    ("hour", "hour", 0.3), ("day_of_week", "weekday", 0.2), ("month", "season", 0.2),
)  # fmt: skip
_HALVES: tuple[Literal["sine", "cosine"], ...] = ("sine", "cosine")

_PARTS: tuple[tuple[DatePart, Intent, float], ...] = (
    ("hour", "hour", 0.5), ("day_of_week", "weekday", 0.45), ("month", "season", 0.45), ("quarter", "season", 0.15),
    ("day_of_month", "season", 0.15), ("week", "season", 0.1), ("year", "season", 0.12),
)  # fmt: skip


def row_candidates(scene: Scene) -> Iterator[Candidate]:
    """Everything that looks at one column, a pair of times aside."""
    for seen in scene.numbers:
        yield from _number(scene, seen)
    for seen in (*scene.categories, *scene.sheet.flags):
        yield from _category(scene, seen)
    for seen in scene.sheet.times:
        yield from _calendar(scene, seen)
    yield from _elapsed(scene)
    yield from _missing(scene)


def _wanted(scene: Scene, seen: Seen, intent: Intent | None, base: float, among: tuple[Seen, ...]) -> float:
    """Asked for when the statistic is, unless the sentence names other columns for it."""
    if intent is None:
        return scene.score(base, seen=seen)
    score = scene.score(base, intent, seen=seen)
    if score < RELATED and scene.reading.says(intent) and not any(scene.named(other) for other in among):
        return ASKED - 1 + base
    return score


def _number(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    column, bins = seen.column, scene.reading.bins or USUAL_BINS
    tailed = column.mean is not None and column.median is not None and column.median > 0
    skewed = bool(tailed and (column.mean or 0) > SKEWED * (column.median or 0))
    made: tuple[tuple[AnyOperation, str, str, Intent | None, float], ...] = (
        (Logarithm(seen.name), f"log_{seen.slug}", f"Signed log1p of {seen.name}", "log", 0.75 if skewed else 0.05),
        (ZScore(seen.name), f"{seen.slug}_z_score",
         f"Z-score: {seen.name} in standard deviations from the dataset's mean", "scale", 0.5),
        (MinMaxScale(seen.name), f"{seen.slug}_scaled",
         f"The column {seen.name} scaled to 0 … 1 over the dataset", "minmax", 0.1),
        (PercentRank(seen.name), f"{seen.slug}_rank", f"Relative rank 0 … 1 of {seen.name}", "rank", 0.15),
        (QuantileBin(seen.name, bins), f"{seen.slug}_{'quartile' if bins == 4 else f'bin_of_{bins}'}",  # noqa: PLR2004 - a quarter
         f"Equal-count bin 1 … {bins} of {seen.name}", "bins", 0.2),
        (Value(seen.name), seen.slug, f"The column {seen.name} itself", "asis", 0.3),
    )  # fmt: skip
    for operation, name, words, intent, base in made:
        score = _wanted(scene, seen, intent, base, scene.numbers)
        yield Candidate(operation, name, describe(f"{words}."), score, "number", seen.name, f"level:{seen.name}")


def _category(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    yes = truth(seen)
    if yes is not None:
        yield Candidate(
            Flag((equals(seen.name, yes),)), f"is_{seen.slug}", describe(f"1 where {seen.name} is {yes!r}, else 0."),
            scene.score(0.55, "flag", "encoding", seen=seen), "flag", seen.name, f"flag:{seen.name}",
        )  # fmt: skip
        return
    yield from _one_hot(scene, seen)
    made: tuple[tuple[AnyOperation, str, str, float], ...] = (
        (Value(seen.name), seen.slug, f"The column {seen.name} itself", 0.25),
        (FrequencyEncoding(seen.name), f"{seen.slug}_frequency", f"Share of the rows with the same {seen.name}", 0.5),
        (GroupCount(seen.name), f"rows_per_{seen.slug}", f"Number of rows with the same {seen.name}", 0.2),
    )
    for operation, name, words, base in made:
        counted = (isinstance(operation, GroupCount) and scene.reading.says("count")) or (
            isinstance(operation, FrequencyEncoding) and scene.reading.says("frequency")
        )
        score = min(scene.score(base, seen=seen), ASIDE if seen in scene.groups else ASKED)
        boosted = ASKED + 1 + base if counted and scene.named(seen) else score
        yield Candidate(operation, name, describe(f"{words}."), boosted, "category", seen.name, f"code:{seen.name}")


def _one_hot(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    spoken = named_value(seen, scene.reading.words)
    for rank, entry in enumerate(seen.column.values[:MOST_FLAGS]):
        base = 0.45 - 0.12 * rank
        score = min(
            scene.score(base, "flag", "encoding", seen=seen), ASIDE + base if seen in scene.groups else ASKED + 1
        )
        redundant = seen.column.distinct == 2 and rank == 1  # noqa: PLR2004 - the second flag of two repeats the first
        yield Candidate(
            Flag((equals(seen.name, entry.value),)),
            f"{seen.slug}_is_{slug(str(entry.value), rank)}",
            describe(f"1 where {seen.name} is {entry.value!r}, else 0."),
            ASKED + base if entry.value == spoken else score - 0.9 if redundant else score,
            "flag",
            seen.name,
            f"flag:{seen.name}" if redundant or seen.column.distinct == 2 else "",  # noqa: PLR2004 - likewise
        )


def _calendar(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    hours = has_hours(seen)
    for part, intent, base in _PARTS:
        if part != "hour" or hours:
            words = capital(part.replace("_", " "))
            yield Candidate(
                DatePartOf(seen.name, part), f"{seen.slug}_{part}", describe(f"{words} of {seen.name}."),
                scene.score(base, intent) + seen.spoken / 10, "calendar", seen.name, f"{part}:{seen.name}",
            )  # fmt: skip
    for part, intent, base in _CYCLES:
        for function in _HALVES:
            if part != "hour" or hours:
                words = f"{capital(function)} of the {part.replace('_', ' ')} of {seen.name} on its cycle"
                cyclic = any(word.startswith("cycl") for word in scene.reading.words)
                yield Candidate(
                    CyclicTime(seen.name, part, function), f"{seen.slug}_{part}_{function}", describe(f"{words}."),
                    ASKED + base if cyclic and scene.reading.says(intent) else base * (10 if cyclic else 1),
                    "cycle", seen.name,
                )  # fmt: skip
    yield Candidate(
        IsWeekend(seen.name), f"{seen.slug}_is_weekend",
        describe(f"1 where {seen.name} is a Saturday or Sunday, else 0."),
        scene.score(0.4, "weekday"), "calendar", seen.name, f"weekend:{seen.name}",
    )  # fmt: skip


def _elapsed(scene: Scene) -> Iterator[Candidate]:
    times = sorted(scene.sheet.times, key=lambda seen: (str(seen.column.minimum), seen.name))
    for index, start in enumerate(times):
        for end in times[index + 1 :]:
            named = start.spoken > 1 or end.spoken > 1 or len(times) == 2  # noqa: PLR2004 - no other can be meant
            spans = scene.reading.says("gap", "difference", "tenure", "elapsed") or means(end, "duration")
            asked = named and spans and not any(seen.spoken > 2 for seen in scene.numbers)  # noqa: PLR2004 - named whole
            yield Candidate(
                ElapsedDays(start.name, end.name),
                f"days_from_{start.slug}_to_{end.slug}",
                describe(f"Days from {start.name} to {end.name}."),
                ASKED if asked else NAMED if start.spoken > 1 and end.spoken > 1 else 0.7,
                "elapsed",
                start.name,
            )


def _missing(scene: Scene) -> Iterator[Candidate]:
    among = tuple(seen for seen in scene.sheet.usable if seen.column.missing > 0)
    for seen in among:
        score = _wanted(scene, seen, "missing", 0.3 if seen.column.missing > SHOWN_MISSING else 0.05, among)
        if not scene.reading.says("missing"):
            score = min(score, 0.3)
        yield Candidate(
            IsMissing(seen.name), f"{seen.slug}_is_missing", describe(f"1 where {seen.name} is null, else 0."),
            score, "missing", seen.name,
        )  # fmt: skip
