"""Candidates of the entity grain: activity in time, statistics of numbers, habits in categories."""

from __future__ import annotations

from collections.abc import Iterator

from service.agents.builtin.candidates import ASIDE, ASKED, RELATED, Candidate, capital, days, days_slug, describe, slug
from service.agents.builtin.events import equals
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen, entity_meaning, means, named_value, truth
from service.agents.words import stem
from service.features.operations.types import (
    ActiveDays,
    ActiveSpan,
    Aggregate,
    AggregateFunction,
    AnyOperation,
    Count,
    CountDistinct,
    Entropy,
    EventsPerDay,
    HourShare,
    LastValue,
    MeanGap,
    MissingShare,
    MostFrequent,
    Quantile,
    Rate,
    RatioOfSums,
    Recency,
    RecentShare,
    Tenure,
    TopShare,
    Trend,
    WeekendShare,
)

STATISTICS: tuple[tuple[AggregateFunction, Intent, str, float], ...] = (
    ("mean", "mean", "average", 0.6),
    ("sum", "sum", "total", 0.5),
    ("maximum", "maximum", "highest", 0.35),
    ("standard_deviation", "spread", "standard deviation of", 0.4),
    ("minimum", "minimum", "lowest", 0.2),
    ("median", "median", "median", 0.25),
)
"""Function, the intent that asks for it, its words, and its rank when nobody does."""
NAMES = {"mean": "average", "sum": "total", "maximum": "max", "minimum": "min", "standard_deviation": "std"}
RECENT = (7.0, 30.0)
"""Windows in days of recent shares when the sentence gives none."""
MANY_DISTINCT = 200
"""Over so many values a most frequent one says little of an entity."""


def entity_candidates(scene: Scene) -> Iterator[Candidate]:
    """Everything that is not about one kind of event."""
    yield from _activity(scene)
    if scene.time is not None:
        yield from _in_time(scene, scene.time.name)
        yield from _hours(scene, scene.time)
    told = {predicate.column for event in scene.events for predicate in event.where}
    for seen in (*scene.numbers, *(flag for flag in scene.sheet.flags if flag.name not in told)):
        yield from _number(scene, seen)
    yield from _ratios(scene)
    for seen in scene.categories:
        yield from _category(scene, seen)
    yield from _distinct(scene)
    yield from _missing(scene)


def _activity(scene: Scene) -> Iterator[Candidate]:
    unspecific = not any(event.spoken and event.where for event in scene.events)
    score = scene.score(0.95, "count", "frequency") if unspecific else 0.9
    rows = next((event.name for event in scene.events if not event.where and not event.counter), "row")
    windowed = bool(scene.reading.windows and scene.time)
    yield Candidate(
        Count(), f"{rows}_count", describe(f"Rows of each {scene.who}{', each a purchase' if rows != 'row' else ''}."),
        min(score, RELATED) if windowed and not scene.reading.broad else score, "count", "rows", "activity",
    )  # fmt: skip
    for window in scene.reading.windows if scene.time else ():
        yield Candidate(
            Count(last_days=window.days),
            f"{rows}_count_{days_slug(window.days)}",
            describe(f"Rows of each {scene.who} in the last {days(window.days)}."),
            score if unspecific else ASIDE,
            "count",
            "rows",
        )


