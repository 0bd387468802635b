"""How features go together, and how well each gives the target away: rank statistics over the sample.

Between numbers the measure is Spearman's correlation; with a target of two classes, the rank-biserial correlation
(twice the distance of the area under the ROC curve from a half); between a number and categories, the correlation
ratio of the ranks less what chance gives (epsilon squared, Kelley 1935); between categories, Cramér's V less what
chance gives (Bergsma 2013).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from sqlglot import exp

from service.engines.duckdb.sample import RANKED, Measured, Sample
from service.engines.duckdb.statements import Connection, template
from service.engines.sql.template import column

REPORTED_CORRELATION = 0.8
MIN_PAIRED_ROWS = 10
"""Below it, correlations above 0.8 between unrelated features are common."""
MIN_TARGET_ROWS = 30
MAX_CLASSES = 1_000
"""A target, or a text feature, with more values names things rather than classes them: no association is measured."""
BINARY = 2
ROUNDING = 1e-12
"""A variance of ranks up to this is that of equal ranks, but for rounding."""

Group = tuple[int, float, float]
"""Rows of a group, the mean of their ranks, and the sum of the ranks' squares."""


def correlations(connection: Connection, sample: Sample) -> dict[str, dict[str, float]]:
    """By feature, its absolute rank correlation with each earlier feature where it is high.

    Text features correlate (fully) with one another when they tell the same rows apart.
    """
    numeric = list(combinations([feature for feature in sample.features if feature.numeric], 2))
    textual = combinations([feature for feature in sample.features if not feature.numeric], 2)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for earlier, later, value in _high(connection, numeric):
        found[later.name][earlier.name] = value
    for earlier, later in textual:
        if _same_partition(connection, earlier, later):
            found[later.name][earlier.name] = 1.0
    return found


def target_associations(connection: Connection, sample: Sample) -> dict[str, float]:
    """By feature, 0 … 1: how well it alone gives the target away; empty without a target that varies."""
    if sample.target is None:
        return {}
    classes = connection.query(_ranked([template("COUNT(DISTINCT :t)", t=column("t", "r"))]))[0][0]
    numeric = [feature for feature in sample.features if feature.numeric]
    textual = [feature for feature in sample.features if not feature.numeric]
    found: dict[str, float | None] = {}
    if sample.target == "number" and classes > BINARY:
        found |= _spearman_with_target(connection, numeric)
        found |= {feature.name: separation(_groups(connection, feature)) for feature in textual}
    elif classes <= MAX_CLASSES:
        found |= _separation_of_classes(connection, numeric, sample)
        found |= {feature.name: cramers_v(*_contingency(connection, feature)) for feature in textual}
    return {name: min(value, 1.0) for name, value in found.items() if value is not None and not math.isnan(value)}


def separation(groups: Sequence[Group], scale: float = 1.0) -> float | None:
    """Rank-biserial correlation for two groups, else epsilon of the ranks; None for too few rows or one group.

    `scale` times a rank is its position among all rows (ranks in the sample are shares of its rows).
    """
    known = [group for group in groups if group[0]]
    rows = sum(count for count, _, _ in known)
    if rows < MIN_TARGET_ROWS or len(known) < BINARY or rows <= len(known):
        return None
    if len(known) == BINARY:
        return 2 * abs(known[0][1] - known[1][1]) * scale / rows
    mean = sum(count * rank for count, rank, _ in known) / rows
    variance = sum(squares for _, _, squares in known) / rows - mean * mean
    if variance <= ROUNDING:
        return 0.0
    explained = sum(count * (rank - mean) ** 2 for count, rank, _ in known) / rows / variance
    return math.sqrt(max(0.0, 1 - (1 - explained) * (rows - 1) / (rows - len(known))))


def cramers_v(rows: int, left: int, right: int, concentration: float) -> float | None:
    """Bias-corrected Cramér's V of a table of `left` x `right` categories; None for too few rows or one category.

    `concentration` is the sum over its cells of n² / (row total x column total), which is chi² / n + 1.
    """
    if rows < MIN_TARGET_ROWS or min(left, right) < BINARY or left > MAX_CLASSES:
        return None
    phi = max(0.0, concentration - 1 - (left - 1) * (right - 1) / (rows - 1))
    least = min(count - (count - 1) ** 2 / (rows - 1) for count in (left, right))
    return math.sqrt(phi / (least - 1)) if least > 1 else 0.0


