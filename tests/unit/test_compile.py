"""Every operation, compiled and run on small data whose answers are known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import duckdb
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engines.dialect import render
from service.features.model import ColumnProfile, FeaturePlan, Grain, PlannedFeature, Profile
from service.features.operations import types as op
from service.features.operations.compile import CompiledPlan, compile_plan
from service.features.operations.compile_entity import ENTITY_COMPILERS
from service.features.operations.compile_row import ROW_COMPILERS
from service.features.operations.compile_window import WINDOW_COMPILERS
from service.features.operations.registry import REGISTRY
from service.features.operations.types import AnyOperation, Predicate

LOGICAL = {
    "VARCHAR": "categorical",
    "TIMESTAMP": "datetime",
    "DOUBLE": "numeric",
    "BIGINT": "integer",
    "BOOLEAN": "boolean",
}
COLUMNS = {
    "user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE", "y": "BIGINT", "w": "DOUBLE", "c": "VARCHAR",
    "text": "VARCHAR", "b": "BOOLEAN",
}  # fmt: skip
FRIDAY, SATURDAY, LATE, WEDNESDAY = (
    datetime(2024, 1, 5, 10, tzinfo=UTC),
    datetime(2024, 1, 6, 10, tzinfo=UTC),
    datetime(2024, 1, 5, 23, tzinfo=UTC),
    datetime(2024, 1, 10, 10, tzinfo=UTC),
)
ROWS: list[tuple[Any, ...]] = [
    ("u1", FRIDAY, 1.0, 2, -4.0, "a", "Hi, A b 1", True),
    ("u1", SATURDAY, 3.0, 0, 0.0, "b", "  ", False),
    ("u2", LATE, None, 5, 4.0, "a", None, None),
    ("u2", None, 2.0, 5, None, None, "née 😀", None),
    (None, WEDNESDAY, 2.0, 5, 1.5, "c", "", True),
    ("u1", SATURDAY, 9.0, 3, -1.0, "b", "1É2", False),
]
"""Nulls in every role, two rows of one entity at one instant, a group of one, a text of no character."""

IN_A = (Predicate("c", "eq", ("a",)),)


def profile(columns: dict[str, str]) -> Profile:
    """A profile of columns of these physical types."""
    known = [
        ColumnProfile(name, place, LOGICAL[physical], physical, 0.0, 2)  # type: ignore[arg-type] - words of the table above
        for place, (name, physical) in enumerate(columns.items())
    ]
    return Profile(len(ROWS), tuple(known), "fingerprint")


def plan(
    operations: Sequence[AnyOperation], grain: Grain, entity: str | None = "user", time: str | None = "at"
) -> FeaturePlan:
    """A plan of features f0, f1 and so on."""
    features = tuple(PlannedFeature(f"f{place}", "A feature.", one) for place, one in enumerate(operations))
    return FeaturePlan(grain, features, entity, time)


def quoted(name: str) -> str:
    """A column's name in DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def table(rows: Sequence[Sequence[Any]], columns: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """A database whose table `dataset` holds the rows as ingest would store them."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    typed = ", ".join(f"{quoted(name)} {physical}" for name, physical in columns.items())
    connection.execute(f"CREATE TABLE dataset ({typed}, __row_id BIGINT)")
    naive = [[cell.replace(tzinfo=None) if isinstance(cell, datetime) else cell for cell in row] for row in rows]
    if naive:
        marks = ", ".join("?" * (len(columns) + 1))
        stored = [[*row, place] for place, row in enumerate(naive)]
        connection.executemany(f"INSERT INTO dataset VALUES ({marks})", stored)  # noqa: S608 - question marks alone
    return connection


def compute(compiled: CompiledPlan, connection: duckdb.DuckDBPyConnection) -> dict[str, list[Any]]:
    """The statement's result by column."""
    result = connection.execute(render(compiled.statement(), "duckdb"))
    names = [entry[0] for entry in result.description or ()]
    rows = result.fetchall()
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def values(
    operation: AnyOperation,
    grain: Grain,
    rows: Sequence[Sequence[Any]] = ROWS,
    columns: dict[str, str] = COLUMNS,
    **keys: Any,
) -> list[Any]:
    """One operation's values over the rows."""
    compiled = compile_plan(plan([operation], grain, **keys), profile(columns))
    with table(rows, columns) as connection:
        return compute(compiled, connection)["f0"]


