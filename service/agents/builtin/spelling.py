"""Correct typing errors: replace an unknown word that is one edit away from exactly one known word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from service.agents.builtin.lexicon import INTENT_WORDS, KNOWN_WORDS
from service.agents.prompts import Column
from service.agents.words import CONCEPT_VOCABULARY, stem, stems, tokens

_WORD = re.compile(r"(?<![\w'\"“])[a-z]{4,}(?![\w'\"”])")
"""Plain lower-case words; quoted or capitalised words and parts of names are kept as written."""
MIN_LETTERS = 4
MIN_SWAPPED_LETTERS = 5
"""In a shorter word a changed letter usually gives another word (mean, meal), not an error."""


def fix_spelling(text: str, columns: Iterable[Column]) -> str:
    """Correct each word that can only mean one word of the columns or of the request vocabulary."""
    columns = tuple(columns)
    own = frozenset(word for column in columns for word in tokens(column.name) if len(word) >= MIN_LETTERS)
    known = _vocabulary() | own
    held = {part for column in columns for entry in column.values for part in stems(str(entry.value))}
    known_stems = KNOWN_WORDS | held | {stem(word) for word in known}

    def corrected(match: re.Match[str]) -> str:
        word = match[0]
        if stem(word) in known_stems:
            return word
        among = own if len(word) == MIN_LETTERS else known
        near = {stem(each): each for each in sorted(among) if _one_slip(word, each)}
        return next(iter(near.values())) if len(near) == 1 else word

    return _WORD.sub(corrected, text)


@lru_cache
def _vocabulary() -> frozenset[str]:
    asked: Mapping[str, str] = {str(name): words for name, words in INTENT_WORDS.items()}
    words = (word for entries in asked.values() for entry in entries.split() for word in entry.split("_"))
    return frozenset(word for word in (*words, *CONCEPT_VOCABULARY) if len(word) >= MIN_LETTERS)


def _one_slip(word: str, meant: str) -> bool:
    """Check for one missing, doubled or extra letter, or two swapped in longer words. The first letter must match."""
    if word[0] != meant[0] or abs(len(word) - len(meant)) > 1:
        return False
    start = next((at for at, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b), min(len(word), len(meant)))
    if len(word) < len(meant):
        return word[start:] == meant[start + 1 :]
    if len(word) > len(meant):
        return word[start + 1 :] == meant[start:] and len(meant) >= MIN_SWAPPED_LETTERS
    swapped = word[start : start + 2] == meant[start : start + 2][::-1] and word[start + 2 :] == meant[start + 2 :]
    return swapped and len(word) >= MIN_SWAPPED_LETTERS
