"""Oracles of operations of the entity grain: inventories, kinds of events, measures, tsfresh's figures."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from scipy import stats

from service.features import operations as op
from tests.operations.oracles import (
    Series,
    by_entity,
    days,
    great_circle,
    known,
    meets,
    numbers,
    quantile,
    ratio,
    series,
    stat,
    text,
)


def latest(rows: Series) -> datetime | None:
    """The dataset's latest time."""
    return max((row["at"] for row in rows if row["at"] is not None), default=None)


def between(rows: Series, everyone: Series, start: float, end: float = 0.0) -> Series:
    """Rows in (as of - start, as of - end]."""
    moment = latest(everyone)
    if moment is None:
        return []
    low, high = moment - timedelta(days=start), moment - timedelta(days=end)
    return [row for row in rows if row["at"] is not None and low < row["at"] <= high]


def counted(one: Any, mine: Series, everyone: Series) -> Series:
    """Rows that meet the predicates and lie in the last days."""
    kept = [row for row in mine if meets(row, one.where)]
    return kept if one.last_days is None else between(kept, everyone, one.last_days)


# Inventories


def inventory(rows: Series, column: str, weight: str | None = None) -> dict[Any, float]:
    """Rows, or the sum of the weight, by category."""
    held: dict[Any, float] = {}
    for row in rows:
        if row[column] is not None:
            held.setdefault(row[column], 0.0)
            held[row[column]] += 1.0 if weight is None else float(row[weight] or 0)
    return held


@by_entity(op.InventoryStatistic)
def inventory_statistic(one: op.InventoryStatistic, mine: Series, everyone: Series) -> Any:
    rows = counted(one, mine, everyone)
    held = inventory(rows, one.column, one.weight)
    if one.figure == "distinct":
        return float(len(held))
    if one.figure == "once_share":
        return ratio(sum(count == 1 for count in inventory(rows, one.column).values()), len(held))
    values = np.array([max(x, 0.0) for x in held.values()])
    if not values.sum():
        return None
    shares = values / values.sum()
    return float(
        {"entropy": stats.entropy(shares, base=2), "top_share": shares.max(), "concentration": (shares**2).sum()}[
            one.figure
        ]
    )


@by_entity(op.InventoryOf)
def inventory_of(one: op.InventoryOf, mine: Series, everyone: Series) -> Any:
    held = inventory(counted(one, mine, everyone), one.column, one.weight)
    by_text = {text(value): n for value, n in held.items()}
    amount = by_text.get(one.value, 0.0)
    if one.figure == "amount":
        return amount
    if one.figure == "share":
        return ratio(amount, math.fsum(by_text.values()))
    return float(1 + sum(n > amount for n in by_text.values())) if one.value in by_text else None


@by_entity(op.NthCategory)
def nth_category(one: op.NthCategory, mine: Series, everyone: Series) -> Any:
    held = inventory(counted(one, mine, everyone), one.column, one.weight)
    ranked = sorted(held, key=lambda value: (-held[value], value))
    return ranked[one.n - 1] if len(ranked) >= one.n else None


def cosine(a: dict[Any, float], b: dict[Any, float]) -> float | None:
    lengths = math.hypot(*a.values()) * math.hypot(*b.values())
    return ratio(math.fsum(a[value] * b.get(value, 0.0) for value in a), lengths)


@by_entity(op.InventoryChange)
def inventory_similarity(one: op.InventoryChange, mine: Series, everyone: Series) -> Any:
    rows = [row for row in mine if meets(row, one.where)]
    late, early = between(rows, everyone, one.days), between(rows, everyone, 2 * one.days, one.days)
    return cosine(inventory(late, one.column), inventory(early, one.column))


@by_entity(op.InventoryAmongAll)
def inventory_typicality(one: op.InventoryAmongAll, mine: Series, everyone: Series) -> Any:
    whole = [row for row in everyone if row["user"] is not None]
    return cosine(*(inventory(counted(one, rows, everyone), one.column) for rows in (mine, whole)))


