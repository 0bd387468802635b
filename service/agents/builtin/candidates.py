"""Define a candidate feature: an operation, its name and description, and a score for how well it fits the sentence."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from service.agents.words import ascii_words, tokens
from service.features.operations import AnyOperation, Predicate

ASKED = 10.0
"""The sentence asks for exactly this feature."""
NAMED = 7.0
"""The sentence names the column or event, and this is a common statistic of it."""
RELATED = 4.0
"""The sentence asks for something that this feature complements."""
ASIDE = 3.0
"""It is about a column that the sentence names, but not the statistic that it asks for. Used when there is room."""
GENERAL = 1.0
"""Upper bound for features that are useful in general, for sentences that leave the choice open."""
MAX_WORDS = 60
"""Characters of a column's name within a feature's name."""
MAX_DESCRIPTION = 500


class Candidate(Struct, frozen=True):
    """Describe one feature that could be proposed."""

    operation: AnyOperation
    name: str
    description: str
    score: float
    family: str
    """Features of one family are similar; a broad plan takes from many families."""
    subject: str = ""
    """The column or event it is about."""
    alike: str = ""
    """Features with the same value carry nearly the same numbers; one is enough unless more are asked for."""


def slug(name: str, position: int = 0) -> str:
    """Turn a column's name or a value into part of a feature's name; use its position when it has no ASCII letters."""
    words = ascii_words(name)[:MAX_WORDS].strip("_")
    return words or f"column_{position + 1}"


def plural(name: str) -> str:
    """Put the last word of an event's name in the plural."""
    words = " ".join(tokens(name)) or name
    if words.endswith(("s", "ing")):
        return words
    if words.endswith("ed"):
        return f"{words} rows"
    return f"{words[:-1]}ies" if words.endswith("y") and words[-2:-1] not in "aeiou" else f"{words}s"


def conditions(where: Iterable[Predicate]) -> str:
    """Write predicates in plain words: `event_type is 'click'`."""
    return " and ".join(_condition(predicate) for predicate in where)


def _condition(predicate: Predicate) -> str:
    values = ", ".join(repr(value) for value in predicate.values)
    words = {"eq": "is", "in": "is one of", "gt": "is over"}.get(predicate.comparison, predicate.comparison)
    return f"{predicate.column} {words} {values}".rstrip()


def days(number: float) -> str:
    """Write a number of days in words, in hours when it is less than one."""
    if number < 1:
        return f"{number * 24:g} hours"
    return "1 day" if number == 1 else f"{number:g} days"


def days_slug(number: float) -> str:
    """Write a number of days as part of a feature's name: `7d`, `6h`."""
    return f"{round(number * 24)}h" if number < 1 else f"{round(number)}d"


def describe(text: str) -> str:
    """Shorten a description to the length that a plan allows."""
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"


def capital(text: str) -> str:
    """Capitalise the first letter. Not for a text that begins with a column's name."""
    return text[:1].upper() + text[1:]