def approx(expected: Sequence[Any]) -> Any:
    """Numbers to nine digits; everything else exactly."""
    return [pytest.approx(one, rel=1e-9, abs=1e-9) if isinstance(one, float) else one for one in expected]


N = None
ROW_CASES: list[tuple[AnyOperation, list[Any]]] = [
    (op.Value("x"), [1.0, 3.0, N, 2.0, 2.0, 9.0]),
    (op.Value("c"), ["a", "b", "a", N, "c", "b"]),
    (op.Value("b"), [True, False, N, N, True, False]),
    (op.Value("y"), [2, 0, 5, 5, 5, 3]),
    (op.Logarithm("w"), [-math.log(5), 0.0, math.log(5), N, math.log(2.5), -math.log(2)]),
    (op.AbsoluteValue("w"), [4.0, 0.0, 4.0, N, 1.5, 1.0]),
    (op.Difference("x", "y"), [-1.0, 3.0, N, -3.0, -3.0, 6.0]),
    (op.Product("x", "w"), [-4.0, 0.0, N, N, 3.0, -9.0]),
    (op.Product("x", "b"), [1.0, 0.0, N, N, 2.0, 0.0]),
    (op.Ratio("x", "y"), [0.5, N, N, 0.4, 0.4, 3.0]),
    (op.IsMissing("c"), [0, 0, 0, 1, 0, 0]),
    (op.Flag((Predicate("c", "in", ("a", "c")),)), [1, 0, 1, 0, 1, 0]),
    (op.Flag((Predicate("c", "not_in", ("a",)),)), [0, 1, 0, 0, 1, 1]),
    (op.Flag((Predicate("c", "ne", ("a",)),)), [0, 1, 0, 0, 1, 1]),
    (op.Flag((Predicate("c", "is_null"),)), [0, 0, 0, 1, 0, 0]),
    (op.Flag((Predicate("x", "gt", (1,)), Predicate("x", "le", (3.0,)))), [0, 1, 0, 1, 1, 0]),
    (op.Flag((Predicate("x", "lt", (2,)),)), [1, 0, 0, 0, 0, 0]),
    (op.Flag((Predicate("w", "ge", (-1,)), Predicate("c", "not_null"))), [0, 1, 1, 0, 1, 1]),
    (op.Flag((Predicate("b", "eq", ("true",)),)), [1, 0, 0, 0, 1, 0]),
    (op.Flag((Predicate("at", "gt", ("2024-01-05T12:00:00+02:00",)),)), [0, 1, 1, 0, 1, 1]),
    (op.DatePartOf("at", "hour"), [10, 10, 23, N, 10, 10]),
    (op.DatePartOf("at", "day_of_week"), [5, 6, 5, N, 3, 6]),
    (op.CyclicTime("at", "hour", "sine"), [0.5, 0.5, math.sin(math.tau * 23 / 24), N, 0.5, 0.5]),
    (op.CyclicTime("at", "month", "cosine"), [math.sqrt(3) / 2] * 3 + [N] + [math.sqrt(3) / 2] * 2),
    (op.IsWeekend("at"), [0, 1, 0, N, 0, 1]),
    (op.TextLength("text"), [9, 2, N, 5, 0, 3]),
    (op.WordCount("text"), [4, 0, N, 2, 0, 1]),
    (op.TextContains("text", "HI, a"), [1, 0, 0, 0, 0, 0]),
    (op.CharacterShare("text", "digit"), [1 / 9, 0.0, N, 0.0, N, 2 / 3]),
    (op.CharacterShare("text", "uppercase"), [2 / 9, 0.0, N, 0.0, N, 1 / 3]),
    (op.CharacterShare("text", "punctuation"), [1 / 9, 0.0, N, 1 / 5, N, 0.0]),
    (op.CharacterShare("text", "space"), [3 / 9, 1.0, N, 1 / 5, N, 0.0]),
    (op.ZScore("x"), [(x - 3.4) / math.sqrt(10.3) if x else N for x in (1, 3, N, 2, 2, 9)]),
    (op.ZScore("x", "c"), [N, -math.sqrt(0.5), N, N, N, math.sqrt(0.5)]),
    (op.MinMaxScale("x"), [0.0, 0.25, N, 0.125, 0.125, 1.0]),
    (op.QuantileBin("x", 4), [1, 3, N, 1, 1, 4]),
    (op.PercentRank("x"), [0.0, 0.75, N, 0.25, 0.25, 1.0]),
    (op.PercentRank("x", "c"), [0.0, 0.0, N, N, 0.0, 1.0]),
    (op.FrequencyEncoding("c"), [2 / 6, 2 / 6, 2 / 6, N, 1 / 6, 2 / 6]),
    (op.GroupStatistic("x", "c", "sum"), [1.0, 12.0, 1.0, N, 2.0, 12.0]),
    (op.GroupStatistic("x", "c", "mean"), [1.0, 6.0, 1.0, N, 2.0, 6.0]),
    (op.GroupStatistic("x", "c", "standard_deviation"), [N, math.sqrt(18), N, N, N, math.sqrt(18)]),
    (op.GroupStatistic("x", "c", "median"), [1.0, 6.0, 1.0, N, 2.0, 6.0]),
    (op.GroupCount("c"), [2, 2, 2, N, 1, 2]),
    (op.PreviousValue("c", "user", "at"), [N, "a", N, N, N, "b"]),
    (op.PreviousValue("x", "user", "at", 2), [N, N, N, N, N, 1.0]),
    (op.ChangeFromPrevious("y", "user", "at"), [N, -2.0, N, N, N, 3.0]),
    (op.DaysSincePrevious("user", "at"), [N, 1.0, N, N, N, 0.0]),
    (op.RollingStatistic("x", "user", "at", 1, "sum"), [0.0, 1.0, 0.0, N, N, 1.0]),
    (op.RollingStatistic("x", "user", "at", 0.999, "sum"), [0.0, 0.0, 0.0, N, N, 0.0]),
    (op.RollingStatistic("x", "user", "at", 7, "mean"), [N, 1.0, N, N, N, 1.0]),
    (op.RollingStatistic("x", "user", "at", 7, "minimum"), [N, 1.0, N, N, N, 1.0]),
    (op.RollingStatistic("x", "user", "at", 7, "maximum"), [N, 1.0, N, N, N, 1.0]),
    (op.RollingStatistic("x", "user", "at", 7, "standard_deviation"), [N, N, N, N, N, N]),
    (op.RollingCount("user", "at", 7), [0, 1, 0, N, N, 1]),
    (op.RollingCount("user", "at", 7, (Predicate("c", "eq", ("b",)),)), [0, 0, 0, N, N, 0]),
    (op.CumulativeCount("user", "at"), [0, 1, 0, N, N, 2]),
]  # fmt: skip
"""Rows are those of `ROWS`; a tie in time is no earlier row to a window of days, but is one in (time, row id) order."""

