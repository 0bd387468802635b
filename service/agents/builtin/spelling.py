"""Correct typing errors: replace an unknown word that is one edit away from exactly one known word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from service.agents.builtin.lexicon import INTENT_WORDS, KNOWN_WORDS
from service.agents.prompts import Column
from service.agents.words import CONCEPT_VOCABULARY, stem, stems, tokens

_WORD = re.compile(r"(?<![\w'\"“])[a-z]{4,}(?![\w'\"”])")
"""Plain lower-case words; quoted or capitalised words and parts of names are kept as written."""
MIN_LETTERS = 4
MIN_SWAPPED_LETTERS = 5
"""In a shorter word a changed letter usually gives another word (mean, meal), not an error."""
MAX_LETTERS = 32
"""Longer words are kept as written."""


class Vocabulary:
    """Hold known words by what remains of each when a letter is left out, so that a misspelt one finds them."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(word for word in words if MIN_LETTERS <= len(word) <= MAX_LETTERS)
        self._without_letter: dict[str, list[str]] = {}
        for word in self._words:
            for rest in _without_letter(word):
                self._without_letter.setdefault(rest, []).append(word)

    def near(self, word: str) -> Iterator[str]:
        """Yield the words that have one letter more or less, or two swapped in longer ones; the first letter stays."""
        yield from self._without_letter.get(word, ())
        yield from (rest for rest in _without_letter(word) if rest in self._words and len(rest) >= MIN_SWAPPED_LETTERS)
        if len(word) >= MIN_SWAPPED_LETTERS:
            yield from (swapped for swapped in _swapped(word) if swapped in self._words)


def fix_spelling(text: str, columns: Iterable[Column]) -> str:
    """Correct each word that can only mean one word of the columns or of the request vocabulary."""
    columns = tuple(columns)
    own_words = frozenset(word for column in columns for word in tokens(column.name) if len(word) >= MIN_LETTERS)
    held = frozenset(part for column in columns for entry in column.values for part in stems(str(entry.value)))
    known_stems = held.union(map(stem, own_words))
    own, common = Vocabulary(own_words), _common()
    corrections: dict[str, str] = {}

    def corrected(word: str) -> str:
        if stem(word) in known_stems or stem(word) in _common_stems() or len(word) > MAX_LETTERS:
            return word
        among = (own,) if len(word) == MIN_LETTERS else (own, common)
        near = {stem(each): each for each in sorted({each for words in among for each in words.near(word)})}
        return next(iter(near.values())) if len(near) == 1 else word

    def replaced(match: re.Match[str]) -> str:
        word = match[0]
        if word not in corrections:
            corrections[word] = corrected(word)
        return corrections[word]

    return _WORD.sub(replaced, text)


@lru_cache
def _common_words() -> frozenset[str]:
    asked: Mapping[str, str] = {str(name): words for name, words in INTENT_WORDS.items()}
    words = (word for entries in asked.values() for entry in entries.split() for word in entry.split("_"))
    return frozenset(word for word in (*words, *CONCEPT_VOCABULARY) if len(word) >= MIN_LETTERS)


@lru_cache
def _common() -> Vocabulary:
    return Vocabulary(_common_words())


@lru_cache
def _common_stems() -> frozenset[str]:
    return KNOWN_WORDS.union(map(stem, _common_words()))


def _without_letter(word: str) -> Iterator[str]:
    """Yield what remains when one letter but the first is left out; at a doubled letter, once."""
    return (word[:at] + word[at + 1 :] for at in range(1, len(word)) if word[at] != word[at - 1] or at == 1)


def _swapped(word: str) -> Iterator[str]:
    """Yield the word with two neighbouring letters swapped, but the first one."""
    return (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        for at in range(1, len(word) - 1)
        if word[at] != word[at + 1]
    )
