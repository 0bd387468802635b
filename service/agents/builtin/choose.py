"""Chooses among candidates: the asked-for first, then what completes them; no two that say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from service.agents.builtin.candidates import ASKED, NAMED, RELATED, Candidate
from service.features.model import PlannedFeature
from service.features.operations import AnyOperation
from service.features.plan import MAX_SORTED_CELLS

FLOOR_WHEN_ASKED = RELATED
"""A sentence that asks for particular features gets nothing below: only these and what completes them."""
FLOOR = 0.15
FAMILY_PENALTY = 0.06
"""Each feature already chosen of a family takes so much from the others': a plan is better for variety."""
SUBJECT_PENALTY = 0.05
MAX_NAME = 120
MAX_CONSIDERED = 600


def choose(
    candidates: Iterable[Candidate], *, limit: int, row_count: int, broad: bool, reserved: Sequence[str]
) -> tuple[PlannedFeature, ...]:
    """At most `limit` features, the most wanted first, with unique names that are not among `reserved`."""
    pool = _pool(candidates, broad=broad)
    chosen = _pick(pool, limit, MAX_SORTED_CELLS // max(row_count, 1))
    taken = {name.casefold() for name in reserved}
    features: list[PlannedFeature] = []
    for candidate in chosen:
        name = _unique(candidate.name, taken)
        taken.add(name)
        features.append(PlannedFeature(name, candidate.description, candidate.operation))
    return tuple(features)


def _pool(candidates: Iterable[Candidate], *, broad: bool) -> list[Candidate]:
    """The distinct operations worth choosing from, best first."""
    best: dict[AnyOperation, Candidate] = {}
    for candidate in candidates:
        known = best.get(candidate.operation)
        if known is None or candidate.score > known.score:
            best[candidate.operation] = candidate
    ranked = sorted(best.values(), key=lambda candidate: -candidate.score)
    particular = any(candidate.score >= NAMED for candidate in ranked)
    floor = FLOOR_WHEN_ASKED if particular and not broad else FLOOR
    worthy = [candidate for candidate in ranked if candidate.score >= floor]
    return (worthy or ranked)[:MAX_CONSIDERED]


def _pick(pool: list[Candidate], limit: int, most_sorting: int) -> list[Candidate]:
    """Greedy: what was chosen lowers its like."""
    chosen: list[Candidate] = []
    families, subjects, sorting = Counter[str](), Counter[str](), 0
    alike: set[str] = set()
    while pool and len(chosen) < limit:
        best = max(
            pool,
            key=lambda candidate: (
                candidate.score
                - FAMILY_PENALTY * families[candidate.family]
                - SUBJECT_PENALTY * subjects[candidate.subject]
            ),
        )
        pool.remove(best)
        repeats = best.alike in alike and best.score < ASKED - 1
        too_dear = best.operation.sorts() and sorting >= most_sorting
        if repeats or too_dear:
            continue
        chosen.append(best)
        sorting += best.operation.sorts()
        families[best.family] += 1
        subjects[best.subject] += 1
        alike |= {best.alike} - {""}
    return chosen


def _unique(name: str, taken: set[str]) -> str:
    """A name of the contract's form that is not taken."""
    lettered = name if name[:1].isalpha() else f"value_{name}"
    shortened = lettered[:MAX_NAME]
    number = 2
    while shortened in taken:
        suffix = f"_{number}"
        shortened = lettered[: MAX_NAME - len(suffix)] + suffix
        number += 1
    return shortened
