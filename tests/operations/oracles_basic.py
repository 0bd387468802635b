"""Oracles of the operations that also have golden values; registered beside those of `oracles`."""

from __future__ import annotations

import math
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from service.features import operations as op
from service.features.operations import Predicate
from tests.operations.oracles import (
    DAY,
    Row,
    Series,
    by_entity,
    by_row,
    days,
    gaps,
    history,
    known,
    meets,
    numbers,
    quantile,
    ratio,
    series,
    sharing,
    stat,
)

# A row alone


@by_row(op.Value)
def value(one: op.Value, row: Row, _: Series) -> Any:
    return row[one.column]


@by_row(op.ValueWhere)
def value_where(one: op.ValueWhere, row: Row, _: Series) -> Any:
    if not meets(row, one.where):
        return one.otherwise
    return None if row[one.column] is None else float(row[one.column])


@by_row(op.FirstKnown)
def first_known(one: op.FirstKnown, row: Row, _: Series) -> Any:
    values = [float(row[name]) for name in one.columns if row[name] is not None]
    return values[0] if values else one.otherwise


@by_row(op.Logarithm)
def logarithm(one: op.Logarithm, row: Row, _: Series) -> Any:
    x = row[one.column]
    return None if x is None else math.copysign(math.log1p(abs(x)), x)


@by_row(op.AbsoluteValue)
def absolute_value(one: op.AbsoluteValue, row: Row, _: Series) -> Any:
    x = row[one.column]
    return None if x is None else abs(float(x))


def _pair(left: Any, right: Any, calculate: Callable[[float, float], Any]) -> Any:
    return None if left is None or right is None else calculate(float(left), float(right))


@by_row(op.Difference)
def difference(one: op.Difference, row: Row, _: Series) -> Any:
    return _pair(row[one.left], row[one.right], lambda x, y: x - y)


@by_row(op.Product)
def product(one: op.Product, row: Row, _: Series) -> Any:
    return _pair(row[one.left], row[one.right], lambda x, y: x * y)


@by_row(op.Ratio)
def quotient(one: op.Ratio, row: Row, _: Series) -> Any:
    return _pair(row[one.numerator], row[one.denominator], ratio)


@by_row(op.IsMissing)
def is_missing(one: op.IsMissing, row: Row, _: Series) -> Any:
    return int(row[one.column] is None)


@by_row(op.Flag)
def flag(one: op.Flag, row: Row, _: Series) -> Any:
    return int(meets(row, one.where))


PARTS: dict[str, Callable[[datetime], int]] = {
    "hour": lambda at: at.hour, "day_of_week": lambda at: at.isoweekday(), "day_of_month": lambda at: at.day,
    "day_of_year": lambda at: at.timetuple().tm_yday, "week": lambda at: at.isocalendar().week,
    "month": lambda at: at.month, "quarter": lambda at: (at.month + 2) // 3, "year": lambda at: at.year,
    "minute": lambda at: at.minute, "week_of_month": lambda at: (at.day + 6) // 7,
    "half_year": lambda at: 1 if at.month < 7 else 2,
}  # fmt: skip


@by_row(op.DatePartOf)
def date_part(one: op.DatePartOf, row: Row, _: Series) -> Any:
    return None if row[one.column] is None else PARTS[one.part](row[one.column])


@by_row(op.CyclicTime)
def cyclic_time(one: op.CyclicTime, row: Row, _: Series) -> Any:
    if row[one.column] is None:
        return None
    angle = (
        math.tau
        * PARTS[one.part](row[one.column])
        / {"hour": 24, "day_of_week": 7, "month": 12, "day_of_year": 365.25}[one.part]
    )
    return math.sin(angle) if one.function == "sine" else math.cos(angle)


@by_row(op.IsWeekend)
def is_weekend(one: op.IsWeekend, row: Row, _: Series) -> Any:
    return None if row[one.column] is None else int(row[one.column].isoweekday() >= 6)


@by_row(op.ElapsedDays)
def elapsed_days(one: op.ElapsedDays, row: Row, _: Series) -> Any:
    start, end = row[one.start], row[one.end]
    return None if start is None or end is None else days(end - start)


