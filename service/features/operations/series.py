"""An entity's numeric column as a series: tsfresh's figures of its size, movement, peaks, crossings and memory.

The series is the known values of the rows with a time (that meet the predicates), in order of (time, row id), evenly
spaced whatever their times. Rows with a null are left out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.expression import Entities, Expression
from service.features.operations.parameters import NumberColumn, Predicate, TimeColumn, Where
from service.features.operations.sequences import SequenceOperation

NO_VALUE = "where the series is empty"
Lag = Annotated[int, Meta(ge=1, le=1000)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Series:
    """The expressions that figures of one series share."""

    def __init__(self, entities: Entities, column: str, time: str, where: Where) -> None:
        self._entities, self._time = entities, time
        self._where = (*where, Predicate(column, "not_null"))
        raw = entities.number(column)
        self.place = self.along("ROW_NUMBER() OVER earlier")
        """From 1; null in rows that are not of the series."""
        self.x = entities.sql("CASE WHEN NOT :place IS NULL THEN :x END", place=self.place, x=raw)
        self.length = self.of("COUNT(:x)")

    def along(self, text: str, **parts: Expression | float) -> Expression:
        """`text` with windows over the series, as a column."""
        return self._entities.sequence(text, self._time, self._where, **parts)

    def whole(self, aggregate: str) -> Expression:
        """The aggregate over all of the series, beside each of its values."""
        return self._entities.grouped(aggregate, self._entities.sql("1"), x=self.x)

    def before(self, lag: int = 1) -> Expression:
        """The value some places earlier."""
        return self.along("LAG(:x, :lag) OVER earlier", x=self.x, lag=lag)

    def of(self, text: str, **parts: Expression | float) -> Expression:
        """The aggregate over the series, as one figure of the entity."""
        return self._entities.rows(text, (), None, x=self.x, place=self.place, **parts)

    def column(self, text: str, **parts: Expression | float) -> Expression:
        """`text` beside each value."""
        return self._entities.derived(self._entities.sql(text, x=self.x, place=self.place, **parts))

    def longest_run(self, condition: Expression) -> Expression:
        """Most values in a row that meet the condition."""
        broken = self.column("CASE WHEN NOT :met THEN :place END", met=condition)
        since = self.along("COALESCE(MAX(:broken) OVER so_far, 0)", broken=broken)
        return self.of("MAX(:place - :since)", since=since)


SeriesFigure = Literal[
    "length", "absolute_energy", "root_mean_square", "sum_of_changes", "mean_absolute_change", "mean_change",
    "mean_second_derivative", "count_above_mean", "count_below_mean", "longest_strike_above_mean",
    "longest_strike_below_mean", "complexity", "first_location_of_maximum", "last_location_of_maximum",
    "first_location_of_minimum", "last_location_of_minimum", "share_of_distinct", "sum_of_reoccurring_values",
    "share_of_reoccurring_points", "maximum_increase", "maximum_decrease", "variation_coefficient", "time_to_maximum",
]  # fmt: skip


class SeriesStatistic(SequenceOperation, frozen=True, tag="series_statistic"):
    """A figure of the entity's series, by the name that tsfresh gives it."""

    column: NumberColumn
    time: TimeColumn
    figure: SeriesFigure
    where: Where = ()

    gives = "number"
    nulls = (
        f"{NO_VALUE} (a length and counts never); with too few values for a change (2) or a second derivative (3); "
        "a variation coefficient with fewer than two values or a mean of 0"
    )
    formula = (
        "length n; Σ x²; √(Σ x² / n); Σ |Δx|; its mean; mean Δx; mean of (x₊₁ - 2 x + x₋₁) / 2; values above or below "
        "the mean, and most in a row; √Σ Δx²; place / n of the first or last maximum or minimum (places from 0, "
        "the last ones one more); distinct / n; Σ of the values that occur more than once; their occurrences / n; "
        "max Δx; min Δx; s / mean, with the sample's s (n - 1); places to the first maximum"
    )
    source = "tsfresh's abs_energy, absolute_sum_of_changes, mean_second_derivative_central, cid_ce and the like"
    example = '{"column": "amount", "time": "at", "figure": "longest_strike_above_mean"}'

    def compile(self, entities: Entities) -> Expression:
        """Compute the figure."""
        series = Series(entities, self.column, self.time, self.where)
        if self.figure in PLAIN:
            found = series.of(PLAIN[self.figure])
        elif self.figure in CHANGES:
            found = series.of(CHANGES[self.figure], before=series.before())
        elif self.figure in LOCATIONS:
            found = self._location(entities, series)
        elif self.figure in REPEATED:
            found = self._repeated(entities, series)
        else:
            found = self._other(series)
        return entities.sql("CAST(:figure AS DOUBLE)", figure=found)

    def _location(self, entities: Entities, series: Series) -> Expression:
        """Where the extreme lies, as a share of the length."""
        extreme, ends, text = LOCATIONS[self.figure]
        place = series.of(f"{ends}(CASE WHEN :x = :extreme THEN :place END)", extreme=series.whole(f"{extreme}(:x)"))
        return entities.sql(text, place=place, n=series.length)

    def _repeated(self, entities: Entities, series: Series) -> Expression:
        """Count how often each value occurs."""
        times = entities.grouped("COUNT(:x)", series.x, x=series.x)
        figure = series.of(REPEATED[self.figure], times=times, first=entities.first_of(series.x))
        return (
            entities.sql(":figure / NULLIF(:n, 0)", figure=figure, n=series.length)
            if "share" in self.figure
            else (entities.sql("CASE WHEN :n > 0 THEN COALESCE(:figure, 0) END", figure=figure, n=series.length))
        )

    def _other(self, series: Series) -> Expression:
        if self.figure == "mean_second_derivative":
            twice = series.before(2)
            return series.of("AVG((:x - 2 * :before + :twice) / 2)", before=series.before(), twice=twice)
        if self.figure == "variation_coefficient":
            return series.of("STDDEV_SAMP(:x) / NULLIF(AVG(:x), 0)")
        met = series.column(f":x {'>' if 'above' in self.figure else '<'} :mean", mean=series.whole("AVG(:x)"))
        return (
            series.longest_run(met)
            if "strike" in self.figure
            else series.of("COUNT(CASE WHEN :met THEN 1 END)", met=met)
        )


