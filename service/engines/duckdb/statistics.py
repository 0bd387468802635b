"""Raw statistics of every column of a typed file, in a handful of statements however wide it is.

Exact over all rows: counts, extremes, means, deviations, lengths. Exact up to a size and then estimated, always by a
method that gives equal data equal numbers: distinct counts (HyperLogLog), quantiles and shapes of values (rows chosen
by a hash of their position). Averages and deviations are rounded, because threads add in different orders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.ingest_sql import (
    CellExpressions,
    batches,
    call,
    case,
    cast,
    holds,
    listed,
    long_form,
    matches,
    named,
    number,
    one_of,
    parquet,
    reference,
    run,
    string,
)
from service.engines.duckdb.sandbox import Row, Sandbox
from service.features.model import LogicalType, ValueCount
from service.features.personal import GIVEN_NAME_SHAPE, GIVEN_NAMES, OTHER_SHAPES, PART_OF_VALUE, WHOLE_VALUE
from service.features.profile import SHOWN_CHARACTERS, RawColumn

SAMPLE_ROWS = 250_000
"""Rows for quantiles and shapes of values: all of them up to here; beyond, a quantile's rank is off by about 0.1 %."""
SAMPLE_CELLS = 8_000_000
"""Values of a sample held at once, 8 bytes each."""
COUNTED_ROWS = 50_000
COUNTED_DISTINCT = 20_000
"""Every value of a column is counted when the table has at most so many rows, or the column about so many values."""
COUNTED_GROUPS = 5_000_000
"""Values counted in one statement."""
CHECKED_COLUMNS = 32
"""Columns with many values that are counted one by one, since an estimate may be off by several percent."""
COUNTED_VALUES = 1_000_000
"""So many values of one column are counted in less than half a second."""
SEEMS_UNIQUE = 0.9
"""HyperLogLog can be off by that much at worst."""
TOP_VALUES = 10
EXAMPLES = 5
HEAD_ROWS = 256
"""Rows that examples come from."""
SUMMABLE = 1e150
"""Larger magnitudes are left out of means and deviations: their squares have no double."""
DIGITS = 10
"""Significant digits kept of means and deviations."""
GUARD_DIGITS = 2
"""More of them are still free of the noise of adding up: some 1e-13 of the sum over a million rows."""
MAX_PLACES = 300
"""Beyond, near the smallest doubles, round() itself fails."""
PHYSICAL_TYPES = ("BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP", "VARCHAR")
TERM_ROWS = 20_000
TERM_CHARACTERS = 500
TERM_COLUMNS = 16
"""Terms are looked for in so many rows and characters, of the first columns whose values have several words."""
TERM = r"\p{L}[\p{L}\p{N}]{2,29}"
MIN_WORDS = 1.5
TOP_TERMS = 20
SHARED_BY = 5
"""Rows that hold a term at least: a rarer one could tell of a person."""
QUANTILES = {"p05": "0.05", "p25": "0.25", "p50": "0.5", "p75": "0.75", "p95": "0.95"}


class TypedColumn(Struct, frozen=True):
    """A column of a typed file."""

    name: str
    physical: str
    logical: LogicalType | None = None
    """The logical type that the client gives the column."""
    is_value: bool = False
    """The client says that it is no key."""


class TypedTable(Struct, frozen=True):
    """A typed file; its last column, after `columns`, is the row's position."""

    path: Path
    row_count: int
    columns: tuple[TypedColumn, ...]

    @property
    def scan(self) -> exp.Table:
        """The file, its columns called by position, the row's position being the last."""
        return parquet(self.path, len(self.columns) + 1)

    def cells(self, *physical: str) -> CellExpressions:
        """The columns of the given types; of DOUBLE ones the finite values."""
        return [
            (position, _finite(reference(position)) if column.physical == "DOUBLE" else reference(position))
            for position, column in enumerate(self.columns)
            if column.physical in physical
        ]

    def rows_where(self, limit: int) -> exp.Expr | None:
        """Condition that keeps about `limit` rows, the same ones every time; None when there are no more."""
        step = math.ceil(self.row_count / limit)
        if step <= 1:
            return None
        chosen = exp.Mod(this=call("hash", reference(len(self.columns))), expression=number(step))
        return exp.EQ(this=chosen, expression=number(0))


