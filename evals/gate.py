"""Holds a run against the committed table: what passed must go on passing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from evals.report import Tally
from evals.run import CaseResult

MIN_PERCENT = 90.0
"""Of all cases. Below it a planner is not fit to be the default."""


class Decision(Struct, frozen=True):
    """What the gate says."""

    faults: tuple[str, ...]
    """Why the change may not pass, one line each."""
    news: tuple[str, ...]
    """What is better or new, for which the table is to be written again."""


def decide(results: Sequence[CaseResult], committed: Mapping[str, bool], *, partial: bool = False) -> Decision:
    """Compare each case with its committed result; `partial` means that not every case was run."""
    now = {result.name: result.passed for result in results}
    worse = [
        f"{name} passed before and fails now: {_why(results, name)}" for name in now if _fell(name, now, committed)
    ]
    gone = [f"{name} is in the table and no case any more" for name in committed if name not in now]
    share = Tally("all", len(now), sum(now.values()))
    low = [f"{share.percent:.1f} % of the cases passed; at least {MIN_PERCENT:g} % must"]
    better = [f"{name} passes now" for name in now if now[name] and committed.get(name) is False]
    new = [f"{name} is new" for name in now if name not in committed]
    return Decision(
        (*worse, *(() if partial else gone), *(low if share.percent < MIN_PERCENT else ())), (*better, *new)
    )


def _fell(name: str, now: Mapping[str, bool], committed: Mapping[str, bool]) -> bool:
    return committed.get(name, False) and not now[name]


def _why(results: Sequence[CaseResult], name: str) -> str:
    return ", ".join(next(result.failed for result in results if result.name == name))
