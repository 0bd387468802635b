"""The table of a model: how many cases of each kind it passed, and every case, as a file that is committed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

from evals.planner import Effort
from evals.run import CaseResult
from service.agents.words import ascii_words
from service.settings import BUILTIN_MODEL

RESULTS = Path(__file__).parent / "results"
_ROW = re.compile(r"^\| `(?P<name>[a-z0-9-]+)` \| (?P<result>pass|fail) \|", re.MULTILINE)


class Tally(Struct, frozen=True):
    """Cases of one kind."""

    kind: str
    cases: int
    passed: int

    @property
    def percent(self) -> float:
        """Passed cases in a hundred; 0 without cases."""
        return 100 * self.passed / self.cases if self.cases else 0.0


def results_path(model: str, folder: Path = RESULTS) -> Path:
    """The committed table of a model."""
    return folder / f"{ascii_words(model) or 'model'}.md"


def tallies(results: Sequence[CaseResult]) -> tuple[Tally, ...]:
    """All cases, those held out, then those of each tag."""
    tags = sorted({tag for result in results for tag in result.tags})
    return (
        _tally("all", results),
        _tally("held out", [result for result in results if result.held_out]),
        *(_tally(tag, [result for result in results if tag in result.tags]) for tag in tags),
    )


def _tally(kind: str, results: Sequence[CaseResult]) -> Tally:
    return Tally(kind, len(results), sum(result.passed for result in results))


def render_table(results: Sequence[CaseResult]) -> str:
    """The counts as a Markdown table that also reads well on a terminal."""
    rows = [
        f"| {each.kind:<10} | {each.cases:>5} | {each.passed:>6} | {each.percent:>6.1f} |" for each in tallies(results)
    ]
    head = ("| cases of   | cases | passed |      % |", "|------------|------:|-------:|-------:|")
    return "\n".join((*head, *rows))


def render_failures(results: Sequence[CaseResult]) -> str:
    """What is wrong with each failing case, a line a property; nothing of cases that are held out but their names."""
    lines: list[str] = []
    for result in results:
        if result.passed:
            continue
        lines.append(f"{result.name}: {', '.join(result.failed)}{' (held out)' if result.held_out else ''}")
        if not result.held_out:
            lines += [f"    {name}: {reason}" for name, reason in result.failed.items()]
    return "\n".join(lines)


def render_file(model: str, results: Sequence[CaseResult], effort: Effort) -> str:
    """The committed file: for the built-in planner the same bytes every time, for others with what it took."""
    cases = "\n".join(
        f"| `{result.name}` | {'pass' if result.passed else 'fail'} | {', '.join(result.failed)} |"
        for result in sorted(results, key=lambda result: result.name)
    )
    parts = [
        f"# {model}",
        "Written by `make eval`. A case passes when every property that it states holds.",
        render_table(results),
        *([] if model == BUILTIN_MODEL else [render_effort(results, effort)]),
        f"| case | result | failed properties |\n|---|---|---|\n{cases}",
    ]
    return "\n\n".join(parts) + "\n"


def render_effort(results: Sequence[CaseResult], effort: Effort) -> str:
    """Requests, tokens, cost and time in one sentence."""
    cost = "of unknown price" if effort.cost_usd is None else f"for {effort.cost_usd:.4f} USD"
    seconds = [result.seconds for result in results]
    return (
        f"{effort.calls} requests, {effort.retried} faults sent back, {effort.input_tokens} tokens in and "
        f"{effort.output_tokens} out, {cost}; {median(seconds):.2f} s for half of the cases, {max(seconds):.2f} s at "
        "most."
    )


def read_committed(text: str) -> dict[str, bool]:
    """Whether each case passed, from a committed file."""
    return {row["name"]: row["result"] == "pass" for row in _ROW.finditer(text)}