@by_entity(op.CategoryTurnover)
def category_turnover(one: op.CategoryTurnover, mine: Series, everyone: Series) -> Any:
    late = {row[one.column] for row in between(mine, everyone, one.days)} - {None}
    early = {row[one.column] for row in between(mine, everyone, 1e5, one.days)} - {None}
    return len({"new": late - early, "gone": early - late, "kept": late & early}[one.figure])


def baskets(rows: Series, column: str) -> list[Series]:
    return [[row for row in rows if row[column] == key] for key in {row[column] for row in rows} - {None}]


@by_entity(op.BasketsWithBoth)
def baskets_with_both(one: op.BasketsWithBoth, mine: Series, _: Series) -> Any:
    found = baskets(mine, one.column)
    first, second = ([any(meets(row, where) for row in one_) for one_ in found] for where in (one.first, one.second))
    both = sum(a and b for a, b in zip(first, second, strict=True))
    if one.figure == "count":
        return float(both)
    return ratio(both, len(found)) if one.figure == "share" else ratio(len(found) * both, sum(first) * sum(second))


@by_entity(op.BasketStatistic)
def basket_statistic(one: op.BasketStatistic, mine: Series, _: Series) -> Any:
    found = baskets([row for row in mine if meets(row, one.where)], one.column)
    return stat(
        one.function, [len(rows) if one.weight is None else math.fsum(numbers(rows, one.weight)) for rows in found]
    )


@by_entity(op.SumShare)
def sum_share(one: op.SumShare, mine: Series, everyone: Series) -> Any:
    rows = mine if one.last_days is None else between(mine, everyone, one.last_days)
    part = [row for row in rows if meets(row, one.where)]
    return ratio(math.fsum(numbers(part, one.column)), math.fsum(numbers(rows, one.column)))


@by_entity(op.CompareConditions)
def compare_conditions(one: op.CompareConditions, mine: Series, everyone: Series) -> Any:
    rows = mine if one.last_days is None else between(mine, everyone, one.last_days)
    kinds = [[row for row in rows if meets(row, where)] for where in (one.numerator, one.denominator)]
    a, b = (
        float(len(kind)) if one.function == "count" else stat(one.function, [row[one.column or ""] for row in kind])
        for kind in kinds
    )
    if a is None or b is None:
        return None
    return a - b if one.comparison == "difference" else ratio(a, b)


# Kinds of events


@by_entity(op.DaysSinceEvent)
def days_since_event(one: op.DaysSinceEvent, mine: Series, everyone: Series) -> Any:
    rows = series(mine, one.where)
    rows = rows[::-1] if one.from_end else rows
    moment = latest(everyone)
    return days(moment - rows[one.n - 1]["at"]) if moment and len(rows) >= one.n else None


@by_entity(op.DaysBetweenKinds)
def days_between_kinds(one: op.DaysBetweenKinds, mine: Series, _: Series) -> Any:
    rows = series(mine)
    first = next((place for place, row in enumerate(rows) if meets(row, one.first)), None)
    if first is None:
        return None
    ends = [row["at"] for row in rows[first + 1 :] if meets(row, one.then)]
    return days(ends[0] - rows[first]["at"]) if ends else None


def waits(one: Any, mine: Series) -> list[float | None]:
    """Days from each row of the first kind to the next of the second."""
    rows = series(mine)
    found = []
    for place, row in enumerate(rows):
        if meets(row, one.first):
            ends = [other["at"] for other in rows[place + 1 :] if meets(other, one.then)]
            found.append(days(ends[0] - row["at"]) if ends else None)
    return found


@by_entity(op.ResponseTime)
def response_time(one: op.ResponseTime, mine: Series, _: Series) -> Any:
    return stat(one.function, waits(one, mine))


@by_entity(op.FollowedShare)
def followed_share(one: op.FollowedShare, mine: Series, _: Series) -> Any:
    found = waits(one, mine)
    return ratio(sum(wait <= one.days for wait in found if wait is not None), len(found))


@by_entity(op.FunnelStep)
def funnel_step(one: op.FunnelStep, mine: Series, _: Series) -> Any:
    reached = 0
    for row in series(mine):
        if reached < len(one.steps) and row[one.column] is not None and text(row[one.column]) == one.steps[reached]:
            reached += 1
    return reached


