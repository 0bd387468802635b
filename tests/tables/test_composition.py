"""Columns that are computed first, and features that are made of features, against plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.features import operations as op
from service.features.lineage import layers, sources_of
from service.features.model import ComputedColumn, ExtractionOptions, FeaturePlan, GroupedRows
from service.features.operations import AnyOperation, Predicate
from service.features.table_options import Horizon, Observations, RelatedTable, TableOptions
from tests.tables.support import Case, Given, planned

START = datetime(2024, 2, 27, tzinfo=UTC)
DAY = timedelta(days=1)
LINES = {"customer": "VARCHAR", "at": "TIMESTAMP", "price": "DOUBLE", "quantity": "BIGINT"}
amounts = st.none() | st.sampled_from([0.0, 1.5, 2.0, 7.25])
lines = st.lists(
    st.tuples(
        st.sampled_from(["c1", "c2"]),
        st.integers(0, 12).map(lambda hours: START + timedelta(hours=12 * hours)),
        amounts,
        st.none() | st.integers(0, 4),
    ),
    min_size=1,
    max_size=10,
)
VALUE = ComputedColumn("value", op.Product("price", "quantity"))
BIG = ComputedColumn("big", op.Flag((Predicate("value", "ge", (3.0,)),)))
COLUMNS = (VALUE, BIG)
FEATURES = planned(
    ("n", op.Count()),
    ("spent", op.Aggregate("value", "sum")),
    ("n_big", op.Aggregate("big", "sum")),
    ("share_big", op.Ratio("n_big", "n")),
    ("above_half", op.Flag((Predicate("share_big", "gt", (0.5,)),))),
)
PLAN = FeaturePlan("entity", FEATURES, "customer", "at", columns=COLUMNS, unpublished=("n_big",))
FIXED = ExtractionOptions(entity="customer", time="at")


PLAIN = TableOptions()


def sales(rows: Sequence[Any]) -> Given:
    """Return the table of lines."""
    return Given("sales", LINES, rows, ("customer",))


def expected(rows: Sequence[Any]) -> dict[str, Any]:
    """Return the features of one customer's lines, worked out by hand."""
    values = [None if price is None or quantity is None else price * quantity for _, _, price, quantity in rows]
    big = sum(value is not None and value >= 3 for value in values)
    share = big / len(rows) if rows else None
    return {
        "n": len(rows),
        "spent": sum(value for value in values if value is not None),
        "share_big": share,
        "above_half": int(share is not None and share > 0.5),
    }


@settings(max_examples=20, deadline=None)
@given(lines)
def test_columns_and_features_of_features(rows: list[Any]) -> None:
    """Each line's value is computed first, then the features, then what is made of them; the rest is published."""
    found = Case([sales(rows)], TableOptions()).compute(PLAN)
    for row in found:
        mine = [line for line in rows if line[0] == row["customer"]]
        assert row == pytest.approx({"customer": row["customer"], **expected(mine)})


@settings(max_examples=15, deadline=None)
@given(lines, st.lists(st.tuples(st.sampled_from(["c1", "c2", "c3"]), st.integers(0, 8)), min_size=1, max_size=4))
def test_for_observations(rows: list[Any], asked: list[Any]) -> None:
    """The same from what happened before each moment."""
    moments = [(who, START + day * DAY) for who, day in asked]
    tables = [sales(rows), Given("moments", {"who": "VARCHAR", "when": "TIMESTAMP"}, moments)]
    options = TableOptions(observations=Observations("moments", "who", "when"), horizon=Horizon(1))
    found = Case(tables, options, FIXED).compute(PLAN)
    for row, (who, when) in zip(found, moments, strict=True):
        known = [line for line in rows if line[0] == who and line[1] < when]
        got = {name: row[name] for name in ("n", "spent", "share_big", "above_half")}
        assert got == pytest.approx(expected(known))


