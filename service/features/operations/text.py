"""Measures of one row's text: length, words, terms, classes of characters."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.expression import Expression, Rows
from service.features.operations.operation import RowOperation
from service.features.operations.parameters import Term, TextColumn
from service.features.operations.values import ValueOperation, flag

COUNTS: dict[str, str] = {
    "digit": "DIGIT_COUNT(:x)",
    "uppercase": "UPPERCASE_COUNT(:x)",
    "punctuation": "PUNCTUATION_COUNT(:x)",
    "space": "SPACE_COUNT(:x)",
    "emoji": "EMOJI_COUNT(:x)",
}
NO_LETTER = r"[^\p{L}\p{N}_]"

COMPARED_CHARACTERS = 1000
"""Of each text; the sets of trigrams take memory for every character."""
RARE_ROWS = 5
"""A value that fewer rows share could name a person."""


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
    """1 where the text contains the term, case-insensitively, as a plain substring or as a word; else 0."""

    column: TextColumn
    term: Term
    whole_word: bool = False

    gives = "integer"
    nulls = "never: a null contains nothing"
    formula = (
        "1 if the term is a substring of the text else 0, both in lower case; a whole word has no letter, digit or _ "
        "beside it"
    )
    source = "substring search"
    example = '{"column": "note", "term": "gift"}'

    def compile(self, rows: Rows) -> Expression:
        """Search for the term."""
        x = rows.text(self.column)
        if not self.whole_word:
            return flag(rows, rows.sql("CONTAINS_TEXT(:x, :term)", x=x, term=self.term))
        pattern = f"(^|{NO_LETTER}){re.escape(self.term.lower())}({NO_LETTER}|$)"
        return flag(rows, rows.sql("MATCHES_TEXT(:x, :pattern)", x=x, pattern=pattern))


class CharacterShare(ValueOperation, frozen=True, tag="character_share"):
    """Share of the text's characters that belong to the class."""

    column: TextColumn
    characters: Literal["digit", "uppercase", "punctuation", "space", "emoji"]

    gives = "number"
    nulls = "where the column is null or the text has no character"
    formula = "characters of the class / all characters"
    source = "Unicode: categories Lu for upper case, P and S for punctuation; pictographs for emoji; digits are 0 … 9"
    example = '{"column": "note", "characters": "digit"}'

    def compile(self, rows: Rows) -> Expression:
        """Divide the class's count by the length."""
        return rows.sql(f"{COUNTS[self.characters]} / NULLIF(TEXT_LENGTH(:x), 0)", x=rows.text(self.column))


class TextNumber(ValueOperation, frozen=True, tag="text_number"):
    """The nth number that is written in a text (the 500 of `500 g`), without a sign."""

    column: TextColumn
    n: Annotated[int, Meta(ge=1, le=20)] = 1

    gives = "number"
    nulls = "where the column is null or the text holds fewer numbers"
    formula = "the nth run of digits, with a point and digits after it where there are"
    source = "decimal numerals with a point"
    example = '{"column": "note"}'

    def compile(self, rows: Rows) -> Expression:
        """Read the number."""
        return rows.sql("NTH_NUMBER(:x, :n)", x=rows.text(self.column), n=self.n)


class TermCount(ValueOperation, frozen=True, tag="term_count"):
    """How often the text holds a term, letter case aside, without overlaps."""

    column: TextColumn
    term: Term

    gives = "integer"
    nulls = "where the column is null"
    formula = "(characters of the text - characters of the text without the term) / characters of the term"
    source = "Python's `str.count` on lower-cased text"
    example = '{"column": "note", "term": "gift"}'

    def compile(self, rows: Rows) -> Expression:
        """Measure how much shorter the text is without the term."""
        x, term = rows.sql("LOWER(:x)", x=rows.text(self.column)), rows.sql("LOWER(:term)", term=self.term)
        text = "CAST((TEXT_LENGTH(:x) - TEXT_LENGTH(REPLACE(:x, :term, ''))) / TEXT_LENGTH(:term) AS BIGINT)"
        return rows.sql(text, x=x, term=term)


class UrlHost(ValueOperation, frozen=True, tag="url_host"):
    """The host of a URL, in lower case, without a leading www."""

    column: TextColumn

    gives = "string"
    publishes_values = True
    nulls = "where the column is null or holds no URL with a host"
    formula = "the authority between // and the next / ? # or :, without user and port"
    source = "RFC 3986, section 3.2.2"
    example = '{"column": "note"}'

    def compile(self, rows: Rows) -> Expression:
        """Take the host."""
        return rows.sql("NULLIF(URL_HOST(:x), '')", x=rows.text(self.column))


