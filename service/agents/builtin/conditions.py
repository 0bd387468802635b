"""Find the rows that a sentence selects: "refunded orders", "above 50 degrees", "other than DE", "1-star reviews"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from service.agents.builtin.candidates import slug
from service.agents.builtin.columns import ColumnIndex, ColumnMatch, true_value
from service.agents.builtin.events import equals
from service.agents.builtin.numbers import Limit
from service.agents.builtin.reading import Reading
from service.agents.words import meaningful_parts, mention, stems
from service.features.operations import Predicate, Scalar

FEW_NUMBERS = 50
"""Up to this number of distinct whole numbers a column's values are labels: stars, status codes, grades."""
MIN_CODE_DIGITS = 3
"""A number with this many digits is a code by itself; a shorter one needs the column's name beside it."""
_NOT = r"(?:not|no|non|other than|different from|except|excluding|isn['\u2019]?t|aren['\u2019]?t|outside(?: of)?|!=|<>)"
_OPPOSITE = re.compile(rf"\b{_NOT}[\s-]+(?:(?:in|on|from|via|by|the|a|an)\s+)*$", re.IGNORECASE)
_BEFORE = 24
"""Characters before a value that are searched for a negation."""
_WORDS = {"gt": "over", "ge": "from", "lt": "under", "le": "up_to"}


class Condition(Struct, frozen=True):
    """Hold a condition that the sentence states, and its part of a feature's name."""

    predicate: Predicate
    label: str


def find_conditions(columns: ColumnIndex, reading: Reading) -> tuple[Condition, ...]:
    """Return the conditions on rows in the order limits, numbers, values, yes/no columns; one for each predicate."""
    found = (
        *_limits(columns, reading),
        *_numbers(columns, reading),
        *_values(columns, reading),
        *_flags(columns, reading),
    )
    return tuple({condition.predicate: condition for condition in found}.values())


def _limits(columns: ColumnIndex, reading: Reading) -> Iterator[Condition]:
    for limit in reading.limits:
        match = _compared(limit, columns)
        if match is not None:
            number = int(limit.number) if limit.number.is_integer() else limit.number
            label = f"{match.slug}_{_WORDS[limit.comparison]}_{slug(str(number))}"
            yield Condition(Predicate(match.name, limit.comparison, (number,)), label)


def _compared(limit: Limit, columns: ColumnIndex) -> ColumnMatch | None:
    """Return the column that the words after the number name, or those before it; the last one if several are named."""
    numbers = (*columns.numbers, *(match for match in columns.categories if _numeric(match)))
    for words in (limit.after, limit.before):
        strengths = {match.name: mention(match.stems, words) for match in numbers}
        best = max(strengths.values(), default=0)
        named = [match for match in numbers if strengths[match.name] == best]
        if best >= 2 or (best and len(named) == 1):  # noqa: PLR2004 - a part of the name
            return max(named, key=lambda match: _last(match, words))
    return None


def _numeric(match: ColumnMatch) -> bool:
    return bool(match.column.values) and all(isinstance(entry.value, int | float) for entry in match.column.values)


def _last(match: ColumnMatch, words: tuple[str, ...]) -> int:
    return max((index for index, word in enumerate(words) if word in match.stems), default=-1)


def _numbers(columns: ColumnIndex, reading: Reading) -> Iterator[Condition]:
    """Find numbers that a column of few whole numbers holds: `404 responses`, `1-star reviews`."""
    for digits, beside in reading.numbers:
        for match in (*columns.numbers, *columns.categories):
            named = any(mention(meaningful_parts(match.stems), (word,)) for word in beside)
            if (named or len(digits) >= MIN_CODE_DIGITS) and _holds(match, int(digits)):
                yield Condition(equals(match.name, int(digits)), f"{match.slug}_{digits}")


def _holds(match: ColumnMatch, number: int) -> bool:
    """Check whether a column of few whole numbers has the number, by its frequent values or by its range."""
    column = match.column
    values = [entry.value for entry in column.values]
    if column.distinct > FEW_NUMBERS or any(isinstance(value, bool) for value in values):
        return False
    if values or column.type != "integer":
        return number in values
    low, high = column.minimum, column.maximum
    return isinstance(low, int) and isinstance(high, int) and low <= number <= high


def _values(columns: ColumnIndex, reading: Reading) -> Iterator[Condition]:
    taken = frozenset(part for match in columns.usable if match.strength > 2 for part in match.stems)  # noqa: PLR2004 - named
    for match in columns.categories:
        if true_value(match) is None:
            for index, entry in enumerate(match.column.values):
                place = find_value(entry.value, reading, taken)
                if place is not None:
                    yield _valued(match, entry.value, index, opposite=_negated(reading.text, place))


def _valued(match: ColumnMatch, value: Scalar, index: int, *, opposite: bool) -> Condition:
    label = f"{match.slug}_{'not_' if opposite else ''}{slug(str(value), index)}"
    return Condition(Predicate(match.name, "ne" if opposite else "eq", (value,)), label)


def find_value(value: Scalar, reading: Reading, taken: frozenset[str] = frozenset()) -> int | None:
    """Return where the sentence has the value, -1 if the place is not known, or None.

    Short codes must match as written; words match in any form. Words in `taken` name a column and do not count: the
    shipping cost says nothing about shipped orders.
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


def _flags(columns: ColumnIndex, reading: Reading) -> Iterator[Condition]:
    flags: Iterable[ColumnMatch] = (*columns.flags, *columns.categories)
    for match in flags:
        value = true_value(match)
        if value is not None and match.strength > 1 and reading.words:
            yield Condition(equals(match.name, value), match.slug)