def _in_time(scene: Scene, time: str) -> Iterator[Candidate]:
    who, purposes = scene.who, scene.reading.purposes
    leaving = RELATED if purposes & {"churn", "engagement", "value", "recommendation"} else 0.0
    unspoken = not any(event.spoken and event.where for event in scene.events)
    made: tuple[tuple[AnyOperation, str, str, Intent, float, str], ...] = (
        (Recency(time), "days_since_last_activity", f"Days from the last row of each {who} to the latest {time}.",
         "recency", 0.9, "recency"),
        (EventsPerDay(time), "rows_per_day", f"Rows for each day since the first row of each {who}, by {time}.",
         "frequency", 0.5, "activity"),
        (MeanGap(time), "mean_days_between_rows", f"Mean days between consecutive rows of each {who}, by {time}.",
         "gap", 0.6, "gap"),
        (Tenure(time), "tenure_days", f"Days from the first row of each {who} to the latest {time}.",
         "tenure", 0.55, "tenure"),
        (ActiveDays(time), "active_days", f"Distinct days of {time} on which each {who} has a row.",
         "frequency", 0.7, "activity"),
        (ActiveSpan(time), "active_span_days", f"Days from the first row of each {who} to its last, by {time}.",
         "tenure", 0.2, "tenure"),
    )  # fmt: skip
    brief = scene.entity is not None and entity_meaning(scene.entity) == "session"
    for operation, name, words, intent, usual, alike in made:
        # A session is over within the hour: its length tells, its age in days and its gaps do not.
        base = usual if not brief else 0.9 if isinstance(operation, ActiveSpan) else 0.1
        score = scene.score(base, intent) if unspoken or intent in {"recency", "tenure"} else base
        boosted = max(score, leaving + base - 1) if base > 0.5 and leaving else score  # noqa: PLR2004 - the common ones
        yield Candidate(operation, name, describe(words), boosted, alike, "time", alike)
    windows = tuple(window.days for window in scene.reading.windows) or RECENT
    for window in windows:
        yield Candidate(
            RecentShare(time, window),
            f"share_last_{days_slug(window)}",
            describe(f"Share of each {who}'s rows in the last {days(window)} of {time}."),
            RELATED + 0.5 if scene.reading.says("trend") else max(0.45, leaving - 0.6),
            "trend",
            "time",
            "recent_share",
        )


def has_hours(seen: Seen) -> bool:
    """Whether a datetime column tells times of day rather than dates."""
    ends = (seen.column.minimum, seen.column.maximum)
    return any(isinstance(end, str) and "T" in end and "T00:00:00" not in end for end in ends)


def _hours(scene: Scene, time: Seen) -> Iterator[Candidate]:
    if has_hours(time):
        for name, words, start, end, base in (
            ("night_share", "at night, from 22 to 6 h", 22, 6, 0.35),
            ("evening_share", "in the evening, from 18 to 22 h", 18, 22, 0.2),
            ("morning_share", "in the morning, from 6 to 12 h", 6, 12, 0.15),
        ):
            mentioned = stem(name.partition("_")[0]) in scene.reading.words
            yield Candidate(
                HourShare(time.name, start, end),
                name,
                describe(f"Share of each {scene.who}'s rows {words}, by {time.name}."),
                scene.score(base, "hour") + 0.5 * mentioned,
                "hours",
                "time",
            )
    yield Candidate(
        WeekendShare(time.name),
        "weekend_share",
        describe(f"Share of each {scene.who}'s rows on Saturday or Sunday, by {time.name}."),
        scene.score(0.4, "weekday"),
        "hours",
        "time",
    )


