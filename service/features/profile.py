"""Build a profile from raw statistics: each column's logical type, whether it is personal, and what may be shown.

The rules look at names, types and counts only. Where two could hold, the first one written here does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct, field

from service.features.model import ColumnProfile, LogicalType, Profile, ValueCount
from service.features.naming import IDENTIFIER_HEADS, IDENTIFIER_HINTS, head_of
from service.features.operations import Scalar
from service.features.personal import (
    gives_away,
    is_personal_date,
    is_personal_number,
    is_personal_text,
)

ALMOST_ALL = 0.95
"""Share of the values that must have the shape of a UUID or digest: some room for a stray value."""
NEARLY_UNIQUE = 0.97
"""An approximate distinct count is off by about 2 %; from here on it may stand for "all different"."""
MIN_ROWS_UNIQUE = 20
"""In fewer rows all values of any column may differ by chance."""
MIN_ROWS_SEQUENCE = 10
"""Rows from which on 0, 1, 2 … or 1, 2, 3 … without a gap is a row number."""

VERY_FEW_CATEGORIES = 10
"""At most so many distinct values are categories as soon as one of them repeats, even in a table of a dozen rows."""
FEW_CATEGORIES = 50
"""At most so many are when each comes twice on average: states, regions of a country, months fit in."""
CATEGORY_SHARE = 0.05
"""With more categories, each must come 20 times on average, enough for a statistic of its own."""
MAX_CATEGORIES = 10_000
"""Beyond, not even a frequency table of them is small."""
CATEGORY_WORDS = 6.0
CATEGORY_LENGTH = 60.0
"""Categories are names of a few words; longer values are sentences, repeated or not."""
ONE_WORD = 1.05
"""Mean words of a column of single words, with a stray blank allowed."""

SHOWN_CHARACTERS = 200
"""Longer values are not shown: they would be texts, and a predicate could not name them."""


class RawColumn(Struct, frozen=True, kw_only=True):
    """What the engine measured of one column; statistics are over its non-null values."""

    name: str
    position: int
    physical_type: str
    non_null: int
    given_type: LogicalType | None = None
    """The logical type that the client gives the column; None when the rules here decide."""
    is_value: bool = False
    """The client says that the column is no key."""
    distinct: int = 0
    exact: bool = True
    """Whether `distinct` was counted, rather than estimated."""
    minimum: Scalar | None = None
    maximum: Scalar | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    quantiles: dict[str, float] = field(default_factory=dict[str, float])
    top_values: tuple[ValueCount, ...] = ()
    examples: tuple[str, ...] = ()
    frequent_terms: tuple[ValueCount, ...] = ()
    mean_length: float | None = None
    longest: int | None = None
    """Most characters of a text column's value."""
    mean_words: float | None = None
    non_finite: int = 0
    """NaN and infinite values."""
    shapes: dict[str, float] = field(default_factory=dict[str, float])
    """Share of the values of each shape of `personal` (text columns)."""

    @property
    def distinct_ratio(self) -> float:
        """Distinct values over values; 0 without values."""
        return self.distinct / self.non_null if self.non_null else 0.0

    @property
    def unique(self) -> bool:
        """Whether no value comes twice, as far as the count can tell."""
        return self.non_null > 0 and self.distinct_ratio >= (1.0 if self.exact else NEARLY_UNIQUE)


def build_profile(row_count: int, columns: Sequence[RawColumn], notes: Sequence[str]) -> Profile:
    """The profile of a table of `row_count` rows; equal tables have equal fingerprints."""
    profiles = tuple(_column_profile(column, row_count) for column in columns)
    keys = tuple((column.name,) for column in columns if is_candidate_key(column, row_count))
    return Profile(row_count, profiles, _fingerprint(row_count, columns), tuple(notes), keys)


def is_candidate_key(column: RawColumn, row_count: int) -> bool:
    """Whether the column alone tells every row apart, by an exact count; a measure or a flag is no key."""
    whole = column.physical_type not in {"DOUBLE", "BOOLEAN"} and column.non_null == row_count > 0
    return whole and column.exact and column.distinct == row_count


def logical_type(column: RawColumn, row_count: int) -> LogicalType:
    """What a column is for the planner.

    A column of integers that takes both 0 and 1 and nothing else is `boolean` (a flag such as `clicked`), although it
    stays BIGINT, so that rates, sums and one-hot predicates all suit it. A column without values is `text`.
    """
    if column.non_null == 0:
        return "text"
    if column.physical_type == "BOOLEAN":
        return "boolean"
    if column.physical_type == "TIMESTAMP":
        return "datetime"
    if column.physical_type == "DOUBLE":
        return "numeric"
    if column.physical_type == "BIGINT":
        return _integer_type(column, row_count)
    return _text_type(column)


