"""Entities that are made of columns: computed ones, parents' and periods among them; and what lies between periods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.features import operations as op
from service.features.model import ComputedColumn, ExtractionOptions, FeaturePlan, GroupedRows
from service.features.table_options import EntityKey, Horizon, Observations, RelatedTable, TableOptions
from tests.tables.support import Case, Given, by_entity, naive, planned

DAY = timedelta(days=1)
START = datetime(2023, 12, 20, tzinfo=UTC)
SALES = {"sale_id": "BIGINT", "zip": "VARCHAR", "at": "TIMESTAMP", "price": "DOUBLE", "house": "VARCHAR"}
ROWS = [
    (1, "a", START, 10.0, "h1"),
    (2, "a", START + 20 * DAY, 30.0, "h2"),
    (3, "a", START + 21 * DAY, 50.0, "h1"),
    (4, "b", START + 50 * DAY, 7.0, "h3"),
    (5, None, START, 9.0, "h3"),
    (6, "b", None, 9.0, "h3"),
]
HOUSES = {"house": "VARCHAR", "kind": "VARCHAR"}
ITEMS = {"sale_id": "BIGINT", "item": "VARCHAR", "quantity": "BIGINT"}


def case(*given: Given, rows: list[Any] = ROWS, fixed: ExtractionOptions | None = None, **options: Any) -> Case:
    """Return a request over sales."""
    return Case([Given("sales", SALES, rows), *given], TableOptions(**options), fixed or ExtractionOptions())


def month(at: datetime) -> datetime:
    """Return the beginning of the month."""
    return at.replace(day=1, hour=0, minute=0)


def test_a_computed_column_tells_entities_apart() -> None:
    """By itself, at both grains, with groups, and with a child table, whether or not a feature reads it."""
    pair = ComputedColumn("zip_house", op.CombinedCategory(("zip", "house")))
    features = planned(("mean", op.Aggregate("price", "mean")))
    plan = FeaturePlan("entity", features, "zip_house", columns=(pair,))
    wanted = {"a|h1": 30.0, "a|h2": 30.0, "b|h3": 8.0}
    assert {row["zip_house"]: row["mean"] for row in case().compute(plan)} == wanted
    lag = planned(("before", op.PreviousValue("price", "zip_house", "at")))
    rows = case().compute(FeaturePlan("row", lag, "zip_house", "at", columns=(pair,)))
    assert [row["before"] for row in rows] == [None, None, 10.0, None, None, None]

    items = Given("items", ITEMS, [(1, "x", 2), (1, "y", 3), (4, "x", 5)])
    related = case(items, related=(RelatedTable("items", "sale_id"),))
    both = planned(("mean", op.Aggregate("price", "mean")), ("items", op.Aggregate("items.quantity", "sum")))
    found = related.compute(FeaturePlan("entity", both, "zip_house", columns=(pair,)))
    assert {row["zip_house"]: (row["mean"], row["items"]) for row in found} == {
        "a|h1": (30.0, 5.0), "a|h2": (30.0, 0.0), "b|h3": (8.0, 5.0),
    }  # fmt: skip

    most = GroupedRows("g", ("house",), planned(("n", op.Count())))
    grouped = FeaturePlan(
        "entity", planned(("most", op.Aggregate("g.n", "maximum"))), "zip_house", columns=(pair,), groups=(most,)
    )
    assert {row["zip_house"]: row["most"] for row in case().compute(grouped)} == {
        "a|h1": 2.0, "a|h2": 1.0, "b|h3": 2.0,
    }  # fmt: skip


def test_an_entity_of_a_parents_column_and_a_computed_one() -> None:
    """Each combination of what is looked up and what is computed."""
    houses = Given("houses", HOUSES, [("h1", "flat"), ("h2", "flat"), ("h3", "villa")], ("house",))
    key = EntityKey(("houses.kind", "dear"))
    plan = FeaturePlan(
        "entity",
        planned(("n", op.Count()), ("total", op.Aggregate("price", "sum"))),
        key.name,
        entity_key=key,
        columns=(ComputedColumn("dear", op.Flag((op.Predicate("price", "ge", (30,)),))),),
    )
    found = case(houses, related=(RelatedTable("houses", "house"),)).compute(plan)
    assert [tuple(row.values()) for row in found] == [
        ("flat", False, 1, 10.0), ("flat", True, 2, 80.0), ("villa", False, 3, 25.0),
    ]  # fmt: skip


@pytest.mark.parametrize("who", ["client", "planner"])
def test_a_columns_months(who: str) -> None:
    """Each month of each zip: both parts are published, and a row without one of them is out."""
    key = EntityKey(("zip", "at"), "month")
    assert (key.name, key.published) == ("zip, at_month", ("zip", "at_month"))
    features = planned(("n", op.Count()), ("total", op.Aggregate("price", "sum")))
    plan = FeaturePlan("entity", features, key.name, entity_key=key if who == "planner" else None)
    found = case(entity=key if who == "client" else None).compute(plan)
    assert [tuple(row.values()) for row in found] == [
        ("a", naive(month(START)), 1, 10.0),
        ("a", naive(month(START + 20 * DAY)), 2, 80.0),
        ("b", naive(month(START + 50 * DAY)), 1, 7.0),
    ]


sales = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.none() | st.integers(0, 300), st.none() | st.integers(0, 9)),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(sales)
def test_a_period_beside_the_one_before(drawn: list[Any]) -> None:
    """Features of periods look back on earlier periods: the month before, and the last 70 days' months."""
    rows = [
        (place, code, None if days is None else START + days * DAY, None if x is None else float(x), "h")
        for place, (code, days, x) in enumerate(drawn)
    ]
    key = EntityKey(("zip", "at"), "month")
    plan = FeaturePlan(
        "entity",
        planned(
            ("mean", op.Aggregate("price", "mean")),
            ("before", op.PreviousValue("mean", "zip", "at_month")),
            ("change", op.Difference("mean", "before")),
            ("usual", op.RollingStatistic("mean", "zip", "at_month", 70, "median")),
        ),
        key.name,
        entity_key=key,
    )
    found = case(rows=rows).compute(plan)
    prices: dict[tuple[str, datetime], list[float | None]] = {}
    for _, code, at, price, _ in rows:
        if code is not None and at is not None:
            prices.setdefault((code, month(at)), []).append(price)
    known = {one: [price for price in each if price is not None] for one, each in sorted(prices.items())}
    means = {one: fmean(each) if each else None for one, each in known.items()}
    for row in found:
        code, at = row["zip"], row["at_month"].replace(tzinfo=UTC)
        earlier = [(when, mean) for (who, when), mean in means.items() if who == code and when < at]
        mean, before = means[code, at], earlier[-1][1] if earlier else None
        lately = sorted(one for when, one in earlier if when >= at - 70 * DAY and one is not None)
        middle = None if not lately else (lately[(len(lately) - 1) // 2] + lately[len(lately) // 2]) / 2
        assert row["mean"] == pytest.approx(mean)
        assert row["before"] == pytest.approx(before)
        assert row["change"] == pytest.approx(None if mean is None or before is None else mean - before)
        assert row["usual"] == pytest.approx(middle)
    assert len(found) == len(means)


def test_features_read_what_the_entity_is_made_of() -> None:
    """A month's number, and whether a zip is one of some, without another feature."""
    key = EntityKey(("zip", "at"), "month")
    features = planned(
        ("month", op.DatePartOf("at_month", "month")),
        ("is_a", op.Flag((op.Predicate("zip", "eq", ("a",)),))),
        ("n", op.Count()),
    )
    found = case().compute(FeaturePlan("entity", features, key.name, entity_key=key))
    assert [[*row.values()][2:] for row in found] == [[12, True, 1], [1, True, 2], [2, False, 1]]


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (FeaturePlan("entity", planned(("n", op.Count())), "at, zip_day", entity_key=EntityKey(("at", "zip"), "day")),
         "entity_key.columns[1]"),
        (FeaturePlan("entity", planned(("n", op.Count())), "nothing", entity_key=EntityKey((), "day")),
         "entity_key.columns"),
        (FeaturePlan("entity", planned(("n", op.Count())), "zip, gone", entity_key=EntityKey(("zip", "gone"))),
         "entity_key.columns[1]"),
        (
            FeaturePlan(
                "entity",
                planned(("n", op.Count()), ("before", op.PreviousValue("n", "zip", "gone"))),
                "zip, at_day",
                entity_key=EntityKey(("zip", "at"), "day"),
            ),
            "features[1].operation.time",
        ),
        (FeaturePlan("entity", planned(("n", op.Count()), ("before", op.PreviousValue("n", "zip", "at"))), "zip"),
         "features[1].operation.entity"),
        (
            FeaturePlan(
                "entity",
                planned(("gap", op.MeanGap("g.time"))),
                "zip",
                groups=(GroupedRows("g", ("house",), planned(("n", op.Count()))),),
            ),
            "time",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be(plan: FeaturePlan, field: str) -> None:
    """Each fault says where."""
    faults = case().faults(plan)
    assert field in {fault.field for fault in faults}
    assert not [fault for fault in faults if "did you mean 'gone'" in fault.message]


def test_a_label_needs_entities() -> None:
    """A horizon is not forgotten at row grain."""
    asked = case(as_of=START, horizon=Horizon(30), fixed=ExtractionOptions(time="at"))
    faults = asked.faults(FeaturePlan("row", planned(("x", op.Value("price"))), time="at"))
    assert [fault.field for fault in faults] == ["grain"]


def test_the_end_of_the_data_is_that_of_what_happened() -> None:
    """A date of the dataset that lies ahead, and a table that is not read, do not change what the last days are."""
    events = [("c1", START), ("c1", START + 9 * DAY), ("c2", START + 2 * DAY), ("c2", START + 2 * DAY)]
    tables = [
        Given(
            "accounts", {"id": "VARCHAR", "renewal": "TIMESTAMP"}, [("c1", START + 900 * DAY), ("c2", None)], ("id",)
        ),
        Given("events", {"id": "VARCHAR", "ts": "TIMESTAMP"}, events),
        Given("tickets", {"id": "VARCHAR", "at": "TIMESTAMP"}, [("c1", START + 10 * DAY), ("c1", START)]),
    ]
    related = (RelatedTable("events", "id", time="ts"), RelatedTable("tickets", "id", time="at"))
    asked = Case(tables, TableOptions(related=related))
    one = ("days", op.Recency("events.ts"))
    two = ("tickets", op.Count(), "tickets")
    for features in ((one,), (one, two)):
        found = asked.compute(by_entity("id", "renewal", *features))
        assert [row["days"] for row in found] == [1.0, 8.0]


def test_observations_of_months_do_not_look_back() -> None:
    """Periods of one moment cannot be compared where moments are many."""
    moments = Given("moments", {"zip": "VARCHAR", "when": "TIMESTAMP"}, [("a", START)])
    asked = case(moments, observations=Observations("moments", "zip", "when"), fixed=ExtractionOptions(time="at"))
    plan = FeaturePlan(
        "entity", planned(("n", op.Count()), ("before", op.PreviousValue("n", "zip", "at"))), "zip", "at"
    )
    assert "features[1].operation" in {fault.field for fault in asked.faults(plan)}


def test_a_label_of_entities_that_are_computed() -> None:
    """Features see the rows before the moment, the label those after it, both by the computed entity."""
    asked = case(
        as_of=START + 21 * DAY, horizon=Horizon(20, name="sells"), fixed=ExtractionOptions(time="at"), rows=ROWS[:5]
    )
    plan = FeaturePlan(
        "entity",
        planned(("n", op.Count()), ("twice", op.Aggregate("doubled", "sum"))),
        "zip_house",
        "at",
        columns=(
            ComputedColumn("zip_house", op.CombinedCategory(("zip", "house"))),
            ComputedColumn("doubled", op.WeightedSum(("price",), (2.0,))),
        ),
    )
    found = asked.compute(plan)
    assert [tuple(row.values()) for row in found] == [("a|h1", 1, 1, 20.0), ("a|h2", 0, 1, 60.0)]
