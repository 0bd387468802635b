"""From raw statistics to the profile: each rule just below and just above its threshold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.features.model import ColumnProfile, LogicalType, ValueCount
from service.features.profile import (
    IDENTIFIER_HEADS,
    IDENTIFIER_HINTS,
    RawColumn,
    build_profile,
    is_personal,
    logical_type,
)

MANY_ROWS = 1_000_000
"""More rows than any column here has values, so that none is a row number by chance."""


def words(distinct: int, non_null: int, **changes: Any) -> RawColumn:
    """A text column of short names."""
    shape: dict[str, Any] = {"mean_words": 2.0, "mean_length": 12.0, "longest": 20}
    return RawColumn(
        **{"name": "x", "position": 0, "physical_type": "VARCHAR", "distinct": distinct, "non_null": non_null}
        | shape
        | changes
    )


def codes(values: int, **changes: Any) -> RawColumn:
    """A text column of single words with digits, all different, of several lengths."""
    shape: dict[str, Any] = {"mean_words": 1.0, "mean_length": 7.5, "longest": 9, "shapes": {"with_digit": 1.0}}
    counts = {"distinct": values, "non_null": values} | changes
    return words(**(shape | counts))


def integers(minimum: int, maximum: int, distinct: int, non_null: int, **changes: Any) -> RawColumn:
    """A BIGINT column."""
    return RawColumn(
        **{
            "name": "x",
            "position": 0,
            "physical_type": "BIGINT",
            "minimum": minimum,
            "maximum": maximum,
            "distinct": distinct,
            "non_null": non_null,
        }
        | changes
    )


def kind(column: RawColumn, rows: int = MANY_ROWS) -> LogicalType:
    """The logical type in a table of so many rows."""
    return logical_type(column, rows)


@pytest.mark.parametrize(
    ("physical", "expected"),
    [("BOOLEAN", "boolean"), ("TIMESTAMP", "datetime"), ("DOUBLE", "numeric"), ("BIGINT", "integer")],
)
def test_the_physical_type_decides_where_it_can(physical: str, expected: LogicalType) -> None:
    """Flags, instants and measures are what they are, whatever they are called."""
    column = RawColumn(name="value", position=0, physical_type=physical, non_null=5, distinct=5)
    assert kind(column) == expected


@pytest.mark.parametrize("physical", ["BOOLEAN", "TIMESTAMP", "DOUBLE", "BIGINT", "VARCHAR"])
def test_a_column_without_values_is_text(physical: str) -> None:
    """Nothing can be computed from it, and nothing is promised; not even an id's name changes that."""
    assert kind(RawColumn(name="id", position=0, physical_type=physical, non_null=0)) == "text"


@pytest.mark.parametrize(
    ("minimum", "maximum", "distinct", "expected"),
    [(0, 1, 2, "boolean"), (0, 0, 1, "integer"), (1, 1, 1, "integer"), (1, 2, 2, "integer"), (-1, 1, 2, "integer"),
     (0, 2, 2, "integer")],
)  # fmt: skip
def test_zero_and_one_together_are_a_flag(minimum: int, maximum: int, distinct: int, expected: LogicalType) -> None:
    """Both must occur, and nothing else."""
    assert kind(integers(minimum, maximum, distinct, 500)) == expected


def test_a_flag_is_a_flag_before_it_is_an_identifier() -> None:
    """Of two rules that hold, the first counts."""
    assert kind(integers(0, 1, 2, 500, name="primary_key")) == "boolean"


@pytest.mark.parametrize("head", sorted(IDENTIFIER_HEADS))
def test_a_key_by_name_may_repeat(head: str) -> None:
    """`user_id` in a log of events is an identifier however often it repeats, as a number and as a word."""
    assert kind(integers(5, 900, 30, 1000, name=f"user_{head}")) == "identifier"
    assert kind(words(30, 1000, name=f"user_{head}")) == "identifier"


@pytest.mark.parametrize("name", ["idle", "paid", "id_count", "keys_pressed", "identity"])
def test_a_key_must_be_the_last_word(name: str) -> None:
    """A word that only begins or ends with the letters, or is counted, names no key."""
    assert kind(integers(5, 900, 30, 1000, name=name)) == "integer"


@pytest.mark.parametrize("hint", sorted(IDENTIFIER_HINTS))
def test_a_number_by_name_is_a_key_only_where_none_repeats(hint: str) -> None:
    """`order_number` is one with 20 different values, not with 19, and not when one comes twice."""
    name = f"order_{hint}"
    assert kind(integers(5, 900, 20, 20, name=name)) == "identifier"
    assert kind(integers(5, 900, 19, 19, name=name)) == "integer"
    assert kind(integers(5, 900, 20, 21, name=name)) == "integer"


def test_an_estimated_count_of_97_in_100_stands_for_all_different() -> None:
    """The estimate is off by about 2 %; a counted number has no such excuse."""
    assert kind(integers(5, 900, 97, 100, name="order_no", exact=False)) == "identifier"
    assert kind(integers(5, 900, 96, 100, name="order_no", exact=False)) == "integer"
    assert kind(integers(5, 900, 99, 100, name="order_no", exact=True)) == "integer"


