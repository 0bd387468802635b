"""What operations give, computed row by row in plain Python: an oracle that shares nothing with the compiler."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from service.features import operations as op
from service.features.operations import Operation, Predicate

DAY = timedelta(days=1)
Row = dict[str, Any]
Series = list[Row]
RowOracle = Callable[[Any, Series], list[Any]]
EntityOracle = Callable[[Any, Series, Series], Any]
"""Of an operation, the entity's rows, and all rows."""
ROWS: dict[type[Operation], RowOracle] = {}
ENTITIES: dict[type[Operation], EntityOracle] = {}
MODULES: dict[type[Operation], str] = {}
"""The module of an operation's oracle."""


def by_row(kind: type[Operation]) -> Callable[[Callable[[Any, Row, Series], Any]], Any]:
    """Register what one row's value is, given the row and all rows."""

    def register(oracle: Callable[[Any, Row, Series], Any]) -> Any:
        MODULES[kind] = oracle.__module__
        ROWS[kind] = lambda one, rows: [oracle(one, row, rows) for row in rows]
        return oracle

    return register


def by_entity(kind: type[Operation]) -> Callable[[EntityOracle], EntityOracle]:
    """Register what one entity's value is."""

    def register(oracle: EntityOracle) -> EntityOracle:
        MODULES[kind] = oracle.__module__
        ENTITIES[kind] = oracle
        return oracle

    return register


# What oracles share