@by_row(op.TextLength)
def text_length(one: op.TextLength, row: Row, _: Series) -> Any:
    return None if row[one.column] is None else len(row[one.column])


@by_row(op.WordCount)
def word_count(one: op.WordCount, row: Row, _: Series) -> Any:
    return None if row[one.column] is None else len(row[one.column].split())


@by_row(op.TextContains)
def text_contains(one: op.TextContains, row: Row, _: Series) -> Any:
    note, term = (row[one.column] or "").lower(), one.term.lower()
    if not one.whole_word:
        return int(term in note)
    starts = [place for place in range(len(note)) if note.startswith(term, place)]
    beside = [(note[start - 1 : start], note[start + len(term) : start + len(term) + 1]) for start in starts]
    return int(any(not (before.isalnum() or after.isalnum() or "_" in {before, after}) for before, after in beside))


@by_row(op.TextNumber)
def text_number(one: op.TextNumber, row: Row, _: Series) -> Any:
    found, number = list[str](), ""
    for letter in f"{row[one.column] or ''}|":
        if letter in "0123456789" or (letter == "." and number and "." not in number):
            number += letter
        elif number:
            found.append(number)
            number = ""
    return float(found[one.n - 1]) if len(found) >= one.n else None


@by_row(op.CharacterShare)
def character_share(one: op.CharacterShare, row: Row, _: Series) -> Any:
    classes: dict[str, Callable[[str], bool]] = {
        "digit": lambda letter: letter in "0123456789",
        "uppercase": lambda letter: unicodedata.category(letter) == "Lu",
        "punctuation": lambda letter: unicodedata.category(letter)[0] in "PS",
        "space": str.isspace,
        "emoji": lambda letter: "\u2600" <= letter <= "\u27bf" or "\U0001f300" <= letter <= "\U0001faff",
    }
    note = row[one.column]
    return None if not note else sum(map(classes[one.characters], note)) / len(note)


# A row beside all rows


def beside(one: Any, row: Row, rows: Series) -> list[float] | None:
    """The known values of the row's group, or of all; None where the row has no value or no group."""
    same = rows if one.group is None else sharing(row, rows, [one.group])
    return None if same is None or row[one.column] is None else numbers(same, one.column)


@by_row(op.ZScore)
def z_score(one: op.ZScore, row: Row, rows: Series) -> Any:
    values = beside(one, row, rows)
    if values is None or len({*values}) < 2:
        return None
    return (float(row[one.column]) - statistics.fmean(values)) / statistics.stdev(values)


@by_row(op.MinMaxScale)
def min_max_scale(one: op.MinMaxScale, row: Row, rows: Series) -> Any:
    values, x = numbers(rows, one.column), row[one.column]
    return None if x is None else ratio(float(x) - min(values), max(values) - min(values))


@by_row(op.QuantileBin)
def quantile_bin(one: op.QuantileBin, row: Row, rows: Series) -> Any:
    values, x = numbers(rows, one.column), row[one.column]
    return None if x is None else sum(other < x for other in values) * one.bins // len(values) + 1


@by_row(op.PercentRank)
def percent_rank(one: op.PercentRank, row: Row, rows: Series) -> Any:
    values, x = beside(one, row, rows), row[one.column]
    if values is None:
        return None
    return sum(other < x for other in values) / (len(values) - 1) if len(values) > 1 else 0.0


@by_row(op.FrequencyEncoding)
def frequency_encoding(one: op.FrequencyEncoding, row: Row, rows: Series) -> Any:
    same = sharing(row, rows, [one.column])
    return None if same is None else len(same) / len(rows)


@by_row(op.GroupStatistic)
def group_statistic(one: op.GroupStatistic, row: Row, rows: Series) -> Any:
    same = sharing(row, rows, [one.group])
    return None if same is None else stat(one.function, [other[one.column] for other in same])


@by_row(op.GroupCount)
def group_count(one: op.GroupCount, row: Row, rows: Series) -> Any:
    same = sharing(row, rows, [one.group])
    return None if same is None else len(same)


# Earlier rows