ENTITY_CASES: list[tuple[AnyOperation, list[Any]]] = [
    (op.Count(), [3, 2]),
    (op.Count(IN_A), [1, 1]),
    (op.Count((), 5), [2, 1]),
    (op.CountDistinct("c"), [2, 1]),
    (op.CountDistinct("c", IN_A, 5), [0, 1]),
    (op.Aggregate("x", "sum"), [13.0, 2.0]),
    (op.Aggregate("x", "sum", IN_A), [1.0, 0.0]),
    (op.Aggregate("x", "mean"), [13 / 3, 2.0]),
    (op.Aggregate("b", "mean"), [1 / 3, N]),
    (op.Aggregate("x", "minimum"), [1.0, 2.0]),
    (op.Aggregate("x", "maximum", (), 5), [9.0, N]),
    (op.Aggregate("x", "standard_deviation"), [statistics.stdev([1, 3, 9]), N]),
    (op.Aggregate("x", "median"), [3.0, 2.0]),
    (op.Quantile("x", 0.9), [7.8, 2.0]),
    (op.Quantile("x", 0.9, IN_A), [1.0, N]),
    (op.Rate(IN_A), [1 / 3, 1 / 2]),
    (op.Rate(IN_A, (Predicate("c", "eq", ("b",)),)), [1 / 2, N]),
    (op.Rate(IN_A, (), 5), [0.0, 1.0]),
    (op.RatioOfSums("x", "y"), [13 / 5, 2 / 10]),
    (op.MissingShare("x"), [0.0, 0.5]),
    (op.Recency("at"), [4.0, 4 + 11 / 24]),
    (op.Recency("at", (Predicate("y", "gt", (3,)),)), [N, 4 + 11 / 24]),
    (op.Tenure("at"), [5.0, 4 + 11 / 24]),
    (op.ActiveSpan("at"), [1.0, 0.0]),
    (op.MeanGap("at"), [0.5, N]),
    (op.MeanGap("at", IN_A), [N, N]),
    (op.EventsPerDay("at"), [3 / 5, 1 / (4 + 11 / 24)]),
    (op.EventsPerDay("at", IN_A), [1 / 5, 1 / (4 + 11 / 24)]),
    (op.Trend("x", "at"), [5.0, N]),
    (op.RecentShare("at", 5), [2 / 3, 1.0]),
    (op.RecentShare("at", 5, IN_A), [0.0, 1.0]),
    (op.HourShare("at", 22, 6), [0.0, 1.0]),
    (op.HourShare("at", 10, 11), [1.0, 0.0]),
    (op.WeekendShare("at"), [2 / 3, 0.0]),
    (op.ActiveDays("at"), [2, 1]),
    (op.MostFrequent("c"), ["b", "a"]),
    (op.TopShare("c"), [2 / 3, 1 / 2]),
    (op.Entropy("c"), [math.log2(3) - 2 / 3, 0.0]),
    (op.LastValue("x", "at"), [9.0, N]),
    (op.FirstValue("c", "at"), ["a", "a"]),
    (op.FirstValue("b", "at"), [True, N]),
]
"""Entities u1 and u2; the dataset's latest time is the Wednesday of the row without entity."""


