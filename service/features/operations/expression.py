"""How an operation says what it computes: SQL text with placeholders, filled in by the engine's compiler.

The text of an operation is constant and in standard SQL: arithmetic, CASE, aggregates, window functions. What standard
SQL lacks, or engines spell differently, is one of `PRIMITIVES`. Columns, conditions and literals enter in place of a
`:name`; no name or value of a client is ever formatted into the text. The engine gives the scope, and with it the
expressions; here they are opaque.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NewType, Protocol

from service.features.operations.parameters import Days, Where

Expression = NewType("Expression", object)
"""A piece of the statement, made by a scope."""
Part = Expression | float | str
"""What takes the place of a `:name`: an expression, or a literal number or text."""
Group = str | Sequence[str] | None
"""The column, or columns, whose values rows of one group share; None where all rows are one group."""

DAY = 86_400_000_000
"""Microseconds: divides a difference of instants into days."""

PRIMITIVES: dict[str, tuple[tuple[str, ...], str]] = {
    "EPOCH_US": (("t",), "microseconds from 1970-01-01T00:00:00Z to the datetime, an integer"),
    "HOUR_OF_DAY": (("t",), "0 … 23"),
    "ISO_WEEKDAY": (("t",), "Monday 1 … Sunday 7 (ISO 8601)"),
    "DAY_OF_MONTH": (("t",), "1 … 31"),
    "DAY_OF_YEAR": (("t",), "1 … 366"),
    "ISO_WEEK": (("t",), "week of the ISO 8601 year, 1 … 53"),
    "MONTH_OF_YEAR": (("t",), "1 … 12"),
    "DAYS_IN_MONTH": (("t",), "28 … 31, days of the datetime's month"),
    "QUARTER_OF_YEAR": (("t",), "1 … 4"),
    "YEAR_OF": (("t",), "the calendar year"),
    "DATE_OF": (("t",), "the datetime's calendar day, in UTC"),
    "IS_FINITE": (("x",), "whether a number is neither NaN nor infinite"),
    "MEDIAN": (("x",), "aggregate: the middle value, or the mean of the two in the middle"),
    "QUANTILE": (("x", "q"), "aggregate: the continuous quantile, interpolated linearly (type 7)"),
    "SLOPE": (("y", "x"), "aggregate: the least-squares slope of y over x"),
    "FIRST_BY": (("x", "instant", "row"), "aggregate: x where (instant, row) is least"),
    "LAST_BY": (("x", "instant", "row"), "aggregate: x where (instant, row) is greatest"),
    "TEXT_LENGTH": (("x",), "characters (code points) of a text, an integer"),
    "WORD_COUNT": (("x",), "runs of characters that are no white space, an integer"),
    "CONTAINS_TEXT": (("x", "term"), "whether a text holds the term as a plain substring, letter case aside"),
    "MATCHES_TEXT": (("x", "pattern"), "whether a text in lower case holds a match of a regular expression"),
    "NTH_NUMBER": (("x", "n"), "the nth run of digits of a text, with a decimal point and digits, as DOUBLE or null"),
    "EMOJI_COUNT": (("x",), "pictographs of a text"),
    "DIGIT_COUNT": (("x",), "characters 0 … 9 of a text"),
    "UPPERCASE_COUNT": (("x",), "upper-case letters of a text (Unicode Lu)"),
    "PUNCTUATION_COUNT": (("x",), "punctuation marks and symbols of a text (Unicode P and S)"),
    "SPACE_COUNT": (("x",), "white-space characters of a text"),
    "URL_HOST": (("x",), "host of a URL in lower case, without www.; an empty text where there is none"),
    "PATH_DEPTH": (("x",), "segments of the path of a URL or path, an integer"),
    "EMAIL_DOMAIN": (("x",), "what follows the last @ in lower case; an empty text where there is none"),
    "TRIGRAM_SIMILARITY": (("a", "b"), "shared trigrams of two texts of three characters or more over all of theirs"),
    "DISTINCT_WORD_COUNT": (("x",), "different words of a text, letter case aside, an integer"),
    "LONGEST_WORD": (("x",), "characters of a text's longest word, an integer; 0 without a word"),
    "FIRST_WORD": (("x",), "a text's first word; an empty text where there is none"),
    "LAST_WORD": (("x",), "a text's last word; an empty text where there is none"),
    "DISTINCT_IN_SPAN": (
        ("x", "key", "instant", "span"),
        "different values of x over the rows of the same key at instants from `span` microseconds before to 1 before",
    ),
}
"""Functions beyond standard SQL that operations may call: arguments and meaning. Each dialect spells every one."""


IN_ORDER = "ORDER BY :instant, :row"
WINDOWS: dict[str, str] = {
    "OVER earlier": IN_ORDER,
    "OVER before": f"{IN_ORDER} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING",
    "OVER so_far": f"{IN_ORDER} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    "OVER last_before": f"{IN_ORDER} ROWS BETWEEN :steps PRECEDING AND 1 PRECEDING",
    "OVER last_so_far": f"{IN_ORDER} ROWS BETWEEN :steps PRECEDING AND CURRENT ROW",
    "OVER after": f"{IN_ORDER} ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING",
    "OVER all_rows": f"{IN_ORDER} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
}
"""Windows that operations may name, each over an entity's rows in order of (time, row id).

