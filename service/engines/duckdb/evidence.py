"""Measure computed features, in a handful of statements over the table they were computed into.

Counts, extremes and moments are over all rows; so are distinct values, medians, top shares, drift and correlations up
to `sample.sample_size` rows. Above it the latter come from a sample, and distinct values from a sketch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.association import correlations, target_associations
from service.engines.duckdb.drift import drifts
from service.engines.duckdb.sample import FINITE, SAMPLED, Measured, Sample, draw, open_finite, sample_size
from service.engines.duckdb.statements import Connection, template
from service.engines.duckdb.target import target_of
from service.engines.sql.compile import COMPUTED, CompiledPlan
from service.engines.sql.template import column, number
from service.features.lineage import sources_of
from service.features.model import FeatureEvidence, FeaturePlan, FeatureStatistics, Profile, ValueCount
from service.features.tables import Tables

TOP_VALUES = 10
LISTED_DISTINCT = 20
"""Numbers with at most so many distinct values (flags, small counts) have their top values listed, as text has."""

DISTINCT = "COUNT(DISTINCT :x)"
MEAN = "FAVG(:x)"
"""Kahan's sum: its error does not grow with the rows."""
DIGITS = 12
"""Significant ones of means and deviations. Rows are added in whatever order threads reach them, which shows in the
fifteenth or sixteenth digit: without it the same plan on the same data would not give the same answer."""
SKETCHED_DISTINCT = "CASE WHEN MIN(:x) = MAX(:x) THEN 1 ELSE APPROX_COUNT_DISTINCT(:x) END"


class Moments(Struct, frozen=True):
    """One feature's statistics over all rows; None where it has no value, or none that is a number."""

    known: int
    """Rows with a value that is not NaN or infinite."""
    distinct: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None


class Top(Struct, frozen=True):
    """A feature's most frequent values."""

    share: float = 0.0
    values: tuple[ValueCount, ...] = ()


def measure(
    connection: Connection,
    compiled: CompiledPlan,
    plan: FeaturePlan,
    tables: Tables,
    target: str | None,
    begin: Callable[[float], None] = lambda _: None,
) -> tuple[FeatureEvidence, ...]:
    """Measure each feature of the table `computed`, in the plan's order.

    `begin` is called before each step with the share of the work, 0 to 1, that is done when the step ends.

    Drift is between halves in time, so it needs row grain, a time column and some hundred rows: a file's order is no
    time, and entities have none. Raises what `Sandbox.run` raises.
    """
    begin(0.1)
    features = open_finite(connection, compiled)
    rows, computed = _counts(connection, features)
    begin(0.5)
    moments = _moments(connection, features, exact=rows <= sample_size(len(features)))
    begin(0.7)
    sample = draw(connection, features, compiled, target_of(plan, tables, compiled, target), rows)
    begin(0.9)
    medians, tops, drift = (
        _medians(connection, features),
        _tops(connection, sample, moments),
        drifts(connection, sample),
    )
    begin(1.0)
    related, telling = correlations(connection, sample), target_associations(connection, sample)
    hidden = _hidden(plan, tables.profile)

    def evidence(feature: Measured) -> FeatureEvidence:
        name, found = feature.name, moments[feature.name]
        return FeatureEvidence(
            name=name,
            dtype=feature.dtype,
            statistics=_statistics(rows, found, medians.get(name), () if name in hidden else tops[name].values),
            non_finite_ratio=_ratio(computed[name] - found.known, rows),
            top_share=tops[name].share,
            drift=drift.get(name),
            target_association=telling.get(name),
            correlations=related.get(name, {}),
        )

    return tuple(evidence(feature) for feature in features)


def _hidden(plan: FeaturePlan, profile: Profile) -> set[str]:
    """Features made of personal columns: their values are not listed."""
    personal = {known.name for known in profile.columns if known.personal}
    return {feature.name for feature in plan.published if personal.intersection(sources_of(plan, feature))}


def _counts(connection: Connection, features: Sequence[Measured]) -> tuple[int, dict[str, int]]:
    """Rows of the table, and by feature those with a value, NaN and infinities counted."""
    asked = [exp.Count(this=column(feature.name, "c")) for feature in features]
    rows, *computed = connection.aggregate(f"{COMPUTED} AS c", [template("COUNT(*)"), *asked])
    return rows, {feature.name: count for feature, count in zip(features, computed, strict=True)}