def known(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def meets(row: Row, where: Sequence[Predicate]) -> bool:
    """Whether the row meets equality predicates, which are all that these tests use."""
    return all(row[one.column] is not None and row[one.column] in one.values for one in where)


def stat(function: str, values: Sequence[Any]) -> Any:
    """A statistic of the known values."""
    numbers = [float(value) for value in known(values)]
    of_none: dict[str, Callable[[list[float]], float]] = {
        "count": len, "count_distinct": lambda found: len({*found}), "sum": math.fsum,
    }  # fmt: skip
    of_one: dict[str, Callable[[list[float]], float]] = {
        "mean": statistics.fmean, "minimum": min, "maximum": max, "median": statistics.median,
        "range": lambda found: max(found) - min(found),
    }  # fmt: skip
    of_two = {"standard_deviation": statistics.stdev, "variance": statistics.variance}
    for least, figures in enumerate((of_none, of_one, of_two)):
        if function in figures:
            return float(figures[function](numbers)) if len(numbers) >= least else None
    raise ValueError(function)


def order(row: Row) -> tuple[datetime, int]:
    return row["at"], row["id"]


def series(rows: Series, where: Sequence[Predicate] = ()) -> Series:
    """Those with a time that meet the predicates, in order."""
    return sorted((row for row in rows if row["at"] is not None and meets(row, where)), key=order)


def history(one: Any, row: Row, rows: Series) -> Series | None:
    """The rows of the row's series up to it, and with it; None for a row that has no history."""
    entity = one.entity
    if row["at"] is None or (entity is not None and row[entity] is None):
        return None
    same = [other for other in rows if entity is None or other[entity] == row[entity]]
    return [other for other in series(same) if order(other) <= order(row)]


def quantile(values: Sequence[Any], q: float) -> float | None:
    numbers = [float(value) for value in known(values)]
    return float(np.quantile(numbers, q)) if numbers else None


def ratio(part: Any, whole: Any) -> Any:
    return None if part is None or not whole else part / whole


def days(span: timedelta) -> float:
    return span / DAY


def text(value: Any) -> str:
    """A value as the engine writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


# Several columns of a row


@by_row(op.AcrossColumns)
def across(one: op.AcrossColumns, row: Row, _: Series) -> Any:
    values = [row[name] for name in one.columns]
    if one.function == "range":
        return max(known(values)) - min(known(values)) if known(values) else None
    return stat(one.function, values)


@by_row(op.ColumnOfMaximum)
def column_of_maximum(one: op.ColumnOfMaximum, row: Row, _: Series) -> Any:
    values = {name: float(row[name]) for name in one.columns if row[name] is not None}
    return max(values, key=lambda name: values[name]) if values else None


@by_row(op.MissingCount)
def missing_count(one: op.MissingCount, row: Row, _: Series) -> Any:
    return sum(row[name] is None for name in one.columns)


@by_row(op.MissingPattern)
def missing_pattern(one: op.MissingPattern, row: Row, _: Series) -> Any:
    return "".join("1" if row[name] is None else "0" for name in one.columns)


@by_row(op.EqualCount)
def equal_count(one: op.EqualCount, row: Row, _: Series) -> Any:
    return sum(row[name] is not None and text(row[name]) == one.value for name in one.columns)


@by_row(op.CompareColumns)
def compare_columns(one: op.CompareColumns, row: Row, _: Series) -> Any:
    left, right = row[one.left], row[one.right]
    if left is None or right is None:
        return None
    if type(left) is not type(right) and (isinstance(left, str) or isinstance(right, str)):
        left, right = text(left), text(right)
    return int(
        {"lt": left < right, "le": left <= right, "eq": left == right, "ne": left != right, "ge": left >= right,
         "gt": left > right}[one.comparison]
    )  # fmt: skip


@by_row(op.CombinedCategory)
def combined_category(one: op.CombinedCategory, row: Row, _: Series) -> Any:
    values = [row[name] for name in one.columns]
    return None if None in values else "|".join(map(text, values))


@by_row(op.LargestShare)
def largest_share(one: op.LargestShare, row: Row, _: Series) -> Any:
    values = [float(value) for value in known([row[name] for name in one.columns])]
    return ratio(max(values), math.fsum(values)) if values and min(values) >= 0 else None


@by_row(op.DistanceFromColumns)
def distance_from_columns(one: op.DistanceFromColumns, row: Row, _: Series) -> Any:
    mean = stat("mean", [row[name] for name in one.columns])
    return None if mean is None or row[one.column] is None else float(row[one.column]) - mean


# Values, calendar, places


@by_row(op.SquareRoot)
def square_root(one: op.SquareRoot, row: Row, _: Series) -> Any:
    x = row[one.column]
    return None if x is None or x < 0 else math.sqrt(x)


@by_row(op.Clip)
def clip(one: op.Clip, row: Row, _: Series) -> Any:
    x = row[one.column]
    return None if x is None else float(np.clip(float(x), one.lower, one.upper))


@by_row(op.BinByEdges)
def bin_by_edges(one: op.BinByEdges, row: Row, _: Series) -> Any:
    x = row[one.column]
    return None if x is None else int(np.digitize(float(x), one.edges))


@by_row(op.IsRound)
def is_round(one: op.IsRound, row: Row, _: Series) -> Any:
    x = row[one.column]
    return None if x is None else int(math.isclose(x / one.step, round(x / one.step), rel_tol=1e-9, abs_tol=1e-9))


@by_row(op.CalendarFlag)
def calendar_flag(one: op.CalendarFlag, row: Row, _: Series) -> Any:
    at = row[one.column]
    if at is None:
        return None
    day, next_day = at.date(), at.date() + DAY
    return int({
        "month_start": day.day == 1,
        "month_end": next_day.day == 1,
        "quarter_start": day.day == 1 and day.month in {1, 4, 7, 10},
        "quarter_end": next_day.day == 1 and next_day.month in {1, 4, 7, 10},
        "year_start": (day.month, day.day) == (1, 1),
        "year_end": (next_day.month, next_day.day) == (1, 1),
        "business_day": day.weekday() < 5,
    }[one.day])  # fmt: skip


@by_row(op.Season)
def season(one: op.Season, row: Row, _: Series) -> Any:
    at = row[one.column]
    if at is None:
        return None
    names = ["winter", "spring", "summer", "autumn"]
    return names[(at.month % 12 // 3 + (0 if one.hemisphere == "north" else 2)) % 4]


@by_row(op.PartOfDay)
def part_of_day(one: op.PartOfDay, row: Row, _: Series) -> Any:
    at = row[one.column]
    return None if at is None else ["night", "morning", "afternoon", "evening"][at.hour // 6]


@by_row(op.DaysToDate)
def days_to_date(one: op.DaysToDate, row: Row, _: Series) -> Any:
    at = row[one.column]
    return None if at is None else days(datetime.combine(one.date, datetime.min.time(), at.tzinfo) - at)


@by_row(op.DaysToMonthEnd)
def days_to_month_end(one: op.DaysToMonthEnd, row: Row, _: Series) -> Any:
    at = row[one.column]
    if at is None:
        return None
    following = date(at.year + at.month // 12, at.month % 12 + 1, 1)
    return (following - at.date()).days - 1


def great_circle(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Kilometres by the angle between unit vectors, another formula than the haversine."""

    def unit(lat: float, lon: float) -> np.ndarray:
        lat, lon = math.radians(lat), math.radians(lon)
        return np.array([math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)])

    a, b = unit(lat1, lon1), unit(lat2, lon2)
    return 6371.0088 * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(np.dot(a, b)))