class UrlPathDepth(ValueOperation, frozen=True, tag="url_path_depth"):
    """How many segments the path of a URL, or a path, has."""

    column: TextColumn

    gives = "integer"
    nulls = "where the column is null"
    formula = "number of runs of characters other than / between the host and ? or #"
    source = "RFC 3986, section 3.3, without empty segments"
    example = '{"column": "note"}'

    def compile(self, rows: Rows) -> Expression:
        """Count the segments."""
        return rows.sql("CAST(PATH_DEPTH(:x) AS BIGINT)", x=rows.text(self.column))


class TextSimilarity(ValueOperation, frozen=True, tag="text_similarity"):
    """How alike two texts are: shared three-character pieces over all of theirs, letter case aside."""

    left: TextColumn
    right: TextColumn

    gives = "number"
    cost = "sort"
    nulls = "where either text is null"
    formula = (
        "the Jaccard index of the sets of trigrams of the texts, each with two blanks before and one after it; "
        f"characters after the {COMPARED_CHARACTERS}th do not count"
    )
    source = "PostgreSQL's pg_trgm, over whole texts instead of words"
    example = '{"left": "note", "right": "country"}'

    def compile(self, rows: Rows) -> Expression:
        """Compare the sets of trigrams."""
        shown = f"'  ' || LOWER(SUBSTRING(:x, 1, {COMPARED_CHARACTERS})) || ' '"
        a, b = (rows.derived(rows.sql(shown, x=rows.text(name))) for name in (self.left, self.right))
        text = "CASE WHEN NOT :a IS NULL AND NOT :b IS NULL THEN TRIGRAM_SIMILARITY(:a, :b) END"
        return rows.sql(text, a=a, b=b)


class TermWeight(RowOperation, frozen=True, tag="term_weight"):
    """TF-IDF of one term: how often the text holds it, weighed by how few of the texts do."""

    column: TextColumn
    term: Term

    grain = "row"
    sees = "dataset"
    fits = "statistics"
    cost = "scan"
    publishes_values = False
    follows_calendar = False
    gives = "number"
    nulls = "where the column is null"
    formula = "count of the term · (ln((1 + n) / (1 + d)) + 1), n known texts, d of them with the term"
    source = "scikit-learn's `TfidfTransformer` with smooth_idf, before normalisation"
    example = '{"column": "note", "term": "gift"}'

    def compile(self, rows: Rows) -> Expression:
        """Weigh the count by the share of texts that hold the term."""
        x, term = rows.text(self.column), self.term
        count = TermCount(self.column, term).compile(rows)
        texts = rows.over(None, "COUNT(:x)", x=x)
        holding = rows.over(None, "COUNT(CASE WHEN CONTAINS_TEXT(:x, :term) THEN 1 END)", x=x, term=term)
        weight = ":count * (LN((1.0 + :texts) / (1.0 + :holding)) + 1)"
        return rows.sql(weight, count=count, texts=texts, holding=holding)


class EmailDomain(RowOperation, frozen=True, tag="email_domain"):
    """The domain of an e-mail address where at least five rows share it, else `other`."""

    column: TextColumn

    grain = "row"
    sees = "dataset"
    fits = "categories"
    cost = "sort"
    publishes_values = False
    follows_calendar = False
    masks_rare = True
    gives = "string"
    nulls = "where the column is null or holds no address"
    formula = (
        "what follows the last @, in lower case; rare domains, which could name a person, are `other` "
        "(not in computed columns)"
    )
    source = "RFC 5322, section 3.4.1"
    example = '{"column": "note"}'

    def compile(self, rows: Rows) -> Expression:
        """Name the domain unless it is rare."""
        domain = rows.derived(self.intermediate(rows))
        sharing = "CASE WHEN COUNT(*) OVER (PARTITION BY :d) >= :rare THEN :d ELSE 'other' END"
        return rows.sql(f"CASE WHEN NOT :d IS NULL THEN {sharing} END", d=domain, rare=RARE_ROWS)

    def intermediate(self, rows: Rows) -> Expression:
        """Name the domain."""
        return rows.sql("NULLIF(EMAIL_DOMAIN(:x), '')", x=rows.text(self.column))
