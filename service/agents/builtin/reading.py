"""Read a sentence by rules: statistics, event words, groups, windows, purposes, quoted terms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import dropwhile
from typing import Generic, TypeVar

from msgspec import Struct

from service.agents.builtin import numbers
from service.agents.builtin.exclusions import split_off
from service.agents.builtin.lexicon import (
    INTENT_WORDS,
    PURPOSE_WORDS,
    ROW_WORDS,
    STATISTIC_STEMS,
    TEXTUAL,
    Intent,
    Purpose,
)
from service.agents.builtin.numbers import Limit, Window
from service.agents.words import FUNCTION_WORDS, GENERIC_WORDS, Phrase, lower, meanings, stem, stemmed, stems, tokens

_CLAUSE = re.compile(r"[,;:!?()\n]|\.(?=\s|$)")
_PART = re.compile(r"[,;:!?()\n]|\.(?=\s|$)|\b(?:and|plus|as well as)\b")
_DISCIPLINE = re.compile(r"machine[\s-]+learning", re.IGNORECASE)
""""Machine learning" is not about a machine."""
_QUOTED = re.compile(r"[\"“”]([^\"“”]{1,100})[\"“”]|(?<!\w)'([^']{1,100})'(?!\w)")
_TERM = re.compile(r"\b(?:contain|mention|includ)\w*\s+(?:of\s+)?(?:the\s+)?(?:word|term|phrase)s?\s+(\w{2,100})")
_PREDICTED = re.compile(
    r"\b(?:predict|forecast|classify|estimat|model|explain)(?:e|ing|s)?\s+(?:the\s+|whether\s+|if\s+)?"
)
_PER = re.compile(
    r"\b(?:per[\s-]|for each|for every|(?<!by )(?<!within )(?<!across )(?:each|every)|of each|of every|for all"
    r"|for individual|at the level of)\s*\b"
)
_MOST = re.compile(r"\bthe most\b(?=\s*(?:$|[,.;:?!)]|(?:and|or|per|by|of|in|on|to|from)\b))")
"""`uses the most` asks for the most frequent value; `the most recent` does not."""
_LEVEL = re.compile(r"(?<![\w.])(\.*)\b([\w.]+)[\s-]+(?:level|wise)\b")
"""`session-level` means `per session`."""
_BY = re.compile(r"\b(?:by|within|across|grouped by|broken down by)\s+(?:each\s+|every\s+|the\s+)?")
_NAME = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+")
_SPACE = re.compile(r"\s{8,}")
"""Longer white space than a value or a sentence has, which every pattern would try at each of its characters."""
_ARTICLES = frozenset({"the", "a", "an", "their", "its", "his", "her", "all", "each", "every", "unique", "individual"})
MAX_PHRASE = 4
"""Words of a noun phrase that are read."""
MAX_PHRASE_CHARACTERS = 400
"""After a marker or statistic; a noun phrase ends sooner."""
MAX_PHRASE_SPAN = 40
"""Words after a statistic among which its noun phrase is."""
MAX_CLAUSES = 40
"""What follows is one clause, however it is punctuated."""
MAX_TERMS = 12
MAX_PHRASES = 20
"""Noun phrases of one kind that are compared with the columns."""
MAX_WINDOWS = 12
MAX_QUANTILES = 12
MAX_STEPS = 12
"""As the others: more than a request has, and each is tried with every column."""


Name = TypeVar("Name", bound=str)
Found = TypeVar("Found")


class Clause(Struct, frozen=True, dict=True):
    """A part of a sentence; a statistic belongs to the columns named in the same part."""

    words: tuple[str, ...]
    intents: frozenset[Intent]

    @cached_property
    def phrase(self) -> Phrase:
        """Return the words, indexed."""
        return Phrase(self.words)


class Lexicon(Generic[Name]):
    """Find names by the words and phrases that stand for them, in time that grows with the sentence alone."""

    def __init__(self, entries: Mapping[Name, str]) -> None:
        """`entries` lists words, and phrases joined by underscores, for each name."""
        self._by_first: dict[str, list[tuple[tuple[str, ...], Name]]] = {}
        for name, words in entries.items():
            for entry in words.split():
                parts = tuple(stem(part) for part in entry.split("_"))
                self._by_first.setdefault(parts[0], []).append((parts, name))

    def find(self, words: Sequence[str]) -> frozenset[Name]:
        """Return the names that have a word or phrase in the sentence; a phrase may have "the" in between."""
        bare = tuple(word for word in words if word != "the")
        return frozenset((*self._found(words), *self._found(bare)))

    def _found(self, words: Sequence[str]) -> Iterator[Name]:
        for index, word in enumerate(words):
            for parts, name in self._by_first.get(word, ()):
                if tuple(words[index : index + len(parts)]) == parts:
                    yield name


_INTENTS = Lexicon(INTENT_WORDS)
_PURPOSES = Lexicon(PURPOSE_WORDS)


class Reading(Struct, frozen=True, dict=True):
    """Hold a sentence as understood, without its exclusions. All words are stems, except in `spelling`."""

    text: str
    """The text as written."""
    words: tuple[str, ...]
    spelling: dict[str, str]
    """Stem → word as the sentence has it."""
    intents: frozenset[Intent]
    clauses: tuple[Clause, ...]
    purposes: frozenset[Purpose]
    windows: tuple[Window, ...]
    per: tuple[tuple[str, ...], ...]
    """Noun phrases after "per", "for each": what an output row stands for."""
    by: tuple[tuple[str, ...], ...]
    """Noun phrases after "by", "within": what to group by."""
    asks: tuple[tuple[str, ...], ...]
    """Noun phrases that a statistic is asked of: "average blood pressure" gives (blood, pressur)."""
    predicted: tuple[str, ...]
    """The noun phrase after "predict"."""
    terms: tuple[str, ...]
    """Quoted words to search for in text, as written."""
    rows: bool
    """Whether the sentence mentions rows, records or observations."""
    broad: bool
    """Whether it asks for features in general instead of, or besides, particular statistics."""
    excluded: tuple[tuple[str, ...], ...] = ()
    """Noun phrases that no feature may be about."""
    limits: tuple[Limit, ...] = ()
    numbers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Other whole numbers, each with the words beside it."""
    quantiles: tuple[float, ...] = ()
    bins: int | None = None
    steps: tuple[int, ...] = ()
    """How many rows to look back."""
    unread: tuple[str, ...] = ()
    """What of the sentence was left out because there is too much of it, in words."""

    @cached_property
    def sentence(self) -> Phrase:
        """Return the words, indexed."""
        return Phrase(self.words)

    @cached_property
    def lowered(self) -> str:
        """Return the text in lower case, each character at its place."""
        return lower(self.text)

    @cached_property
    def meanings(self) -> frozenset[str]:
        """Return the meaning groups of all words."""
        return meanings(self.sentence.set)

    def says(self, *intents: Intent) -> bool:
        """Check whether the sentence has any of the intents."""
        return not self.intents.isdisjoint(intents)

    def spelled(self, phrase: str) -> str:
        """Write stems, joined by spaces, as the sentence spells them."""
        return " ".join(self.spelling.get(word, word) for word in phrase.split())