_Measured = dict[int, dict[str, Any]]
"""Keyword arguments of each column's RawColumn, by position."""


async def measure(box: Sandbox, table: TypedTable) -> tuple[RawColumn, ...]:
    """The statistics of every column, in order."""
    measured: _Measured = {position: {"non_null": 0} for position in range(len(table.columns))}
    for part in (_totals, _value_counts, _unique_counts, _quantiles, _examples, _shapes, _terms):
        for position, values in (await part(box, table, measured)).items():
            measured[position] |= values
    return tuple(
        RawColumn(
            name=column.name,
            position=position,
            physical_type=column.physical,
            given_type=column.logical,
            is_value=column.is_value,
            **_settled(measured[position]),
        )
        for position, column in enumerate(table.columns)
    )


def _settled(values: dict[str, Any]) -> dict[str, Any]:
    """The values as the profile takes them: no more distinct values than values, examples wherever there are values."""
    examples = values.get("examples") or tuple(value.value for value in values.get("top_values", ())[:EXAMPLES])
    return values | {"examples": examples, "distinct": min(values.get("distinct", 0), values["non_null"])}


def _finite(value: exp.Expr) -> exp.Expr:
    return case((call("isfinite", value.copy()), value))


async def _each(
    box: Sandbox, table: TypedTable, cells: CellExpressions, select: Sequence[exp.Expr], size: int = 1000
) -> list[Row]:
    """Aggregates of each column in long form: rows of the position and the aggregates."""
    rows: list[Row] = []
    for batch in batches(cells, size):
        rows += await run(
            box,
            lambda batch=batch: (
                exp.select("k", *(item.copy() for item in select))
                .from_(long_form(table.scan, batch), copy=False)
                .group_by("k", copy=False)
            ),
        )
    return rows


# ------------------------------------------------------------------------------------------------ totals of all rows


async def _totals(box: Sandbox, table: TypedTable, _: _Measured) -> _Measured:
    value = exp.column("v")
    counts = [call("count", value), call("approx_count_distinct", value)]
    found: _Measured = {}
    for physical, names, extra in _total_expressions(value):
        cells = table.cells(physical)
        if physical == "BOOLEAN":
            cells = [(position, cast(cell, "BIGINT")) for position, cell in cells]
        for position, count, distinct, *rest in await _each(box, table, cells, [*counts, *extra]):
            found[position] = {"non_null": count, "distinct": distinct, "exact": False}
            found[position] |= dict(zip(names, rest, strict=True))
    await _add_non_finite(box, table, found)
    return {position: _rounded(values) for position, values in found.items()}


def _total_expressions(value: exp.Expr) -> list[tuple[str, tuple[str, ...], Sequence[exp.Expr]]]:
    """For each physical type the statistics' names and expressions."""
    real = cast(value.copy(), "DOUBLE")  # first, because the smallest BIGINT has no absolute value among them
    small = exp.LTE(this=call("abs", real), expression=exp.Literal.number(repr(SUMMABLE)))
    summable = case((small, real.copy()))
    spread = [call("avg", summable), call("stddev_samp", summable)]
    extremes = [call("min", value), call("max", value)]
    length = call("length", value)
    spaces = exp.Sub(this=length, expression=call("length", call("replace", value, string(" "), string(""))))
    words = exp.Add(this=call("avg", spaces), expression=number(1))
    moments = [cast(extreme.copy(), "VARCHAR") for extreme in extremes]
    statistics = ("minimum", "maximum", "mean", "standard_deviation")
    return [
        ("BIGINT", statistics, [*extremes, *spread]),
        ("DOUBLE", statistics, [*extremes, *spread]),
        ("BOOLEAN", ("mean",), [call("avg", value)]),
        ("TIMESTAMP", ("minimum", "maximum"), moments),
        ("VARCHAR", ("mean_length", "longest", "mean_words"), [call("avg", length), call("max", length), words]),
    ]


