"""Propose row features that relate columns: pairs of numbers, and numbers within groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from service.agents.builtin.candidates import ASIDE, ASKED, RELATED, Candidate, capital, describe
from service.agents.builtin.columns import ColumnMatch, meaningful_stems
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.planning_context import PlanningContext
from service.features.operations import (
    AggregateFunction,
    AnyOperation,
    Difference,
    GroupStatistic,
    PercentRank,
    Product,
    Ratio,
    ZScore,
)

MAX_PAIRED_COLUMNS = 8
"""Numeric columns that are combined in pairs; the mentioned ones come first."""
MAX_GROUPINGS = 3
FEW_CATEGORIES = 20
"""A category with more values gets no group statistics unless the sentence names it."""
_STATISTICS: tuple[tuple[AggregateFunction, Intent, str], ...] = (
    ("mean", "mean", "average"), ("standard_deviation", "spread", "standard deviation of"),
    ("maximum", "maximum", "highest"), ("minimum", "minimum", "lowest"), ("sum", "sum", "total"),
    ("median", "median", "median"),
)  # fmt: skip


def relation_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose every feature about two columns."""
    yield from _spelled_out(context)
    yield from _pairs(context)
    yield from _grouped(context)


def _spelled_out(context: PlanningContext) -> Iterator[Candidate]:
    """Propose the arithmetic that the sentence states in words or signs."""
    for relation in context.relations:
        left, right = relation.left, relation.right
        operation, name, words = {
            "ratio": (Ratio(left.name, right.name), f"{left.slug}_to_{right.slug}_ratio",
                      f"Ratio of {left.name} to {right.name}, null where the latter is 0"),
            "product": (Product(left.name, right.name), f"{left.slug}_times_{right.slug}",
                        f"Product of {left.name} and {right.name}"),
            "difference": (Difference(left.name, right.name), f"{left.slug}_minus_{right.slug}",
                           f"Difference: {left.name} less {right.name}"),
        }[relation.sign]  # fmt: skip
        yield Candidate(operation, name, describe(f"{words}."), ASKED + 2, relation.sign, left.name)


def _pairs(context: PlanningContext) -> Iterator[Candidate]:
    paired = sorted(context.numbers, key=lambda match: -match.strength)[:MAX_PAIRED_COLUMNS]
    distinct = len({_words(context, match) for match in paired if context.named(match)}) > 1
    for left, right in permutations(paired, 2):
        both = context.named(left) and context.named(right) and _words(context, left) != _words(context, right)
        kin = 0.15 * len(meaningful_stems(left) & meaningful_stems(right))
        ordered = _stands(left, context) < _stands(right, context)
        variants: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
            (Ratio(left.name, right.name), f"{left.slug}_to_{right.slug}_ratio",
             f"Ratio of {left.name} to {right.name}, null where the latter is 0", "ratio", 0.5),
            (Difference(left.name, right.name), f"{left.slug}_minus_{right.slug}",
             f"Difference: {left.name} less {right.name}", "difference", 0.3),
            (Product(left.name, right.name), f"{left.slug}_times_{right.slug}",
             f"Product of {left.name} and {right.name}", "product", 0.35),
        )  # fmt: skip
        for operation, name, words, intent, base in variants:
            if not ordered or not _sensible(operation, left, right):
                continue
            wanted = context.reading.says(intent) or (intent == "ratio" and context.reading.says("rate"))
            related = (wanted and not distinct) or (both and not context.reading.intents)
            score = ASKED + base if wanted and both else RELATED + base if related else base + kin
            yield Candidate(
                operation, name, describe(f"{words}."), score, intent, left.name, f"pair:{left.name}:{right.name}"
            )


def _words(context: PlanningContext, match: ColumnMatch) -> frozenset[str]:
    """Return the sentence's words that name the column."""
    return meaningful_stems(match) & context.reading.sentence.set


def _stands(match: ColumnMatch, context: PlanningContext) -> tuple[int, int]:
    """Return the column's position in the sentence (the first named is the numerator), then in the dataset."""
    words = context.reading.words
    places = [words.index(part) for part in _words(context, match)]
    return (min(places) if places else len(words), context.columns.place(match))


def _sensible(operation: AnyOperation, left: ColumnMatch, right: ColumnMatch) -> bool:
    """Allow differences only of columns with like units, and ratios only over columns that are not mostly zero."""
    if isinstance(operation, Difference):
        return (
            bool(meaningful_stems(left) & meaningful_stems(right))
            or bool(left.meanings & right.meanings)
            or bool(left.strength > 1 and right.strength > 1)
        )
    if isinstance(operation, Ratio):
        return right.column.median != 0
    return True


def _grouped(context: PlanningContext) -> Iterator[Candidate]:
    groups = [match for match in context.categories if match.column.distinct <= FEW_CATEGORIES or context.named(match)]
    asked = {match.name for match in context.groups}
    fixed = [match for match in context.groups if match.name not in {group.name for group in groups}]
    for group in (*fixed, *sorted(groups, key=lambda match: -match.strength))[:MAX_GROUPINGS]:
        for match in context.numbers:
            yield from _within(context, match, group, asked=group.name in asked)


def _within(context: PlanningContext, match: ColumnMatch, group: ColumnMatch, *, asked: bool) -> Iterator[Candidate]:
    named = context.named(match) or not context.names_number
    related = context.reading.says("relative") and context.named(match) and context.named(group)
    boost = (
        ASKED
        if (asked and named) or related
        else ASIDE
        if asked or (context.named(group) and context.named(match))
        else 0.0
    )
    statistics = [entry for entry in _STATISTICS if entry[1] == "mean" or context.reading.says(entry[1])]
    for function, intent, words in statistics:
        said = context.reading.says(intent)
        if said and context.named(match) and not context.asked_of(match, intent):
            continue
        others = not said and context.reading.says("spread", "maximum", "minimum", "sum", "median")
        yield Candidate(
            GroupStatistic(match.name, group.name, function),
            f"{words.split()[0]}_{match.slug}_by_{group.slug}",
            describe(f"{capital(words)} {match.name} over the rows of the same {group.name}."),
            0.3 if others else boost + (0.8 if said else 0.35),
            "group",
            group.name,
            "" if boost >= ASKED else f"group:{match.name}",
        )
    variants: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
        (ZScore(match.name, group.name), f"{match.slug}_z_score_in_{group.slug}",
         f"Z-score: {match.name} in standard deviations from the mean of the same {group.name}", "scale", 0.45),
        (PercentRank(match.name, group.name), f"{match.slug}_rank_in_{group.slug}",
         f"Relative rank 0 … 1 of {match.name} within the same {group.name}", "rank", 0.15),
    )  # fmt: skip
    for operation, name, words, intent, base in variants:
        said = context.reading.says(intent)
        meant = said and (asked or context.named(group)) and (context.asked_of(match, intent) or not context.measures)
        score = ASKED + 1 + base if meant else min(boost, ASIDE) * 0.9 + base
        yield Candidate(operation, name, describe(f"{words}."), score, "group", group.name, f"group:{match.name}")