def _statistics(
    rows: int, moments: Moments, median: float | None, top_values: tuple[ValueCount, ...]
) -> FeatureStatistics:
    return FeatureStatistics(
        count=rows,
        null_ratio=1.0 - _ratio(moments.known, rows),
        distinct_count=moments.distinct,
        minimum=moments.minimum,
        maximum=moments.maximum,
        mean=moments.mean,
        standard_deviation=moments.deviation,
        median=median,
        top_values=top_values,
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _moments(connection: Connection, features: Sequence[Measured], *, exact: bool) -> dict[str, Moments]:
    asked: list[exp.Expr] = []
    for feature in features:
        x = column(feature.alias, "f")
        asked += [exp.Count(this=x), template(DISTINCT if exact else SKETCHED_DISTINCT, x=x)]
        if feature.numeric:
            asked += [
                exp.Min(this=x.copy()),
                exp.Max(this=x.copy()),
                template(MEAN, x=x),
                exp.StddevSamp(this=x.copy()),
            ]
    values = iter(connection.aggregate(f"{FINITE} AS f", asked))
    return {
        feature.name: Moments(next(values), next(values), *(_spread(*islice(values, 4)) if feature.numeric else ()))
        for feature in features
    }


def _spread(
    minimum: float | None, maximum: float | None, mean: float | None, deviation: float | None
) -> tuple[float | None, float | None, float | None, float | None]:
    """What is known and finite of them, the mean between the extremes whatever its rounding."""
    least, most, middle = _real(minimum), _real(maximum), _real(mean)
    if least is not None and most is not None and middle is not None:
        middle = min(max(_rounded(middle), least), most)
    wide = _real(deviation)
    return least, most, middle, None if wide is None else _rounded(wide)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _medians(connection: Connection, features: Sequence[Measured]) -> dict[str, float | None]:
    numeric = [feature for feature in features if feature.numeric]
    found = connection.aggregate(f"{SAMPLED} AS s", [exp.Median(this=column(one.alias, "s")) for one in numeric])
    return {feature.name: _real(median) for feature, median in zip(numeric, found, strict=True)}


def _tops(connection: Connection, sample: Sample, moments: Mapping[str, Moments]) -> dict[str, Top]:
    """Values are counted over all rows where they are listed; else the top share is the sample's."""
    listed = {
        feature.name
        for feature in sample.features
        if not feature.numeric or moments[feature.name].distinct <= LISTED_DISTINCT
    }
    statements = [
        _frequencies(feature, FINITE, TOP_VALUES) if feature.name in listed else _frequencies(feature, SAMPLED, 1)
        for feature in sample.features
    ]
    counts: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for index, value, count, known in connection.query_each(statements):
        counts[index].append((value, count, known))
    return {
        feature.name: _top(feature, counts[feature.index], show=feature.name in listed) for feature in sample.features
    }


def _frequencies(feature: Measured, table: str, limit: int) -> exp.Select:
    """Value, rows with it and rows with any, of the most frequent values."""
    x = column(feature.alias, "f")
    count = template("COUNT(*)")
    counts = exp.select(number(feature.index), template("CAST(:x AS VARCHAR)", x=x), count, template(KNOWN))
    counts = counts.from_(f"{table} AS f", copy=False).where(template("NOT :x IS NULL", x=x), copy=False)
    counts = counts.group_by(x, copy=False).order_by(exp.Ordered(this=count.copy(), desc=True), x, copy=False)
    ordered = exp.Subquery(this=counts.limit(limit, copy=False), alias=exp.to_identifier("o"))
    return exp.select("*").from_(ordered, copy=False)


KNOWN = "CAST(SUM(COUNT(*)) OVER () AS BIGINT)"


def _top(feature: Measured, counts: Sequence[tuple[str, int, int]], *, show: bool) -> Top:
    if not counts:
        return Top()
    ordered = sorted(counts, key=lambda entry: (-entry[1], entry[0]))
    values = tuple(ValueCount(_rendered(feature, value), count) for value, count, _ in ordered)
    return Top(ordered[0][1] / ordered[0][2], values if show else ())


def _rendered(feature: Measured, value: str) -> str:
    """The value in words of its own type: integers and booleans are measured as DOUBLE."""
    if feature.dtype == "integer":
        return str(int(float(value)))
    if feature.dtype == "boolean":
        return "true" if float(value) else "false"
    return value


def _real(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
