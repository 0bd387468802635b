"""What is wrong with a plan, in words that a planner can act on: where, what, and which names are alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Literal

from msgspec import Struct

from service.features.model import Profile

Reason = Literal[
    "schema", "unknown_tool", "unknown_column", "type_mismatch", "leakage", "cost", "name", "grain", "other"
]

_WORD = re.compile(r"[^\W_]{3,}")
MANY_COLUMNS = 200
MAX_COLUMNS_LISTED = 50
MAX_NAME_SHOWN = 80
MAX_NAME = 256
"""Characters of a column's name in a plan; a longer one has no like."""
MAX_HINTS = 8
"""Unknown names of one plan for which like names are looked up."""
LONG_NAME = 40
MAX_COMPARED_LONG = 40
"""Names that a longer one is compared with: a comparison takes the product of both lengths."""


class Fault(Struct, frozen=True):
    """Describe one thing that is wrong with a plan, for the planner that proposed it."""

    reason: Reason
    field: str
    """Path into the plan, such as `features[3].operation.column`."""
    message: str


class UnknownColumn(Struct, frozen=True):
    """A fault of which the like names are still to be found, which is dear."""

    field: str
    name: str


Found = Iterator[Fault | UnknownColumn]


def worded(
    faults: Iterable[Fault | UnknownColumn], profile: Profile, unknown: str = "the dataset has no column {}"
) -> tuple[Fault, ...]:
    """Say what is wrong with unknown names, and of the first ones which names are alike."""
    hints, said = MAX_HINTS, list[Fault]()
    for fault in faults:
        if isinstance(fault, UnknownColumn):
            message = _unknown(unknown.format(shown(fault.name)), fault.name, profile, hinted=hints > 0)
            said.append(Fault("unknown_column", fault.field, message))
            hints -= 1
        else:
            said.append(fault)
    return tuple(said)


def _unknown(sentence: str, name: str, profile: Profile, *, hinted: bool) -> str:
    names = [column.name for column in profile.columns]
    near = _near(name, names) if hinted and len(name) <= MAX_NAME else []
    hint = f"; did you mean {' or '.join(map(shown, near))}?" if near else "."
    listed = ", ".join(map(shown, names[:MAX_COLUMNS_LISTED]))
    more = f" and {len(names) - MAX_COLUMNS_LISTED} more" if len(names) > MAX_COLUMNS_LISTED else ""
    return f"{sentence}{hint} Its columns: {listed}{more}"


def _near(name: str, names: Sequence[str]) -> list[str]:
    """Up to three names that look alike.

    Comparing whole strings is dear, so of many names only those are compared that begin alike or share a word.
    """
    wanted, words = name.casefold(), _words(name)
    by_folded = {column.casefold(): column for column in names}
    if len(by_folded) > MANY_COLUMNS:
        alike = [folded for folded in by_folded if folded[:2] == wanted[:2] or not words.isdisjoint(_words(folded))]
        by_folded = {folded: by_folded[folded] for folded in alike[:MANY_COLUMNS]}
    if len(name) > LONG_NAME:
        by_folded = dict(islice(by_folded.items(), MAX_COMPARED_LONG))
    return [by_folded[match] for match in get_close_matches(wanted, by_folded, n=3, cutoff=0.6)]


def _words(name: str) -> frozenset[str]:
    return frozenset(_WORD.findall(name.casefold()))


def shown(name: str) -> str:
    """Quote a name, shortened."""
    return repr(name if len(name) <= MAX_NAME_SHOWN else name[: MAX_NAME_SHOWN - 1] + "…")
