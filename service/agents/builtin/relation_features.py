"""Candidates of the row grain that relate columns: pairs of numbers, and numbers within groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from service.agents.builtin.candidates import ASIDE, ASKED, RELATED, Candidate, capital, describe
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen, telling
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

MOST_PAIRED = 8
"""Numeric columns that are combined in pairs, the mentioned ones first."""
MOST_GROUPED = 3
FEW_CATEGORIES = 20
"""A category of more values makes no group statistics unless the sentence names it."""
_STATISTICS: tuple[tuple[AggregateFunction, Intent, str], ...] = (
    ("mean", "mean", "average"), ("standard_deviation", "spread", "standard deviation of"),
    ("maximum", "maximum", "highest"), ("minimum", "minimum", "lowest"), ("sum", "sum", "total"),
    ("median", "median", "median"),
)  # fmt: skip


def relation_candidates(scene: Scene) -> Iterator[Candidate]:
    """Everything about two columns at once."""
    yield from _spelled_out(scene)
    yield from _pairs(scene)
    yield from _grouped(scene)


def _spelled_out(scene: Scene) -> Iterator[Candidate]:
    """Arithmetic that the sentence has in words or signs."""
    for relation in scene.relations:
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


def _pairs(scene: Scene) -> Iterator[Candidate]:
    paired = sorted(scene.numbers, key=lambda seen: -seen.spoken)[:MOST_PAIRED]
    apart = len({_words(scene, seen) for seen in paired if scene.named(seen)}) > 1
    for left, right in permutations(paired, 2):
        both = scene.named(left) and scene.named(right) and _words(scene, left) != _words(scene, right)
        kin = 0.15 * len(telling(left) & telling(right))
        ordered = _stands(left, scene) < _stands(right, scene)
        made: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
            (Ratio(left.name, right.name), f"{left.slug}_to_{right.slug}_ratio",
             f"Ratio of {left.name} to {right.name}, null where the latter is 0", "ratio", 0.5),
            (Difference(left.name, right.name), f"{left.slug}_minus_{right.slug}",
             f"Difference: {left.name} less {right.name}", "difference", 0.3),
            (Product(left.name, right.name), f"{left.slug}_times_{right.slug}",
             f"Product of {left.name} and {right.name}", "product", 0.35),
        )  # fmt: skip
        for operation, name, words, intent, base in made:
            if not ordered or not _sensible(operation, left, right):
                continue
            wanted = scene.reading.says(intent) or (intent == "ratio" and scene.reading.says("rate"))
            related = (wanted and not apart) or (both and not scene.reading.intents)
            score = ASKED + base if wanted and both else RELATED + base if related else base + kin
            yield Candidate(
                operation, name, describe(f"{words}."), score, intent, left.name, f"pair:{left.name}:{right.name}"
            )


def _words(scene: Scene, seen: Seen) -> frozenset[str]:
    """The sentence's words that name the column."""
    return telling(seen) & frozenset(scene.reading.words)


def _stands(seen: Seen, scene: Scene) -> tuple[int, int]:
    """Where a column stands in the sentence (the first one named is the numerator), then in the dataset."""
    words = scene.reading.words
    places = [words.index(part) for part in telling(seen) if part in words]
    return (min(places) if places else len(words), [other.name for other in scene.sheet.all].index(seen.name))


def _sensible(operation: AnyOperation, left: Seen, right: Seen) -> bool:
    """Differences only of what is measured alike; ratios only over what is not mostly zero."""
    if isinstance(operation, Difference):
        return (
            bool(telling(left) & telling(right))
            or bool(left.meanings & right.meanings)
            or bool(left.spoken > 1 and right.spoken > 1)
        )
    if isinstance(operation, Ratio):
        return right.column.median != 0
    return True


def _grouped(scene: Scene) -> Iterator[Candidate]:
    groups = [seen for seen in scene.categories if seen.column.distinct <= FEW_CATEGORIES or scene.named(seen)]
    asked = {seen.name for seen in scene.groups}
    fixed = [seen for seen in scene.groups if seen.name not in {group.name for group in groups}]
    for group in (*fixed, *sorted(groups, key=lambda seen: -seen.spoken))[:MOST_GROUPED]:
        for seen in scene.numbers:
            yield from _within(scene, seen, group, asked=group.name in asked)


def _within(scene: Scene, seen: Seen, group: Seen, *, asked: bool) -> Iterator[Candidate]:
    named = scene.named(seen) or not any(scene.named(other) for other in scene.numbers)
    related = scene.reading.says("relative") and scene.named(seen) and scene.named(group)
    boost = (
        ASKED if (asked and named) or related else ASIDE if asked or (scene.named(group) and scene.named(seen)) else 0.0
    )
    statistics = [entry for entry in _STATISTICS if entry[1] == "mean" or scene.reading.says(entry[1])]
    for function, intent, words in statistics:
        said = scene.reading.says(intent)
        if said and scene.named(seen) and not scene.asked_of(seen, intent):
            continue
        others = not said and scene.reading.says("spread", "maximum", "minimum", "sum", "median")
        yield Candidate(
            GroupStatistic(seen.name, group.name, function),
            f"{words.split()[0]}_{seen.slug}_by_{group.slug}",
            describe(f"{capital(words)} {seen.name} over the rows of the same {group.name}."),
            0.3 if others else boost + (0.8 if said else 0.35),
            "group",
            group.name,
            "" if boost >= ASKED else f"group:{seen.name}",
        )
    made: tuple[tuple[AnyOperation, str, str, Intent, float], ...] = (
        (ZScore(seen.name, group.name), f"{seen.slug}_z_score_in_{group.slug}",
         f"Z-score: {seen.name} in standard deviations from the mean of the same {group.name}", "scale", 0.45),
        (PercentRank(seen.name, group.name), f"{seen.slug}_rank_in_{group.slug}",
         f"Relative rank 0 … 1 of {seen.name} within the same {group.name}", "rank", 0.15),
    )  # fmt: skip
    for operation, name, words, intent, base in made:
        said = scene.reading.says(intent)
        meant = said and (asked or scene.named(group)) and (scene.asked_of(seen, intent) or not scene.measures)
        score = ASKED + 1 + base if meant else min(boost, ASIDE) * 0.9 + base
        yield Candidate(operation, name, describe(f"{words}."), score, "group", group.name, f"group:{seen.name}")