@by_row(op.Distance)
def distance(one: op.Distance, row: Row, _: Series) -> Any:
    values = [row[name] for name in (one.latitude, one.longitude, one.to_latitude, one.to_longitude)]
    return None if None in values else great_circle(*map(float, values))


@by_row(op.DistanceToPoint)
def distance_to_point(one: op.DistanceToPoint, row: Row, _: Series) -> Any:
    values = [row[one.latitude], row[one.longitude]]
    return None if None in values else great_circle(*map(float, values), one.point_latitude, one.point_longitude)


@by_row(op.Bearing)
def bearing(one: op.Bearing, row: Row, _: Series) -> Any:
    values = [row[name] for name in (one.latitude, one.longitude, one.to_latitude, one.to_longitude)]
    if None in values:
        return None
    lat1, lon1, lat2, lon2 = (math.radians(float(value)) for value in values)
    east = math.sin(lon2 - lon1) * math.cos(lat2)
    north = math.cos(lat1) * math.sin(lat2) - math.sin(lat1) * math.cos(lat2) * math.cos(lon2 - lon1)
    return math.degrees(math.atan2(east, north)) % 360


@by_row(op.GridCell)
def grid_cell(one: op.GridCell, row: Row, _: Series) -> Any:
    values = [row[one.latitude], row[one.longitude]]
    return None if None in values else ":".join(str(math.floor(float(value) / one.degrees)) for value in values)


# Text


@by_row(op.TermCount)
def term_count(one: op.TermCount, row: Row, _: Series) -> Any:
    note = row[one.column]
    return None if note is None else note.lower().count(one.term.lower())


@by_row(op.UrlHost)
def url_host(one: op.UrlHost, row: Row, _: Series) -> Any:
    note = row[one.column]
    if note is None or "://" not in note:
        return None
    authority = note.lower().split("://", 1)[1]
    for mark in "/?#":
        authority = authority.split(mark, 1)[0]
    host = authority.rpartition("@")[2].partition(":")[0].removeprefix("www.")
    return host or None


@by_row(op.UrlPathDepth)
def url_path_depth(one: op.UrlPathDepth, row: Row, _: Series) -> Any:
    note = row[one.column]
    if note is None:
        return None
    path = note.partition("?")[0].partition("#")[0]
    if "://" in path:
        path = "/".join(path.split("://", 1)[1].split("/")[1:])
    return len([segment for segment in path.split("/") if segment])


@by_row(op.EmailDomain)
def email_domain(one: op.EmailDomain, row: Row, rows: Series) -> Any:
    def domain(note: str | None) -> str | None:
        if note is None or "@" not in note or any(letter.isspace() for letter in note):
            return None
        name, _, host = note.lower().rpartition("@")
        return host if name and "." in host.strip(".") else None

    mine = domain(row[one.column])
    if mine is None:
        return None
    return mine if sum(domain(other[one.column]) == mine for other in rows) >= 5 else "other"


@by_row(op.TextSimilarity)
def text_similarity(one: op.TextSimilarity, row: Row, _: Series) -> Any:
    if row[one.left] is None or row[one.right] is None:
        return None

    def trigrams(value: str) -> set[str]:
        padded = f"  {value.lower()} "
        return {padded[place : place + 3] for place in range(len(padded) - 2)}

    a, b = trigrams(row[one.left]), trigrams(row[one.right])
    return len(a & b) / len(a | b)


@by_row(op.TermWeight)
def term_weight(one: op.TermWeight, row: Row, rows: Series) -> Any:
    note = row[one.column]
    if note is None:
        return None
    notes, term = known([other[one.column] for other in rows]), one.term.lower()
    holding = sum(term in other.lower() for other in notes)
    return note.lower().count(term) * (math.log((1 + len(notes)) / (1 + holding)) + 1)


