"""Oracles of operations of the row grain: encodings, dates, shapes of values and texts, more of a row's past."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from service.features import operations as op
from tests.operations.oracles import (
    Row,
    Series,
    by_row,
    days,
    great_circle,
    history,
    known,
    meets,
    ratio,
    sharing,
    stat,
    text,
)


def fold(row: Row, folds: int) -> int:
    """The fold of a row, as `out_of_fold_mean` states it."""
    return (row["id"] * 48271 % (2**31 - 1)) % folds


def elsewhere(row: Row, rows: Series, folds: int) -> Series:
    """The rows of the other folds."""
    return [other for other in rows if fold(other, folds) != fold(row, folds)]


@by_row(op.OutOfFoldMean)
def out_of_fold_mean(one: op.OutOfFoldMean, row: Row, rows: Series) -> Any:
    others = elsewhere(row, rows, one.folds)
    same = sharing(row, others, one.groups)
    everything = [float(x) for x in known([other[one.target] for other in others])]
    if same is None or not everything:
        return None
    values = [float(x) for x in known([other[one.target] for other in same])]
    return ratio(math.fsum(values) + one.smoothing * statistics.fmean(everything), len(values) + one.smoothing)


@by_row(op.OutOfFoldFrequency)
def out_of_fold_frequency(one: op.OutOfFoldFrequency, row: Row, rows: Series) -> Any:
    others = elsewhere(row, rows, one.folds)
    same = sharing(row, others, one.groups)
    return None if same is None else ratio(len(same), len(others))


@by_row(op.OrderedCategory)
def ordered_category(one: op.OrderedCategory, row: Row, _: Series) -> Any:
    value = row[one.column]
    return one.order.index(text(value)) if value is not None and text(value) in one.order else None


@by_row(op.CategoryCode)
def category_code(one: op.CategoryCode, row: Row, rows: Series) -> Any:
    if row[one.column] is None:
        return None
    counts = Counter(text(x) for x in known([other[one.column] for other in rows]))
    by_count = one.order == "frequency"
    return sorted(counts, key=lambda x: (-counts[x] if by_count else 0, x)).index(text(row[one.column]))


def groups_of(row: Row, rows: Series, group: str | None) -> Series | None:
    return rows if group is None else sharing(row, rows, [group])


@by_row(op.ShareOfGroup)
def share_of_group(one: op.ShareOfGroup, row: Row, rows: Series) -> Any:
    same = groups_of(row, rows, one.group)
    if same is None or row[one.column] is None:
        return None
    return ratio(float(row[one.column]), math.fsum(known([other[one.column] for other in same])))


@by_row(op.RankInGroup)
def rank(one: op.RankInGroup, row: Row, rows: Series) -> Any:
    same = groups_of(row, rows, one.group)
    if same is None or row[one.column] is None:
        return None
    values = pd.Series([float(x) for x in known([other[one.column] for other in same])])
    ranks = values.rank(method="dense" if one.dense else "min", ascending=one.order == "rising")
    return int(ranks[values[values == float(row[one.column])].index[0]])


@by_row(op.EqualWidthBin)
def equal_width_bin(one: op.EqualWidthBin, row: Row, rows: Series) -> Any:
    values = [float(x) for x in known([other[one.column] for other in rows])]
    if row[one.column] is None or min(values) == max(values):
        return None
    edges = np.linspace(min(values), max(values), one.bins + 1)
    return int(np.digitize(float(row[one.column]), edges[1:-1])) + 1


@by_row(op.GroupDistinct)
def group_distinct(one: op.GroupDistinct, row: Row, rows: Series) -> Any:
    same = groups_of(row, rows, one.group)
    return None if same is None else len({*known([other[one.column] for other in same])})


@by_row(op.GroupRate)
def group_rate(one: op.GroupRate, row: Row, rows: Series) -> Any:
    same = groups_of(row, rows, one.group)
    return None if same is None else sum(meets(other, one.where) for other in same) / len(same)


# Dates


@by_row(op.IsDateIn)
def is_date_in(one: op.IsDateIn, row: Row, _: Series) -> Any:
    at = row[one.column]
    return None if at is None else int(at.date() in one.dates)


@by_row(op.DaysToNearestDate)
def days_to_nearest_date(one: op.DaysToNearestDate, row: Row, _: Series) -> Any:
    at = row[one.column]
    if at is None:
        return None
    away = [(day - at.date()).days for day in one.dates]
    kept = {
        "next": [x for x in away if x >= 0],
        "previous": [-x for x in away if x <= 0],
        "nearest": [abs(x) for x in away],
    }[one.direction]
    return min(kept, default=None)


@by_row(op.BusinessDaysBetween)
def business_days_between(one: op.BusinessDaysBetween, row: Row, _: Series) -> Any:
    start, end = row[one.start], row[one.end]
    if start is None or end is None:
        return None
    first, last = start.date(), end.date()
    step = 1 if first <= last else -1
    low, high = (first, last) if step == 1 else (last + timedelta(days=1), first + timedelta(days=1))
    return step * int(np.busday_count(low, high, holidays=list(one.holidays)))


@by_row(op.CompletedPeriods)
def completed_periods(one: op.CompletedPeriods, row: Row, _: Series) -> Any:
    start = row[one.start]
    end = one.until if one.until is not None else row[one.end or ""]
    if start is None or end is None:
        return None
    end = end.date() if isinstance(end, datetime) else end
    months = (end.year - start.year) * 12 + end.month - start.month - (end.day < start.day)
    return months // 12 if one.unit == "years" else months


@by_row(op.DatePartIn)
def date_part_in(one: op.DatePartIn, row: Row, _: Series) -> Any:
    at = row[one.column]
    if at is None:
        return None
    parts = {
        "hour": at.hour, "day_of_week": at.isoweekday(), "minute": at.minute, "week_of_month": (at.day - 1) // 7 + 1,
        "half_year": 1 if at.month <= 6 else 2, "month": at.month, "week": at.isocalendar().week, "year": at.year,
    }  # fmt: skip
    return int(parts[one.part] in one.values)  # noqa: PD011 -- a field of the operation


# Values, texts, places


@by_row(op.NumericFunction)
def numeric_function(one: op.NumericFunction, row: Row, _: Series) -> Any:
    if row[one.column] is None:
        return None
    x = float(row[one.column])
    plain = {
        "reciprocal": lambda: 1 / x, "square": lambda: x**2, "cube": lambda: x**3, "log2": lambda: math.log2(x),
        "log10": lambda: math.log10(x), "ln": lambda: math.log(x), "exponential": lambda: math.exp(x),
        "logit": lambda: math.log(x / (1 - x)) if 0 < x < 1 else None, "sign": lambda: float(np.sign(x)),
        "floor": lambda: float(math.floor(x)), "ceiling": lambda: float(math.ceil(x)),
        "fraction": lambda: x - math.floor(x), "sine": lambda: math.sin(math.radians(x)),
        "cosine": lambda: math.cos(math.radians(x)),
    }  # fmt: skip
    try:
        return plain[one.function]()
    except (ValueError, ZeroDivisionError):
        return None


@by_row(op.Remainder)
def remainder(one: op.Remainder, row: Row, _: Series) -> Any:
    return None if row[one.column] is None else float(row[one.column]) % one.divisor


@by_row(op.RelativeDifference)
def relative_difference(one: op.RelativeDifference, row: Row, _: Series) -> Any:
    left, right = row[one.left], row[one.right]
    return None if left is None or right is None else ratio(left - right, abs(right))


@by_row(op.PowerProduct)
def power_product(one: op.PowerProduct, row: Row, _: Series) -> Any:
    values = [row[name] for name in one.columns]
    if None in values or any(x == 0 and power < 0 for x, power in zip(values, one.powers, strict=True)):
        return None
    return one.factor * math.prod(float(x) ** power for x, power in zip(values, one.powers, strict=True))


@by_row(op.WeightedSum)
def weighted_sum(one: op.WeightedSum, row: Row, _: Series) -> Any:
    values = [row[name] for name in one.columns]
    return None if None in values else one.constant + float(np.dot([float(x) for x in values], one.weights))


def words(note: str) -> list[str]:
    return re.findall(r"\S+", note, re.ASCII)


@by_row(op.WordStatistic)
def word_statistic(one: op.WordStatistic, row: Row, _: Series) -> Any:
    if row[one.column] is None:
        return None
    found = words(row[one.column])
    distinct = len({word.lower() for word in found})
    if one.figure == "distinct":
        return float(distinct)
    if one.figure == "longest":
        return float(max(map(len, found), default=0))
    return ratio(distinct if one.figure == "distinct_share" else sum(map(len, found)), len(found))


@by_row(op.TermsCount)
def terms_count(one: op.TermsCount, row: Row, _: Series) -> Any:
    if row[one.column] is None:
        return None
    counts = [row[one.column].lower().count(term.lower()) for term in one.terms]
    return sum(counts) if one.figure == "occurrences" else sum(count > 0 for count in counts)


def unless_rare(row: Row, rows: Series, piece: Any) -> Any:
    mine = piece(row)
    if mine is None:
        return None
    return mine if sum(piece(other) == mine for other in rows) >= 5 else "other"


@by_row(op.TextPiece)
def text_piece(one: op.TextPiece, row: Row, rows: Series) -> Any:
    def piece(other: Row) -> str | None:
        note = other[one.column]
        if note is None:
            return None
        found = words(note)
        return {
            "first_word": found[0] if found else "", "last_word": found[-1] if found else "",
            "first_characters": note[: one.characters], "last_characters": note[-one.characters :],
        }[one.piece] or None  # fmt: skip

    return unless_rare(row, rows, piece)


@by_row(op.TextField)
def text_field(one: op.TextField, row: Row, rows: Series) -> Any:
    def piece(other: Row) -> str | None:
        note = other[one.column]
        fields = [] if note is None else note.split(one.separator)
        return (fields[one.n - 1].strip(" ") or None) if len(fields) >= one.n else None

    return unless_rare(row, rows, piece)


@by_row(op.DistanceToNearest)
def distance_to_nearest(one: op.DistanceToNearest, row: Row, _: Series) -> Any:
    here = [row[one.latitude], row[one.longitude]]
    if None in here:
        return None
    return min(great_circle(*map(float, here), *point) for point in zip(one.latitudes, one.longitudes, strict=True))


@by_row(op.PlaceDensity)
def place_density(one: op.PlaceDensity, row: Row, rows: Series) -> Any:
    def cell(other: Row) -> tuple[int, int] | None:
        place = [other[one.latitude], other[one.longitude]]
        if None in place:
            return None
        return (math.floor(place[0] / one.degrees), math.floor(place[1] / one.degrees))

    mine = cell(row)
    return None if mine is None else sum(cell(other) == mine for other in rows)


# Earlier rows


@by_row(op.LastKnownValue)
def last_known_value(one: op.LastKnownValue, row: Row, rows: Series) -> Any:
    past = history(one, row, rows) or []
    values = known([other[one.column] for other in past[:-1] if meets(other, one.where)])
    return values[-1] if values else None


def in_span(one: Any, row: Row, rows: Series, start: float | None, end: float = 0.0) -> Series | None:
    """Rows of the series at instants in [t - start, t - end], the row's own instant apart."""
    past = history(one, row, rows)
    if past is None:
        return None
    away = [(other, days(row["at"] - other["at"])) for other in past]
    return [
        other for other, back in away if back > 0 and back >= end - 1e-12 and (start is None or back <= start + 1e-12)
    ]


