"""Candidates about the rows that a sentence singles out: their number, share and statistics, or a flag on each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, capital, conditions, days, days_slug, describe
from service.agents.builtin.conditions import Condition
from service.agents.builtin.entity_features import NAMES, STATISTICS
from service.agents.builtin.scene import Scene
from service.features.operations import Aggregate, AnyOperation, Count, Flag, Rate, Where

MOST_JOINED = 3
"""Conditions up to which pairs of them are tried together: "declined online payments"."""

Selection = tuple[Where, str]
"""Predicates and their part in a feature's name."""


def selections(found: tuple[Condition, ...]) -> tuple[Selection, ...]:
    """Each condition alone, and pairs on different columns."""
    alone = [((each.predicate,), each.label) for each in found]
    pairs = [
        ((one.predicate, other.predicate), f"{one.label}_and_{other.label}")
        for one, other in combinations(found[:MOST_JOINED], 2)
        if one.predicate.column != other.predicate.column
    ]
    return (*alone, *pairs)


def flag_candidates(scene: Scene) -> Iterator[Candidate]:
    """A flag for each condition."""
    for where, label in selections(scene.conditions):
        yield Candidate(
            Flag(where), f"is_{label}", describe(f"1 where {conditions(where)}, else 0."),
            ASKED + 1.5 - len(where) / 2, "flag", where[0].column,
        )  # fmt: skip


def selected_candidates(scene: Scene) -> Iterator[Candidate]:
    """Counts, shares and statistics of an entity's rows that meet the conditions."""
    for where, label in selections(scene.conditions):
        keys = {predicate.column for predicate in where}
        if keys.isdisjoint(scene.others):
            for window in (None, *(window.days for window in scene.reading.windows if scene.time)):
                yield from _counted(scene, where, label, window)
                yield from _measured(scene, where, label, window)


def _counted(scene: Scene, where: Where, label: str, window: float | None) -> Iterator[Candidate]:
    reading = scene.reading
    shared = reading.says("rate", "ratio")
    counted = reading.says("count", "frequency") or not reading.intents
    if reading.broad and all((predicate,) in {event.where for event in scene.events} for predicate in where):
        return
    suffix, within = (f"_{days_slug(window)}", f" in the last {days(window)}") if window else ("", "")
    made: tuple[tuple[AnyOperation, str, str, bool], ...] = (
        (Rate(where, last_days=window), "share", "Share", shared),
        (Count(where, window), "count", "Number", counted),
    )
    for operation, name, words, wanted in made:
        whole = window is None and bool(reading.windows)
        score = RELATED if whole or not wanted else ASKED + 1 - len(where) / 4
        yield Candidate(
            operation, f"{label}_{name}{suffix}",
            describe(f"{words} of each {scene.who}'s rows where {conditions(where)}{within}."),
            score, "rate" if name == "share" else "count", where[0].column,
        )  # fmt: skip


def _measured(scene: Scene, where: Where, label: str, window: float | None) -> Iterator[Candidate]:
    suffix, within = (f"_{days_slug(window)}", f" in the last {days(window)}") if window else ("", "")
    about = {predicate.column for predicate in where}
    for seen in scene.numbers:
        if seen.name in about or not scene.named(seen):
            continue
        for function, intent, words, base in STATISTICS:
            if scene.reading.says(intent):
                whole = window is None and bool(scene.reading.windows)
                yield Candidate(
                    Aggregate(seen.name, function, where, window),
                    f"{NAMES.get(function, function)}_{seen.slug}_{label}{suffix}",
                    describe(
                        f"{capital(words)} {seen.name} over each {scene.who}'s rows where {conditions(where)}{within}."
                    ),
                    RELATED if whole else ASKED + 1 + base - len(where) / 4,
                    "statistic", seen.name,
                )  # fmt: skip