def runs(one: Any, mine: Series, length: int) -> list[list[str | None]]:
    values = [None if row[one.column] is None else text(row[one.column]) for row in series(mine)]
    return [values[place : place + length] for place in range(len(values) - length + 1)]


@by_entity(op.PathCount)
def path_count(one: op.PathCount, mine: Series, _: Series) -> Any:
    return runs(one, mine, len(one.path)).count([*one.path])


@by_entity(op.MostFrequentPath)
def most_frequent_path(one: op.MostFrequentPath, mine: Series, _: Series) -> Any:
    counts = Counter(">".join(run) for run in runs(one, mine, one.length) if None not in run)  # type: ignore[arg-type]
    return min(counts, key=lambda run: (-counts[run], run)) if counts else None


def sessions(one: Any, mine: Series) -> list[Series]:
    found: list[Series] = []
    for row in series(mine):
        if not found or row["at"] - found[-1][-1]["at"] > timedelta(minutes=one.gap_minutes):
            found.append([])
        found[-1].append(row)
    return found


@by_entity(op.SessionRate)
def session_rate(one: op.SessionRate, mine: Series, _: Series) -> Any:
    found = sessions(one, mine)
    edges = {"any": found, "first": [one_[:1] for one_ in found], "last": [one_[-1:] for one_ in found]}[one.at]
    return ratio(sum(any(meets(row, one.where) for row in edge) for edge in edges), len(found))


@by_entity(op.SessionEdge)
def session_edge(one: op.SessionEdge, mine: Series, _: Series) -> Any:
    values = [session[0 if one.edge == "first" else -1][one.column] for session in sessions(one, mine)]
    if not values:
        return None
    if one.session != "most_frequent":
        return values[0 if one.session == "first" else -1]
    counts = Counter(known(values))
    return min(counts, key=lambda value: (-counts[value], value)) if counts else None


def period_of(at: datetime, kind: str) -> int:
    if kind == "month":
        return at.year * 12 + at.month
    day = (at.date() - date(1970, 1, 5)).days  # a Monday
    return day // 7 if kind == "week" else day


@by_entity(op.ActivePeriods)
def active_periods(one: op.ActivePeriods, mine: Series, _: Series) -> Any:
    active = sorted({period_of(row["at"], one.period) for row in series(mine, one.where)})
    if one.figure == "count":
        return float(len(active))
    if not active:
        return None
    if one.figure == "share":
        return len(active) / (active[-1] - active[0] + 1)
    lengths = [len(list(run)) for _, run in groupby(enumerate(active), key=lambda pair: pair[1] - pair[0])]
    return float(max(lengths) if one.figure == "longest_run" else lengths[-1])


@by_entity(op.PeriodTotals)
def period_totals(one: op.PeriodTotals, mine: Series, _: Series) -> Any:
    totals: dict[int, float] = {}
    for row in series(mine, one.where):
        key = period_of(row["at"], one.period)
        totals[key] = totals.get(key, 0.0) + (1.0 if one.column is None else float(row[one.column] or 0))
    return stat(one.function, list(totals.values()))


@by_entity(op.DecayedSum)
def decayed_sum(one: op.DecayedSum, mine: Series, everyone: Series) -> Any:
    moment = latest(everyone)
    return math.fsum(
        (1.0 if one.column is None else float(row[one.column] or 0))
        * 0.5 ** (days(moment - row["at"]) / one.half_life_days)
        for row in series(mine, one.where)
        if moment is not None
    )


@by_entity(op.OverdueRatio)
def overdue_ratio(one: op.OverdueRatio, mine: Series, everyone: Series) -> Any:
    times, moment = [row["at"] for row in series(mine, one.where)], latest(everyone)
    if moment is None or len(times) < 2:
        return None
    return ratio(days(moment - times[-1]), days(times[-1] - times[0]) / (len(times) - 1))