@pytest.mark.parametrize(("operation", "expected"), ROW_CASES, ids=lambda one: type(one).__name__)
def test_row_operation(operation: AnyOperation, expected: list[Any]) -> None:
    """A row operation gives the value worked out by hand for each row."""
    assert values(operation, "row") == approx(expected)


@pytest.mark.parametrize(("operation", "expected"), ENTITY_CASES, ids=lambda one: type(one).__name__)
def test_entity_operation(operation: AnyOperation, expected: list[Any]) -> None:
    """An entity operation gives the value worked out by hand for each entity; rows without one are left out."""
    assert values(operation, "entity") == approx(expected)


def test_elapsed_days() -> None:
    """Days between two times keep their sign and fraction."""
    columns = {"start": "TIMESTAMP", "end": "TIMESTAMP"}
    rows = [(FRIDAY, LATE), (SATURDAY, FRIDAY), (N, FRIDAY)]
    found = values(op.ElapsedDays("start", "end"), "row", rows, columns, entity=None, time=None)
    assert found == approx([13 / 24, -1.0, N])


def test_rolling_standard_deviation() -> None:
    """The deviation of a window is the sample's, over the earlier rows alone."""
    rows = [("a", FRIDAY + timedelta(days=day), x) for day, x in enumerate([1.0, 3.0, 100.0])]
    operation = op.RollingStatistic("x", "user", "at", 7, "standard_deviation")
    assert values(operation, "row", rows, HISTORY_COLUMNS) == approx([N, N, math.sqrt(2)])


def test_every_operation_is_tried_here() -> None:
    """No operation of the registry is without a case or a compiler."""
    tried = {type(operation) for operation, _ in (*ROW_CASES, *ENTITY_CASES)} | {op.ElapsedDays}
    compilers = {**ROW_COMPILERS, **WINDOW_COMPILERS, **ENTITY_COMPILERS}
    assert tried == {spec.type for spec in REGISTRY.values()} == set(compilers)