# Beside all rows


@by_row(op.RobustScale)
def robust_scale(one: op.RobustScale, row: Row, rows: Series) -> Any:
    values, x = [other[one.column] for other in rows], row[one.column]
    if x is None:
        return None
    low, middle, high = (quantile(values, q) or 0.0 for q in (0.25, 0.5, 0.75))
    return ratio(float(x) - middle, high - low)


@by_row(op.Winsorize)
def winsorize(one: op.Winsorize, row: Row, rows: Series) -> Any:
    values, x = [other[one.column] for other in rows], row[one.column]
    return None if x is None else float(np.clip(float(x), quantile(values, one.lower), quantile(values, one.upper)))


@by_row(op.OutlierFlag)
def outlier_flag(one: op.OutlierFlag, row: Row, rows: Series) -> Any:
    values, x = known([other[one.column] for other in rows]), row[one.column]
    if x is None:
        return None
    if one.method == "iqr":
        low, high = quantile(values, 0.25) or 0.0, quantile(values, 0.75) or 0.0
        return int(x < low - one.factor * (high - low) or x > high + one.factor * (high - low))
    if one.method == "mad":
        middle = statistics.median(values)
        return int(abs(x - middle) > one.factor * 1.4826 * statistics.median(abs(value - middle) for value in values))
    deviation = stat("standard_deviation", values)
    return int(deviation is not None and abs(x - statistics.fmean(values)) > one.factor * deviation)


@by_row(op.FrequentCategory)
def frequent_category(one: op.FrequentCategory, row: Row, rows: Series) -> Any:
    if row[one.column] is None:
        return None
    counts = Counter(text(other[one.column]) for other in rows if other[one.column] is not None)
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    mine = text(row[one.column])
    return mine if mine in ranked[: one.k] and counts[mine] >= one.least_rows else "other"


def sharing(row: Row, rows: Series, groups: Sequence[str]) -> Series | None:
    """The rows with the row's values of the columns; None where one is null."""
    if any(row[name] is None for name in groups):
        return None
    return [other for other in rows if all(other[name] == row[name] for name in groups)]


@by_row(op.CombinedGroupStatistic)
def combined_group_statistic(one: op.CombinedGroupStatistic, row: Row, rows: Series) -> Any:
    same = sharing(row, rows, one.groups)
    return None if same is None else stat(one.function, [other[one.column] for other in same])


@by_row(op.CombinedGroupCount)
def combined_group_count(one: op.CombinedGroupCount, row: Row, rows: Series) -> Any:
    same = sharing(row, rows, one.groups)
    return None if same is None else len(same)


@by_row(op.DifferenceFromGroup)
def difference_from_group(one: op.DifferenceFromGroup, row: Row, rows: Series) -> Any:
    same = sharing(row, rows, [one.group])
    if same is None or row[one.column] is None:
        return None
    typical = stat(one.function, [other[one.column] for other in same])
    return float(row[one.column]) - typical if one.comparison == "difference" else ratio(row[one.column], typical)


# Earlier rows