@by_entity(op.TimeInState)
def time_in_state(one: op.TimeInState, mine: Series, _: Series) -> Any:
    rows = series(mine)
    if not rows:
        return None
    total = math.fsum(days(b["at"] - a["at"]) for a, b in pairwise(rows) if meets(a, one.where))
    return total if one.figure == "days" else ratio(total, days(rows[-1]["at"] - rows[0]["at"]))


@by_entity(op.TimeWeightedMean)
def time_weighted_mean(one: op.TimeWeightedMean, mine: Series, _: Series) -> Any:
    spans = [(a[one.column], days(b["at"] - a["at"])) for a, b in pairwise(series(mine)) if a[one.column] is not None]
    return ratio(math.fsum(x * span for x, span in spans), math.fsum(span for _, span in spans))


@by_entity(op.ValueAtExtreme)
def value_at_extreme(one: op.ValueAtExtreme, mine: Series, _: Series) -> Any:
    sign = -1 if one.extreme == "maximum" else 1
    pairs = [(sign * row[one.other], row[one.column]) for row in mine if None not in (row[one.other], row[one.column])]
    return min(pairs)[1] if pairs else None


@by_entity(op.DaysSinceExtreme)
def days_since_extreme(one: op.DaysSinceExtreme, mine: Series, everyone: Series) -> Any:
    rows = [row for row in series(mine) if row[one.column] is not None]
    if not rows:
        return None
    extreme = (max if one.extreme == "maximum" else min)(row[one.column] for row in rows)
    return days((latest(everyone) or rows[-1]["at"]) - max(row["at"] for row in rows if row[one.column] == extreme))


def state(mine: Series, everyone: Series, column: str, back: float, where: Any = ()) -> Any:
    moment = latest(everyone)
    if moment is None:
        return None
    rows = [row for row in series(mine, where) if row["at"] <= moment - timedelta(days=back)]
    values = known([row[column] for row in rows])
    return values[-1] if values else None


@by_entity(op.StateBefore)
def value_days_ago(one: op.StateBefore, mine: Series, everyone: Series) -> Any:
    return state(mine, everyone, one.column, one.days, one.where)


@by_entity(op.StateChange)
def change_since(one: op.StateChange, mine: Series, everyone: Series) -> Any:
    now, before = (state(mine, everyone, one.column, back) for back in (0.0, one.days))
    if now is None or before is None:
        return None
    return float(now - before) if one.comparison == "difference" else ratio(now, before)


@by_entity(op.WindowStatistic)
def aggregate_between(one: op.WindowStatistic, mine: Series, everyone: Series) -> Any:
    rows = between([row for row in mine if meets(row, one.where)], everyone, one.from_days, one.to_days)
    return float(len(rows)) if one.function == "count" else stat(one.function, [row[one.column or ""] for row in rows])


# Measures


@by_entity(op.AggregatePair)
def aggregate_pair(one: op.AggregatePair, mine: Series, everyone: Series) -> Any:
    def combined(a: Any, b: Any) -> Any:
        if a is None or b is None:
            return None
        plain = {
            "sum": lambda: a + b,
            "difference": lambda: a - b,
            "product": lambda: a * b,
            "ratio": lambda: ratio(a, b),
        }
        return plain[one.combine]()

    return stat(one.function, [combined(row[one.left], row[one.right]) for row in counted(one, mine, everyone)])


@by_entity(op.AggregateElapsed)
def aggregate_elapsed(one: op.AggregateElapsed, mine: Series, everyone: Series) -> Any:
    rows = [row for row in counted(one, mine, everyone) if None not in (row[one.start], row[one.end])]
    return stat(one.function, [days(row[one.end] - row[one.start]) for row in rows])


@by_entity(op.AggregateText)
def aggregate_text(one: op.AggregateText, mine: Series, everyone: Series) -> Any:
    notes = known([row[one.column] for row in counted(one, mine, everyone)])
    return stat(one.function, [len(note) if one.measure == "characters" else len(note.split()) for note in notes])


@by_entity(op.TermShare)
def term_share(one: op.TermShare, mine: Series, _: Series) -> Any:
    notes = known([row[one.column] for row in mine if meets(row, one.where)])
    return ratio(sum(one.term.lower() in note.lower() for note in notes), len(notes))