def _number(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    flag = truth(seen) is not None
    for function, intent, words, base in STATISTICS[:1] if flag else STATISTICS:
        score = _statistic_score(scene, seen, intent, base)
        for window in (None, *(window.days for window in scene.reading.windows if scene.time)):
            within = f" in the last {days(window)}" if window else ""
            yield Candidate(
                Aggregate(seen.name, function, last_days=window),
                f"{NAMES.get(function, function)}_{seen.slug}{'_' + days_slug(window) if window else ''}",
                describe(
                    f"{'Share of true' if flag else capital(words)} {seen.name} over each {scene.who}'s rows{within}."
                ),
                score if window or not scene.reading.windows or scene.reading.broad else min(score, RELATED),
                "statistic",
                seen.name,
                f"{seen.name}:level" if function in {"mean", "median"} else "",
            )
    if not flag:
        yield Candidate(
            Quantile(seen.name, 0.9),
            f"p90_{seen.slug}",
            describe(f"90th percentile of {seen.name} over each {scene.who}'s rows."),
            scene.score(0.1, "rank", "bins", seen=seen) - RELATED / 2,
            "statistic",
            seen.name,
        )
        yield from _moving(scene, seen)


def _statistic_score(scene: Scene, seen: Seen, intent: Intent, base: float) -> float:
    additive = means(seen, "money", "quantity", "duration") or "purchase" in seen.meanings
    if intent == "sum" and not additive:
        base = 0.1
    if additive:
        base += 0.1
    score = scene.score(base, intent, seen=seen)
    wanted = scene.reading.says(intent)
    if wanted and score <= 1 and not any(scene.named(other) for other in scene.numbers):
        return RELATED + base
    unsaid = not scene.reading.says("mean", "sum", "maximum", "minimum", "median", "spread")
    if intent in {"sum", "mean"} and scene.reading.says("monetary") and unsaid and means(seen, "money"):
        return ASKED + base
    return score


def _moving(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    if scene.time is None:
        return
    time = scene.time.name
    yield Candidate(
        Trend(seen.name, time),
        f"{seen.slug}_trend",
        describe(f"Slope of {seen.name} over {time} for each {scene.who}, in units a day."),
        scene.score(0.3, "trend", seen=seen) if scene.named(seen) else scene.score(0.3, "trend") / 2,
        "trend",
        seen.name,
    )
    yield Candidate(
        LastValue(seen.name, time),
        f"last_{seen.slug}",
        describe(f"Latest {seen.name} of each {scene.who}, by {time}."),
        scene.score(0.15, "recency", "lag", seen=seen) - RELATED / 2,
        "last",
        seen.name,
    )


def _ratios(scene: Scene) -> Iterator[Candidate]:
    named = [seen for seen in scene.numbers if seen.spoken > 1]
    if scene.reading.says("ratio", "rate") and len(named) > 1:
        upper, lower = named[0], named[1]
        yield Candidate(
            RatioOfSums(upper.name, lower.name),
            f"{upper.slug}_per_{lower.slug}",
            describe(f"Sum of {upper.name} over sum of {lower.name} for each {scene.who}."),
            ASKED,
            "rate",
            upper.name,
        )


def _category(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    who, name = scene.who, seen.slug
    if seen.column.distinct <= MANY_DISTINCT:
        yield Candidate(
            MostFrequent(seen.name), f"most_frequent_{name}", describe(f"Most frequent {seen.name} of each {who}."),
            scene.score(0.4, "mode", seen=seen), "habit", seen.name,
        )  # fmt: skip
        yield Candidate(
            TopShare(seen.name), f"top_{name}_share",
            describe(f"Share of each {who}'s rows that hold its most frequent {seen.name}."),
            scene.score(0.2, "mode", "diversity", seen=seen) - 0.5, "habit", seen.name, f"diversity:{seen.name}",
        )  # fmt: skip
    yield Candidate(
        Entropy(seen.name), f"{name}_entropy",
        describe(f"How evenly each {who}'s rows spread over the values of {seen.name}: Shannon entropy in bits."),
        scene.score(0.45, "diversity", seen=seen), "habit", seen.name, f"diversity:{seen.name}",
    )  # fmt: skip
    value = named_value(seen, scene.reading.words)
    told = {predicate for event in scene.events for predicate in event.where}
    if value is not None and equals(seen.name, value) not in told:
        where = (equals(seen.name, value),)
        words = f"rows of each {who} where {seen.name} is {value!r}"
        label = f"{name}_{slug(str(value))}"
        yield Candidate(Rate(where), f"{label}_share", describe(f"Share of {words}."), ASKED, "rate", seen.name)
        yield Candidate(Count(where), f"{label}_count", describe(f"Number of {words}."), ASKED - 1, "count", seen.name)


def _distinct(scene: Scene) -> Iterator[Candidate]:
    for seen in (*scene.sheet.keys, *scene.categories):
        if seen.name in scene.others:
            continue
        key = seen in scene.sheet.keys
        if key and not scene.sheet.repeats(seen):
            continue
        for window in (None, *(window.days for window in scene.reading.windows if scene.time and seen.spoken > 1)):
            within = f" in the last {days(window)}" if window else ""
            score = scene.score(0.65 if key else 0.35, "distinct", "diversity", "count", seen=seen)
            yield Candidate(
                CountDistinct(seen.name, last_days=window),
                f"distinct_{seen.slug}{'_' + days_slug(window) if window else ''}",
                describe(f"Distinct {seen.name} among each {scene.who}'s rows{within}."),
                score + (0.1 if window else 0.0),
                "distinct",
                seen.name,
                f"diversity:{seen.name}",
            )


def _missing(scene: Scene) -> Iterator[Candidate]:
    for seen in scene.sheet.usable:
        if seen.column.missing > 0 and seen.name not in scene.others:
            wanted = scene.reading.says("missing")
            named = any(other.spoken > 1 and other.column.missing > 0 for other in scene.sheet.usable)
            score = ASKED if wanted and (scene.named(seen) or not named) else 0.1
            yield Candidate(
                MissingShare(seen.name), f"{seen.slug}_missing_share",
                describe(f"Share of each {scene.who}'s rows without {seen.name}."), score, "missing", seen.name,
            )  # fmt: skip