def read(text: str) -> Reading:
    """Read a sentence. Never fails: a sentence without a known word counts as broad."""
    text = _SPACE.sub(_short_space, text)
    text, excluded = split_off(_DISCIPLINE.sub("ml", text))
    lowered = " ".join(text.casefold().split())
    bounds = _Bounds()
    windows = bounds.first(numbers.windows(lowered), MAX_WINDOWS, "spans of time")
    rest = numbers.without_windows(lowered) if windows else lowered
    words = stems(text)
    per = _phrases(_LEVEL.sub(r"\1per \2 ", rest), _PER)
    asking = _MOST.sub("most often", numbers.without_limits(rest))
    steps = bounds.first(numbers.steps(rest), MAX_STEPS, "steps back")
    intents = _INTENTS.find(stems(asking)) | (frozenset[Intent]({"lag"}) if steps else frozenset[Intent]())
    return Reading(
        text=text,
        words=words,
        spelling=dict(zip(words, tokens(text), strict=True)),
        intents=intents - {"recency"} if windows and "recency" not in _INTENTS.find(stems(lowered)) else intents,
        clauses=_clauses(asking),
        purposes=_PURPOSES.find(words),
        windows=windows,
        per=bounds.first(tuple(phrase for phrase in per if not _is_row(phrase)), MAX_PHRASES, "things to count by"),
        by=bounds.first(_phrases(rest, _BY), MAX_PHRASES, "things to group by"),
        asks=_asks(asking),
        predicted=next(iter(_phrases(rest, _PREDICTED)), ()),
        terms=bounds.first(_terms(text), MAX_TERMS, "words to search for"),
        rows=any(_is_row(phrase) for phrase in per) or Phrase(words).has((stem("row"), stem("level"))),
        broad=_is_broad(words),
        excluded=excluded,
        limits=bounds.first(numbers.limits(rest), numbers.MAX_LIMITS, "comparisons with numbers"),
        numbers=bounds.first(numbers.labels(rest), numbers.MAX_LIMITS, "other numbers"),
        quantiles=bounds.first(numbers.quantiles(rest), MAX_QUANTILES, "percentiles"),
        bins=numbers.bins(rest),
        steps=steps,
        unread=tuple(bounds.left),
    )


