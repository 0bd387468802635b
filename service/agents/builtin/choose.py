"""Choose features among the candidates: the requested ones first, then complements, without near-duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heapreplace

from service.agents.builtin.candidates import ASKED, NAMED, RELATED, Candidate
from service.concurrency.threads import checked
from service.features.model import PlannedFeature
from service.features.operations import AnyOperation
from service.features.plan import MAX_SORTED_CELLS

FLOOR_WHEN_ASKED = RELATED
"""Minimum score when the sentence asks for particular features: it gets only those and their complements."""
FLOOR = 0.15
FAMILY_PENALTY = 0.06
"""Subtracted from a candidate's score for each chosen feature of its family, so that a plan has variety."""
SUBJECT_PENALTY = 0.05
MAX_NAME = 120
MAX_CONSIDERED = 600


def choose(
    candidates: Iterable[Candidate], *, limit: int, row_count: int, broad: bool, reserved: Sequence[str]
) -> tuple[PlannedFeature, ...]:
    """Return at most `limit` features, best first, with unique names that are not in `reserved`."""
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
    """Return the best candidate of each operation, best first, without those below the minimum score."""
    best: dict[AnyOperation, Candidate] = {}
    for candidate in checked(candidates):
        known = best.get(candidate.operation)
        if known is None or candidate.score > known.score:
            best[candidate.operation] = candidate
    ranked = sorted(best.values(), key=lambda candidate: -candidate.score)
    particular = any(candidate.score >= NAMED for candidate in ranked)
    floor = FLOOR_WHEN_ASKED if particular and not broad else FLOOR
    worthy = [candidate for candidate in ranked if candidate.score >= floor]
    return (worthy or ranked)[:MAX_CONSIDERED]


def _pick(pool: list[Candidate], limit: int, max_sorting: int) -> list[Candidate]:
    """Choose greedily; each choice lowers the scores of similar candidates, never raises one."""
    chosen: list[Candidate] = []
    families, subjects, sorting = Counter[str](), Counter[str](), 0
    alike: set[str] = set()

    def score(candidate: Candidate) -> float:
        return (
            candidate.score
            - FAMILY_PENALTY * families[candidate.family]
            - SUBJECT_PENALTY * subjects[candidate.subject]
        )

    queue = [(-candidate.score, place) for place, candidate in enumerate(pool)]
    heapify(queue)
    while queue and len(chosen) < limit:
        before, place = queue[0]
        best = pool[place]
        if -score(best) > before:
            heapreplace(queue, (-score(best), place))
            continue
        heappop(queue)
        repeats = best.alike in alike and best.score < ASKED - 1
        too_expensive = best.operation.sorts() and sorting >= max_sorting
        if repeats or too_expensive:
            continue
        chosen.append(best)
        sorting += best.operation.sorts()
        families[best.family] += 1
        subjects[best.subject] += 1
        alike |= {best.alike} - {""}
    return chosen


def _unique(name: str, taken: set[str]) -> str:
    """Make a name valid for a plan and unique."""
    lettered = name if name[:1].isalpha() else f"value_{name}"
    shortened = lettered[:MAX_NAME]
    number = 2
    while shortened in taken:
        suffix = f"_{number}"
        shortened = lettered[: MAX_NAME - len(suffix)] + suffix
        number += 1
    return shortened
