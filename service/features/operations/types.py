"""The closed set of typed operations: the only things a feature plan can ask for.

Each operation is a frozen struct; the tag `kind` names it on the wire. An operation carries column *names* and
literal values only, never an expression: the engine turns it into an SQL syntax tree (see `compile.py`).
Days are fractional numbers of 24 hours. "As of" a dataset is the latest value of its time column.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Scalar = str | int | float | bool
"""A literal in a predicate; compared after conversion to the column's own type."""

Column = Annotated[str, Meta(min_length=1, max_length=256)]
Days = Annotated[float, Meta(gt=0, le=36_525)]
Comparison = Literal["eq", "ne", "in", "not_in", "lt", "le", "gt", "ge", "is_null", "not_null"]
AggregateFunction = Literal["sum", "mean", "minimum", "maximum", "standard_deviation", "median"]
DatePart = Literal["hour", "day_of_week", "day_of_month", "day_of_year", "week", "month", "quarter", "year"]


class Predicate(Struct, frozen=True, forbid_unknown_fields=True):
    """One condition on one column; a tuple of them is a conjunction."""

    column: Column
    comparison: Comparison
    values: Annotated[tuple[Scalar, ...], Meta(max_length=100)] = ()
    """None for `is_null`/`not_null`, one for the ordered comparisons and `eq`/`ne`, one or more for `in`/`not_in`."""


Where = Annotated[tuple[Predicate, ...], Meta(max_length=8)]


