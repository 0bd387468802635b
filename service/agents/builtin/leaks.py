"""Find columns that leak the target because they are filled only after the outcome is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from service.agents.prompts import Column
from service.agents.words import stemmed, stems

SAME_SHARE = 0.002
"""A column whose share of filled rows is this close to a target value's share is taken to be filled because of it."""
_OUTCOME_WORDS: Mapping[str, str] = {
    "fraud fraudulent": "chargeback dispute investigation confirmed blocked reimbursed",
    "default defaulted delinquent delinquency bad": "collection recovery recovered writeoff charged foreclosure "
    "arrears",
    "churn churned attrition cancelled cancel left leave": "cancellation cancelled cancel exit termination terminated "
    "offboarding leaving resignation churn attrition winback",
    "refund refunded return returned": "refund refunded return returned restocking",
    "scrap scrapped defect defective reject rejected": "rework scrap defect reject rejected disposal",
    "failure fail failed breakdown fault outage": "repair downtime failure breakdown restoration",
    "death died deceased mortality": "death autopsy deceased",
    "converted conversion purchased": "conversion converted",
}
"""Outcomes, and words for what is recorded only after them."""


def leaking_columns(columns: Sequence[Column], target: Column) -> frozenset[str]:
    """Return the names of columns, other than the target, that no feature should read."""
    marks = _marks(target)
    shares = [entry.share for entry in target.values]
    return frozenset(
        column.name
        for column in columns
        if column.name != target.name
        and column.type != "identifier"
        and (not marks.isdisjoint(stems(column.name)) or _filled_with(column, shares))
    )


def _marks(target: Column) -> frozenset[str]:
    words = frozenset(stems(target.name))
    values = frozenset(part for entry in target.values for part in stems(str(entry.value)))
    said = words | (values if len(target.values) > 2 else frozenset[str]())  # noqa: PLR2004 - yes and no say nothing
    return frozenset(
        mark
        for outcome, after in _OUTCOME_WORDS.items()
        if not stemmed(outcome).isdisjoint(said)
        for mark in stemmed(after)
    )


def _filled_with(column: Column, shares: Iterable[float]) -> bool:
    filled = 1 - column.missing
    return 0 < column.missing < 1 and any(abs(filled - share) < SAME_SHARE for share in shares)