def is_personal(column: RawColumn) -> bool:
    """Whether the column looks like personal data; a measure (DOUBLE or BOOLEAN) never does."""
    if column.physical_type == "VARCHAR":
        return is_personal_text(column.name, column.shapes)
    if column.physical_type == "TIMESTAMP":
        return is_personal_date(column.name)
    if column.physical_type == "BIGINT" and isinstance(column.minimum, int):
        return is_personal_number(column.name, minimum=column.minimum, distinct_ratio=column.distinct_ratio)
    return False


def _column_profile(column: RawColumn, row_count: int) -> ColumnProfile:
    personal = is_personal(column)
    shown = column if not personal else _withheld(column)
    return ColumnProfile(
        name=column.name,
        position=column.position,
        logical_type=column.given_type or logical_type(column, row_count),
        physical_type=column.physical_type,
        null_ratio=1 - column.non_null / row_count if row_count else 1.0,
        distinct_count=column.distinct,
        minimum=shown.minimum,
        maximum=shown.maximum,
        mean=shown.mean,
        standard_deviation=shown.standard_deviation,
        quantiles=shown.quantiles,
        top_values=tuple(value for value in shown.top_values if _may_be_shown(value.value, column)),
        examples=tuple(value for value in shown.examples if _may_be_shown(value, column)),
        frequent_terms=tuple(term for term in shown.frequent_terms if _may_be_shown(term.value, column)),
        mean_length=column.mean_length,
        non_finite_ratio=column.non_finite / column.non_null if column.non_null else 0.0,
        personal=personal,
        distinct_is_approximate=not column.exact,
    )


def _withheld(column: RawColumn) -> RawColumn:
    """The column without anything that could be traced to one value."""
    return RawColumn(
        name=column.name, position=column.position, physical_type=column.physical_type, non_null=column.non_null
    )


def _may_be_shown(value: str, column: RawColumn) -> bool:
    return len(value) <= SHOWN_CHARACTERS and not (column.physical_type == "VARCHAR" and gives_away(value))


def _fingerprint(row_count: int, columns: Sequence[RawColumn]) -> str:
    return hashlib.sha256(msgspec.json.encode((row_count, tuple(columns)), order="deterministic")).hexdigest()


def _integer_type(column: RawColumn, row_count: int) -> LogicalType:
    if (column.minimum, column.maximum, column.distinct) == (0, 1, 2):
        return "boolean"
    if column.is_value:
        return "integer"
    if head_of(column.name) in IDENTIFIER_HEADS or _is_sequence(column, row_count):
        return "identifier"
    if head_of(column.name) in IDENTIFIER_HINTS and column.unique and column.non_null >= MIN_ROWS_UNIQUE:
        return "identifier"
    return "integer"


def _text_type(column: RawColumn) -> LogicalType:
    words, length = column.mean_words or 0.0, column.mean_length or 0.0
    if not column.is_value and _is_text_key(column, words, length):
        return "identifier"
    few = column.distinct <= _most_few(column.non_null) and column.distinct < column.non_null
    share = column.distinct_ratio <= CATEGORY_SHARE and column.distinct <= MAX_CATEGORIES
    return "categorical" if (few or share) and words <= CATEGORY_WORDS and length <= CATEGORY_LENGTH else "text"


def _is_text_key(column: RawColumn, words: float, length: float) -> bool:
    """Whether texts are keys: by their shape, by the column's name, or as codes."""
    if any(column.shapes.get(shape, 0.0) >= ALMOST_ALL for shape in ("uuid", "digest")):
        return True
    if head_of(column.name) in IDENTIFIER_HEADS and length <= CATEGORY_LENGTH and words <= CATEGORY_WORDS:
        return True
    return _is_code(column, words, length)


def _most_few(values: int) -> int:
    """How many distinct values are few among so many values."""
    return max(VERY_FEW_CATEGORIES, min(FEW_CATEGORIES, values // 2))


def _is_code(column: RawColumn, words: float, length: float) -> bool:
    """Single words, all different, with digits, of one length, or so by name: order numbers, SKUs, IATA codes."""
    single = words <= ONE_WORD and length <= CATEGORY_LENGTH
    digits = column.shapes.get("with_digit", 0.0) >= ALMOST_ALL
    telling = digits or column.longest == column.mean_length or head_of(column.name) in IDENTIFIER_HINTS
    return single and telling and column.unique and column.non_null >= MIN_ROWS_UNIQUE


def _is_sequence(column: RawColumn, row_count: int) -> bool:
    """0 … n-1 or 1 … n, each once: a row number that came with the file."""
    if not isinstance(column.minimum, int) or not isinstance(column.maximum, int):
        return False
    whole = column.non_null == row_count >= MIN_ROWS_SEQUENCE and column.unique
    return whole and column.minimum in {0, 1} and column.maximum - column.minimum == row_count - 1