PLAIN = {"length": "COUNT(:x)", "absolute_energy": "SUM(:x * :x)", "root_mean_square": "SQRT(AVG(:x * :x))"}
CHANGES = {
    "sum_of_changes": "SUM(ABS(:x - :before))",
    "mean_absolute_change": "AVG(ABS(:x - :before))",
    "mean_change": "AVG(:x - :before)",
    "complexity": "SQRT(SUM((:x - :before) * (:x - :before)))",
    "maximum_increase": "MAX(:x - :before)",
    "maximum_decrease": "MIN(:x - :before)",
}
LOCATIONS = {
    "first_location_of_maximum": ("MAX", "MIN", "(:place - 1) / :n"),
    "last_location_of_maximum": ("MAX", "MAX", ":place / :n"),
    "first_location_of_minimum": ("MIN", "MIN", "(:place - 1) / :n"),
    "last_location_of_minimum": ("MIN", "MAX", ":place / :n"),
    "time_to_maximum": ("MAX", "MIN", ":place - 1"),
}
REPEATED = {
    "share_of_distinct": "COUNT(CASE WHEN NOT :x IS NULL THEN :first END)",
    "share_of_reoccurring_points": "COUNT(CASE WHEN :times > 1 THEN :x END)",
    "sum_of_reoccurring_values": "SUM(CASE WHEN :times > 1 AND :first = 1 THEN :x END)",
}