@by_row(op.DistanceFromHistory)
def distance_from_history(one: op.DistanceFromHistory, row: Row, rows: Series) -> Any:
    past = in_span(one, row, rows, one.days)
    if past is None or row[one.column] is None:
        return None
    values = [other[one.column] for other in past]
    mean, x = stat("mean", values), float(row[one.column])
    if mean is None:
        return None
    if one.comparison == "ratio":
        return ratio(x, mean)
    return x - mean if one.comparison == "difference" else ratio(x - mean, stat("standard_deviation", values))


@by_row(op.ValueDaysBefore)
def statistic_days_before(one: op.ValueDaysBefore, row: Row, rows: Series) -> Any:
    past = in_span(one, row, rows, one.days_before + one.within_days, one.days_before)
    return None if past is None else stat(one.function, [other[one.column] for other in past])


class _InGroup:
    """Takes the group for the entity."""

    def __init__(self, entity: str | None) -> None:
        self.entity = entity


@by_row(op.EarlierInGroup)
def earlier_in_group(one: op.EarlierInGroup, row: Row, rows: Series) -> Any:
    past = in_span(_InGroup(one.group), row, rows, one.days)
    if past is None:
        return None
    counted = [other for other in past if meets(other, one.where)]
    return (
        float(len(counted)) if one.function == "count" else stat(one.function, [r[one.column or ""] for r in counted])
    )


