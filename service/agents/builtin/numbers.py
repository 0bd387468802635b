"""Read the numbers of a sentence: time spans, quantiles, bins, lags, comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from msgspec import Struct

from service.agents.builtin.lexicon import NUMBERS, UNIT_DAYS
from service.agents.words import FUNCTION_WORDS, stem, stems
from service.features.operations import Comparison

_UNITS = "|".join(UNIT_DAYS)
_COUNT = rf"\d{{1,4}}|{'|'.join(NUMBERS)}"
_JOINED = r"(?:,\s*and|,|and|or|&)"
_LISTED = re.compile(
    rf"\b({_COUNT})[\s-]*{_JOINED}\s*(?=(?:(?:{_COUNT})[\s-]*{_JOINED}\s*){{0,20}}(?:{_COUNT})[\s-]*({_UNITS})s?\b)"
)
"""`7, 14 and` before `28 days`: the unit belongs to each number."""
_WINDOW = re.compile(
    rf"\b(?:last|past|previous|recent|trailing|prior|preceding|latest)\s+(?:the\s+)?(?:(?P<a>{_COUNT})[\s-]+)?"
    rf"(?P<b>{_UNITS})s?\b"
    rf"|\b(?P<c>{_COUNT})[\s-]*(?P<d>{_UNITS})s?\b"
    r"|\b(?P<e>\d{1,4})(?P<f>[hdw])\b"
)
_LETTERS = {"h": "hour", "d": "day", "w": "week"}
_QUANTILE = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)?[\s-]+percentile|\bp(\d{2})\b")
_BINS = re.compile(rf"\b({_COUNT})[\s-]+(?:equal\w*[\s-]+)?(?:\w+[\s-]+)?(?:bin|bucket|band|quantile)s?\b")
_NAMED_BINS = {"tercile": 3, "tertile": 3, "quartile": 4, "quintile": 5, "decile": 10, "ventile": 20}
MAX_BINS = 100
_STEPS = re.compile(rf"\b({_COUNT})\s+(?!(?:{_UNITS})s?\b)[a-z]+\s+(?:ago|back|earlier|before)\b")
_LAGS = re.compile(r"\blags?\s+((?:(?:of|by|and)?[\s,]*\d{1,3}\b[\s,]*)+)")
MAX_STEPS = 1000
_LIMITS: tuple[tuple[Comparison, str], ...] = (
    ("ge", r"at least|no less than|not less than|a minimum of|>=|≥"),
    ("le", r"at most|no more than|not more than|up to|a maximum of|<=|≤"),
    ("gt", r"above|over|exceed\w*|(?:more|greater|older|longer|higher|larger|bigger|slower) than|>"),
    ("lt", r"below|under|(?:less|fewer|younger|shorter|lower|smaller|cheaper|faster) than|<"),
)
_LIMIT = re.compile(
    r"(?<!\w)(?:"
    + "|".join(rf"(?P<{name}>{words})" for name, words in _LIMITS)
    + rf")\s*(?P<number>-?\d{{1,12}}(?:,\d{{3}})*(?:\.\d{{1,9}})?)(?!\d|[\s-]*(?:{_UNITS})s?\b)"
    + r"(?=(?P<after>[^.,;:!?()]{0,60}))"
)
_LABEL = re.compile(
    r"(?:(?<![a-z])(?P<before>[a-z]+)[\s-]+)?(?<![\w.%-])(?P<digits>\d{1,6})(?![\w.%])(?:[\s-]+(?P<after>[a-z]+))?"
)
_AGED = re.compile(r"\b(?:older|younger)\b")
_CLAUSE = re.compile(r"[.;:!?()]")
MAX_LIMITS = 12
"""No human sentence has more, and each is compared with every column. One more is returned, to know of it."""
NEAR_CHARACTERS = 80
NEAR = 6
"""Words before a comparison that are searched for its column."""


class Window(Struct, frozen=True):
    """A time span before "now"."""

    days: float
    words: str
    """The words of the sentence: "last 7 days"."""


class Limit(Struct, frozen=True):
    """A comparison with a number, and the stems around it that may name the compared column."""

    comparison: Comparison
    number: float
    before: tuple[str, ...]
    after: tuple[str, ...]


def windows(text: str) -> tuple[Window, ...]:
    """Return time spans in days, in the order of a lower-case text."""
    found: dict[float, Window] = {}
    for match in _WINDOW.finditer(_LISTED.sub(r"\1 \2 and ", text)):
        count = match["a"] or match["c"] or match["e"] or "1"
        unit = match["b"] or match["d"] or _LETTERS[match["f"]]
        number = _number(count)
        days = round(number * UNIT_DAYS[unit], 4)
        if 0 < days <= 36_525:  # noqa: PLR2004 - the longest window an operation takes
            found.setdefault(days, Window(days, f"last {number} {unit}{'s' if number > 1 else ''}"))
    return tuple(found.values())


def without_windows(text: str) -> str:
    """Replace each time span by a neutral word."""
    return _WINDOW.sub(" recently ", _LISTED.sub(r"\1 \2 and ", text))


def quantiles(text: str) -> tuple[float, ...]:
    """Return percentiles as shares: `95th percentile`, `p95`."""
    found = (int(match[1] or match[2]) / 100 for match in _QUANTILE.finditer(text))
    return tuple(dict.fromkeys(q for q in found if 0 < q < 1))


def bins(text: str) -> int | None:
    """Return the requested number of bins; None if the sentence has none."""
    found = [_number(match[1]) for match in _BINS.finditer(text)]
    found += [number for name, number in _NAMED_BINS.items() if name in text]
    return next((number for number in found if 1 < number <= MAX_BINS), None)


def steps(text: str) -> tuple[int, ...]:
    """Return how many rows to look back: `two readings ago`, `lag 1, 2 and 3`."""
    found = [_number(match[1]) for match in _STEPS.finditer(text)]
    found += [int(number) for match in _LAGS.finditer(text) for number in re.findall(r"\d+", match[1])]
    return tuple(dict.fromkeys(number for number in found if 0 < number <= MAX_STEPS))


def limits(text: str) -> tuple[Limit, ...]:
    """Return comparisons with numbers, except time spans."""
    return tuple(
        _limit(match, text[max(0, match.start() - NEAR_CHARACTERS) : match.start()])
        for match in islice(_LIMIT.finditer(text), MAX_LIMITS + 1)
    )


def without_limits(text: str) -> str:
    """Remove the words of comparisons: `at least 3` does not ask for a minimum."""
    return _LIMIT.sub(" ", text)


def labels(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the other whole numbers and the words beside them: no time spans, limits, quantiles, bins or lags."""
    for pattern in (_WINDOW, _QUANTILE, _BINS, _STEPS, _LAGS):
        text = pattern.sub(" ", text)
    return tuple(
        (match["digits"], stems(f"{match['before'] or ''} {match['after'] or ''}"))
        for match in islice(_LABEL.finditer(without_limits(text)), MAX_LIMITS + 1)
    )


def _limit(match: re.Match[str], before: str) -> Limit:
    comparison: Comparison = next(name for name, _ in _LIMITS if match[name])
    aged = (stem("age"),) if _AGED.search(match[comparison]) else ()
    number = float(match["number"].replace(",", ""))
    words = stems(_CLAUSE.split(before)[-1])[-NEAR:]
    return Limit(comparison, number, (*words, *aged), _first_words(stems(match["after"])))


def _first_words(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words up to the first function word."""
    found: list[str] = []
    for word in words:
        if word in FUNCTION_WORDS:
            break
        found.append(word)
    return tuple(found)


def _number(text: str) -> int:
    return NUMBERS.get(text) or int(text)