def before(one: Any, row: Row, rows: Series, steps: int = 1) -> Row | None:
    """The row so many before, in the row's history."""
    past = history(one, row, rows)
    return past[-1 - steps] if past is not None and len(past) > steps else None


@by_row(op.PreviousValue)
def previous_value(one: op.PreviousValue, row: Row, rows: Series) -> Any:
    found = before(one, row, rows, one.steps)
    return None if found is None else found[one.column]


@by_row(op.ChangeFromPrevious)
def change_from_previous(one: op.ChangeFromPrevious, row: Row, rows: Series) -> Any:
    found = before(one, row, rows)
    return None if found is None else _pair(row[one.column], found[one.column], lambda x, y: x - y)


@by_row(op.PercentChange)
def percent_change(one: op.PercentChange, row: Row, rows: Series) -> Any:
    found = before(one, row, rows)
    return None if found is None else _pair(row[one.column], found[one.column], lambda x, y: ratio(x - y, y))


@by_row(op.DaysSincePrevious)
def days_since_previous(one: op.DaysSincePrevious, row: Row, rows: Series) -> Any:
    found = before(one, row, rows)
    return None if found is None else days(row["at"] - found["at"])


def recent(one: Any, row: Row, rows: Series) -> Series | None:
    """The rows of the row's series in the days before its instant, and at it only when the row is included."""
    if history(one, row, rows) is None:
        return None
    mine = [other for other in series(rows) if one.entity is None or other[one.entity] == row[one.entity]]
    start, end = row["at"] - timedelta(days=one.days), row["at"]
    return [other for other in mine if start <= other["at"] < end or (one.include_row and other["at"] == end)]


@by_row(op.RollingStatistic)
def rolling_statistic(one: op.RollingStatistic, row: Row, rows: Series) -> Any:
    window = recent(one, row, rows)
    return None if window is None else stat(one.function, [other[one.column] for other in window])


@by_row(op.RollingCount)
def rolling_count(one: op.RollingCount, row: Row, rows: Series) -> Any:
    window = recent(one, row, rows)
    return None if window is None else sum(meets(other, one.where) for other in window)


