"""Propose features about the rows that a sentence selects: their number, share and statistics, or a flag."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, capital, conditions, days, days_slug, describe
from service.agents.builtin.conditions import Condition
from service.agents.builtin.entity_features import NAMES, STATISTICS
from service.agents.builtin.planning_context import PlanningContext
from service.features.operations import Aggregate, AnyOperation, Count, Flag, Rate, Where

MAX_PAIRED_CONDITIONS = 3
"""Conditions of which pairs are tried as well: "declined online payments"."""

Selection = tuple[Where, str]
"""Predicates, and their part of a feature's name."""


def selections(found: tuple[Condition, ...]) -> tuple[Selection, ...]:
    """Return each condition alone, and pairs of conditions on different columns."""
    alone = [((each.predicate,), each.label) for each in found]
    pairs = [
        ((one.predicate, other.predicate), f"{one.label}_and_{other.label}")
        for one, other in combinations(found[:MAX_PAIRED_CONDITIONS], 2)
        if one.predicate.column != other.predicate.column
    ]
    return (*alone, *pairs)


def flag_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose a flag for each condition."""
    for where, label in selections(context.conditions):
        yield Candidate(
            Flag(where), f"is_{label}", describe(f"1 where {conditions(where)}, else 0."),
            ASKED + 1.5 - len(where) / 2, "flag", where[0].column,
        )  # fmt: skip


def selected_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose counts, shares and statistics of an entity's rows that meet the conditions."""
    for where, label in selections(context.conditions):
        keys = {predicate.column for predicate in where}
        if keys.isdisjoint(context.key_names):
            for window in (None, *(window.days for window in context.reading.windows if context.time)):
                yield from _counted(context, where, label, window)
                yield from _measured(context, where, label, window)


def _counted(context: PlanningContext, where: Where, label: str, window: float | None) -> Iterator[Candidate]:
    reading = context.reading
    shared = reading.says("rate", "ratio")
    counted = reading.says("count", "frequency") or not reading.intents
    if reading.broad and all((predicate,) in {event.where for event in context.events} for predicate in where):
        return
    suffix, within = (f"_{days_slug(window)}", f" in the last {days(window)}") if window else ("", "")
    variants: tuple[tuple[AnyOperation, str, str, bool], ...] = (
        (Rate(where, last_days=window), "share", "Share", shared),
        (Count(where, window), "count", "Number", counted),
    )
    for operation, name, words, wanted in variants:
        whole = window is None and bool(reading.windows)
        score = RELATED if whole or not wanted else ASKED + 1 - len(where) / 4
        yield Candidate(
            operation, f"{label}_{name}{suffix}",
            describe(f"{words} of each {context.who}'s rows where {conditions(where)}{within}."),
            score, "rate" if name == "share" else "count", where[0].column,
        )  # fmt: skip


def _measured(context: PlanningContext, where: Where, label: str, window: float | None) -> Iterator[Candidate]:
    suffix, within = (f"_{days_slug(window)}", f" in the last {days(window)}") if window else ("", "")
    about, who = {predicate.column for predicate in where}, context.who
    for match in context.numbers:
        if match.name in about or not context.named(match):
            continue
        for function, intent, words, base in STATISTICS:
            if context.reading.says(intent):
                whole = window is None and bool(context.reading.windows)
                yield Candidate(
                    Aggregate(match.name, function, where, window),
                    f"{NAMES.get(function, function)}_{match.slug}_{label}{suffix}",
                    describe(
                        f"{capital(words)} {match.name} over each {who}'s rows where {conditions(where)}{within}."
                    ),
                    RELATED if whole else ASKED + 1 + base - len(where) / 4,
                    "statistic", match.name,
                )  # fmt: skip
