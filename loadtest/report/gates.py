"""The gates of a verdict: as a list, as a table and in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.report.document import Cell, Column, Table
from loadtest.report.formats import number
from loadtest.verdict import Check, Outcome, Reason, Verdict

WORDS: dict[Outcome, str] = {"pass": "Pass", "fail": "Fail", "not_measured": "Not measured"}


def cases(verdict: Verdict) -> list[Check]:
    """List the gates, with reasons that belong to none of them, so that a run that did not pass is never all green."""
    checks = list(verdict.checks)
    bad = {check.gate for check in checks if check.outcome != "pass"}
    checks += [_of_reason(reason, verdict.verdict) for reason in verdict.reasons if reason.gate not in bad]
    if verdict.verdict != "pass" and all(check.outcome == "pass" for check in checks):
        checks.append(Check("verdict", verdict.verdict, None, None, f"The verdict is {verdict.verdict}."))
    return checks


def headline(verdict: Verdict) -> str:
    """Say the verdict in one sentence."""
    outcomes = [check.outcome for check in cases(verdict)]
    failed, unmeasured, total = outcomes.count("fail"), outcomes.count("not_measured"), len(outcomes)
    open_words = f" {unmeasured} could not be measured." if unmeasured else ""
    if verdict.verdict == "pass":
        return f"Every gate held: {total} of {total}."
    if verdict.verdict == "fail":
        return f"{failed} of {total} gates did not hold.{open_words}"
    return f"This run says neither yes nor no.{open_words.replace('could', f'of {total} gates could')}"


def gates(checks: Sequence[Check]) -> Table:
    """List every gate with what was measured and what is allowed."""
    columns = (
        Column("Gate"), Column("Outcome"), Column("Measured", numeric=True), Column("Allowed", numeric=True),
        Column("In words", wide=True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(check.gate, code=True),
            Cell(WORDS[check.outcome], check.outcome),
            number(check.measured),
            number(check.allowed),
            check.sentence,
        )
        for check in checks
    )
    return Table("What the run was judged by", columns, rows, "no gate was checked.")


def _of_reason(reason: Reason, outcome: Outcome) -> Check:
    """Turn a reason into a gate with the outcome of the whole run."""
    return Check(reason.gate, outcome, reason.measured, reason.allowed, reason.sentence)