@by_row(op.CumulativeCount)
def cumulative_count(one: op.CumulativeCount, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    return None if past is None else len(past) - 1


# Entities


def as_of(everyone: Series) -> datetime | None:
    return max((row["at"] for row in everyone if row["at"] is not None), default=None)


def counting(
    mine: Series, everyone: Series, where: tuple[Predicate, ...] = (), last_days: float | None = None
) -> Series:
    """The rows that meet the predicates, in the dataset's last days if any."""
    latest = as_of(everyone)
    found = [row for row in mine if meets(row, where)]
    if last_days is None:
        return found
    return [row for row in found if row["at"] is not None and latest and row["at"] > latest - timedelta(days=last_days)]


@by_entity(op.Count)
def count(one: op.Count, mine: Series, everyone: Series) -> Any:
    return len(counting(mine, everyone, one.where, one.last_days))


@by_entity(op.CountDistinct)
def count_distinct(one: op.CountDistinct, mine: Series, everyone: Series) -> Any:
    return len({*known([row[one.column] for row in counting(mine, everyone, one.where, one.last_days)])})


@by_entity(op.Aggregate)
def aggregate(one: op.Aggregate, mine: Series, everyone: Series) -> Any:
    return stat(one.function, [row[one.column] for row in counting(mine, everyone, one.where, one.last_days)])


@by_entity(op.Quantile)
def quantile_of(one: op.Quantile, mine: Series, everyone: Series) -> Any:
    return quantile([row[one.column] for row in counting(mine, everyone, one.where, one.last_days)], one.q)


@by_entity(op.Rate)
def rate(one: op.Rate, mine: Series, everyone: Series) -> Any:
    parts = (len(counting(mine, everyone, where, one.last_days)) for where in (one.numerator, one.denominator))
    return ratio(*parts)


@by_entity(op.RatioOfSums)
def ratio_of_sums(one: op.RatioOfSums, mine: Series, everyone: Series) -> Any:
    mine = counting(mine, everyone, one.where, one.last_days)
    above, below = numbers(mine, one.numerator), numbers(mine, one.denominator)
    return ratio(math.fsum(above), math.fsum(below)) if above and below else None


@by_entity(op.MissingShare)
def missing_share(one: op.MissingShare, mine: Series, _: Series) -> Any:
    return sum(row[one.column] is None for row in mine) / len(mine)


@by_entity(op.Recency)
def recency(one: op.Recency, mine: Series, everyone: Series) -> Any:
    rows, latest = series(mine, one.where), as_of(everyone)
    return days(latest - rows[-1]["at"]) if rows and latest else None


@by_entity(op.Tenure)
def tenure(_: op.Tenure, mine: Series, everyone: Series) -> Any:
    rows, latest = series(mine), as_of(everyone)
    return days(latest - rows[0]["at"]) if rows and latest else None


@by_entity(op.ActiveSpan)
def active_span(_: op.ActiveSpan, mine: Series, __: Series) -> Any:
    rows = series(mine)
    return days(rows[-1]["at"] - rows[0]["at"]) if rows else None


@by_entity(op.MeanGap)
def mean_gap(one: op.MeanGap, mine: Series, _: Series) -> Any:
    return stat("mean", gaps(series(mine, one.where)))


@by_entity(op.EventsPerDay)
def events_per_day(one: op.EventsPerDay, mine: Series, everyone: Series) -> Any:
    rows, latest = series(mine), as_of(everyone)
    return len(series(mine, one.where)) / max(days(latest - rows[0]["at"]), 1) if rows and latest else None


@by_entity(op.Trend)
def trend(one: op.Trend, mine: Series, _: Series) -> Any:
    points = [(row["at"], float(row[one.column])) for row in series(mine) if row[one.column] is not None]
    if len({at for at, _ in points}) < 2:
        return None
    first = min(at for at, _ in points)
    return float(np.polyfit([(at - first) / DAY for at, _ in points], [x for _, x in points], 1)[0])


@by_entity(op.RecentShare)
def recent_share(one: op.RecentShare, mine: Series, everyone: Series) -> Any:
    return ratio(len(counting(mine, everyone, one.where, one.days)), len(series(mine, one.where)))


@by_entity(op.HourShare)
def hour_share(one: op.HourShare, mine: Series, _: Series) -> Any:
    wraps = one.from_hour > one.to_hour
    hours = {*range(one.from_hour, 24), *range(one.to_hour)} if wraps else {*range(one.from_hour, one.to_hour)}
    rows = series(mine)
    return ratio(sum(row["at"].hour in hours for row in rows), len(rows))


@by_entity(op.WeekendShare)
def weekend_share(_: op.WeekendShare, mine: Series, __: Series) -> Any:
    rows = series(mine)
    return ratio(sum(row["at"].isoweekday() >= 6 for row in rows), len(rows))


@by_entity(op.ActiveDays)
def active_days(_: op.ActiveDays, mine: Series, __: Series) -> Any:
    return len({row["at"].date() for row in series(mine)})


@by_entity(op.MostFrequent)
def most_frequent(one: op.MostFrequent, mine: Series, _: Series) -> Any:
    counts = Counter(known([row[one.column] for row in mine]))
    return min(counts, key=lambda category: (-counts[category], category)) if counts else None


@by_entity(op.TopShare)
def top_share(one: op.TopShare, mine: Series, _: Series) -> Any:
    counts = Counter(known([row[one.column] for row in mine]))
    return max(counts.values()) / len(mine) if counts else None


@by_entity(op.Entropy)
def entropy(one: op.Entropy, mine: Series, _: Series) -> Any:
    counts = Counter(known([row[one.column] for row in mine])).values()
    shares = [number / sum(counts) for number in counts]
    return -math.fsum(share * math.log2(share) for share in shares) if shares else None


@by_entity(op.LastValue)
def last_value(one: op.LastValue, mine: Series, _: Series) -> Any:
    values = known([row[one.column] for row in series(mine)])
    return values[-1] if values else None


@by_entity(op.FirstValue)
def first_value(one: op.FirstValue, mine: Series, _: Series) -> Any:
    values = known([row[one.column] for row in series(mine)])
    return values[0] if values else None
