"""Propose entity features: activity over time, statistics of numbers, most frequent categories."""

from __future__ import annotations

from collections.abc import Iterator

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, capital, days, days_slug, describe, slug
from service.agents.builtin.columns import ColumnMatch, has_meaning, named_value, true_value
from service.agents.builtin.events import equals, event_kinds
from service.agents.builtin.lexicon import SINCE, Intent
from service.agents.builtin.planning_context import PlanningContext
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
"""Function, the intent that asks for it, its words, and its score when no intent is found."""
NAMES = {"mean": "average", "sum": "total", "maximum": "max", "minimum": "min", "standard_deviation": "std"}
MANY_DISTINCT = 200
"""Above this number of distinct values the most frequent one says little about an entity."""


def entity_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose every feature that is not about one kind of event."""
    event_columns = {predicate.column for event in context.events for predicate in event.where}
    for match in (*context.numbers, *(flag for flag in context.columns.flags if flag.name not in event_columns)):
        yield from _number(context, match)
    yield from _ratios(context)
    for match in context.categories:
        yield from _category(context, match)
    yield from _distinct(context)
    yield from _missing(context)


def _number(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    flag, who = true_value(match) is not None, context.who
    for function, intent, words, base in STATISTICS[:1] if flag else STATISTICS:
        score = _statistic_score(context, match, intent, base)
        for window in (None, *(window.days for window in context.reading.windows if context.time)):
            within = f" in the last {days(window)}" if window else ""
            yield Candidate(
                Aggregate(match.name, function, last_days=window),
                f"{NAMES.get(function, function)}_{match.slug}{'_' + days_slug(window) if window else ''}",
                describe(f"{'Share of true' if flag else capital(words)} {match.name} over each {who}'s rows{within}."),
                score if window or not context.reading.windows or context.reading.broad else min(score, RELATED),
                "statistic",
                match.name,
                f"{match.name}:level" if function in {"mean", "median"} else "",
            )
    if not flag:
        for q in context.reading.quantiles or (0.9,):
            score = context.score(0.1, "rank", "bins", match=match)
            yield Candidate(
                Quantile(match.name, q),
                f"p{round(100 * q)}_{match.slug}",
                describe(f"Percentile {100 * q:g} of {match.name} over each {context.who}'s rows."),
                score if context.reading.quantiles else score - RELATED / 2,
                "statistic",
                match.name,
            )
        yield from _moving(context, match)


def _statistic_score(context: PlanningContext, match: ColumnMatch, intent: Intent, base: float) -> float:
    additive = has_meaning(match, "money", "quantity", "duration") or "purchase" in match.meanings
    if intent == "sum" and not additive:
        base = 0.1
    unsaid = not context.reading.says("mean", "sum", "maximum", "minimum", "median", "spread")
    if additive:
        base += 0.1
    if intent == "sum" and unsaid and context.named(match) and event_kinds(match.stems):
        base = 0.9
    score = context.score(base, intent, match=match)
    wanted = context.reading.says(intent)
    if wanted and score <= 1 and not context.names_number:
        return RELATED + base
    if intent in {"sum", "mean"} and context.reading.says("monetary") and unsaid and has_meaning(match, "money"):
        return ASKED + base
    return score


def _moving(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    if context.time is None:
        return
    time = context.time.name
    yield Candidate(
        Trend(match.name, time),
        f"{match.slug}_trend",
        describe(f"Slope of {match.name} over {time} for each {context.who}, in units a day."),
        context.score(0.3, "trend", match=match) if context.named(match) else context.score(0.3, "trend") / 2,
        "trend",
        match.name,
    )
    yield Candidate(
        LastValue(match.name, time),
        f"last_{match.slug}",
        describe(f"Latest {match.name} of each {context.who}, by {time}."),
        _ending(context, match, "latest", 0.15),
        "last",
        match.name,
    )
    if context.reading.says("earliest"):
        yield Candidate(
            FirstValue(match.name, time), f"first_{match.slug}",
            describe(f"Earliest {match.name} of each {context.who}."),
            _ending(context, match, "earliest", 0.1), "first", match.name,
        )  # fmt: skip


def _ending(context: PlanningContext, match: ColumnMatch, intent: Intent, base: float) -> float:
    """Score a first or last value: `the last price` asks for the value, `days since the last order` for a time span."""
    asked = context.reading.says(intent) and SINCE not in context.reading.sentence
    return (
        context.score(base, intent, match=match)
        if asked
        else context.score(base, "recency", "lag", match=match) - RELATED / 2
    )


def _ratios(context: PlanningContext) -> Iterator[Candidate]:
    for relation in context.relations:
        if relation.sign == "ratio":
            yield Candidate(
                RatioOfSums(relation.left.name, relation.right.name),
                f"{relation.left.slug}_per_{relation.right.slug}",
                describe(f"Sum of {relation.left.name} over sum of {relation.right.name} for each {context.who}."),
                ASKED + 2,
                "rate",
                relation.left.name,
            )
    named = [match for match in context.numbers if match.strength > 1]
    if context.reading.says("ratio", "rate") and len(named) > 1:
        upper, lower = named[0], named[1]
        yield Candidate(
            RatioOfSums(upper.name, lower.name),
            f"{upper.slug}_per_{lower.slug}",
            describe(f"Sum of {upper.name} over sum of {lower.name} for each {context.who}."),
            ASKED,
            "rate",
            upper.name,
        )


def _category(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    who, name = context.who, match.slug
    if match.column.distinct <= MANY_DISTINCT:
        yield Candidate(
            MostFrequent(match.name), f"most_frequent_{name}", describe(f"Most frequent {match.name} of each {who}."),
            context.score(0.4, "mode", match=match), "habit", match.name,
        )  # fmt: skip
        yield Candidate(
            TopShare(match.name), f"top_{name}_share",
            describe(f"Share of each {who}'s rows that hold its most frequent {match.name}."),
            context.score(0.2, "mode", "diversity", match=match) - 0.5, "habit", match.name, f"diversity:{match.name}",
        )  # fmt: skip
    yield Candidate(
        Entropy(match.name), f"{name}_entropy",
        describe(f"How evenly each {who}'s rows spread over the values of {match.name}: Shannon entropy in bits."),
        context.score(0.45, "diversity", match=match), "habit", match.name, f"diversity:{match.name}",
    )  # fmt: skip
    yield from _ends(context, match)
    value = named_value(match, context.reading.sentence)
    event_conditions = {predicate for event in context.events for predicate in event.where}
    if value is not None and equals(match.name, value) not in event_conditions:
        where = (equals(match.name, value),)
        words = f"rows of each {who} where {match.name} is {value!r}"
        label = f"{name}_{slug(str(value))}"
        yield Candidate(Rate(where), f"{label}_share", describe(f"Share of {words}."), ASKED, "rate", match.name)
        yield Candidate(Count(where), f"{label}_count", describe(f"Number of {words}."), ASKED - 1, "count", match.name)


def _ends(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    """Propose the first and the last category when the sentence asks for them."""
    if context.time is None or not context.reading.says("latest", "earliest"):
        return
    variants: tuple[tuple[AnyOperation, str, Intent], ...] = (
        (LastValue(match.name, context.time.name), "last", "latest"),
        (FirstValue(match.name, context.time.name), "first", "earliest"),
    )
    for operation, words, intent in variants:
        yield Candidate(
            operation, f"{words}_{match.slug}", describe(f"The {words} {match.name} of each {context.who}."),
            _ending(context, match, intent, 0.3), words, match.name,
        )  # fmt: skip


def _distinct(context: PlanningContext) -> Iterator[Candidate]:
    for match in (*context.columns.keys, *context.categories):
        if match.name in context.key_names:
            continue
        key = match in context.columns.keys
        if key and not context.columns.repeats(match):
            continue
        for window in (
            None,
            *(window.days for window in context.reading.windows if context.time and match.strength > 1),
        ):
            within = f" in the last {days(window)}" if window else ""
            score = context.score(0.65 if key else 0.35, "distinct", "diversity", "count", match=match)
            yield Candidate(
                CountDistinct(match.name, last_days=window),
                f"distinct_{match.slug}{'_' + days_slug(window) if window else ''}",
                describe(f"Distinct {match.name} among each {context.who}'s rows{within}."),
                score + (0.1 if window else 0.0),
                "distinct",
                match.name,
                f"diversity:{match.name}",
            )


def _missing(context: PlanningContext) -> Iterator[Candidate]:
    wanted = context.reading.says("missing")
    named = any(other.strength > 1 and other.column.missing > 0 for other in context.columns.usable)
    for match in context.columns.usable:
        if match.column.missing > 0 and match.name not in context.key_names:
            score = ASKED if wanted and (context.named(match) or not named) else 0.1
            yield Candidate(
                MissingShare(match.name), f"{match.slug}_missing_share",
                describe(f"Share of each {context.who}'s rows without {match.name}."), score, "missing", match.name,
            )  # fmt: skip