@pytest.mark.parametrize("grain", ["row", "entity"])
def test_all_operations_in_one_statement(grain: Grain) -> None:
    """Compiled together, operations give what they give alone: shared parts are not mixed up."""
    cases = ROW_CASES if grain == "row" else ENTITY_CASES
    compiled = compile_plan(plan([operation for operation, _ in cases], grain), profile(COLUMNS))
    with table(ROWS, COLUMNS) as connection:
        found = compute(compiled, connection)
    for place, (_, expected) in enumerate(cases):
        assert found[f"f{place}"] == approx(expected)


@pytest.mark.parametrize("grain", ["row", "entity"])
def test_types_are_those_announced(grain: Grain) -> None:
    """The statement's columns have the engine's type for the feature type that was compiled."""
    operations = [operation for operation, _ in (ROW_CASES if grain == "row" else ENTITY_CASES)]
    compiled = compile_plan(plan(operations, grain), profile(COLUMNS))
    physical = {"number": "DOUBLE", "integer": "BIGINT", "boolean": "BOOLEAN", "string": "VARCHAR"}
    with table(ROWS, COLUMNS) as connection:
        description = connection.execute(render(compiled.statement(), "duckdb")).description or ()
    types = {name: str(kind) for name, kind, *_ in description}
    assert {name: types[name] for name in compiled.features} == {
        name: physical[kind] for name, kind in compiled.features.items()
    }


@pytest.mark.parametrize(
    "operation", [one for one, _ in (*ROW_CASES, *ENTITY_CASES)], ids=lambda one: type(one).__name__
)
def test_every_operation_renders_for_spark(operation: AnyOperation) -> None:
    """Spark's text parses as Spark and holds none of the words that only DuckDB knows."""
    grain: Grain = "row" if isinstance(operation, get_args(op.RowOperation)) else "entity"
    compiled = compile_plan(plan([operation], grain), profile(COLUMNS))
    text = render(compiled.statement(), "spark")
    assert sqlglot.parse_one(text, read="spark") is not None
    for word in ("EPOCH_US", "ISFINITE", "ISODOW", "INT128", "HUGEINT", "PERCENTILE_CONT", "ARG_MAX", '"'):
        assert word not in text


