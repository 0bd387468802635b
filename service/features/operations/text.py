"""Measures of one row's text: length, words, terms, classes of characters."""

from __future__ import annotations

from typing import Literal

from service.features.operations.expression import Expression, Rows
from service.features.operations.parameters import Term, TextColumn
from service.features.operations.values import ValueOperation, flag

COUNTS: dict[str, str] = {
    "digit": "DIGIT_COUNT(:x)",
    "uppercase": "UPPERCASE_COUNT(:x)",
    "punctuation": "PUNCTUATION_COUNT(:x)",
    "space": "SPACE_COUNT(:x)",
}


class TextLength(ValueOperation, frozen=True, tag="text_length"):
    """Characters in the text."""

    column: TextColumn

    gives = "integer"
    nulls = "where the column is null"
    formula = "number of code points"
    source = "Unicode code points"
    example = '{"column": "note"}'

    def compile(self, rows: Rows) -> Expression:
        """Count the characters."""
        return rows.sql("CAST(TEXT_LENGTH(:x) AS BIGINT)", x=rows.text(self.column))


class WordCount(ValueOperation, frozen=True, tag="word_count"):
    """Words (runs of non-space) in the text."""

    column: TextColumn

    gives = "integer"
    nulls = "where the column is null"
    formula = "number of runs of characters that are no white space"
    source = "the word count of POSIX `wc -w`"
    example = '{"column": "note"}'

    def compile(self, rows: Rows) -> Expression:
        """Count the words."""
        return rows.sql("CAST(WORD_COUNT(:x) AS BIGINT)", x=rows.text(self.column))


class TextContains(ValueOperation, frozen=True, tag="text_contains"):
    """1 where the text contains the term, case-insensitively, as a plain substring; else 0."""

    column: TextColumn
    term: Term

    gives = "integer"
    nulls = "never: a null contains nothing"
    formula = "1 if the term is a substring of the text else 0, both in lower case"
    source = "substring search"
    example = '{"column": "note", "term": "gift"}'

    def compile(self, rows: Rows) -> Expression:
        """Search for the term."""
        return flag(rows, rows.sql("CONTAINS_TEXT(:x, :term)", x=rows.text(self.column), term=self.term))


class CharacterShare(ValueOperation, frozen=True, tag="character_share"):
    """Share of the text's characters that belong to the class."""

    column: TextColumn
    characters: Literal["digit", "uppercase", "punctuation", "space"]

    gives = "number"
    nulls = "where the column is null or the text has no character"
    formula = "characters of the class / all characters"
    source = "Unicode general categories: Lu for upper case, P and S for punctuation; 0 … 9 for digits"
    example = '{"column": "note", "characters": "digit"}'

    def compile(self, rows: Rows) -> Expression:
        """Divide the class's count by the length."""
        return rows.sql(f"{COUNTS[self.characters]} / NULLIF(TEXT_LENGTH(:x), 0)", x=rows.text(self.column))