class SeriesCrossings(SequenceOperation, frozen=True, tag="series_crossings"):
    """How often the entity's series crosses a level: goes from not above it to above it, or back."""

    column: NumberColumn
    time: TimeColumn
    level: float = 0.0
    where: Where = ()

    gives = "integer"
    nulls = "never: an empty series crosses nothing"
    formula = "places where (x > level) differs from (x₋₁ > level)"
    source = "tsfresh's number_crossing_m"
    example = '{"column": "amount", "time": "at", "level": 50}'

    def compile(self, entities: Entities) -> Expression:
        """Count the changes of side."""
        series = Series(entities, self.column, self.time, self.where)
        text = "COUNT(CASE WHEN (:x > :m AND :before <= :m) OR (:x <= :m AND :before > :m) THEN 1 END)"
        return series.of(text, before=series.before(), m=self.level)


class SeriesPeaks(SequenceOperation, frozen=True, tag="series_peaks"):
    """Peaks of the entity's series: values above all of the `support` values on either side."""

    column: NumberColumn
    time: TimeColumn
    support: Annotated[int, Meta(ge=1, le=10)] = 1
    where: Where = ()

    gives = "integer"
    nulls = "never: a series shorter than 2 support + 1 has none"
    formula = "places where x > x₋ₖ and x > x₊ₖ for k = 1 … support"
    source = "tsfresh's number_peaks"
    example = '{"column": "amount", "time": "at", "support": 2}'

    def compile(self, entities: Entities) -> Expression:
        """Compare each value with its neighbours."""
        series = Series(entities, self.column, self.time, self.where)
        sides: dict[str, Expression | float] = {}
        for step in range(1, self.support + 1):
            sides[f"before{step}"] = series.before(step)
            sides[f"after{step}"] = series.along("LEAD(:x, :step) OVER earlier", x=series.x, step=step)
        met = " AND ".join(f":x > :{name}" for name in sides)
        return series.of(f"COUNT(CASE WHEN {met} THEN 1 END)", **sides)


class SeriesMemory(SequenceOperation, frozen=True, tag="series_memory"):
    """A figure of the entity's series and itself some places earlier."""

    column: NumberColumn
    time: TimeColumn
    figure: Literal["autocorrelation", "c3", "time_reversal_asymmetry", "mean_absolute_difference", "mean_difference"]
    lag: Lag = 1
    where: Where = ()

    gives = "number"
    nulls = "with too few values: lag + 1 are needed, and 2 lag + 1 for the two of third order; where they do not vary"
    formula = (
        "Σ (x - μ)(x₋ₗ - μ) / ((n - l) v), with the population's variance v; mean of x₋₂ₗ x₋ₗ x; "
        "mean of x² x₋ₗ - x₋ₗ x₋₂ₗ²; mean of |x - x₋ₗ|; mean of x - x₋ₗ"
    )
    source = "tsfresh's autocorrelation, c3, time_reversal_asymmetry_statistic"
    example = '{"column": "amount", "time": "at", "figure": "c3", "lag": 1}'

    def compile(self, entities: Entities) -> Expression:
        """Compare the series with its past."""
        series = Series(entities, self.column, self.time, self.where)
        before, twice = series.before(self.lag), series.before(2 * self.lag)
        if self.figure == "autocorrelation":
            mean = series.whole("AVG(:x)")
            moment = series.of("AVG((:x - :mean) * (:before - :mean))", before=before, mean=mean)
            text = "CASE WHEN :low < :high THEN :moment / NULLIF(:variance, 0) END"
            ends = {"low": series.of("MIN(:x)"), "high": series.of("MAX(:x)"), "variance": series.of("VAR_POP(:x)")}
            return entities.sql(text, moment=moment, **ends)
        texts = {
            "c3": "AVG(:twice * :before * :x)",
            "time_reversal_asymmetry": "AVG(:x * :x * :before - :before * :twice * :twice)",
            "mean_absolute_difference": "AVG(ABS(:x - :before))",
            "mean_difference": "AVG(:x - :before)",
        }
        return series.of(texts[self.figure], before=before, twice=twice)