async def _add_non_finite(box: Sandbox, table: TypedTable, found: _Measured) -> None:
    """Count NaN and infinite values, which the other statistics leave out; they are values, not missing ones."""
    plain: CellExpressions = [(position, reference(position)) for position, _ in table.cells("DOUBLE")]
    for position, count in await _each(box, table, plain, [call("count", exp.column("v"))]):
        values = found.setdefault(position, {"non_null": 0, "distinct": 0, "exact": True})
        values["non_finite"] = count - values["non_null"]
        values["non_null"] = count


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Means and deviations without the digits that depend on the order of addition; instants in ISO 8601."""
    scale = max(abs(values.get("mean") or 0.0), values.get("standard_deviation") or 0.0)
    for name in ("mean", "standard_deviation", "mean_length", "mean_words"):
        if isinstance(number := values.get(name), int | float):
            values[name] = _significant(number, scale if name in {"mean", "standard_deviation"} else abs(number))
    for name in ("minimum", "maximum"):
        if isinstance(moment := values.get(name), str):
            values[name] = moment.replace(" ", "T", 1)
    return values


def _significant(value: float, scale: float) -> float:
    """The value to `DIGITS` digits of the scale, a tie decided alike on whichever side of it the sum came out.

    Ties are frequent: the mean of prices over a round number of rows ends in a digit, often 5. Rounding to some more
    digits first makes them exact decimals.
    """
    if scale == 0:
        return 0.0
    places = DIGITS - 1 - math.floor(math.log10(scale))
    if places + GUARD_DIGITS >= MAX_PLACES:
        return value
    return float(round(Decimal(repr(round(float(value), places + GUARD_DIGITS))), places))


# ----------------------------------------------------------------------------------------------- values and examples


async def _value_counts(box: Sandbox, table: TypedTable, measured: _Measured) -> _Measured:
    """The most frequent values, ties in the order of the values, and how many there are, of columns with few enough."""
    found: _Measured = {}
    for physical in PHYSICAL_TYPES:
        cells = [cell for cell in table.cells(physical) if _countable(table, measured[cell[0]])]
        most = max((measured[position].get("distinct", 1) for position, _ in cells), default=1)
        for batch in batches(cells, min(max(COUNTED_GROUPS // max(most, 1), 1), 1000)):
            for position, value, count, distinct in await run(box, lambda batch=batch: _count_query(table, batch)):
                entry = found.setdefault(position, {"distinct": distinct, "exact": True, "top_values": ()})
                entry["top_values"] = (*entry["top_values"], ValueCount(_clean(value), count))
    return found


def _countable(table: TypedTable, values: Mapping[str, Any]) -> bool:
    return table.row_count <= COUNTED_ROWS or values.get("distinct", 0) <= COUNTED_DISTINCT


def _count_query(table: TypedTable, cells: CellExpressions) -> exp.Expr:
    groups = exp.select("k", "v", named(call("count", exp.Star()), "n"))
    groups = groups.from_(long_form(table.scan, cells), copy=False).group_by("k", "v", copy=False)
    distinct = exp.Window(this=call("count", exp.Star()), partition_by=[exp.column("k")])
    order = exp.Order(expressions=[exp.Ordered(this=exp.column("n"), desc=True), exp.Ordered(this=exp.column("v"))])
    rank = exp.Window(this=call("row_number"), partition_by=[exp.column("k")], order=order)
    ranked = exp.select("k", "v", "n", named(distinct, "d"), named(rank, "place"))
    ranked = ranked.from_(groups.subquery(copy=False), copy=False)
    kept = exp.LTE(this=exp.column("place"), expression=number(TOP_VALUES))
    return (
        exp.select("k", _shown(exp.column("v")), "n", "d")
        .from_(ranked.subquery(copy=False), copy=False)
        .where(kept, copy=False)
        .order_by("k", "place", copy=False)
    )


def _shown(value: exp.Expr) -> exp.Expr:
    """The value as text; one character more than is ever shown tells a long one."""
    return call("left", cast(value, "VARCHAR"), number(SHOWN_CHARACTERS + 1))


def _clean(text: str) -> str:
    """Without NUL, which databases do not take as text."""
    return text.replace("\0", "")


def _is_counted(column: Mapping[str, Any]) -> bool:
    """Whether the column's values are few enough to be counted, or seem all different."""
    return column["non_null"] <= COUNTED_VALUES or column["distinct"] >= SEEMS_UNIQUE * column["non_null"]


