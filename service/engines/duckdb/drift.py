"""Population stability index of each feature between the earlier and the later half of the sample.

PSI = sum over bins of (later - earlier) ln(later / earlier), in shares of the half (Siddiqi, Credit Risk Scorecards,
2006). Bins are the deciles of both halves together, or the ten most frequent values of text and the rest; nulls are a
bin of their own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from sqlglot import exp

from service.engines.duckdb.sample import RANKED, Measured, Sample
from service.engines.duckdb.statements import Connection, template
from service.engines.sql.template import column, number

BINS = 10
SMALLEST_SHARE = 1e-4
"""Stands for an empty bin, whose logarithm would be infinite."""
DECILE = "LEAST(CAST(FLOOR(:x * :bins) AS INTEGER), :bins - 1)"
IN_HALF = ("COUNT(*) FILTER (WHERE NOT :later)", "COUNT(*) FILTER (WHERE :later)")


def drifts(connection: Connection, sample: Sample) -> dict[str, float]:
    """PSI by feature name; empty when the sample has no halves."""
    if not sample.halved:
        return {}
    halves = connection.query(exp.select(*_in_half()).from_(f"{RANKED} AS r", copy=False))[0]
    bins: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index, earlier, later in connection.query_each([_counts(feature) for feature in sample.features]):
        bins[index].append((earlier, later))
    measured = {feature.name: population_stability(bins[feature.index], *halves) for feature in sample.features}
    return {name: drift for name, drift in measured.items() if drift is not None}


def population_stability(bins: Sequence[tuple[int, int]], earlier: int, later: int) -> float | None:
    """PSI of two histograms over the same bins, of so many rows each; None when one has no rows.

    Rows in none of the bins make one more.
    """
    if not earlier or not later:
        return None
    rest = (earlier - sum(before for before, _ in bins), later - sum(after for _, after in bins))
    counts = [*bins, rest] if any(rest) else bins
    shares = [(max(a / earlier, SMALLEST_SHARE), max(b / later, SMALLEST_SHARE)) for a, b in counts]
    return sum((after - before) * math.log(after / before) for before, after in shares)


def _counts(feature: Measured) -> exp.Select:
    x = column(feature.alias, "r")
    value = template(DECILE, x=x, bins=number(BINS)) if feature.numeric else x
    counts = exp.select(number(feature.index), *_in_half()).from_(f"{RANKED} AS r", copy=False)
    counts = counts.group_by(value, copy=False)
    if feature.numeric:
        return counts
    most = exp.Ordered(this=template("COUNT(*)"), desc=True)
    frequent = counts.order_by(most, x, copy=False).limit(BINS, copy=False)
    return exp.select("*").from_(exp.Subquery(this=frequent, alias=exp.to_identifier("f")), copy=False)


def _in_half() -> list[exp.Expr]:
    return [template(text, later=column("later", "r")) for text in IN_HALF]
