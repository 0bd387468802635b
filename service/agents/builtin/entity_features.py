"""Candidates of the entity grain: activity in time, statistics of numbers, habits in categories."""

from __future__ import annotations

from collections.abc import Iterator

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, capital, days, days_slug, describe, slug
from service.agents.builtin.events import equals, happenings
from service.agents.builtin.lexicon import SINCE, Intent
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen, means, named_value, truth
from service.features.operations import (
    Aggregate,
    AggregateFunction,
    AnyOperation,
    Count,
    CountDistinct,
    Entropy,
    FirstValue,
    LastValue,
    MissingShare,
    MostFrequent,
    Quantile,
    Rate,
    RatioOfSums,
    TopShare,
    Trend,
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
MANY_DISTINCT = 200
"""Over so many values a most frequent one says little of an entity."""


def entity_candidates(scene: Scene) -> Iterator[Candidate]:
    """Everything that is not about one kind of event."""
    told = {predicate.column for event in scene.events for predicate in event.where}
    for seen in (*scene.numbers, *(flag for flag in scene.sheet.flags if flag.name not in told)):
        yield from _number(scene, seen)
    yield from _ratios(scene)
    for seen in scene.categories:
        yield from _category(scene, seen)
    yield from _distinct(scene)
    yield from _missing(scene)


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
        for q in scene.reading.quantiles or (0.9,):
            score = scene.score(0.1, "rank", "bins", seen=seen)
            yield Candidate(
                Quantile(seen.name, q),
                f"p{round(100 * q)}_{seen.slug}",
                describe(f"Percentile {100 * q:g} of {seen.name} over each {scene.who}'s rows."),
                score if scene.reading.quantiles else score - RELATED / 2,
                "statistic",
                seen.name,
            )
        yield from _moving(scene, seen)


def _statistic_score(scene: Scene, seen: Seen, intent: Intent, base: float) -> float:
    additive = means(seen, "money", "quantity", "duration") or "purchase" in seen.meanings
    if intent == "sum" and not additive:
        base = 0.1
    unsaid = not scene.reading.says("mean", "sum", "maximum", "minimum", "median", "spread")
    if additive:
        base += 0.1
    if intent == "sum" and unsaid and scene.named(seen) and happenings(seen.stems):
        base = 0.9
    score = scene.score(base, intent, seen=seen)
    wanted = scene.reading.says(intent)
    if wanted and score <= 1 and not any(scene.named(other) for other in scene.numbers):
        return RELATED + base
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
        _ending(scene, seen, "latest", 0.15),
        "last",
        seen.name,
    )
    if scene.reading.says("earliest"):
        yield Candidate(
            FirstValue(seen.name, time), f"first_{seen.slug}", describe(f"Earliest {seen.name} of each {scene.who}."),
            _ending(scene, seen, "earliest", 0.1), "first", seen.name,
        )  # fmt: skip


def _ending(scene: Scene, seen: Seen, intent: Intent, base: float) -> float:
    """`the last price` asks for the value, `days since the last order` for a span of time."""
    asked = scene.reading.says(intent) and SINCE not in scene.reading.words
    return (
        scene.score(base, intent, seen=seen) if asked else scene.score(base, "recency", "lag", seen=seen) - RELATED / 2
    )


def _ratios(scene: Scene) -> Iterator[Candidate]:
    for relation in scene.relations:
        if relation.sign == "ratio":
            yield Candidate(
                RatioOfSums(relation.left.name, relation.right.name),
                f"{relation.left.slug}_per_{relation.right.slug}",
                describe(f"Sum of {relation.left.name} over sum of {relation.right.name} for each {scene.who}."),
                ASKED + 2,
                "rate",
                relation.left.name,
            )
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
    yield from _ends(scene, seen)
    value = named_value(seen, scene.reading.words)
    told = {predicate for event in scene.events for predicate in event.where}
    if value is not None and equals(seen.name, value) not in told:
        where = (equals(seen.name, value),)
        words = f"rows of each {who} where {seen.name} is {value!r}"
        label = f"{name}_{slug(str(value))}"
        yield Candidate(Rate(where), f"{label}_share", describe(f"Share of {words}."), ASKED, "rate", seen.name)
        yield Candidate(Count(where), f"{label}_count", describe(f"Number of {words}."), ASKED - 1, "count", seen.name)


def _ends(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    """The first and the last category, where they are asked for."""
    if scene.time is None or not scene.reading.says("latest", "earliest"):
        return
    made: tuple[tuple[AnyOperation, str, Intent], ...] = (
        (LastValue(seen.name, scene.time.name), "last", "latest"),
        (FirstValue(seen.name, scene.time.name), "first", "earliest"),
    )
    for operation, words, intent in made:
        yield Candidate(
            operation, f"{words}_{seen.slug}", describe(f"The {words} {seen.name} of each {scene.who}."),
            _ending(scene, seen, intent, 0.3), words, seen.name,
        )  # fmt: skip


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