class _Bounds:
    """Cut lists that are too long to be compared with every column, and keep what was cut, in words."""

    def __init__(self) -> None:
        self.left: list[str] = []

    def first(self, found: tuple[Found, ...], limit: int, what: str) -> tuple[Found, ...]:
        """Return the first entries."""
        if len(found) > limit:
            self.left.append(f"{what} after the first {limit}")
        return found[:limit]


def _is_row(phrase: Sequence[str]) -> bool:
    return bool(phrase) and phrase[-1] in ROW_WORDS


def _short_space(space: re.Match[str]) -> str:
    return "\n" if "\n" in space[0] else " "


def _clauses(text: str) -> tuple[Clause, ...]:
    """Split a sentence into clauses; one without a statistic continues the one before it."""
    clauses: list[Clause] = []
    for part in _PART.split(text, MAX_CLAUSES):
        words = stems(part)
        if words:
            own = _INTENTS.find(words)
            clauses.append(Clause(words, own or (clauses[-1].intents if clauses else frozenset())))
    return tuple(clauses)


def _is_broad(words: Sequence[str]) -> bool:
    """Check whether a sentence names features, a purpose or a model, or has no word of its own."""
    wide = stemmed("feature variable predictor attribute signal profile")
    own = [word for word in words if word not in FUNCTION_WORDS and word not in GENERIC_WORDS]
    return not own or not wide.isdisjoint(words)


def _phrases(text: str, marker: re.Pattern[str]) -> tuple[tuple[str, ...], ...]:
    found: dict[tuple[str, ...], None] = {}
    for clause in _CLAUSE.split(text):
        for match in marker.finditer(clause):
            rest = clause[match.end() : match.end() + MAX_PHRASE_CHARACTERS]
            phrase = _column_name(rest) or noun_phrase(tokens(rest))
            if phrase:
                found[phrase] = None
    return tuple(found)


def _column_name(text: str) -> tuple[str, ...]:
    """Return the stems of a first word that is spelled like a column, such as `is_fraud`; otherwise nothing."""
    found = _NAME.match(text)
    return stems(found[0]) if found else ()


def noun_phrase(words: Iterable[str]) -> tuple[str, ...]:
    """Return the stems of the first words up to a function word, without leading articles."""
    phrase: list[str] = []
    for word in words:
        if not phrase and word in _ARTICLES:
            continue
        if stem(word) in FUNCTION_WORDS or len(phrase) == MAX_PHRASE:
            break
        phrase.append(stem(word))
    return tuple(phrase)


def _asks(text: str) -> tuple[tuple[str, ...], ...]:
    """Return the noun phrases after a statistic ("average …", "number of …") or a text word ("sentiment of …")."""
    found: list[tuple[str, ...]] = []
    for clause in _CLAUSE.split(text):
        words = tokens(clause)
        for index, word in enumerate(words):
            if stem(word) in TEXTUAL:
                found.append((stem(word),))
            elif stem(word) in STATISTIC_STEMS:
                phrase = _asked_of(words[index + 1 : index + 1 + MAX_PHRASE_SPAN])
                if phrase:
                    found.append(phrase)
    return tuple(dict.fromkeys(found))


def _asked_of(words: Sequence[str]) -> tuple[str, ...]:
    following = (word for word in words if word != "of") if words[:1] == ("of",) else iter(words)
    return noun_phrase(dropwhile(lambda word: stem(word) in STATISTIC_STEMS, following))


def _terms(text: str) -> tuple[str, ...]:
    quoted = [first or second for first, second in _QUOTED.findall(text)]
    named = _TERM.findall(text.casefold())
    return tuple(dict.fromkeys(term.strip() for term in (*quoted, *named) if term.strip()))