class Operation(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of every operation."""


# ------------------------------------------------------------------------------------------ one value from one row


class Value(Operation, frozen=True, tag="value"):
    """The column itself (numeric, boolean or categorical)."""

    column: Column


class Logarithm(Operation, frozen=True, tag="logarithm"):
    """Signed log1p: sign(x) · ln(1 + |x|); tames heavy tails and keeps the sign."""

    column: Column


class AbsoluteValue(Operation, frozen=True, tag="absolute_value"):
    """|x|."""

    column: Column


class Difference(Operation, frozen=True, tag="difference"):
    """left - right, row by row."""

    left: Column
    right: Column


class Product(Operation, frozen=True, tag="product"):
    """left · right, row by row."""

    left: Column
    right: Column


class Ratio(Operation, frozen=True, tag="ratio"):
    """numerator / denominator, row by row; null where the denominator is 0."""

    numerator: Column
    denominator: Column


class IsMissing(Operation, frozen=True, tag="is_missing"):
    """1 where the column is null, else 0."""

    column: Column


class Flag(Operation, frozen=True, tag="flag"):
    """1 where every predicate holds, else 0 (one-hot encoding is a flag with one `eq`)."""

    where: Annotated[Where, Meta(min_length=1)]


class DatePartOf(Operation, frozen=True, tag="date_part"):
    """A calendar part of a datetime; day_of_week is ISO: Monday 1 … Sunday 7."""

    column: Column
    part: DatePart


class CyclicTime(Operation, frozen=True, tag="cyclic_time"):
    """Sine or cosine of a calendar part on its period, so that 23 h lies beside 0 h."""

    column: Column
    part: Literal["hour", "day_of_week", "month"]
    function: Literal["sine", "cosine"]


class IsWeekend(Operation, frozen=True, tag="is_weekend"):
    """1 on Saturday and Sunday, else 0."""

    column: Column


class ElapsedDays(Operation, frozen=True, tag="elapsed_days"):
    """Days from one datetime column to another, negative when `end` comes first."""

    start: Column
    end: Column


class TextLength(Operation, frozen=True, tag="text_length"):
    """Characters in the text."""

    column: Column


class WordCount(Operation, frozen=True, tag="word_count"):
    """Words (runs of non-space) in the text."""

    column: Column


class TextContains(Operation, frozen=True, tag="text_contains"):
    """1 where the text contains the term, case-insensitively, as a plain substring; else 0."""

    column: Column
    term: Annotated[str, Meta(min_length=1, max_length=100)]


class CharacterShare(Operation, frozen=True, tag="character_share"):
    """Share of the text's characters that belong to the class."""

    column: Column
    characters: Literal["digit", "uppercase", "punctuation", "space"]


# --------------------------------------------------------------------------- one value a row, seen beside other rows


class ZScore(Operation, frozen=True, tag="z_score"):
    """(x - mean) / standard deviation, over the dataset or within a group."""

    column: Column
    group: Column | None = None


class MinMaxScale(Operation, frozen=True, tag="min_max_scale"):
    """(x - min) / (max - min) over the dataset."""

    column: Column


class QuantileBin(Operation, frozen=True, tag="quantile_bin"):
    """Number of the equal-count bin, 1 … bins."""

    column: Column
    bins: Annotated[int, Meta(ge=2, le=100)] = 4


class PercentRank(Operation, frozen=True, tag="percent_rank"):
    """Relative rank 0 … 1, over the dataset or within a group."""

    column: Column
    group: Column | None = None


class FrequencyEncoding(Operation, frozen=True, tag="frequency_encoding"):
    """Share of the dataset's rows that hold this row's category."""

    column: Column


class GroupStatistic(Operation, frozen=True, tag="group_statistic"):
    """A statistic of a numeric column over the row's group, written on each of its rows."""

    column: Column
    group: Column
    function: AggregateFunction


class GroupCount(Operation, frozen=True, tag="group_count"):
    """Rows in the row's group."""

    group: Column


# ------------------------------------------------ one value a row, from the earlier rows of the same entity (no future)


class PreviousValue(Operation, frozen=True, tag="previous_value"):
    """The entity's value `steps` rows earlier."""

    column: Column
    entity: Column
    time: Column
    steps: Annotated[int, Meta(ge=1, le=1000)] = 1


class ChangeFromPrevious(Operation, frozen=True, tag="change_from_previous"):
    """The row's value less the entity's previous one."""

    column: Column
    entity: Column
    time: Column


class DaysSincePrevious(Operation, frozen=True, tag="days_since_previous"):
    """Days since the entity's previous row."""

    entity: Column
    time: Column


class RollingStatistic(Operation, frozen=True, tag="rolling_statistic"):
    """A statistic over the entity's rows in the `days` before this row, this row's own instant excluded."""

    column: Column
    entity: Column
    time: Column
    days: Days
    function: Literal["sum", "mean", "minimum", "maximum", "standard_deviation"]


class RollingCount(Operation, frozen=True, tag="rolling_count"):
    """The entity's rows in the `days` before this row, this row's own instant excluded."""

    entity: Column
    time: Column
    days: Days
    where: Where = ()


class CumulativeCount(Operation, frozen=True, tag="cumulative_count"):
    """The entity's rows before this one."""

    entity: Column
    time: Column


# ------------------------------------------------------------------------------- one value an entity, from all its rows


class Count(Operation, frozen=True, tag="count"):
    """Rows of the entity that meet the predicates."""

    where: Where = ()
    last_days: Days | None = None


class CountDistinct(Operation, frozen=True, tag="count_distinct"):
    """Distinct values of the column within the entity."""

    column: Column
    where: Where = ()
    last_days: Days | None = None


class Aggregate(Operation, frozen=True, tag="aggregate"):
    """A statistic of a numeric column within the entity."""

    column: Column
    function: AggregateFunction
    where: Where = ()
    last_days: Days | None = None


class Quantile(Operation, frozen=True, tag="quantile"):
    """A continuous quantile of a numeric column within the entity."""

    column: Column
    q: Annotated[float, Meta(gt=0, lt=1)]
    where: Where = ()


class Rate(Operation, frozen=True, tag="rate"):
    """Rows that meet `numerator` over rows that meet `denominator` (click-through, conversion); null over 0."""

    numerator: Annotated[Where, Meta(min_length=1)]
    denominator: Where = ()
    last_days: Days | None = None


class RatioOfSums(Operation, frozen=True, tag="ratio_of_sums"):
    """sum(numerator) / sum(denominator) within the entity; null over 0."""

    numerator: Column
    denominator: Column


class MissingShare(Operation, frozen=True, tag="missing_share"):
    """Share of the entity's rows where the column is null."""

    column: Column


class Recency(Operation, frozen=True, tag="recency"):
    """Days from the entity's last row (that meets the predicates) to the dataset's latest time."""

    time: Column
    where: Where = ()


class Tenure(Operation, frozen=True, tag="tenure"):
    """Days from the entity's first row to the dataset's latest time."""

    time: Column


class ActiveSpan(Operation, frozen=True, tag="active_span"):
    """Days from the entity's first row to its last."""

    time: Column


class MeanGap(Operation, frozen=True, tag="mean_gap"):
    """Mean days between consecutive rows of the entity; null for fewer than two rows."""

    time: Column
    where: Where = ()


class EventsPerDay(Operation, frozen=True, tag="events_per_day"):
    """Rows over the days between the entity's first row and the dataset's latest time (at least one day)."""

    time: Column
    where: Where = ()


class Trend(Operation, frozen=True, tag="trend"):
    """Least-squares slope of a numeric column over time, in units a day; null without two distinct times."""

    column: Column
    time: Column


class RecentShare(Operation, frozen=True, tag="recent_share"):
    """Share of the entity's rows (that meet the predicates) that fall in the dataset's last `days`."""

    time: Column
    days: Days
    where: Where = ()


class HourShare(Operation, frozen=True, tag="hour_share"):
    """Share of the entity's rows whose hour lies in [from_hour, to_hour), wrapping over midnight."""

    time: Column
    from_hour: Annotated[int, Meta(ge=0, le=23)]
    to_hour: Annotated[int, Meta(ge=0, le=24)]


class WeekendShare(Operation, frozen=True, tag="weekend_share"):
    """Share of the entity's rows on Saturday or Sunday."""

    time: Column


class ActiveDays(Operation, frozen=True, tag="active_days"):
    """Distinct calendar days on which the entity has a row."""

    time: Column


class MostFrequent(Operation, frozen=True, tag="most_frequent"):
    """The entity's most frequent category; ties go to the smallest value."""

    column: Column


class TopShare(Operation, frozen=True, tag="top_share"):
    """Share of the entity's rows that hold its most frequent category."""

    column: Column


class Entropy(Operation, frozen=True, tag="entropy"):
    """Shannon entropy, in bits, of the column's categories within the entity."""

    column: Column


class LastValue(Operation, frozen=True, tag="last_value"):
    """The column's latest non-null value by time."""

    column: Column
    time: Column


class FirstValue(Operation, frozen=True, tag="first_value"):
    """The column's earliest non-null value by time."""

    column: Column
    time: Column


RowOperation = (
    Value | Logarithm | AbsoluteValue | Difference | Product | Ratio | IsMissing | Flag | DatePartOf | CyclicTime
    | IsWeekend | ElapsedDays | TextLength | WordCount | TextContains | CharacterShare | ZScore | MinMaxScale
    | QuantileBin | PercentRank | FrequencyEncoding | GroupStatistic | GroupCount | PreviousValue | ChangeFromPrevious
    | DaysSincePrevious | RollingStatistic | RollingCount | CumulativeCount
)  # fmt: skip
"""Operations of the row grain: one value for each row of the dataset."""

EntityOperation = (
    Count | CountDistinct | Aggregate | Quantile | Rate | RatioOfSums | MissingShare | Recency | Tenure | ActiveSpan
    | MeanGap | EventsPerDay | Trend | RecentShare | HourShare | WeekendShare | ActiveDays | MostFrequent | TopShare
    | Entropy | LastValue | FirstValue
)  # fmt: skip
"""Operations of the entity grain: one value for each entity."""

AnyOperation = RowOperation | EntityOperation
"""The tagged union that plans, reports and the wire carry."""
