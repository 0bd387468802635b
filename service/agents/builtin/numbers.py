"""The numbers of a sentence: spans of time, quantiles, bins, steps back, limits."""

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
    rf"\b({_COUNT})[\s-]*{_JOINED}\s*(?=(?:(?:{_COUNT})[\s-]*{_JOINED}\s*)*(?:{_COUNT})[\s-]*({_UNITS})s?\b)"
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
MOST_BINS = 100
_STEPS = re.compile(rf"\b({_COUNT})\s+(?!(?:{_UNITS})s?\b)[a-z]+\s+(?:ago|back|earlier|before)\b")
_LAGS = re.compile(r"\blags?\s+((?:(?:of|by|and)?[\s,]*\d{1,3}\b[\s,]*)+)")
MOST_STEPS = 1000
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
    r"(?:(?P<before>[a-z]+)[\s-]+)?(?<![\w.%-])(?P<digits>\d{1,6})(?![\w.%])(?:[\s-]+(?P<after>[a-z]+))?"
)
_AGED = re.compile(r"\b(?:older|younger)\b")
_CLAUSE = re.compile(r"[.;:!?()]")
MOST_LIMITS = 12
"""No sentence of a person states more, and each is compared with every column."""
NEAR_CHARACTERS = 80
NEAR = 6
"""Words before a limit among which its column is looked for."""


class Window(Struct, frozen=True):
    """A span of time before "now"."""

    days: float
    words: str
    """As the sentence has it: "last 7 days"."""


class Limit(Struct, frozen=True):
    """A comparison with a number, and the stems around it that may name what is compared."""

    comparison: Comparison
    number: float
    before: tuple[str, ...]
    after: tuple[str, ...]


def windows(text: str) -> tuple[Window, ...]:
    """Spans of time in days, in the order of a lower-case text."""
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
    """The text with a plain word in place of each span of time."""
    return _WINDOW.sub(" recently ", _LISTED.sub(r"\1 \2 and ", text))


def quantiles(text: str) -> tuple[float, ...]:
    """Percentiles as shares: `95th percentile`, `p95`."""
    found = (int(match[1] or match[2]) / 100 for match in _QUANTILE.finditer(text))
    return tuple(dict.fromkeys(q for q in found if 0 < q < 1))


def bins(text: str) -> int | None:
    """How many bins are asked for; None when the sentence does not say."""
    found = [_number(match[1]) for match in _BINS.finditer(text)]
    found += [number for name, number in _NAMED_BINS.items() if name in text]
    return next((number for number in found if 1 < number <= MOST_BINS), None)


def steps(text: str) -> tuple[int, ...]:
    """Rows to look back: `two readings ago`, `lag 1, 2 and 3`."""
    found = [_number(match[1]) for match in _STEPS.finditer(text)]
    found += [int(number) for match in _LAGS.finditer(text) for number in re.findall(r"\d+", match[1])]
    return tuple(dict.fromkeys(number for number in found if 0 < number <= MOST_STEPS))


def limits(text: str) -> tuple[Limit, ...]:
    """Comparisons with numbers, spans of time aside."""
    return tuple(
        _limit(match, text[max(0, match.start() - NEAR_CHARACTERS) : match.start()])
        for match in islice(_LIMIT.finditer(text), MOST_LIMITS)
    )


def without_limits(text: str) -> str:
    """The text without the words of comparison: `at least 3` asks for no minimum."""
    return _LIMIT.sub(" ", text)


def labels(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Whole numbers that are no span of time, limit, quantile, number of bins or steps, with the words beside them."""
    for pattern in (_WINDOW, _QUANTILE, _BINS, _STEPS, _LAGS):
        text = pattern.sub(" ", text)
    return tuple(
        (match["digits"], stems(f"{match['before'] or ''} {match['after'] or ''}"))
        for match in islice(_LABEL.finditer(without_limits(text)), MOST_LIMITS)
    )


def _limit(match: re.Match[str], before: str) -> Limit:
    comparison: Comparison = next(name for name, _ in _LIMITS if match[name])
    aged = (stem("age"),) if _AGED.search(match[comparison]) else ()
    number = float(match["number"].replace(",", ""))
    words = stems(_CLAUSE.split(before)[-1])[-NEAR:]
    return Limit(comparison, number, (*words, *aged), _first_words(stems(match["after"])))


def _first_words(words: Iterable[str]) -> tuple[str, ...]:
    """Up to the first function word."""
    found: list[str] = []
    for word in words:
        if word in FUNCTION_WORDS:
            break
        found.append(word)
    return tuple(found)


def _number(text: str) -> int:
    return NUMBERS.get(text) or int(text)