class SeriesBeyondSigma(SequenceOperation, frozen=True, tag="series_beyond_sigma"):
    """Share of the entity's series that lies more than some standard deviations from its mean."""

    column: NumberColumn
    time: TimeColumn
    deviations: Annotated[float, Meta(gt=0, le=20)] = 1.0
    where: Where = ()

    gives = "number"
    nulls = NO_VALUE
    formula = "values with |x - mean| > r s / n, with the population's deviation s"
    source = "tsfresh's ratio_beyond_r_sigma"
    example = '{"column": "amount", "time": "at", "deviations": 2}'

    def compile(self, entities: Entities) -> Expression:
        """Count the values beyond."""
        series = Series(entities, self.column, self.time, self.where)
        mean, spread = series.whole("AVG(:x)"), series.whole("STDDEV_POP(:x)")
        text = "COUNT(CASE WHEN ABS(:x - :mean) > :r * :spread THEN 1 END)"
        beyond = series.of(text, mean=mean, spread=spread, r=self.deviations)
        return entities.sql(":beyond / NULLIF(:n, 0)", beyond=beyond, n=series.length)


class SeriesTrend(SequenceOperation, frozen=True, tag="series_trend"):
    """The least-squares line of the entity's series over its places: slope, intercept, how well it fits."""

    column: NumberColumn
    time: TimeColumn
    figure: Literal["slope", "intercept", "r_squared"]
    where: Where = ()

    gives = "number"
    nulls = "with fewer than two values; r² where they do not vary"
    formula = "cov(k, x) / var(k) over the places k from 0; mean x - slope · mean k; the squared correlation"
    source = "tsfresh's linear_trend; SciPy's `linregress`"
    example = '{"column": "amount", "time": "at", "figure": "r_squared"}'

    def compile(self, entities: Entities) -> Expression:
        """Fit the line."""
        series = Series(entities, self.column, self.time, self.where)
        k = entities.sql(":place - 1", place=series.place)
        slope = series.of("SLOPE(:x, :k)", k=k)
        if self.figure == "r_squared":
            text = "CASE WHEN :low < :high THEN :r * :r END"
            r = series.of("CORR(:x, :k)", k=k)
            return entities.sql(text, low=series.of("MIN(:x)"), high=series.of("MAX(:x)"), r=r)
        text = ":slope" if self.figure == "slope" else ":mean - :slope * (:n - 1) / 2"
        found = entities.sql(text, slope=slope, mean=series.of("AVG(:x)"), n=series.length)
        return entities.sql("CASE WHEN :n > 1 THEN :found END", n=series.length, found=found)


class BinnedEntropy(SequenceOperation, frozen=True, tag="binned_entropy"):
    """Entropy, in nats, of the entity's values over bins of equal width between its extremes."""

    column: NumberColumn
    time: TimeColumn
    bins: Annotated[int, Meta(ge=2, le=100)] = 10
    where: Where = ()

    gives = "number"
    nulls = NO_VALUE
    formula = "-Σ p ln p over the bins' shares; 0 where all values are equal"
    source = "tsfresh's binned_entropy"
    example = '{"column": "amount", "time": "at", "bins": 10}'

    def compile(self, entities: Entities) -> Expression:
        """Bin the values and count the bins."""
        series = Series(entities, self.column, self.time, self.where)
        ends = {"low": series.whole("MIN(:x)"), "high": series.whole("MAX(:x)"), "bins": self.bins}
        place = series.column(
            "CASE WHEN :x = :high THEN :bins - 1 ELSE FLOOR((:x - :low) / (:high - :low) * :bins) END", **ends
        )
        count = entities.grouped("COUNT(:x)", place, x=series.x)
        entropy = series.of("-AVG(CASE WHEN NOT :x IS NULL THEN LN(:count) END)", count=count)
        return entities.sql("CASE WHEN :n > 0 THEN GREATEST(:e + LN(:n), 0) END", e=entropy, n=series.length)