@by_row(op.DistinctEarlier)
def rolling_distinct(one: op.DistinctEarlier, row: Row, rows: Series) -> Any:
    past = in_span(one, row, rows, one.days)
    return None if past is None else len({*known([other[one.column] for other in past])})


@by_row(op.DistinctSoFar)
def cumulative_distinct(one: op.DistinctSoFar, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    return None if past is None else len({*known([other[one.column] for other in past[:-1]])})


@by_row(op.SessionSoFar)
def session_so_far(one: op.SessionSoFar, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    if past is None:
        return None
    sessions: list[Series] = []
    for other in past:
        if not sessions or other["at"] - sessions[-1][-1]["at"] > timedelta(minutes=one.gap_minutes):
            sessions.append([])
        sessions[-1].append(other)
    if one.figure == "minutes":
        return (row["at"] - sessions[-1][0]["at"]).total_seconds() / 60
    return float(len(sessions) if one.figure == "session" else len(sessions[-1]))


@by_row(op.StateDuration)
def state_duration(one: op.StateDuration, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    if past is None or row[one.column] is None:
        return None
    run: Series = []
    for other in reversed(past):
        if other[one.column] != row[one.column]:
            break
        run.append(other)
    return float(len(run)) if one.unit == "rows" else days(row["at"] - run[-1]["at"])


@by_row(op.RollingTrend)
def rolling_trend(one: op.RollingTrend, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    pairs = [
        (place, float(other[one.column]))
        for place, other in enumerate((past or [])[-one.rows :])
        if other[one.column] is not None
    ]
    return float(np.polyfit(*zip(*pairs, strict=True), 1)[0]) if len(pairs) > 1 else None


@by_row(op.RollingComparison)
def compare_rolling(one: op.RollingComparison, row: Row, rows: Series) -> Any:
    spans = [in_span(one, row, rows, span) for span in (one.short_days, one.long_days)]
    if None in spans:
        return None
    short, long = (stat(one.function, [other[one.column] for other in span or []]) for span in spans)
    if short is None or long is None:
        return None
    return short - long if one.comparison == "difference" else ratio(short, long)


@by_row(op.DistanceFromPrevious)
def distance_from_previous(one: op.DistanceFromPrevious, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    if past is None or len(past) < 2:
        return None
    places = [other[name] for other in past[-2:] for name in (one.latitude, one.longitude)]
    if None in places:
        return None
    far = great_circle(*map(float, places))
    return far if one.figure == "km" else ratio(far, (past[-1]["at"] - past[-2]["at"]).total_seconds() / 3600)


@by_row(op.CategoryPath)
def category_path(one: op.CategoryPath, row: Row, rows: Series) -> Any:
    past = (history(one, row, rows) or [])[-one.length :]
    values = [other[one.column] for other in past]
    return None if len(values) < one.length or None in values else ">".join(map(text, values))