async def _unique_counts(box: Sandbox, table: TypedTable, measured: _Measured) -> _Measured:
    """Exact distinct counts for the first columns with many values: of few enough rows, or that seem all different."""
    seeming = [
        position
        for position, _ in table.cells("BIGINT", "VARCHAR", "TIMESTAMP")
        if not measured[position].get("exact", True) and _is_counted(measured[position])
    ]
    found: _Measured = {}
    for position in seeming[:CHECKED_COLUMNS]:
        distinct = exp.Count(this=exp.Distinct(expressions=[reference(position)]))
        rows = await run(box, lambda distinct=distinct: exp.select(distinct).from_(table.scan, copy=False))
        found[position] = {"distinct": rows[0][0], "exact": True}
    return found


async def _examples(box: Sandbox, table: TypedTable, _: _Measured) -> _Measured:
    """The first distinct values of the file's first rows."""
    row = reference(len(table.columns))
    first = exp.LT(this=row.copy(), expression=number(HEAD_ROWS))
    every = [(position, _shown(cell)) for position, cell in table.cells(*PHYSICAL_TYPES)]

    def query(cells: CellExpressions) -> exp.Expr:
        form = long_form(table.scan, cells, named(row.copy(), "r"), where=first.copy())
        seen = exp.select("k", "v", named(call("min", exp.column("r")), "r"))
        seen = seen.from_(form, copy=False).group_by("k", "v", copy=False)
        order = exp.Order(expressions=[exp.Ordered(this=exp.column("r"))])
        place = exp.Window(this=call("row_number"), partition_by=[exp.column("k")], order=order)
        placed = exp.select("k", "v", "r", named(place, "place")).from_(seen.subquery(copy=False), copy=False)
        kept = exp.LTE(this=exp.column("place"), expression=number(EXAMPLES))
        return (
            exp.select("k", "v")
            .from_(placed.subquery(copy=False), copy=False)
            .where(kept, copy=False)
            .order_by("k", "r", copy=False)
        )

    found: _Measured = {}
    for batch in batches(every):
        for position, value in await run(box, lambda batch=batch: query(batch)):
            entry = found.setdefault(position, {"examples": ()})
            entry["examples"] = (*entry["examples"], _clean(value))
    return found


# -------------------------------------------------------------------------------------------------- sampled statistics