def test_calendar_parts_are_pythons() -> None:
    """Parts agree with Python's calendar, before 1970 and around the ends of ISO years, too."""
    days = [
        datetime(year, 12, 27, 5, tzinfo=UTC) + timedelta(days=offset)
        for year in (1899, 1969, 2020)
        for offset in range(12)
    ]
    expected = {
        "hour": [day.hour for day in days],
        "day_of_week": [day.isoweekday() for day in days],
        "day_of_month": [day.day for day in days],
        "day_of_year": [day.timetuple().tm_yday for day in days],
        "week": [day.isocalendar().week for day in days],
        "month": [day.month for day in days],
        "quarter": [(day.month + 2) // 3 for day in days],
        "year": [day.year for day in days],
    }
    rows = [(day,) for day in days]
    for part in get_args(op.DatePart):
        found = values(op.DatePartOf("at", part), "row", rows, {"at": "TIMESTAMP"}, entity=None, time=None)
        assert found == expected[part]


HOSTILE_NAMES = ['"; DROP TABLE dataset; --', 'we"ird', "a'b\\", "😀 größe", "x\n--", "select", "{0} :x $1 ?", "%s"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_column_names_stay_names(name: str) -> None:
    """Whatever a column is called, it is read as that column, in every role, and nothing else happens."""
    columns = {name: "DOUBLE", f"{name} key": "VARCHAR", f"{name} time": "TIMESTAMP"}
    rows = [(1.5, "a", FRIDAY), (2.5, "a", SATURDAY)]
    where = (Predicate(name, "gt", (2,)),)
    keys = {"entity": f"{name} key", "time": f"{name} time"}
    assert values(op.ZScore(name, keys["entity"]), "row", rows, columns, **keys) == approx(
        [-math.sqrt(0.5), math.sqrt(0.5)]
    )
    assert values(op.RollingStatistic(name, *keys.values(), 7, "sum"), "row", rows, columns, **keys) == [0.0, 1.5]
    assert values(op.Count(where, 7), "entity", rows, columns, **keys) == [1]
    assert values(op.MostFrequent(keys["entity"]), "entity", rows, columns, **keys) == ["a"]
    spark = render(compile_plan(plan([op.Value(name)], "row", **keys), profile(columns)).statement(), "spark")
    assert name in {column.name for column in sqlglot.parse_one(spark, read="spark").find_all(sqlglot.exp.Column)}


@pytest.mark.parametrize("value", ["' OR 1=1 --", "a'b\\", "\\", "'; DROP TABLE dataset; --", "😀", ":x", "$1", "%"])
def test_hostile_predicate_values_stay_values(value: str) -> None:
    """A literal equals the cell of the same text and no other."""
    rows = [(value,), ("other",), (N,)]
    found = values(op.Flag((Predicate("c", "eq", (value,)),)), "row", rows, {"c": "VARCHAR"}, entity=None, time=None)
    assert found == [1, 0, 0]
    assert values(op.TextContains("c", value), "row", rows, {"c": "VARCHAR"}, entity=None, time=None) == [1, 0, 0]


def test_a_zero_denominator_gives_null() -> None:
    """Neither an error nor an infinity comes of dividing by nothing."""
    columns = {"user": "VARCHAR", "x": "DOUBLE", "zero": "DOUBLE"}
    rows = [("a", 1.0, 0.0), ("a", 2.0, 0.0)]
    for operation in (op.Ratio("x", "zero"), op.ZScore("zero"), op.MinMaxScale("zero")):
        assert values(operation, "row", rows, columns, time=None) == [N, N]
    assert values(op.RatioOfSums("x", "zero"), "entity", rows, columns, time=None) == [N]


def test_what_is_no_finite_number_becomes_null() -> None:
    """NaN, infinities and overflow are computed as such, and published as null."""
    columns = {"x": "DOUBLE"}
    rows = [(math.nan,), (math.inf,), (-math.inf,), (1e300,), (2.0,)]
    compiled = compile_plan(plan([op.Value("x"), op.Product("x", "x")], "row", None, None), profile(columns))
    with table(rows, columns) as connection:
        raw = connection.execute(render(compiled.computed, "duckdb") + " ORDER BY row_id").fetchall()
        found = compute(compiled, connection)
    assert [row[1] for row in raw[1:4]] == [math.inf, -math.inf, 1e300]
    assert found["f0"] == [N, N, N, 1e300, 2.0]
    assert found["f1"] == [N, N, N, N, 4.0]


def test_ties_of_the_most_frequent_go_to_the_smallest() -> None:
    """The most frequent category is the same whatever the order of rows."""
    columns = {"user": "VARCHAR", "c": "VARCHAR"}
    rows = [("a", "z"), ("a", "m"), ("a", "m"), ("a", "z"), ("a", "b"), ("b", N)]
    assert values(op.MostFrequent("c"), "entity", rows, columns, time=None) == ["m", N]
    assert values(op.MostFrequent("c"), "entity", rows[::-1], columns, time=None) == ["m", N]


def test_large_integers_do_not_overflow() -> None:
    """Sums and products of 64-bit integers are taken as floating-point numbers."""
    columns = {"user": "VARCHAR", "y": "BIGINT"}
    rows = [("a", 2**62), ("a", 2**62), ("a", 2**62)]
    assert values(op.Aggregate("y", "sum"), "entity", rows, columns, time=None) == [pytest.approx(3 * 2.0**62)]
    assert values(op.Product("y", "y"), "row", rows, columns, time=None) == [pytest.approx(2.0**124)] * 3


def test_an_empty_dataset_gives_an_empty_table() -> None:
    """No rows in, no rows out, at both grains."""
    assert values(op.ZScore("x"), "row", []) == []
    assert values(op.Entropy("c"), "entity", []) == []


def test_rows_come_in_order_with_their_keys() -> None:
    """The row grain has row id, entity and time; the entity grain its entity, each in ascending order."""
    with table(ROWS, COLUMNS) as connection:
        rows = compute(compile_plan(plan([op.Value("x")], "row"), profile(COLUMNS)), connection)
        entities = compute(compile_plan(plan([op.Count()], "entity"), profile(COLUMNS)), connection)
    assert list(rows) == ["row_id", "user", "at", "f0"]
    assert rows["row_id"] == [0, 1, 2, 3, 4, 5]
    assert list(entities) == ["user", "f0"]
    assert entities["user"] == ["u1", "u2"]


def test_the_row_id_gives_way_to_a_column_of_its_name() -> None:
    """A dataset's own row_id stays what it is; the key takes the next free name."""
    columns = {"ROW_ID": "BIGINT", "row_id_1": "DOUBLE"}
    compiled = compile_plan(plan([op.Value("ROW_ID")], "row", None, None), profile(columns))
    with table([(7, 0.5)], columns) as connection:
        assert compute(compiled, connection) == {"row_id_2": [0], "f0": [7]}


def test_publishing_some_features_keeps_the_keys() -> None:
    """The second step writes the named features alone, after the keys."""
    compiled = compile_plan(plan([op.Value("x"), op.Value("y")], "row"), profile(COLUMNS))
    names = [column.alias_or_name for column in compiled.published(["f1"]).expressions]
    assert names == ["row_id", "user", "at", "f1"]


def test_an_unvalidated_column_does_not_compile() -> None:
    """A plan that was not validated fails loudly rather than as SQL."""
    with pytest.raises(KeyError):
        compile_plan(plan([op.ZScore("nowhere")], "row"), profile(COLUMNS))


@pytest.mark.parametrize("days", [3.0, 0.25])
def test_shared_aggregates_are_computed_once(days: float) -> None:
    """Features that need the same count share it: the statement holds it once."""
    operations = [op.Count((), days), op.Rate(IN_A, (), days), op.RecentShare("at", days)]
    text = render(compile_plan(plan(operations, "entity"), profile(COLUMNS)).computed, "duckdb")
    assert text.count("FROM dataset") == 2
    assert text.count("MAX(EPOCH_US") == 1


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.one_of(st.none(), st.integers(0, 12)),
        st.one_of(st.none(), st.integers(-5, 5).map(float)),
    ),
    max_size=14,
)
HISTORY = [
    op.RollingStatistic("x", "user", "at", 0.125, "sum"),
    op.RollingStatistic("x", "user", "at", 0.25, "maximum"),
    op.RollingCount("user", "at", 0.25),
    op.PreviousValue("x", "user", "at", 2),
    op.ChangeFromPrevious("x", "user", "at"),
    op.DaysSincePrevious("user", "at"),
    op.CumulativeCount("user", "at"),
]
HISTORY_COLUMNS = {"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}


def history(events: Sequence[tuple[str | None, int | None, float | None]]) -> list[tuple[Any, ...]]:
    """The history features of each event, whose times are hours."""
    compiled = compile_plan(plan(HISTORY, "row"), profile(HISTORY_COLUMNS))
    rows = [(user, None if hour is None else FRIDAY + timedelta(hours=hour), x) for user, hour, x in events]
    with table(rows, HISTORY_COLUMNS) as connection:
        found = compute(compiled, connection)
    return list(zip(*(found[f"f{place}"] for place in range(len(HISTORY))), strict=True))


@settings(max_examples=25, deadline=None)
@given(EVENTS, st.integers(0, 12))
def test_no_row_sees_its_future(events: list[tuple[str | None, int | None, float | None]], end: int) -> None:
    """Removing the rows after an instant changes nothing in those up to it."""
    kept = [event for event in events if event[1] is None or event[1] <= end]
    whole = [found for event, found in zip(events, history(events), strict=True) if event in kept]
    assert whole == history(kept)


@settings(max_examples=25, deadline=None)
@given(EVENTS)
def test_windows_are_what_python_counts(events: list[tuple[str | None, int | None, float | None]]) -> None:
    """Rolling sums and counts over [t - days, t) agree with a plain loop over the rows."""
    for (user, hour, _), found in zip(events, history(events), strict=True):
        if user is None or hour is None:
            assert found == (None,) * len(HISTORY)
            continue
        earlier = [(at, x) for other, at, x in events if other == user and at is not None and at < hour]
        assert found[0] == sum(x for at, x in earlier if at >= hour - 3 and x is not None)
        assert found[1] == max((x for at, x in earlier if at >= hour - 6 and x is not None), default=None)
        assert found[2] == sum(at >= hour - 6 for at, _ in earlier)
