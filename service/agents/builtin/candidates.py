"""Features that could be proposed: an operation, its name and words, and how much the sentence wants it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from service.agents.words import ascii_words, tokens
from service.features.operations import AnyOperation, Predicate

ASKED = 10.0
"""The sentence asks for exactly this."""
NAMED = 7.0
"""It names the column or event; this is a common statistic of it."""
RELATED = 4.0
"""It asks for something that this completes."""
ASIDE = 3.0
"""About what it names, but not what it asks of it: enough for a sentence that leaves room."""
GENERAL = 1.0
"""Below: useful in general, for a sentence that leaves the choice open."""
MAX_WORDS = 60
"""Characters of one column's part in a feature's name."""
MAX_DESCRIPTION = 500


class Candidate(Struct, frozen=True):
    """A feature that could be proposed."""

    operation: AnyOperation
    name: str
    description: str
    score: float
    family: str
    """Features of one family say similar things; a broad plan takes from many families."""
    subject: str = ""
    """The column or event it is about."""
    alike: str = ""
    """Features with the same mark carry nearly the same numbers: one is enough unless more are asked for."""


def slug(name: str, position: int = 0) -> str:
    """A column's or value's name as part of a feature's name; its position where nothing of it is ASCII."""
    words = ascii_words(name)[:MAX_WORDS].strip("_")
    return words or f"column_{position + 1}"


def plural(name: str) -> str:
    """The last word of an event's name in the plural, for a sentence."""
    words = " ".join(tokens(name)) or name
    if words.endswith(("s", "ing")):
        return words
    if words.endswith("ed"):
        return f"{words} rows"
    return f"{words[:-1]}ies" if words.endswith("y") and words[-2:-1] not in "aeiou" else f"{words}s"


def conditions(where: Iterable[Predicate]) -> str:
    """Predicates in plain words: `event_type is 'click'`."""
    return " and ".join(_condition(predicate) for predicate in where)


def _condition(predicate: Predicate) -> str:
    values = ", ".join(repr(value) for value in predicate.values)
    words = {"eq": "is", "in": "is one of", "gt": "is over"}.get(predicate.comparison, predicate.comparison)
    return f"{predicate.column} {words} {values}".rstrip()


def days(number: float) -> str:
    """A number of days in words, hours when it is less than one."""
    if number < 1:
        return f"{number * 24:g} hours"
    return "1 day" if number == 1 else f"{number:g} days"


def days_slug(number: float) -> str:
    """A number of days as part of a feature's name: `7d`, `6h`."""
    return f"{round(number * 24)}h" if number < 1 else f"{round(number)}d"


def describe(text: str) -> str:
    """A description within the contract's length."""
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"


def capital(text: str) -> str:
    """The text with a capital letter first; never for a text that begins with a column's name."""
    return text[:1].upper() + text[1:]