async def _quantiles(box: Sandbox, table: TypedTable, _: _Measured) -> _Measured:
    numbers = [(position, cast(cell, "DOUBLE")) for position, cell in table.cells("BIGINT", "DOUBLE")]
    points = listed(exp.Literal.number(point) for point in QUANTILES.values())
    small = exp.LTE(this=call("abs", exp.column("v")), expression=exp.Literal.number(repr(SUMMABLE)))
    aggregate = call("quantile_cont", case((small, exp.column("v"))), points)
    size = min(max(SAMPLE_CELLS // min(max(table.row_count, 1), SAMPLE_ROWS), 1), 1000)
    found: _Measured = {}
    for batch in batches(numbers, size):
        rows = await run(
            box,
            lambda batch=batch: (
                exp.select("k", aggregate.copy())
                .from_(long_form(table.scan, batch, where=table.rows_where(SAMPLE_ROWS)), copy=False)
                .group_by("k", copy=False)
            ),
        )
        for position, values in rows:
            found[position] = {"quantiles": dict(zip(QUANTILES, values, strict=True)) if values else {}}
    return found


async def _shapes(box: Sandbox, table: TypedTable, _: _Measured) -> _Measured:
    """Share of a text column's values of each shape that tells personal data and identifiers."""
    value = exp.column("v")
    whole = WHOLE_VALUE | OTHER_SHAPES
    tests: dict[str, exp.Expr] = {name: matches(value, pattern) for name, pattern in whole.items()}
    tests |= {name: holds(value, pattern) for name, pattern in PART_OF_VALUE.items()}
    first_word = call("lower", call("split_part", value, string(" "), number(1)))
    tests[GIVEN_NAME_SHAPE] = one_of(first_word, sorted(GIVEN_NAMES))
    shares = [call("avg", case((test, number(1)), otherwise=number(0))) for test in tests.values()]
    found: _Measured = {}
    for batch in batches(table.cells("VARCHAR")):
        rows = await run(
            box,
            lambda batch=batch: (
                exp.select("k", *(share.copy() for share in shares))
                .from_(long_form(table.scan, batch, where=table.rows_where(SAMPLE_ROWS)), copy=False)
                .group_by("k", copy=False)
            ),
        )
        for position, *values in rows:
            shapes = {name: share for name, share in zip(tests, values, strict=True) if share}
            found[position] = {"shapes": shapes}
    return found


async def _terms(box: Sandbox, table: TypedTable, measured: _Measured) -> _Measured:
    """The words that most values of a text column hold, ties in the order of the words."""
    wordy = [cell for cell in table.cells("VARCHAR") if (measured[cell[0]].get("mean_words") or 0) >= MIN_WORDS]
    found: _Measured = {}
    for batch in batches(wordy[:TERM_COLUMNS]):
        for position, term, count in await run(box, lambda batch=batch: _term_query(table, batch)):
            entry = found.setdefault(position, {"frequent_terms": ()})
            entry["frequent_terms"] = (*entry["frequent_terms"], ValueCount(term, count))
    return found


def _term_query(table: TypedTable, cells: CellExpressions) -> exp.Expr:
    text = call("lower", call("left", exp.column("v"), number(TERM_CHARACTERS)))
    words = call("unnest", call("list_distinct", call("regexp_extract_all", text, string(TERM))))
    each = exp.select("k", named(words, "t"))
    each = each.from_(long_form(table.scan, cells, where=table.rows_where(TERM_ROWS)), copy=False)
    groups = exp.select("k", "t", named(call("count", exp.Star()), "n")).from_(each.subquery(copy=False), copy=False)
    shared = exp.GTE(this=call("count", exp.Star()), expression=number(SHARED_BY))
    groups = groups.group_by("k", "t", copy=False).having(shared, copy=False)
    order = exp.Order(expressions=[exp.Ordered(this=exp.column("n"), desc=True), exp.Ordered(this=exp.column("t"))])
    rank = exp.Window(this=call("row_number"), partition_by=[exp.column("k")], order=order)
    ranked = exp.select("k", "t", "n", named(rank, "place")).from_(groups.subquery(copy=False), copy=False)
    kept = exp.LTE(this=exp.column("place"), expression=number(TOP_TERMS))
    ranked = exp.select("k", "t", "n").from_(ranked.subquery(copy=False), copy=False).where(kept, copy=False)
    return ranked.order_by("k", "place", copy=False)