def test_columns_of_a_child_table_that_read_its_parent() -> None:
    """A line's value in the currency of its order; statistics of rows by rows of the level."""
    orders = Given(
        "orders", {"order_id": "BIGINT", "rate": "DOUBLE", "customer": "VARCHAR"}, [(1, 2.0, "a"), (2, 1.0, "b")]
    )
    items = Given("items", {"order_id": "BIGINT", "price": "DOUBLE"}, [(1, 5.0), (1, 1.0), (2, 4.0), (2, 3.0)])
    case = Case([orders, items], TableOptions(related=(RelatedTable("items", "order_id"),)))
    columns = (
        ComputedColumn("converted", op.Product("items.price", "rate")),
        ComputedColumn("place", op.ZScore("converted")),
    )
    features = planned(("most", op.Aggregate("converted", "maximum")), ("mean_place", op.Aggregate("place", "mean")))
    found = case.compute(FeaturePlan("entity", features, "customer", columns=columns))
    assert [(row["customer"], row["most"]) for row in found] == [("a", 10.0), ("b", 4.0)]
    assert sum(row["mean_place"] for row in found) == pytest.approx(0.0)


def test_rows_with_columns_of_columns() -> None:
    """At row grain a feature reads computed columns, of the past of the row too."""
    rows = [("c1", START, 2.0, 2), ("c1", START + DAY, 3.0, 1), ("c2", START, 1.0, 1)]
    columns = (VALUE, ComputedColumn("before", op.PreviousValue("value", "customer", "at")))
    features = planned(("growth", op.Difference("value", "before")))
    plan = FeaturePlan("row", features, "customer", "at", columns=columns)
    assert [row["growth"] for row in Case([sales(rows)], TableOptions()).compute(plan)] == [None, -1.0, None]


def faults(plan: FeaturePlan, options: TableOptions = PLAIN) -> list[tuple[str, str]]:
    """Return where the plan is wrong, and why."""
    tables = [sales([("c1", START, 1.0, 1)])]
    if options.observations is not None:
        tables.append(Given("moments", {"who": "VARCHAR", "when": "TIMESTAMP"}, [("c1", START)]))
    return [(fault.field, fault.message) for fault in Case(tables, options, FIXED).faults(plan)]


@pytest.mark.parametrize(
    ("columns", "field", "words"),
    [
        ((ComputedColumn("price", op.Value("quantity")),), "columns[0].name", "another column"),
        ((VALUE, VALUE), "columns[1].name", "another column"),
        ((ComputedColumn("big", op.Value("value")), VALUE), "columns[0].operation.column", "no column 'value'"),
        ((VALUE, ComputedColumn("n_lines", op.Count())), "columns[1].operation", "grain 'entity'"),
        (
            (VALUE, ComputedColumn("hour", op.DatePartOf("price", "hour"))),
            "columns[1].operation.column",
            "needs one of",
        ),
    ],
)
def test_columns_that_cannot_be_computed(columns: tuple[ComputedColumn, ...], field: str, words: str) -> None:
    """The fault names the column's place."""
    plan = FeaturePlan("entity", planned(("n", op.Count())), "customer", "at", columns=columns)
    [found] = faults(plan)
    assert found[0] == field
    assert words in found[1]


@pytest.mark.parametrize(
    ("operation", "field", "words"),
    [
        (op.Value("price"), "features[1].operation", "reads features before it"),
        (op.Ratio("n", "price"), "features[1].operation.denominator", "no column 'price'"),
        (op.PreviousValue("n", "customer", "at"), "features[1].operation.entity", "no column 'customer'"),
    ],
)
def test_features_of_features_that_cannot_be(operation: AnyOperation, field: str, words: str) -> None:
    """A row operation in a plan of entities reads features, which have no history."""
    found = faults(FeaturePlan("entity", planned(("n", op.Count()), ("f", operation)), "customer", "at"))
    assert found[0][0] == field
    assert words in found[0][1]


def test_what_compares_moments_is_refused_for_observations() -> None:
    """Ranks among rows of all times, or among the features of observations."""
    options = TableOptions(observations=Observations("moments", "who", "when"))
    column = (ComputedColumn("place", op.PercentRank("price")),)
    plan = FeaturePlan(
        "entity", planned(("n", op.Count()), ("rank", op.PercentRank("n"))), "customer", "at", columns=column
    )
    assert [field for field, _ in faults(plan, options)] == ["columns[0].operation", "features[1].operation"]


def test_unpublished_features() -> None:
    """They are features of the plan, and not all of it."""
    plan = FeaturePlan("entity", planned(("n", op.Count())), "customer", "at", unpublished=("n",))
    assert faults(plan) == [("unpublished", "every feature is unpublished: none would be left")]
    assert faults(replace(plan, unpublished=("m",))) == [("unpublished[0]", "no feature is named 'm'")]


