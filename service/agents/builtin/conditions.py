"""Which rows a sentence means: "refunded orders", "above 50 degrees", "other than DE", "1-star reviews"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from service.agents.builtin.candidates import slug
from service.agents.builtin.events import equals
from service.agents.builtin.numbers import Limit
from service.agents.builtin.reading import Reading
from service.agents.builtin.sheet import Seen, Sheet, truth
from service.agents.words import mention, stems, telling_parts
from service.features.operations import Predicate, Scalar

FEW_NUMBERS = 50
"""Distinct whole numbers of a column up to which each is like a label: stars, status codes, grades."""
TELLING_DIGITS = 3
"""A number of so many digits is a code by itself; a shorter one needs the column's name beside it."""
_NOT = r"(?:not|no|non|other than|different from|except|excluding|isn['\u2019]?t|aren['\u2019]?t|outside(?: of)?|!=|<>)"
_OPPOSITE = re.compile(rf"\b{_NOT}[\s-]+(?:(?:in|on|from|via|by|the|a|an)\s+)*$", re.IGNORECASE)
_BEFORE = 24
"""Characters before a value in which a negation is looked for."""
_WORDS = {"gt": "over", "ge": "from", "lt": "under", "le": "up_to"}


class Condition(Struct, frozen=True):
    """A condition that the sentence states, and its part in a feature's name."""

    predicate: Predicate
    label: str


def find_conditions(sheet: Sheet, reading: Reading) -> tuple[Condition, ...]:
    """The conditions on rows, in the order: limits, numbers, values, yes/no columns; one for each predicate."""
    found = (*_limits(sheet, reading), *_numbers(sheet, reading), *_values(sheet, reading), *_flags(sheet, reading))
    return tuple({condition.predicate: condition for condition in found}.values())


def _limits(sheet: Sheet, reading: Reading) -> Iterator[Condition]:
    for limit in reading.limits:
        seen = _compared(limit, sheet)
        if seen is not None:
            number = int(limit.number) if limit.number.is_integer() else limit.number
            label = f"{seen.slug}_{_WORDS[limit.comparison]}_{slug(str(number))}"
            yield Condition(Predicate(seen.name, limit.comparison, (number,)), label)


def _compared(limit: Limit, sheet: Sheet) -> Seen | None:
    """What the words after the number name, else what those before do; the last of them when several are named."""
    numbers = (*sheet.numbers, *(seen for seen in sheet.categories if _numeric(seen)))
    for words in (limit.after, limit.before):
        strengths = {seen.name: mention(seen.stems, words) for seen in numbers}
        best = max(strengths.values(), default=0)
        named = [seen for seen in numbers if strengths[seen.name] == best]
        if best >= 2 or (best and len(named) == 1):  # noqa: PLR2004 - a part of the name
            return max(named, key=lambda seen: _last(seen, words))
    return None


def _numeric(seen: Seen) -> bool:
    return bool(seen.column.values) and all(isinstance(entry.value, int | float) for entry in seen.column.values)


def _last(seen: Seen, words: tuple[str, ...]) -> int:
    return max((index for index, word in enumerate(words) if word in seen.stems), default=-1)


def _numbers(sheet: Sheet, reading: Reading) -> Iterator[Condition]:
    """`404 responses`, `1-star reviews`: a number that a column of few whole numbers holds."""
    for digits, beside in reading.numbers:
        for seen in (*sheet.numbers, *sheet.categories):
            named = any(mention(telling_parts(seen.stems), (word,)) for word in beside)
            if (named or len(digits) >= TELLING_DIGITS) and _holds(seen, int(digits)):
                yield Condition(equals(seen.name, int(digits)), f"{seen.slug}_{digits}")


def _holds(seen: Seen, number: int) -> bool:
    """Whether a column of few whole numbers has the number: its values tell, or else its extremes."""
    column = seen.column
    values = [entry.value for entry in column.values]
    if column.distinct > FEW_NUMBERS or any(isinstance(value, bool) for value in values):
        return False
    if values or column.type != "integer":
        return number in values
    low, high = column.minimum, column.maximum
    return isinstance(low, int) and isinstance(high, int) and low <= number <= high


def _values(sheet: Sheet, reading: Reading) -> Iterator[Condition]:
    taken = frozenset(part for seen in sheet.usable if seen.spoken > 2 for part in seen.stems)  # noqa: PLR2004 - named
    for seen in sheet.categories:
        if truth(seen) is None:
            for index, entry in enumerate(seen.column.values):
                place = spoken_at(entry.value, reading, taken)
                if place is not None:
                    yield _valued(seen, entry.value, index, opposite=_negated(reading.text, place))


def _valued(seen: Seen, value: Scalar, index: int, *, opposite: bool) -> Condition:
    label = f"{seen.slug}_{'not_' if opposite else ''}{slug(str(value), index)}"
    return Condition(Predicate(seen.name, "ne" if opposite else "eq", (value,)), label)


def spoken_at(value: Scalar, reading: Reading, taken: frozenset[str] = frozenset()) -> int | None:
    """Where the sentence has the value; short codes only as they are written, words in any form. -1: somewhere.

    Words that are `taken` name a column: the shipping cost says nothing of shipped orders.
    """
    text = str(value)
    exact = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", reading.text)
    if exact and (len(text) > 2 or (len(text) == 2 and text.isupper())):  # noqa: PLR2004 - "DE" is a code, "in" none
        return exact.start()
    if len(text) > 2:  # noqa: PLR2004 - likewise
        loose = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", reading.text, re.IGNORECASE)
        if loose:
            return loose.start()
    parts = stems(text)
    whole = bool(parts) and all(len(part) > 2 and part in reading.words for part in parts)  # noqa: PLR2004 - "at"
    return -1 if whole and not taken.issuperset(parts) else None


def _negated(text: str, place: int) -> bool:
    return place >= 0 and _OPPOSITE.search(text[max(0, place - _BEFORE) : place]) is not None


def _flags(sheet: Sheet, reading: Reading) -> Iterator[Condition]:
    columns: Iterable[Seen] = (*sheet.flags, *sheet.categories)
    for seen in columns:
        value = truth(seen)
        if value is not None and seen.spoken > 1 and reading.words:
            yield Condition(equals(seen.name, value), seen.slug)