def _high(connection: Connection, pairs: Sequence[tuple[Measured, Measured]]) -> list[tuple[Measured, Measured, float]]:
    """The pairs whose correlation is high, and rests on enough rows."""
    values = connection.aggregate(f"{RANKED} AS r", [_correlation(a.alias, b.alias) for a, b in pairs])
    found = [
        (a, b, min(abs(value), 1.0))
        for (a, b), value in zip(pairs, values, strict=True)
        if value is not None and abs(value) >= REPORTED_CORRELATION
    ]
    paired = [template("REGR_COUNT(:a, :b)", a=column(a.alias, "r"), b=column(b.alias, "r")) for a, b, _ in found]
    counts = connection.aggregate(f"{RANKED} AS r", paired)
    return [one for one, count in zip(found, counts, strict=True) if count >= MIN_PAIRED_ROWS]


def _correlation(left: str, right: str) -> exp.Expr:
    return exp.Corr(this=column(left, "r"), expression=column(right, "r"))


def _same_partition(connection: Connection, earlier: Measured, later: Measured) -> bool:
    a, b = column(earlier.alias, "r"), column(later.alias, "r")
    texts = ("COUNT(DISTINCT :a)", "COUNT(DISTINCT :b)", "COUNT(DISTINCT ROW(:a, :b))", "COUNT(*)")
    statement = _ranked([template(text, a=a, b=b) for text in texts])
    both_known = template("NOT :a IS NULL AND NOT :b IS NULL", a=a, b=b)
    left, right, both, known = connection.query(statement.where(both_known, copy=False))[0]
    return left == right == both > 1 and known >= MIN_PAIRED_ROWS


def _spearman_with_target(connection: Connection, features: Sequence[Measured]) -> dict[str, float | None]:
    asked: list[exp.Expr] = []
    for feature in features:
        asked.append(_correlation(feature.alias, "u"))
        asked.append(template("REGR_COUNT(:a, :b)", a=column(feature.alias, "r"), b=column("u", "r")))
    found = connection.aggregate(f"{RANKED} AS r", asked)
    pairs = zip(features, found[::2], found[1::2], strict=True)
    return {
        feature.name: abs(value) if value is not None and rows >= MIN_TARGET_ROWS else None
        for feature, value, rows in pairs
    }


def _separation_of_classes(
    connection: Connection, features: Sequence[Measured], sample: Sample
) -> dict[str, float | None]:
    """The features' ranks within each class of the target, in one aggregation."""
    if not features:
        return {}
    t = column("t", "r")
    statement = _ranked([figure for feature in features for figure in _figures(column(feature.alias, "r"))])
    statement = statement.where(template("NOT :t IS NULL", t=t), copy=False).group_by(t, copy=False)
    classes = connection.query(statement)
    return {
        feature.name: separation([tuple(row[3 * place : 3 * place + 3]) for row in classes], sample.rows)
        for place, feature in enumerate(features)
    }


def _groups(connection: Connection, feature: Measured) -> list[Group]:
    """The target's ranks within each of the feature's categories; none when it has too many."""
    x = column(feature.alias, "r")
    statement = _ranked(_figures(column("u", "r"))).where(template("NOT :x IS NULL", x=x), copy=False)
    rows = connection.query(statement.group_by(x, copy=False).limit(MAX_CLASSES + 1, copy=False))
    return [(count, mean, squares) for count, mean, squares in rows] if len(rows) <= MAX_CLASSES else []


def _figures(rank: exp.Expr) -> list[exp.Expr]:
    return [template(text, u=rank) for text in ("COUNT(:u)", "AVG(:u)", "SUM(:u * :u)")]


def _contingency(connection: Connection, feature: Measured) -> tuple[int, int, int, float]:
    """The figures that `cramers_v` takes, for a feature's categories against the target's."""
    a, b = column(feature.alias, "r"), column("t", "r")
    cells = _ranked([exp.alias_(a, "a"), exp.alias_(b, "b"), exp.alias_(template("COUNT(*)"), "n")])
    cells = cells.where(template("NOT :a IS NULL AND NOT :b IS NULL", a=a, b=b)).group_by(a, b)
    nodes = {name: column(name, "c") for name in "abn"}
    totals = exp.select(
        *nodes.values(),
        exp.alias_(template("SUM(:n) OVER (PARTITION BY :a)", **nodes), "na"),
        exp.alias_(template("SUM(:n) OVER (PARTITION BY :b)", **nodes), "nb"),
    ).from_(exp.Subquery(this=cells, alias=exp.to_identifier("c")))
    texts = ("COALESCE(SUM(:n), 0)", "COUNT(DISTINCT :a)", "COUNT(DISTINCT :b)", "SUM(:n * :n / (:na * :nb))")
    figures = {name: column(name, "g") for name in ("a", "b", "n", "na", "nb")}
    outer = exp.select(*(template(text, **figures) for text in texts))
    rows, left, right, concentration = connection.query(
        outer.from_(exp.Subquery(this=totals, alias=exp.to_identifier("g")))
    )[0]
    return int(rows), left, right, concentration


def _ranked(projections: Sequence[exp.Expr]) -> exp.Select:
    return exp.select(*projections).from_(f"{RANKED} AS r", copy=False)