@by_row(op.LogReturn)
def log_return(one: op.LogReturn, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    if past is None or len(past) < 2:
        return None
    before, x = past[-2][one.column], row[one.column]
    return math.log(x / before) if before is not None and x is not None and before > 0 and x > 0 else None


def window(one: Any, row: Row, rows: Series) -> Series | None:
    """The rows up to this one, or before it."""
    past = history(one, row, rows)
    return past if past is None or one.include_row else past[:-1]


@by_row(op.CumulativeStatistic)
def cumulative_statistic(one: op.CumulativeStatistic, row: Row, rows: Series) -> Any:
    past = window(one, row, rows)
    return None if past is None else stat(one.function, [other[one.column] for other in past])


@by_row(op.RollingRows)
def rolling_rows(one: op.RollingRows, row: Row, rows: Series) -> Any:
    past = window(one, row, rows)
    return None if past is None else stat(one.function, [other[one.column] for other in past[-one.rows :]])


@by_row(op.ExponentialMean)
def exponential_mean(one: op.ExponentialMean, row: Row, rows: Series) -> Any:
    past = window(one, row, rows)
    if past is None:
        return None
    weights = [(0.5 ** (back / one.half_life), other[one.column]) for back, other in enumerate(reversed(past))]
    used = [(weight, float(x)) for weight, x in weights if x is not None]
    return ratio(math.fsum(weight * x for weight, x in used), math.fsum(weight for weight, _ in used))


@by_row(op.Drawdown)
def drawdown(one: op.Drawdown, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    if past is None or row[one.column] is None:
        return None
    highest = max(known([other[one.column] for other in past]))
    return row[one.column] / highest - 1 if highest > 0 else None


@by_row(op.Streak)
def streak(one: op.Streak, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    if past is None:
        return None
    length = 0
    for other in reversed(past):
        if not meets(other, one.where):
            break
        length += 1
    return length


@by_row(op.DaysSinceMatching)
def days_since_matching(one: op.DaysSinceMatching, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    matching = [other["at"] for other in (past or [])[:-1] if meets(other, one.where)]
    return days(row["at"] - matching[-1]) if matching else None


@by_row(op.DaysSinceFirst)
def days_since_first(one: op.DaysSinceFirst, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    return None if past is None else days(row["at"] - past[0]["at"])


@by_row(op.FirstOccurrence)
def first_occurrence(one: op.FirstOccurrence, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    if past is None or row[one.column] is None:
        return None
    return int(row[one.column] not in [other[one.column] for other in past[:-1]])


@by_row(op.CategoryChanged)
def category_changed(one: op.CategoryChanged, row: Row, rows: Series) -> Any:
    past = history(one, row, rows)
    if past is None or len(past) < 2 or row[one.column] is None or past[-2][one.column] is None:
        return None
    return int(row[one.column] != past[-2][one.column])


# Entities


def numbers(rows: Series, column: str) -> list[float]:
    return [float(row[column]) for row in rows if row[column] is not None]


@by_entity(op.Spread)
def spread(one: op.Spread, mine: Series, _: Series) -> Any:
    values = numbers([row for row in mine if meets(row, one.where)], one.column)
    if not values:
        return None
    if one.figure == "range":
        return max(values) - min(values)
    if one.figure == "interquartile_range":
        return (quantile(values, 0.75) or 0.0) - (quantile(values, 0.25) or 0.0)
    return ratio(stat("standard_deviation", values), abs(statistics.fmean(values)))


@by_entity(op.Shape)
def shape(one: op.Shape, mine: Series, _: Series) -> Any:
    from scipy import stats

    values = numbers([row for row in mine if meets(row, one.where)], one.column)
    least, figure = (3, stats.skew) if one.figure == "skewness" else (4, stats.kurtosis)
    return float(figure(values)) if len(values) >= least and len({*values}) > 1 else None


def pearson(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    both = [(float(x), float(y)) for x, y in pairs if x is not None and y is not None]
    if len({x for x, _ in both}) < 2 or len({y for _, y in both}) < 2:
        return None
    return float(np.corrcoef(np.array(both).T)[0, 1])


@by_entity(op.Correlation)
def correlation(one: op.Correlation, mine: Series, _: Series) -> Any:
    return pearson([(row[one.column], row[one.other]) for row in mine])


@by_entity(op.WeightedMean)
def weighted_mean(one: op.WeightedMean, mine: Series, _: Series) -> Any:
    rows = [row for row in mine if meets(row, one.where)]
    both = [(row[one.column], row[one.weight]) for row in rows if None not in {row[one.column], row[one.weight]}]
    return ratio(math.fsum(x * w for x, w in both), math.fsum(w for _, w in both))


@by_entity(op.Herfindahl)
def herfindahl(one: op.Herfindahl, mine: Series, _: Series) -> Any:
    counts = Counter(known([row[one.column] for row in mine])).values()
    return ratio(sum(count * count for count in counts), sum(counts) ** 2)


@by_entity(op.Gini)
def gini(one: op.Gini, mine: Series, _: Series) -> Any:
    values = numbers(mine, one.column)
    if not values or min(values) < 0 or not sum(values):
        return None
    apart = math.fsum(abs(a - b) for a in values for b in values)
    return apart / (2 * len(values) * math.fsum(values))


@by_entity(op.MostFrequentPair)
def most_frequent_pair(one: op.MostFrequentPair, mine: Series, _: Series) -> Any:
    pairs = [(row[one.column], row[one.other]) for row in mine]
    counts = Counter(f"{text(a)}|{text(b)}" for a, b in pairs if a is not None and b is not None)
    return min(counts, key=lambda pair: (-counts[pair], pair)) if counts else None


@by_entity(op.NthValue)
def nth_value(one: op.NthValue, mine: Series, _: Series) -> Any:
    rows = series(mine, one.where)
    rows = rows[::-1] if one.from_end else rows
    return rows[one.n - 1][one.column] if len(rows) >= one.n else None


@by_entity(op.DaysBetweenEvents)
def days_between_events(one: op.DaysBetweenEvents, mine: Series, _: Series) -> Any:
    rows = series(mine, one.where)
    return days(rows[one.second - 1]["at"] - rows[one.first - 1]["at"]) if len(rows) >= one.second else None


def gaps(rows: Series) -> list[float]:
    return [days(b["at"] - a["at"]) for a, b in pairwise(rows)]


@by_entity(op.GapStatistic)
def gap_statistic(one: op.GapStatistic, mine: Series, _: Series) -> Any:
    return stat(one.function, gaps(series(mine, one.where)))


@by_entity(op.LastGap)
def last_gap(one: op.LastGap, mine: Series, _: Series) -> Any:
    found = gaps(series(mine, one.where))
    return found[-1] if found else None


@by_entity(op.GapTrend)
def gap_trend(one: op.GapTrend, mine: Series, _: Series) -> Any:
    found = gaps(series(mine, one.where))
    return float(np.polyfit(range(len(found)), found, 1)[0]) if len(found) > 1 else None


@by_entity(op.SessionStatistic)
def session_statistic(one: op.SessionStatistic, mine: Series, _: Series) -> Any:
    sessions: list[Series] = []
    for row in series(mine, one.where):
        if not sessions or row["at"] - sessions[-1][-1]["at"] > timedelta(minutes=one.gap_minutes):
            sessions.append([])
        sessions[-1].append(row)
    if one.function == "count":
        return float(len(sessions))
    function, figure = one.function.split("_")
    sizes = [len(session) for session in sessions]
    lengths = [(session[-1]["at"] - session[0]["at"]).total_seconds() / 60 for session in sessions]
    return stat(function, sizes if figure == "rows" else lengths)


@by_entity(op.LongestStreak)
def longest_streak(one: op.LongestStreak, mine: Series, _: Series) -> Any:
    longest = run = 0
    rows = series(mine)
    for row in rows:
        run = run + 1 if meets(row, one.where) else 0
        longest = max(longest, run)
    return (run if one.current else longest) if rows else None


@by_entity(op.TransitionShare)
def transition_share(one: op.TransitionShare, mine: Series, _: Series) -> Any:
    pairs = [(a[one.column], b[one.column]) for a, b in pairwise(series(mine)) if b[one.column] is not None]
    followed = [text(b) for a, b in pairs if a is not None and text(a) == one.first]
    return ratio(followed.count(one.then), len(followed))


@by_entity(op.ChangeCount)
def change_count(one: op.ChangeCount, mine: Series, _: Series) -> Any:
    pairs = [(a[one.column], b[one.column]) for a, b in pairwise(series(mine))]
    return sum(a != b for a, b in pairs if a is not None and b is not None)


@by_entity(op.Halves)
def halves(one: op.Halves, mine: Series, _: Series) -> Any:
    rows = series(mine)
    values = [row[one.column] for row in rows]
    early, late = values[: len(rows) // 2], values[len(rows) // 2 :]
    if one.function == "sum" and not (known(early) and known(late)):
        return None
    before, after = stat(one.function, early), stat(one.function, late)
    if before is None or after is None:
        return None
    return after - before if one.comparison == "difference" else ratio(after, before)


@by_entity(op.Autocorrelation)
def autocorrelation(one: op.Autocorrelation, mine: Series, _: Series) -> Any:
    values = [row[one.column] for row in series(mine)]
    return pearson(list(zip(values[one.lag :], values[: -one.lag], strict=True)))


@by_entity(op.SeriesShape)
def series_shape(one: op.SeriesShape, mine: Series, _: Series) -> Any:
    values = [row[one.column] for row in series(mine)]
    if one.figure == "energy":
        squares = [x * x for x in known(values)]
        return math.fsum(squares) if squares else None
    if one.figure == "peaks":
        triples = zip(values, values[1:], values[2:], strict=False)
        return float(sum(None not in three and three[1] > three[0] and three[1] > three[2] for three in triples))
    if one.figure == "maximum_drawdown":
        return min(_drawdowns(values), default=None)
    pairs = [(a, b) for a, b in pairwise(values) if a is not None and b is not None]
    if one.figure == "zero_crossings":
        return float(sum((a > 0) != (b > 0) for a, b in pairs))
    changes = [b - a if one.figure == "mean_change" else abs(b - a) for a, b in pairs]
    return statistics.fmean(changes) if changes else None


def _drawdowns(values: Sequence[Any]) -> Iterator[float]:
    for place, x in enumerate(values):
        highest = max(known(values[: place + 1]), default=0)
        if x is not None and highest > 0:
            yield x / highest - 1


@by_entity(op.Seasonality)
def seasonality(one: op.Seasonality, mine: Series, _: Series) -> Any:
    groups: dict[int, list[float]] = {}
    for row in mine:
        if row["at"] is not None and row[one.column] is not None:
            at = row["at"]
            part = {"hour": at.hour, "day_of_week": at.isoweekday(), "month": at.month}[one.period]
            groups.setdefault(part, []).append(float(row[one.column]))
    values = [value for group in groups.values() for value in group]
    means = [statistics.fmean(group) for group in groups.values() for _ in group]
    return ratio(statistics.pvariance(means), statistics.pvariance(values)) if len({*values}) > 1 else None


@by_entity(op.CompareWindows)
def compare_windows(one: op.CompareWindows, mine: Series, everyone: Series) -> Any:
    latest = max((row["at"] for row in everyone if row["at"] is not None), default=None)
    if latest is None:
        return 0.0 if one.function in {"count", "sum"} and one.comparison == "difference" else None
    found = []
    for back in (0.0, one.days_before or one.days):
        end = latest - timedelta(days=back)
        rows = [row for row in series(mine, one.where) if end - timedelta(days=one.days) < row["at"] <= end]
        found.append(
            float(len(rows)) if one.function == "count" else stat(one.function, [r[one.column or ""] for r in rows])
        )
    late, early = found
    if late is None or early is None:
        return None
    return late - early if one.comparison == "difference" else ratio(late, early)


@by_entity(op.AmongEntities)
def among_entities(one: op.AmongEntities, mine: Series, everyone: Series) -> Any:
    def value(rows: Series) -> Any:
        counted = [row for row in rows if meets(row, one.where)]
        return (
            float(len(counted))
            if one.function == "count"
            else stat(one.function, [r[one.column or ""] for r in counted])
        )

    entities = {row["user"] for row in everyone} - {None}
    values = known([value([row for row in everyone if row["user"] == entity]) for entity in entities])
    x = value(mine)
    if x is None:
        return None
    if one.place == "rank":
        return float(1 + sum(other > x for other in values))
    if one.place == "percent_rank":
        return sum(other < x for other in values) / (len(values) - 1) if len(values) > 1 else 0.0
    if one.place == "share_of_total":
        return ratio(x, math.fsum(values))
    return ratio(x - statistics.fmean(values), stat("standard_deviation", values))


@by_entity(op.AtTimes)
def at_times(one: op.AtTimes, mine: Series, _: Series) -> Any:
    parts: dict[str, Callable[[datetime], int]] = {
        "hour": lambda at: at.hour, "day_of_week": lambda at: at.isoweekday(), "day_of_month": lambda at: at.day,
        "day_of_year": lambda at: at.timetuple().tm_yday, "week": lambda at: at.isocalendar().week,
        "month": lambda at: at.month, "quarter": lambda at: (at.month + 2) // 3, "year": lambda at: at.year,
    }  # fmt: skip
    rows = [row for row in series(mine, one.where) if parts[one.part](row["at"]) in one.values]
    return float(len(rows)) if one.function == "count" else stat(one.function, [row[one.column or ""] for row in rows])
