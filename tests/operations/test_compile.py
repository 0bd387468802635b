"""Compiled plans on small data: names and values of any kind, keys, types, windows that never see the future."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.features import operations as op
from service.features.model import Grain
from service.features.operations import Predicate
from tests.operations.engines import compute, plan, profile, table, values
from tests.operations.golden import COLUMNS, ENTITY_CASES, FRIDAY, IN_A, ROW_CASES, ROWS, SATURDAY, N
from tests.operations.test_golden import approx


def test_rolling_standard_deviation() -> None:
    """The deviation of a window is the sample's, over the earlier rows alone."""
    rows = [("a", FRIDAY + timedelta(days=day), x) for day, x in enumerate([1.0, 3.0, 100.0])]
    operation = op.RollingStatistic("x", "user", "at", 7, "standard_deviation")
    assert values(operation, rows, HISTORY_COLUMNS) == approx([N, N, math.sqrt(2)])


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
        "minute": [day.minute for day in days],
        "week_of_month": [(day.day - 1) // 7 + 1 for day in days],
        "half_year": [1 if day.month <= 6 else 2 for day in days],
    }
    rows = [(day,) for day in days]
    for part in get_args(op.DatePart):
        found = values(op.DatePartOf("at", part), rows, {"at": "TIMESTAMP"}, entity=None, time=None)
        assert found == expected[part]


HOSTILE_NAMES = ['"; DROP TABLE dataset; --', 'we"ird', "a'b\\", "😀 größe", "x\n--", "select", "{0} :x $1 ?", "%s"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_column_names_stay_names(name: str) -> None:
    """Whatever a column is called, it is read as that column, in every role, and nothing else happens."""
    columns = {name: "DOUBLE", f"{name} key": "VARCHAR", f"{name} time": "TIMESTAMP"}
    rows = [(1.5, "a", FRIDAY), (2.5, "a", SATURDAY)]
    where = (Predicate(name, "gt", (2,)),)
    keys = {"entity": f"{name} key", "time": f"{name} time"}
    assert values(op.ZScore(name, keys["entity"]), rows, columns, **keys) == approx([-math.sqrt(0.5), math.sqrt(0.5)])
    assert values(op.RollingStatistic(name, *keys.values(), 7, "sum"), rows, columns, **keys) == [0.0, 1.5]
    assert values(op.Count(where, 7), rows, columns, **keys) == [1]
    assert values(op.MostFrequent(keys["entity"]), rows, columns, **keys) == ["a"]
    spark = render(compile_plan(plan([op.Value(name)], "row", **keys), profile(columns)).statement(), "spark")
    assert name in {column.name for column in sqlglot.parse_one(spark, read="spark").find_all(sqlglot.exp.Column)}


@pytest.mark.parametrize("value", ["' OR 1=1 --", "a'b\\", "\\", "'; DROP TABLE dataset; --", "😀", ":x", "$1", "%"])
def test_hostile_predicate_values_stay_values(value: str) -> None:
    """A literal equals the cell of the same text and no other."""
    rows = [(value,), ("other",), (N,)]
    found = values(op.Flag((Predicate("c", "eq", (value,)),)), rows, {"c": "VARCHAR"}, entity=None, time=None)
    assert found == [1, 0, 0]
    assert values(op.TextContains("c", value), rows, {"c": "VARCHAR"}, entity=None, time=None) == [1, 0, 0]


def test_a_zero_denominator_gives_null() -> None:
    """Neither an error nor an infinity comes of dividing by nothing."""
    columns = {"user": "VARCHAR", "x": "DOUBLE", "zero": "DOUBLE"}
    rows = [("a", 1.0, 0.0), ("a", 2.0, 0.0)]
    for operation in (op.Ratio("x", "zero"), op.ZScore("zero"), op.MinMaxScale("zero")):
        assert values(operation, rows, columns, time=None) == [N, N]
    assert values(op.RatioOfSums("x", "zero"), rows, columns, time=None) == [N]


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
    assert values(op.MostFrequent("c"), rows, columns, time=None) == ["m", N]
    assert values(op.MostFrequent("c"), rows[::-1], columns, time=None) == ["m", N]


def test_large_integers_do_not_overflow() -> None:
    """Sums and products of 64-bit integers are taken as floating-point numbers."""
    columns = {"user": "VARCHAR", "y": "BIGINT"}
    rows = [("a", 2**62), ("a", 2**62), ("a", 2**62)]
    assert values(op.Aggregate("y", "sum"), rows, columns, time=None) == [pytest.approx(3 * 2.0**62)]
    assert values(op.Product("y", "y"), rows, columns, time=None) == [pytest.approx(2.0**124)] * 3


def test_an_empty_dataset_gives_an_empty_table() -> None:
    """No rows in, no rows out, at both grains."""
    assert values(op.ZScore("x"), []) == []
    assert values(op.Entropy("c"), []) == []


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