@by_entity(op.LargestValues)
def largest_values(one: op.LargestValues, mine: Series, _: Series) -> Any:
    values = sorted(numbers(mine, one.column), reverse=True)
    top = values[: one.n]
    if one.figure == "nth":
        return values[one.n - 1] if len(values) >= one.n else None
    if not top:
        return None
    return {"sum": math.fsum(top), "mean": statistics.fmean(top), "share": ratio(math.fsum(top), math.fsum(values))}[
        one.figure
    ]


@by_entity(op.SpecialMean)
def special_mean(one: op.SpecialMean, mine: Series, _: Series) -> Any:
    values = numbers([row for row in mine if meets(row, one.where)], one.column)
    if not values or (one.mean != "quadratic" and min(values) <= 0):
        return None
    if one.mean == "quadratic":
        return math.sqrt(statistics.fmean(x * x for x in values))
    return float(stats.gmean(values) if one.mean == "geometric" else stats.hmean(values))


@by_entity(op.Track)
def track(one: op.Track, mine: Series, _: Series) -> Any:
    rows = [row for row in series(mine) if None not in (row[one.latitude], row[one.longitude])]
    places = [(float(row[one.latitude]), float(row[one.longitude])) for row in rows]
    if not places:
        return None
    if one.figure == "net_km":
        return great_circle(*places[0], *places[-1])
    if one.figure == "maximum_from_first_km":
        return max(great_circle(*places[0], *place) for place in places)
    steps = [great_circle(*a, *b) for a, b in pairwise(places)]
    if not steps:
        return None
    return {"total_km": math.fsum(steps), "mean_step_km": statistics.fmean(steps), "maximum_step_km": max(steps)}[
        one.figure
    ]


# tsfresh's figures, after its own code


def values_of(one: Any, mine: Series) -> np.ndarray:
    return np.array([float(row[one.column]) for row in series(mine, one.where) if row[one.column] is not None])


def longest(flags: Any) -> int:
    return max((len(list(run)) for met, run in groupby(flags) if met), default=0)


@by_entity(op.SeriesStatistic)
def series_statistic(one: op.SeriesStatistic, mine: Series, _: Series) -> Any:
    x = values_of(one, mine)
    n, change = len(x), np.diff(x)
    figure = one.figure
    if figure == "length":
        return float(n)
    if figure in {"count_above_mean", "count_below_mean"} and not n:
        return 0.0
    if not n:
        return None
    counts = Counter(x.tolist())
    repeated = {value for value, count in counts.items() if count > 1}
    mean = x.mean()
    plain: dict[str, Any] = {
        "absolute_energy": lambda: float(x @ x),
        "root_mean_square": lambda: math.sqrt((x @ x) / n),
        "count_above_mean": lambda: float((x > mean).sum()),
        "count_below_mean": lambda: float((x < mean).sum()),
        "longest_strike_above_mean": lambda: float(longest(x > mean)),
        "longest_strike_below_mean": lambda: float(longest(x < mean)),
        "first_location_of_maximum": lambda: float(np.argmax(x) / n),
        "last_location_of_maximum": lambda: float(1 - np.argmax(x[::-1]) / n),
        "first_location_of_minimum": lambda: float(np.argmin(x) / n),
        "last_location_of_minimum": lambda: float(1 - np.argmin(x[::-1]) / n),
        "time_to_maximum": lambda: float(np.argmax(x)),
        "share_of_distinct": lambda: len(counts) / n,
        "sum_of_reoccurring_values": lambda: math.fsum(repeated),
        "share_of_reoccurring_points": lambda: sum(counts[value] for value in repeated) / n,
        "variation_coefficient": lambda: ratio(float(x.std(ddof=1)), float(mean)) if n > 1 else None,
        "mean_second_derivative": lambda: float((x[-1] - x[-2] - x[1] + x[0]) / (2 * (n - 2))) if n > 2 else None,
    }
    if figure in plain:
        return plain[figure]()
    if n < 2:
        return None
    return float({
        "sum_of_changes": np.abs(change).sum(), "mean_absolute_change": np.abs(change).mean(),
        "mean_change": (x[-1] - x[0]) / (n - 1), "complexity": math.sqrt(change @ change),
        "maximum_increase": change.max(), "maximum_decrease": change.min(),
    }[figure])  # fmt: skip