class ChangeQuantiles(SequenceOperation, frozen=True, tag="changes_in_corridor"):
    """Mean or variance of the changes of the entity's series that begin and end between two of its quantiles."""

    column: NumberColumn
    time: TimeColumn
    low: Share = 0.25
    high: Share = 0.75
    absolute: bool = True
    function: Literal["mean", "variance"] = "mean"
    where: Where = ()

    gives = "number"
    nulls = f"{NO_VALUE}; 0 where no change lies in the corridor"
    formula = "mean or population variance of Δx, or |Δx|, over places with q_low ≤ x₋₁, x ≤ q_high"
    source = "tsfresh's change_quantiles"
    example = '{"column": "amount", "time": "at", "low": 0.2, "high": 0.8}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """Quantiles in the wrong order."""
        if self.low >= self.high:
            yield "high", "the higher quantile must be above the lower"

    def compile(self, entities: Entities) -> Expression:
        """Aggregate the changes inside."""
        series = Series(entities, self.column, self.time, self.where)
        one = entities.sql("1")
        low, high = (entities.grouped("QUANTILE(:x, :q)", one, x=series.x, q=q) for q in (self.low, self.high))
        change = "ABS(:x - :before)" if self.absolute else ":x - :before"
        inside = ":x >= :low AND :x <= :high AND :before >= :low AND :before <= :high"
        aggregate = "AVG" if self.function == "mean" else "VAR_POP"
        text = f"{aggregate}(CASE WHEN {inside} THEN {change} END)"
        found = series.of(text, before=series.before(), low=low, high=high)
        return entities.sql("CASE WHEN :n > 0 THEN COALESCE(:found, 0) END", n=series.length, found=found)


class EnergyShare(SequenceOperation, frozen=True, tag="energy_share"):
    """Share of the squared values of the entity's series that one of its equal parts has."""

    column: NumberColumn
    time: TimeColumn
    parts: Annotated[int, Meta(ge=2, le=100)] = 10
    part: Annotated[int, Meta(ge=1, le=100)] = 1
    where: Where = ()

    gives = "number"
    nulls = f"{NO_VALUE}, or all values are 0"
    formula = "Σ x² over the part / Σ x²; NTILE's parts: the first ones are longer by one where n is no multiple"
    source = "tsfresh's energy_ratio_by_chunks"
    example = '{"column": "amount", "time": "at", "parts": 4, "part": 4}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """A part that is not among them."""
        if self.part > self.parts:
            yield "part", "there are fewer parts"

    def compile(self, entities: Entities) -> Expression:
        """Divide the energies."""
        series = Series(entities, self.column, self.time, self.where)
        tile = series.along(f"NTILE({self.parts}) OVER earlier")
        inner, whole = (
            series.of(one, tile=tile, part=self.part)
            for one in ("SUM(CASE WHEN :tile = :part THEN :x * :x END)", "SUM(:x * :x)")
        )
        return entities.sql("COALESCE(:share, 0) / NULLIF(:whole, 0)", share=inner, whole=whole)


class MassQuantile(SequenceOperation, frozen=True, tag="mass_quantile"):
    """How far along the entity's series a share of the sum of its sizes is reached."""

    column: NumberColumn
    time: TimeColumn
    q: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    where: Where = ()

    gives = "number"
    nulls = f"{NO_VALUE}, or all values are 0"
    formula = "the least k / n with Σ |x| over the first k values ≥ q Σ |x|"
    source = "tsfresh's index_mass_quantile"
    example = '{"column": "amount", "time": "at", "q": 0.5}'

    def compile(self, entities: Entities) -> Expression:
        """Find the first place where the share is reached."""
        series = Series(entities, self.column, self.time, self.where)
        mass = series.along("SUM(ABS(:x)) OVER so_far", x=series.x)
        total = series.whole("SUM(ABS(:x))")
        text = "MIN(CASE WHEN :total > 0 AND :mass >= :q * :total THEN :place END)"
        return entities.sql(":k / :n", k=series.of(text, mass=mass, total=total, q=self.q), n=series.length)