`earlier` is for LAG and numbering, which have no frame. A row sees its future in `after` and `all_rows`, which are for
what is aggregated to entities.
"""


class Columns(Protocol):
    """The dataset's columns, in the type that an operation needs."""

    def raw(self, name: str) -> Expression:
        """The column as it is."""
        ...

    def number(self, name: str) -> Expression:
        """The column as a double, so that sums of integers cannot overflow."""
        ...

    def finite(self, name: str) -> Expression:
        """The column as a double, null where it is NaN or infinite: for what would hide that (bins, flags, bounds)."""
        ...

    def text(self, name: str) -> Expression:
        """The column as text."""
        ...

    def instant(self, name: str) -> Expression:
        """The datetime column as microseconds since 1970."""
        ...

    def comparable(self, left: str, right: str) -> tuple[Expression, Expression]:
        """Two columns in one type: as numbers or as instants when both are, otherwise as text."""
        ...

    def condition(self, where: Where) -> Expression:
        """The predicates' conjunction; a null fulfils `is_null` alone."""
        ...

    def sql(self, text: str, **parts: Part) -> Expression:
        """The constant `text`, each `:name` in it replaced by the part of that name."""
        ...

    def derived(self, value: Expression) -> Expression:
        """The value of each row as a column, so that a window or an aggregate may be taken over it.

        SQL allows no window within a window or an aggregate; a value that holds one goes through here.
        """
        ...


class Rows(Columns, Protocol):
    """Scope of the row grain: one value for each row of the dataset."""

    def over(self, group: Group, text: str, **parts: Part) -> Expression:
        """The aggregate `text` over the row's group, null where the group is null; with None over all rows."""
        ...

    def history(self, text: str, entity: str | None, time: str, **parts: Part) -> Expression:
        """`text` with windows of `WINDOWS` over the entity's rows, or over all rows when the entity is None.

        Null for a row without entity or time. `:instant` is the row's time in microseconds.
        """
        ...

    def recent(
        self,
        text: str,
        entity: str | None,
        time: str,
        days: Days | None,
        before: Days | None = None,
        *,
        include_row: bool = False,
        **parts: Part,
    ) -> Expression:
        """`text` with the window `OVER earlier`: the entity's rows in the `days` that end before this row's instant.

        With None, those at any earlier instant. With `before`, the span ends so many days before the instant, that end
        included. Rows at the same instant are in it when the row is included. Null for a row without entity or time.
        """
        ...

    def row_id(self) -> Expression:
        """The row's position in the source, from 0."""
        ...


class Entities(Columns, Protocol):
    """Scope of the entity grain: one value for each entity, from all its rows."""

    def rows(self, text: str, where: Where = (), last_days: Days | None = None, **parts: Part) -> Expression:
        """The aggregate `text` over the entity's rows that meet the predicates and lie in the dataset's last days."""
        ...

    def sequence(self, text: str, time: str, where: Where = (), **parts: Part) -> Expression:
        """`text` with windows of `WINDOWS` over those of the entity's rows that have a time and meet the predicates.

        A column of each row, to be aggregated by `rows` with the same predicates; null in the other rows. `:instant` is
        the row's time in microseconds.
        """
        ...

    def grouped(self, aggregate: str, group: Expression, **parts: Part) -> Expression:
        """The aggregate over those of the entity's rows that share the group, as a column of each of them."""
        ...

    def first_of(self, group: Expression) -> Expression:
        """1 in the first of the entity's rows that share the group, null in the others, as a column."""
        ...

    def ranked(self, value: Expression) -> Expression:
        """The row's place, from 1, among the entity's rows in rising order of the value, nulls last, as a column."""
        ...

    def lies_between(self, time: str, from_days: float, to_days: float) -> Expression:
        """Whether the row lies in the span (as of - from_days, as of - to_days]."""
        ...

    def as_of(self) -> Expression:
        """The dataset's latest instant, in microseconds since 1970."""
        ...

    def is_recent(self, time: str, days: Days) -> Expression:
        """Whether the row lies in the dataset's last days: (as of - days, as of]."""
        ...

    def first_value(self, column: str, time: str, met: Expression | None = None) -> Expression:
        """The earliest non-null value by (time, row id) among the rows that meet the condition."""
        ...

    def last_value(self, column: str, time: str, met: Expression | None = None) -> Expression:
        """The latest non-null value by (time, row id) among the rows that meet the condition."""
        ...

    def inventory(
        self,
        column_name: str,
        text: str,
        measures: Mapping[str, str] = ...,
        where: Where = (),
        last_days: Days | None = None,
        **parts: Part,
    ) -> Expression:
        """The aggregate `text` over the entity's categories among the rows that count; nulls are left out.

        In it `:v` is the category, and each measure's `:name` the aggregate of that text over the category's rows. In
        the measures `:k` is the entity and `:v` the category, for windows over the aggregates.
        """
        ...

    def categories(self, column: str, text: str) -> Expression:
        """The aggregate `text` over the entity's categories, where `:n` counts the rows of one; nulls are left out."""
        ...

    def most_frequent(self, column: str) -> Expression:
        """The entity's most frequent category, the smallest of equals."""
        ...