@by_entity(op.SeriesCrossings)
def series_crossings(one: op.SeriesCrossings, mine: Series, _: Series) -> Any:
    return int(np.count_nonzero(np.diff(values_of(one, mine) > one.level)))


@by_entity(op.SeriesPeaks)
def series_peaks(one: op.SeriesPeaks, mine: Series, _: Series) -> Any:
    x, n = values_of(one, mine), one.support
    return sum(
        all(x[place] > x[place - k] and x[place] > x[place + k] for k in range(1, n + 1))
        for place in range(n, len(x) - n)
    )


@by_entity(op.SeriesMemory)
def series_memory(one: op.SeriesMemory, mine: Series, _: Series) -> Any:
    x, lag = values_of(one, mine), one.lag
    n = len(x)
    if n <= lag or (one.figure in {"c3", "time_reversal_asymmetry"} and n <= 2 * lag):
        return None
    late, early = x[lag:], x[:-lag]
    if one.figure == "autocorrelation":
        return (
            float(((late - x.mean()) * (early - x.mean())).sum() / ((n - lag) * x.var())) if x.min() < x.max() else None
        )
    if one.figure in {"mean_absolute_difference", "mean_difference"}:
        return float((np.abs(late - early) if "absolute" in one.figure else late - early).mean())
    one_lag, two_lag, zero = x[lag : n - lag], x[2 * lag :], x[: n - 2 * lag]
    if one.figure == "c3":
        return float((two_lag * one_lag * zero).mean())
    return float((two_lag**2 * one_lag - one_lag * zero**2).mean())


@by_entity(op.SeriesBeyondSigma)
def series_beyond_sigma(one: op.SeriesBeyondSigma, mine: Series, _: Series) -> Any:
    x = values_of(one, mine)
    return float((np.abs(x - x.mean()) > one.deviations * x.std()).mean()) if len(x) else None


@by_entity(op.SeriesTrend)
def series_trend(one: op.SeriesTrend, mine: Series, _: Series) -> Any:
    x = values_of(one, mine)
    if len(x) < 2 or (one.figure == "r_squared" and x.min() == x.max()):
        return None
    fit = stats.linregress(range(len(x)), x)
    return float({"slope": fit.slope, "intercept": fit.intercept, "r_squared": fit.rvalue**2}[one.figure])


@by_entity(op.BinnedEntropy)
def binned_entropy(one: op.BinnedEntropy, mine: Series, _: Series) -> Any:
    x = values_of(one, mine)
    if not len(x):
        return None
    counts, _edges = np.histogram(x, bins=one.bins)
    return float(stats.entropy(counts))


@by_entity(op.ChangeQuantiles)
def changes_in_corridor(one: op.ChangeQuantiles, mine: Series, _: Series) -> Any:
    x = values_of(one, mine)
    if not len(x):
        return None
    low, high = quantile(x, one.low) or 0.0, quantile(x, one.high) or 0.0
    change = [b - a for a, b in pairwise(x) if low <= a <= high and low <= b <= high]
    change = [abs(step) for step in change] if one.absolute else change
    if not change:
        return 0.0
    return float(np.mean(change) if one.function == "mean" else np.var(change))


@by_entity(op.EnergyShare)
def energy_share(one: op.EnergyShare, mine: Series, _: Series) -> Any:
    x = values_of(one, mine)
    if not len(x):
        return None
    part = np.array_split(x, one.parts)[one.part - 1]
    return ratio(float(part @ part), float(x @ x))


@by_entity(op.MassQuantile)
def mass_quantile(one: op.MassQuantile, mine: Series, _: Series) -> Any:
    x = np.abs(values_of(one, mine))
    if not len(x) or not x.sum():
        return None
    return float((np.argmax(np.cumsum(x) >= one.q * x.sum()) + 1) / len(x))