@pytest.mark.parametrize(
    ("minimum", "maximum", "distinct", "non_null", "rows", "expected"),
    [
        (1, 10, 10, 10, 10, "identifier"),
        (0, 9, 10, 10, 10, "identifier"),
        (1, 9, 9, 9, 9, "integer"),
        (2, 11, 10, 10, 10, "integer"),
        (1, 11, 10, 10, 10, "integer"),
        (1, 10, 9, 10, 10, "integer"),
        (1, 10, 10, 10, 11, "integer"),
    ],
    ids=["from 1", "from 0", "nine rows", "from 2", "a gap", "one twice", "a null"],
)
def test_a_row_number_that_came_with_the_file_is_an_identifier(
    minimum: int, maximum: int, distinct: int, non_null: int, rows: int, expected: LogicalType
) -> None:
    """From ten rows on, 0 … n-1 or 1 … n without a gap."""
    assert kind(integers(minimum, maximum, distinct, non_null), rows) == expected


@pytest.mark.parametrize("shape", ["uuid", "digest"])
def test_uuids_and_digests_are_identifiers_from_95_percent_on(shape: str) -> None:
    """A stray value among them changes nothing; more than a stray one does."""
    assert kind(words(30, 1000, shapes={shape: 0.95})) == "identifier"
    assert kind(words(30, 1000, shapes={shape: 0.949})) == "categorical"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "identifier"),
        ({"shapes": {"with_digit": 0.95}}, "identifier"),
        ({"shapes": {"with_digit": 0.949}}, "text"),
        ({"shapes": {}, "mean_length": 3.0, "longest": 3}, "identifier"),
        ({"shapes": {}, "mean_length": 3.01, "longest": 4}, "text"),
        ({"shapes": {}, "name": "product_code"}, "identifier"),
        ({"mean_words": 1.05}, "identifier"),
        ({"mean_words": 1.06}, "text"),
        ({"mean_length": 60.0}, "identifier"),
        ({"mean_length": 60.01}, "text"),
        ({"distinct": 19, "non_null": 19}, "text"),
        ({"distinct": 19}, "text"),
        ({"distinct": 97, "non_null": 100, "exact": False}, "identifier"),
        ({"distinct": 96, "non_null": 100, "exact": False}, "text"),
    ],
)
def test_a_code_is_one_word_never_repeated(changes: dict[str, Any], expected: LogicalType) -> None:
    """Order numbers and SKUs: single words, all different in 20 rows, with digits, of one length or so by name."""
    assert kind(codes(20, **changes)) == expected


def test_an_identifier_by_name_is_not_a_sentence() -> None:
    """Texts in a column called `key` stay texts."""
    assert kind(words(900, 1000, name="key", mean_length=60.0, mean_words=6.0)) == "identifier"
    assert kind(words(900, 1000, name="key", mean_length=60.01)) == "text"
    assert kind(words(900, 1000, name="key", mean_words=6.01)) == "text"


@pytest.mark.parametrize(
    ("distinct", "values", "expected"),
    [
        (10, 11, "categorical"),
        (10, 10, "text"),
        (11, 12, "text"),
        (1, 1, "text"),
        (1, 2, "categorical"),
        (20, 40, "categorical"),
        (20, 39, "text"),
        (50, 100, "categorical"),
        (51, 102, "text"),
        (60, 1200, "categorical"),
        (60, 1199, "text"),
        (10_000, 200_000, "categorical"),
        (10_001, 200_020, "text"),
    ],
)
def test_few_distinct_values_are_categories(distinct: int, values: int, expected: LogicalType) -> None:
    """Ten as soon as one repeats; fifty when each comes twice; ten thousand when each comes twenty times."""
    assert kind(words(distinct, values)) == expected