def test_sources_go_through_what_a_feature_is_made_of() -> None:
    """The report names columns of the data."""
    assert [sources_of(PLAN, feature) for feature in PLAN.features] == [
        (), ("price", "quantity"), ("price", "quantity"), ("price", "quantity"), ("price", "quantity"),
    ]  # fmt: skip


def test_layers() -> None:
    """Each name comes after those that it reads."""
    operations = {one.name: one.operation for one in (*COLUMNS, ComputedColumn("other", op.Value("price")))}
    assert layers(operations) == (("value", "other"), ("big",))
    assert layers({}) == ()


GROUPED = {"customer": "VARCHAR", "order_id": "BIGINT", "at": "TIMESTAMP", "price": "DOUBLE"}
order_lines = st.lists(
    st.tuples(
        st.sampled_from(["c1", "c2"]),
        st.none() | st.integers(0, 3),
        st.integers(0, 8).map(lambda hours: START + timedelta(hours=12 * hours)),
        amounts,
    ),
    min_size=1,
    max_size=10,
)
ORDERS = GroupedRows("purchase", ("order_id",), planned(("lines", op.Count()), ("total", op.Aggregate("price", "sum"))))
OF_ORDERS = FeaturePlan(
    "entity",
    planned(
        ("n_lines", op.Count()),
        ("orders", op.Count(), "purchase"),
        ("largest", op.Aggregate("purchase.total", "maximum")),
        ("mean_lines", op.Aggregate("purchase.lines", "mean")),
        ("recent", op.Count(last_days=1.0), "purchase"),
        ("recency", op.Recency("purchase.time")),
    ),
    "customer",
    "at",
    groups=(ORDERS,),
)


def of_orders(rows: Sequence[Any], moment: datetime) -> dict[str, Any]:
    """Return what a customer's known lines come to, by order, in plain Python."""
    orders = {line[1]: [other for other in rows if other[1] == line[1]] for line in rows if line[1] is not None}
    totals = [sum(line[3] or 0.0 for line in group) for group in orders.values()]
    latest = [max(line[2] for line in group) for group in orders.values()]
    return {
        "n_lines": len(rows),
        "orders": len(orders),
        "largest": max(totals, default=None),
        "mean_lines": sum(map(len, orders.values())) / len(orders) if orders else None,
        "recent": sum(at >= moment - DAY for at in latest),
        "recency": (moment - max(latest)) / DAY if latest else None,
    }


@settings(max_examples=20, deadline=None)
@given(order_lines, st.lists(st.tuples(st.sampled_from(["c1", "c2", "c3"]), st.integers(0, 6)), min_size=1, max_size=4))
def test_groups_of_what_each_moment_knows(rows: list[Any], asked: list[Any]) -> None:
    """Orders are made of the lines before the moment, so that one may be half known; features are made of orders."""
    moments = [(who, START + day * DAY) for who, day in asked]
    tables = [
        Given("sales", GROUPED, rows, ("customer", "order_id")),
        Given("moments", {"who": "VARCHAR", "when": "TIMESTAMP"}, moments),
    ]
    found = Case(tables, TableOptions(observations=Observations("moments", "who", "when")), FIXED).compute(OF_ORDERS)
    for row, (who, when) in zip(found, moments, strict=True):
        wanted = of_orders([line for line in rows if line[0] == who and line[2] < when], when)
        assert {name: row[name] for name in wanted} == pytest.approx(wanted)


def test_groups_by_a_computed_column() -> None:
    """Days of a customer, without a moment; the busiest hour of each."""
    rows = [("c1", START, 1.0, 1), ("c1", START + DAY / 2, 2.0, 1), ("c1", START + DAY, 4.0, 1), ("c2", START, 8.0, 1)]
    days = GroupedRows("day", ("month_day",), planned(("spent", op.Aggregate("price", "sum"))))
    columns = (ComputedColumn("month_day", op.DatePartOf("at", "day_of_month")),)
    features = planned(("mean_day", op.Aggregate("day.spent", "mean")), ("days", op.Count(), "day"))
    plan = FeaturePlan("entity", features, "customer", "at", columns=columns, groups=(days,))
    found = Case([sales(rows)], TableOptions()).compute(plan)
    assert [(row["customer"], row["mean_day"], row["days"]) for row in found] == [("c1", 3.5, 2), ("c2", 8.0, 1)]
    assert sources_of(plan, plan.features[0]) == ("price",)


