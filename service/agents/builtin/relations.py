"""Find arithmetic in words: "spend / clicks", "fare per kilometre", "quantity times price", "revenue minus cost"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Literal

from msgspec import Struct

from service.agents.builtin.columns import ColumnIndex, ColumnMatch
from service.agents.builtin.reading import Reading
from service.agents.words import Phrase, mention, stems
from service.concurrency.threads import checked

Sign = Literal["ratio", "product", "difference"]

_SIGNS: tuple[tuple[Sign, re.Pattern[str]], ...] = (
    ("ratio", re.compile(
        r"\s*/\s*|\s+(?:divided by|over|per|relative to|in relation to|for each|for every|to"
        r"|as an? (?:share|percentage|percent|fraction|proportion|multiple|part) of)\s+"
    )),
    ("product", re.compile(r"\s*[*\u00d7]\s*|\s+(?:times|multiplied by|x)\s+")),
    ("difference", re.compile(r"\s+[-\u2212\u2013]\s+|\s+(?:minus|less|net of)\s+")),
)  # fmt: skip
_RATIO_OF = re.compile(r"\b(?:ratio|proportion|share|fraction|quotient)\b")
_CLAUSE = re.compile(r"[,;:!?()=\n]|\.(?=\s|$)|\b(?:i\.e\.?|that is|and|plus)\b")
MAX_CLAUSES = 40
MAX_SIGNS = 6
"""In one clause, of one sign: no human sentence has more, and each is compared with every column."""
MAX_CHARACTERS = 100
"""Characters on each side of a sign that are searched for a column."""
MAX_WORDS = 5
"""Words on each side of a sign that may name a column."""


class Relation(Struct, frozen=True):
    """Two columns and the arithmetic between them."""

    sign: Sign
    left: ColumnMatch
    right: ColumnMatch


def find_relations(columns: ColumnIndex, reading: Reading) -> tuple[Relation, ...]:
    """Return every pair of numeric columns with arithmetic between them, each once."""
    found: dict[tuple[Sign, str, str], Relation] = {}
    clauses = _CLAUSE.split(reading.text.casefold())
    for relation in chain.from_iterable(_in_clause(clause, columns) for clause in clauses[:MAX_CLAUSES]):
        found.setdefault((relation.sign, relation.left.name, relation.right.name), relation)
    return tuple(found.values())


def _in_clause(clause: str, columns: ColumnIndex) -> Iterator[Relation]:
    context = frozenset(stems(clause))
    for sign, pattern in _SIGNS:
        for match in checked(islice(pattern.finditer(clause), MAX_SIGNS)):
            if match[0].strip() == "to" and not _RATIO_OF.search(clause):
                continue
            left = _column(
                stems(clause[max(0, match.start() - MAX_CHARACTERS) : match.start()])[-MAX_WORDS:],
                columns,
                context,
                last=True,
            )
            right = _column(
                stems(clause[match.end() : match.end() + MAX_CHARACTERS])[:MAX_WORDS], columns, context, last=False
            )
            if left is not None and right is not None and left.name != right.name:
                yield Relation(sign, left, right)


def _column(words: tuple[str, ...], columns: ColumnIndex, context: frozenset[str], *, last: bool) -> ColumnMatch | None:
    """Return the numeric column that the words nearest to the sign name most clearly; None if a key fits as well.

    On a tie, prefer the column whose name shares the most words with the whole clause.
    """
    phrase = Phrase(words)
    strengths = {match.name: mention(match.stems, phrase) for match in columns.numbers}
    best = max(strengths.values(), default=0)
    named = [match for match in columns.numbers if strengths[match.name] == best]
    rivals = max((mention(match.stems, phrase) for match in (*columns.keys, *columns.categories)), default=0)
    if best == 0 or rivals > best or (best == 1 and (len(named) > 1 or rivals)):
        return None
    place = {match.name: _place(match, words, last=last) for match in named}

    def plainness(match: ColumnMatch) -> tuple[int, int, int]:
        return (len(set(words) & set(match.stems)), place[match.name], len(context & set(match.stems)))

    return max(named, key=plainness)


def _place(match: ColumnMatch, words: tuple[str, ...], *, last: bool) -> int:
    places = [index for index, word in enumerate(words) if word in match.stems]
    if not places:
        return -len(words) - 1
    return max(places) if last else -min(places)