def test_categories_are_names_of_a_few_words() -> None:
    """Longer values are sentences, repeated or not."""
    assert kind(words(5, 1000, mean_words=6.0, mean_length=60.0)) == "categorical"
    assert kind(words(5, 1000, mean_words=6.01)) == "text"
    assert kind(words(5, 1000, mean_length=60.01)) == "text"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (words(30, 1000, name="customer_email"), True),
        (words(30, 1000, name="product_name"), False),
        (words(30, 1000, shapes={"email": 0.5}), True),
        (words(30, 1000, shapes={"email": 0.49}), False),
        (RawColumn(name="birth_date", position=0, physical_type="TIMESTAMP", non_null=9), True),
        (RawColumn(name="order_date", position=0, physical_type="TIMESTAMP", non_null=9), False),
        (integers(1_000_000, 9_999_999, 500, 1000, name="phone"), True),
        (integers(999_999, 9_999_999, 500, 1000, name="phone"), False),
        (integers(1_000_000, 9_999_999, 499, 1000, name="phone"), False),
        (RawColumn(name="phone", position=0, physical_type="BIGINT", non_null=0), False),
        (RawColumn(name="phone", position=0, physical_type="DOUBLE", non_null=9, distinct=9, minimum=5e9), False),
        (RawColumn(name="email", position=0, physical_type="BOOLEAN", non_null=9, distinct=2), False),
    ],
)
def test_each_type_has_its_own_way_of_being_personal(column: RawColumn, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """Texts by name or values, dates by birth, numbers by name and size; measures and flags never."""
    assert is_personal(column) is expected


def profile_of(column: RawColumn, rows: int = 1000) -> ColumnProfile:
    """The column's profile in a table of its own."""
    return build_profile(rows, [column], ()).columns[0]


FULL: dict[str, Any] = {
    "minimum": 5,
    "maximum": 9_999_999,
    "mean": 7.5,
    "standard_deviation": 2.0,
    "quantiles": {"p50": 7.0},
    "top_values": (ValueCount("7", 3),),
    "examples": ("7", "8"),
    "mean_length": 4.0,
}


def test_what_was_measured_is_told() -> None:
    """Every statistic reaches the profile, with its shares of rows and of values."""
    column = RawColumn(
        name="visits", position=0, physical_type="BIGINT", non_null=750, distinct=500, non_finite=75, **FULL
    )
    assert profile_of(column) == ColumnProfile(
        name="visits",
        position=0,
        logical_type="integer",
        physical_type="BIGINT",
        null_ratio=0.25,
        distinct_count=500,
        non_finite_ratio=0.1,
        **FULL,
    )


def test_a_personal_column_shows_no_value() -> None:
    """Extremes, quantiles, frequent values and examples are withheld; counts and lengths are not."""
    found = profile_of(words(500, 1000, name="email", **{**FULL, "minimum": "a@x.org", "maximum": "z@x.org"}))
    assert found.personal
    assert (found.minimum, found.maximum, found.mean, found.standard_deviation) == (None, None, None, None)
    assert (found.quantiles, found.top_values, found.examples) == ({}, (), ())
    assert (found.distinct_count, found.mean_length, found.logical_type) == (500, 4.0, "text")


def test_a_single_value_that_gives_someone_away_is_left_out() -> None:
    """A column of comments is shown but for the ones with an address in them."""
    column = words(
        30,
        1000,
        top_values=(ValueCount("fine", 9), ValueCount("me@x.org", 8)),
        examples=("call +49 170 1234567", "good", "192.168.0.1"),
    )
    found = profile_of(column)
    assert not found.personal
    assert found.top_values == (ValueCount("fine", 9),)
    assert found.examples == ("good",)


def test_numbers_are_shown_whatever_they_look_like() -> None:
    """The shapes are those of texts: sixteen digits in a column of measures are no card."""
    column = integers(5, 900, 30, 1000, examples=("4111111111111111",))
    assert profile_of(column).examples == ("4111111111111111",)


def test_a_value_of_over_200_characters_is_not_shown() -> None:
    """200 are; 201 are a text that no predicate could name."""
    column = words(
        30, 1000, top_values=(ValueCount("x" * 200, 2), ValueCount("x" * 201, 1)), examples=("y" * 201, "y" * 200)
    )
    found = profile_of(column)
    assert [len(value.value) for value in found.top_values] == [200]
    assert [len(value) for value in found.examples] == [200]


def test_a_table_without_rows_is_all_nulls() -> None:
    """Shares of nothing are defined: every cell is missing, none is infinite."""
    found = profile_of(RawColumn(name="x", position=0, physical_type="DOUBLE", non_null=0), rows=0)
    assert (found.null_ratio, found.non_finite_ratio) == (1.0, 0.0)
    assert not RawColumn(name="x", position=0, physical_type="DOUBLE", non_null=0).unique


def test_the_fingerprint_is_of_the_data_and_not_of_the_notes() -> None:
    """Equal statistics give equal fingerprints; one count more, another name or another order give another."""
    first, second = words(3, 9, name="a"), words(3, 9, name="b", position=1)
    same = build_profile(9, [first, second], ()).fingerprint
    assert build_profile(9, [first, second], ("delimiter: tab",)).fingerprint == same
    others = [
        build_profile(10, [first, second], ()),
        build_profile(9, [second, first], ()),
        build_profile(9, [first, words(4, 9, name="b", position=1)], ()),
        build_profile(9, [first], ()),
    ]
    assert len({same, *(other.fingerprint for other in others)}) == 5


def test_notes_are_passed_on() -> None:
    """What was chosen while reading is told with the profile."""
    assert build_profile(9, [], ("delimiter: tab",)).notes == ("delimiter: tab",)


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 100, allow_nan=False),
    st.floats(0, 500, allow_nan=False),
    st.booleans(),
    st.text(max_size=12),
)
def test_every_text_column_has_a_type(
    distinct: int, values: int, mean_words: float, length: float, exact: bool, name: str  # noqa: FBT001 - generated
) -> None:  # fmt: skip
    """No count or name breaks the rules, and categories are never more than ten thousand or all different."""
    column = words(min(distinct, values), values, mean_words=mean_words, mean_length=length, exact=exact, name=name)
    found = kind(column)
    assert found in {"identifier", "categorical", "text"}
    if found == "categorical":
        assert column.distinct <= 10_000
        assert column.distinct < column.non_null