@pytest.mark.parametrize(
    ("groups", "feature", "field", "words"),
    [
        ((GroupedRows("day", ("nothing",), planned(("n", op.Count()))),), op.Count(), "groups[0].by[0]", "no column"),
        (
            (GroupedRows("day", ("quantity",), planned(("n", op.Value("price")))),),
            op.Count(),
            "groups[0].features[0].operation",
            "grain 'row'",
        ),
        (
            (GroupedRows("day", ("quantity",), planned(("time", op.Count()))),),
            op.Count(),
            "groups[0].features",
            "names of their own",
        ),
        (
            (GroupedRows("day", ("quantity",), planned(("n", op.Count()))),),
            op.Correlation("day.n", "price"),
            "features[0].operation",
            "'price' is no column of theirs",
        ),
    ],
)
def test_groups_that_cannot_be(groups: tuple[GroupedRows, ...], feature: AnyOperation, field: str, words: str) -> None:
    """The fault names the group's place."""
    found = faults(FeaturePlan("entity", planned(("f", feature)), "customer", "at", groups=groups))
    assert found[0][0] == field
    assert words in found[0][1]


def test_a_column_that_looks_at_rows_is_read_in_those_rows() -> None:
    """Rows of a child repeat those that they belong to: what compares rows would see some several times."""
    orders = [(1, "a", START, 1.0), (2, "a", START + DAY, 5.0)]
    case = Case(
        [
            Given(
                "orders", {"order": "BIGINT", "user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}, orders, ("order",)
            ),
            Given("items", {"order": "BIGINT", "n": "BIGINT"}, [(1, 1), (1, 2), (2, 3)], ("order",)),
        ],
        TableOptions(related=(RelatedTable("items", "order"),)),
        ExtractionOptions(time="at"),
    )
    columns = (
        ComputedColumn("before", op.PreviousValue("x", "user", "at")),
        ComputedColumn("twice", op.Product("x", "x")),
    )

    def plan(read: str) -> FeaturePlan:
        late = (Predicate(read, "gt", (0,)),)
        features = planned(("n", op.Aggregate("items.n", "sum", late)))
        return FeaturePlan("entity", features, "user", "at", columns=columns)

    assert [row["n"] for row in case.compute(plan("twice"))] == [6.0]
    assert [(fault.reason, fault.field) for fault in case.faults(plan("before"))] == [
        ("grain", "features[0].operation")
    ]


def test_computed_columns_hold_what_features_may_not() -> None:
    """Exact pieces of texts, and earlier texts and times; what is made of them is published, they are not."""
    rows = [
        ("u1", "a@x.org", "red shoes", START),
        ("u1", "b@y.org", "red boots", START + DAY),
        ("u2", "c@x.org", "hat", START + 3 * DAY),
        ("u1", None, "red boots", START + 5 * DAY),
    ]
    case = Case(
        [
            Given(
                "searches",
                {"user": "VARCHAR", "mail": "VARCHAR", "query": "VARCHAR", "at": "TIMESTAMP"},
                rows,
                ("mail",),
            )
        ],
        TableOptions(),
    )
    columns = (
        ComputedColumn("domain", op.EmailDomain("mail")),
        ComputedColumn("first", op.TextPiece("query", "first_word")),
        ComputedColumn("before", op.PreviousValue("query", "user", "at")),
        ComputedColumn("when", op.PreviousValue("at", "user", "at")),
    )
    features = planned(
        ("sharing", op.GroupCount("domain")),
        ("alike", op.TextSimilarity("query", "before")),
        ("waited", op.ElapsedDays("when", "at")),
        ("same", op.GroupCount("first")),
    )
    found = case.compute(FeaturePlan("row", features, "user", "at", columns=columns))
    assert [row["sharing"] for row in found] == [2, 1, 2, None]
    assert [row["waited"] for row in found] == [None, 1.0, None, 4.0]
    assert [row["same"] for row in found] == [3, 3, 1, 3]
    assert found[3]["alike"] == 1.0
    for name in ("domain", "first", "when"):
        faults = case.faults(FeaturePlan("row", planned(("x", op.Value(name))), "user", "at", columns=columns))
        assert [fault.field for fault in faults] == ["features[0].operation.column"]
