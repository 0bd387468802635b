"""The sample that distribution measures are taken from: all rows, or a fixed choice of them when there are many.

Features are renamed x0, x1 … in the plan's order, the key k0. `finite` is the whole table with numbers and booleans
as finite DOUBLE and text as it is; `sampled` is what was chosen of it; `ranked` holds ranks in place of the numbers:
mid-ranks over the number of rows, in (0, 1], ties sharing one. The latter two also have `later` (the row lies in the
later half in time), `t` (the target) and, when the target is a number, its rank `u`. Which rows are chosen depends on
their keys alone, so equal tables give equal measures.
"""

from __future__ import annotations

import math

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.statements import Connection, template
from service.engines.duckdb.target import Target, TargetKind
from service.engines.sql.compile import COMPUTED, CompiledPlan
from service.engines.sql.template import column, number
from service.features.model import FeatureType

SAMPLE_ROWS = 200_000
"""At this size a rank correlation of 0.8 has a standard error below 0.001."""
SMALLEST_SAMPLE = 5_000
COMPARED_CELLS = 40_000_000
"""Rows x pairs of features that are correlated: with more than 20 features the sample is smaller."""
MIN_DRIFT_ROWS = 400
"""Below it, noise alone gives a population stability index near 0.1: (bins - 1)(1/n + 1/m) is expected between two
samples of one distribution (Yurdakul and Naranjo, 2020)."""

RANKS_AT_ONCE = 20
"""Columns ranked by one statement."""

TIME = "time"
"""The time of a row, in `finite`."""
FINITE = "finite"
SAMPLED = "sampled"
RANKED = "ranked"
MID_RANK = """CASE WHEN NOT :x IS NULL THEN
    (RANK() OVER (ORDER BY :x NULLS LAST) / :rows + CUME_DIST() OVER (ORDER BY :x NULLS LAST)) / 2 END"""


class Measured(Struct, frozen=True):
    """One feature under measurement."""

    index: int
    name: str
    dtype: FeatureType

    @property
    def alias(self) -> str:
        """Its column in `finite`, `sampled` and `ranked`."""
        return f"x{self.index}"

    @property
    def numeric(self) -> bool:
        """Whether its values have an order and a mean."""
        return self.dtype != "string"


class Sample(Struct, frozen=True):
    """What the tables hold."""

    features: tuple[Measured, ...]
    rows: int
    """Of `sampled` and `ranked`."""
    halved: bool
    """Whether `later` splits them into an earlier and a later half."""
    target: TargetKind | None


def open_finite(connection: Connection, compiled: CompiledPlan) -> tuple[Measured, ...]:
    """Make the view `finite` and list the features in the plan's order."""
    features = tuple(Measured(index, name, dtype) for index, (name, dtype) in enumerate(compiled.features.items()))
    columns = [exp.alias_(column(compiled.row_key, "c"), "k0", quoted=True)]
    if compiled.time is not None:
        columns.append(exp.alias_(column(compiled.time, "c"), TIME, quoted=True))
    columns += [exp.alias_(_finite(feature), feature.alias, quoted=True) for feature in features]
    connection.name(FINITE, exp.select(*columns).from_(f"{COMPUTED} AS c", copy=False))
    return features


def _finite(feature: Measured) -> exp.Expr:
    x = column(feature.name, "c")
    if feature.dtype == "number":
        return template("CASE WHEN ISFINITE(:x) THEN :x END", x=x)
    return template("CAST(:x AS DOUBLE)", x=x) if feature.numeric else x


def draw(
    connection: Connection,
    features: tuple[Measured, ...],
    compiled: CompiledPlan,
    target: Target | None,
    rows: int,
) -> Sample:
    """Make the tables `sampled` and `ranked` of a `finite` of so many rows."""
    halved = compiled.time is not None and rows >= MIN_DRIFT_ROWS
    columns = [column("k0", "f"), *(column(feature.alias, "f") for feature in features)]
    statement = exp.select(*columns).from_(f"{FINITE} AS f", copy=False)
    if halved:
        statement = statement.select(exp.alias_(_later(), "later", quoted=True), copy=False)
    if target is not None:
        values = exp.Subquery(this=target.values, alias=exp.to_identifier("target"))
        on = template(":a = :b", a=column("k0", "f"), b=column("k", "target"))
        statement = statement.select(column("t", "target"), copy=False).join(values, on=on, join_type="LEFT")
    size = sample_size(len(features))
    if rows > size:
        statement = statement.where(_chosen(column("k0", "f"), size / rows), copy=False)
    connection.create(SAMPLED, statement)
    drawn = int(connection.query(exp.select(template("COUNT(*)")).from_(SAMPLED, copy=False))[0][0])
    sample = Sample(features, drawn, halved, None if target is None else target.kind)
    _rank(connection, sample)
    return sample


def sample_size(features: int) -> int:
    """Rows above which a table of so many features is sampled."""
    pairs = max(1, math.comb(features, 2))
    return min(SAMPLE_ROWS, max(SMALLEST_SAMPLE, COMPARED_CELLS // pairs))


def _later() -> exp.Expr:
    """Whether the row's time lies after the middle one."""
    instant = template("EPOCH_US(:t)", t=column(TIME, "f"))
    middle = exp.select(template("MEDIAN(:i)", i=instant)).from_(f"{FINITE} AS f", copy=False)
    return template(":i > :middle", i=instant, middle=middle.subquery(copy=False))


def _chosen(key: exp.Expr, share: float) -> exp.Expr:
    """A share of the keys by their hash, which is the same in every run."""
    parts = 1_000_000
    text = "HASH(:key) % :parts < :chosen"
    return template(text, key=key, parts=number(parts), chosen=number(math.ceil(share * parts)))


def _rank(connection: Connection, sample: Sample) -> None:
    """Rank a few columns at a time, for each window drags all the others' columns along, and join the parts by key."""
    ranks = [_ranked(feature.alias, feature.alias, sample.rows) for feature in sample.features if feature.numeric]
    kept = [column(feature.alias, "s") for feature in sample.features if not feature.numeric]
    if sample.halved:
        kept.append(column("later", "s"))
    if sample.target is not None:
        kept.append(column("t", "s"))
    if sample.target == "number":
        ranks.append(_ranked("t", "u", sample.rows))
    parts = [ranks[start : start + RANKS_AT_ONCE] for start in range(0, max(1, len(ranks)), RANKS_AT_ONCE)]
    if len(parts) == 1:
        connection.create(RANKED, exp.select(*kept, *ranks).from_(f"{SAMPLED} AS s", copy=False))
        return
    joined = exp.select("*").from_("part0", copy=False)
    for place, part in enumerate(parts):
        columns = [column("k0", "s"), *(kept if place == 0 else ()), *part]
        connection.create(f"part{place}", exp.select(*columns).from_(f"{SAMPLED} AS s", copy=False))
        if place:
            joined = joined.join(f"part{place}", using=["k0"], copy=False)
    connection.create(RANKED, joined)


def _ranked(source: str, name: str, rows: int) -> exp.Expr:
    return exp.alias_(template(MID_RANK, x=column(source, "s"), rows=number(max(1, rows))), name, quoted=True)
