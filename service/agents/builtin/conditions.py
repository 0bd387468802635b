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
from service.agents.words import Phrase, lower, meaningful_parts, mention
from service.concurrency.threads import checked
from service.features.operations import Predicate, Scalar

FEW_NUMBERS = 50
"""Up to this number of distinct whole numbers a column's values are labels: stars, status codes, grades."""
MIN_CODE_DIGITS = 3
"""A number with this many digits is a code by itself; a shorter one needs the column's name beside it."""
_NOT = r"(?:not|no|non|other than|different from|except|excluding|isn['\u2019]?t|aren['\u2019]?t|outside(?: of)?|!=|<>)"
_OPPOSITE = re.compile(rf"\b{_NOT}[\s-]+(?:(?:in|on|from|via|by|the|a|an)\s+)*$", re.IGNORECASE)
MAX_OCCURRENCES = 100
"""Places within other words after which a value is taken not to stand by itself."""
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
        phrase = Phrase(words)
        strengths = {match.name: mention(match.stems, phrase) for match in numbers}
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
    for digits, words in reading.numbers:
        beside = [Phrase((word,)) for word in words]
        for match in (*columns.numbers, *columns.categories):
            named = any(mention(meaningful_parts(match.stems), word) for word in beside)
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
    for match in checked(columns.categories):
        if true_value(match) is None:
            for index, (value, parts) in enumerate(match.values):
                place = find_value(value, parts, reading, taken)
                if place is not None:
                    yield _valued(match, value, index, opposite=_negated(reading.text, place))


def _valued(match: ColumnMatch, value: Scalar, index: int, *, opposite: bool) -> Condition:
    label = f"{match.slug}_{'not_' if opposite else ''}{slug(str(value), index)}"
    return Condition(Predicate(match.name, "ne" if opposite else "eq", (value,)), label)


def find_value(value: Scalar, parts: tuple[str, ...], reading: Reading, taken: frozenset[str]) -> int | None:
    """Return where the sentence has the value, -1 if the place is not known, or None; `parts` are the value's stems.

    Short codes must match as written; words match in any form. Words in `taken` name a column and do not count: the
    shipping cost says nothing about shipped orders.
    """
    text = str(value)
    if len(text) > 2 or (len(text) == 2 and text.isupper()):  # noqa: PLR2004 - "DE" is a code, "in" none
        exact = _find_whole(text, reading.text)
        if exact is not None:
            return exact
    if len(text) > 2:  # noqa: PLR2004 - likewise
        loose = _find_whole(lower(text), reading.lowered)
        if loose is not None:
            return loose
    whole = bool(parts) and all(len(part) > 2 and part in reading.sentence for part in parts)  # noqa: PLR2004 - "at"
    return -1 if whole and not taken.issuperset(parts) else None


def _find_whole(words: str, text: str) -> int | None:
    """Return where the text has the words, not within another word."""
    place = -1
    for _ in range(MAX_OCCURRENCES):
        place = text.find(words, place + 1)
        if place < 0:
            return None
        if not (
            _in_word(text[max(0, place - 1) : place]) or _in_word(text[place + len(words) : place + len(words) + 1])
        ):
            return place
    return None


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _negated(text: str, place: int) -> bool:
    return place >= 0 and _OPPOSITE.search(text[max(0, place - _BEFORE) : place]) is not None


def _flags(columns: ColumnIndex, reading: Reading) -> Iterator[Condition]:
    flags: Iterable[ColumnMatch] = (*columns.flags, *columns.categories)
    for match in flags:
        value = true_value(match)
        if value is not None and match.strength > 1 and reading.words:
            yield Condition(equals(match.name, value), match.slug)
