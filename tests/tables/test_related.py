"""Tables beside the dataset: looked up, aggregated over two levels, and as of a row's time, against plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.features import operations as op
from service.features.errors import InvalidRequest
from service.features.model import ExtractionOptions, FeaturePlan
from service.features.operations import Predicate
from service.features.table_options import EntityKey, Horizon, Observations, RelatedTable, TableOptions
from tests.tables.support import Case, Given, by_entity, naive, planned

START = datetime(2024, 2, 27, tzinfo=UTC)
DAY = timedelta(days=1)
CUSTOMERS = {"customer": "VARCHAR", "segment": "VARCHAR"}
ORDERS = {"order_id": "BIGINT", "customer": "VARCHAR", "at": "TIMESTAMP", "amount": "DOUBLE"}
ITEMS = {"order_id": "BIGINT", "product": "VARCHAR", "quantity": "BIGINT"}
PRICES = {"product": "VARCHAR", "since": "TIMESTAMP", "price": "DOUBLE"}
RELATED = (
    RelatedTable("orders", "customer", time="at"),
    RelatedTable("items", "order_id"),
    RelatedTable("prices", "product", time="since"),
)
products = st.sampled_from(["p", "q", "r"])
instants = st.none() | st.integers(0, 12).map(lambda hours: START + timedelta(hours=12 * hours))


class Shop:
    """Customers, their orders, the orders' items, and products' prices with the day from which they hold."""

    def __init__(self, orders: Sequence[Any], items: Sequence[Any], prices: Sequence[Any]) -> None:
        self.customers = [("c1", "x"), ("c2", "y"), ("c3", None)]
        # A first row twice, so that a column that could be a key by chance is none.
        self.orders = [(place, *order) for place, order in enumerate([*orders, ("c1", START, 1.0), ("c1", START, 1.0)])]
        self.items = [*items, (0, "p", 1), (0, "p", 1)]
        self.prices = [*prices, ("p", START, 2.0), ("p", START + DAY, 3.0)]

    def case(self, **options: Any) -> Case:
        """Return a request over all four."""
        tables = [
            Given("customers", CUSTOMERS, self.customers, ("customer",)),
            Given("orders", ORDERS, self.orders, ("order_id", "customer")),
            Given("items", ITEMS, self.items, ("order_id",)),
            Given("prices", PRICES, self.prices),
        ]
        return Case(tables, TableOptions(related=RELATED, **options))

    def orders_of(self, customer: str, before: datetime | None = None) -> list[Any]:
        """Return a customer's orders, those before a moment."""
        mine = [order for order in self.orders if order[1] == customer]
        return mine if before is None else [order for order in mine if order[2] is not None and order[2] < before]

    def items_of(self, orders: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Return the orders' items, each with its order."""
        return [(order, item) for order in orders for item in self.items if item[0] == order[0]]

    def price_of(self, order: Any, item: Any) -> float | None:
        """Return the product's price at the order's time; of several that hold from the same instant, the last one."""
        held = [price for price in self.prices if price[0] == item[1] and price[1] is not None]
        held = [price for price in held if order[2] is not None and price[1] <= order[2]]
        return max(enumerate(held), key=lambda entry: (entry[1][1], entry[0]))[1][2] if held else None


shops = st.builds(
    Shop,
    st.lists(st.tuples(st.sampled_from(["c1", "c2", None]), instants, st.none() | st.floats(-5, 5)), max_size=6),
    st.lists(st.tuples(st.integers(0, 8), products, st.none() | st.integers(0, 4)), max_size=8),
    st.lists(st.tuples(products, instants, st.floats(0, 9)), max_size=6),
)
P = (Predicate("items.product", "eq", ("p",)),)
FEATURES = (
    ("customers", op.Count(), "customers"),
    ("orders", op.Count()),
    ("spent", op.Aggregate("orders.amount", "sum")),
    ("items", op.Aggregate("items.quantity", "sum")),
    ("with_p", op.Count(P)),
    ("listed", op.Aggregate("prices.price", "sum")),
    ("latest", op.LastValue("orders.amount", "orders.at")),
)


def expected(shop: Shop, customer: str, before: datetime | None) -> dict[str, Any]:
    """Return the features of a customer, worked out in plain Python."""
    orders = shop.orders_of(customer, before)
    items = shop.items_of(orders)
    dated = [order for order in orders if order[2] is not None and order[3] is not None]
    latest = max(dated, key=lambda order: (order[2], order[0]), default=None)
    return {
        "customers": 1,
        "orders": len(orders),
        "spent": math.fsum(order[3] or 0.0 for order in orders),
        "items": float(sum(item[2] or 0 for _, item in items)),
        "with_p": sum(item[1] == "p" for _, item in items),
        "listed": math.fsum(shop.price_of(order, item) or 0.0 for order, item in items),
        "latest": None if latest is None else latest[3],
    }


@settings(max_examples=20, deadline=None)
@given(shops)
def test_two_levels_of_children_and_prices_at_the_time(shop: Shop) -> None:
    """Every customer is there once, those without orders with zeros; no order counts once for each of its items."""
    found = shop.case().compute(by_entity("customer", "orders.at", *FEATURES))
    assert [row.pop("customer") for row in found] == ["c1", "c2", "c3"]
    for row, customer in zip(found, ("c1", "c2", "c3"), strict=True):
        assert row == pytest.approx(expected(shop, customer, None), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(shops, st.integers(0, 12))
def test_as_of_a_moment(shop: Shop, half_days: int) -> None:
    """Items belong to the time of their order; customers have none, and are known at any time."""
    moment = START + half_days * DAY / 2
    found = shop.case(as_of=moment).compute(by_entity("customer", "orders.at", *FEATURES))
    for row in found:
        assert row == pytest.approx(row | expected(shop, row["customer"], moment), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(shops, st.lists(st.tuples(st.sampled_from(["c1", "c2", "c3", "c9"]), instants), min_size=1, max_size=4))
def test_observations_of_several_tables(shop: Shop, asked: list[Any]) -> None:
    """Each observation gets what its customer's orders and items were before its time; without a time, nothing."""
    case = shop.case(observations=Observations("moments", "who", "when"))
    moments = Given("moments", {"who": "VARCHAR", "when": "TIMESTAMP"}, asked)
    case = Case([*case.given, moments], case.options, ExtractionOptions(entity="customer"))
    found = case.compute(
        FeaturePlan("entity", planned(*FEATURES), "customer", "orders.at"),
    )
    for row, (who, when) in zip(found, asked, strict=True):
        got = {name: row[name] for name, *_ in FEATURES}
        wanted = expected(shop, who, when or START - DAY)
        wanted["customers"] = int(who != "c9")
        assert got == pytest.approx(wanted, abs=1e-9)


def test_rows_look_up_their_parents() -> None:
    """Row count stays; a row whose key finds nothing has nulls; columns of a parent's parent are seen, too."""
    orders = [(1, "c1", START, 5.0), (2, "c9", START, 6.0), (3, None, START, 7.0), (3, "c1", START, 7.0)]
    customers = [("c1", "x"), ("c2", "y")]
    segments = [("x", "gold"), ("y", "silver")]
    case = Case(
        [
            Given("orders", ORDERS, orders, ("customer",)),
            Given("customers", CUSTOMERS, customers, ("customer",)),
            Given("segments", {"segment": "VARCHAR", "grade": "VARCHAR"}, segments),
        ],
        TableOptions(related=(RelatedTable("customers", "customer"), RelatedTable("segments", "segment"))),
    )
    values = planned(("segment", op.Value("customers.segment")), ("grade", op.Value("segments.grade")))
    found = case.compute(FeaturePlan("row", values))
    assert [(row["row_id"], row["segment"], row["grade"]) for row in found] == [
        (0, "x", "gold"), (1, None, None), (2, None, None), (3, "x", "gold"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        (EntityKey(("store", "product")), [["a", "p"], ["a", "q"], ["b", "p"]]),
        (EntityKey(("at",), "month"), [[datetime(2024, 2, 1, tzinfo=UTC)], [datetime(2024, 3, 1, tzinfo=UTC)]]),
        (EntityKey(("at",), "weekday"), [[2], [3], [5]]),
        (EntityKey(("at",), "hour"), [[0], [12]]),
        (EntityKey(), [[0]]),
    ],
    ids=lambda key: key.name if isinstance(key, EntityKey) else "",
)
def test_entities_that_are_made_of_columns(key: EntityKey, keys: list[Any]) -> None:
    """Each combination, period or part of the calendar, and the whole table; a row without one of the parts is out."""
    rows = [
        ("a", "p", START, 1.0),
        ("a", "q", START + 1.5 * DAY, 2.0),
        ("a", "p", START + 3 * DAY, 4.0),
        ("b", "p", START, 8.0),
    ]
    table = Given("sales", {"store": "VARCHAR", "product": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}, rows)
    features = planned(("n", op.Count()), ("total", op.Aggregate("x", "sum")))
    for case, wanted in (
        (Case([table], TableOptions(entity=key)), FeaturePlan("entity", features, key.name)),
        (Case([table], TableOptions()), FeaturePlan("entity", features, key.name, entity_key=key)),
    ):
        found = case.compute(wanted)
        assert [[*row.values()][:-2] for row in found] == [[naive(part) for part in one] for one in keys]
        assert sum(row["n"] for row in found) == 4
        assert sum(row["total"] for row in found) == 15.0


def test_rows_of_an_entity_of_two_columns_look_back() -> None:
    """Lags within a combination of columns."""
    rows = [("a", "p", START, 1.0), ("a", "q", START, 2.0), ("a", "p", START + DAY, 4.0), (None, "p", START, 9.0)]
    table = Given("sales", {"store": "VARCHAR", "product": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}, rows)
    key = EntityKey(("store", "product"))
    lag = planned(("before", op.PreviousValue(column="x", entity=key.name, time="at")))
    found = Case([table], TableOptions(entity=key)).compute(FeaturePlan("row", lag, key.name, "at"))
    assert [(row["store"], row["product"], row["before"]) for row in found] == [
        ("a", "p", None), ("a", "q", None), ("a", "p", 1.0), (None, "p", None),
    ]  # fmt: skip


def relating(*join: str, time: str | None = None) -> TableOptions:
    """Return options with one related table."""
    return TableOptions(related=(RelatedTable(*join, time=time),))


FAULTY: list[tuple[str, TableOptions, dict[str, Any], str]] = [
    (
        "options.related[0].dataset_id",
        TableOptions(related=(RelatedTable("customers", "customer"),)),
        {},
        "already a table",
    ),
    ("options.related[0].on", TableOptions(related=(RelatedTable("orders", "nobody"),)), {}, "no column 'nobody'"),
    ("options.related[0].on", TableOptions(related=(RelatedTable("orders", "amount"),)), {}, "give `to_on`"),
    (
        "options.related[0].to",
        TableOptions(related=(RelatedTable("orders", "customer", to="items"),)),
        {},
        "neither the request's dataset nor one listed before",
    ),
    (
        "options.related[0].to_on",
        TableOptions(related=(RelatedTable("orders", "customer", to="customers", to_on="name"),)),
        {},
        "no column 'name'",
    ),
    (
        "options.related[0].on",
        TableOptions(related=(RelatedTable("orders", "order_id", to_on="segment"),)),
        {},
        "values cannot be equal",
    ),
    (
        "options.related[0].on",
        TableOptions(related=(RelatedTable("notes", "segment"),)),
        {},
        "unique on neither side (notes: 'x' is in 2 rows; customers: 'x' is in 2 rows)",
    ),
    (
        "options.related[0].time",
        TableOptions(related=(RelatedTable("orders", "customer", time="amount"),)),
        {},
        "no datetime",
    ),
    (
        "options.related[0].time",
        TableOptions(related=(RelatedTable("orders", "customer", time="day"),)),
        {},
        "no column",
    ),
    (
        "options.related[0].time",
        TableOptions(related=(RelatedTable("notes", "segment", time="day"),)),
        {},
        "no time that it could be looked up for",
    ),
    (
        "options.related[1].to",
        TableOptions(related=(RelatedTable("grades", "segment"), RelatedTable("notes", "segment", to="grades"))),
        {},
        "'grades' is looked up",
    ),
    ("options.time", TableOptions(as_of=START), {}, "name the datetime column"),
    (
        "options.related[0].time",
        TableOptions(as_of=START, related=(RelatedTable("orders", "customer"),)),
        {},
        "it has at",
    ),
    (
        "options.observations.time",
        TableOptions(
            observations=Observations("notes", "segment", "text"),
            related=(RelatedTable("orders", "customer", time="at"),),
        ),
        {"entity": "segment"},
        "no datetime",
    ),
    (
        "options.observations.entity",
        TableOptions(
            observations=Observations("notes", "who", "day"), related=(RelatedTable("orders", "customer", time="at"),)
        ),
        {"entity": "customer"},
        "no column 'who'",
    ),
    (
        "options.observations.label",
        TableOptions(
            observations=Observations("notes", "segment", "day", "bought"),
            related=(RelatedTable("orders", "customer", time="at"),),
        ),
        {"entity": "customer"},
        "no column 'bought'",
    ),
    (
        "options.entity",
        TableOptions(
            observations=Observations("notes", "author", "day"),
            related=(RelatedTable("orders", "customer", time="at"),),
        ),
        {},
        "observations' 'author'",
    ),
    (
        "options.as_of",
        TableOptions(
            as_of=START,
            observations=Observations("notes", "segment", "day"),
            related=(RelatedTable("orders", "customer", time="at"),),
        ),
        {"entity": "customer"},
        "a moment of its own",
    ),
    ("options.entity.columns[0]", TableOptions(entity=EntityKey(("nobody", "segment"))), {}, "no column 'nobody'"),
    ("options.entity.columns[0]", TableOptions(entity=EntityKey(("segment",), "day")), {}, "needs a datetime"),
    ("options.entity.columns", TableOptions(entity=EntityKey((), "day")), {}, "whose periods count"),
    ("options.entity.columns", TableOptions(entity=EntityKey(("segment", "segment"))), {}, "each column once"),
    (
        "options.target",
        TableOptions(related=(RelatedTable("orders", "customer"),)),
        {"target": "t"},
        "has a column 't'",
    ),
]


def faulty_case(options: TableOptions, fixed: dict[str, Any]) -> Case:
    """Return a request over tables with every fault that a join can have."""
    by_name = {
        "orders": Given("orders", ORDERS, [(1, "c1", START, 1.0), (2, "c1", START, 1.0)], ("customer", "order_id")),
        "notes": Given(
            "notes",
            {"segment": "VARCHAR", "day": "TIMESTAMP", "text": "VARCHAR", "author": "VARCHAR"},
            [("x", START, "a", "m"), ("x", START, "b", "n")],
        ),
        "grades": Given("grades", {"segment": "VARCHAR", "grade": "BIGINT"}, [("x", 1), ("y", 1)]),
    }
    main = Given("customers", CUSTOMERS, [("c1", "x"), ("c2", "x")], ("customer",))
    named = [one.dataset_id for one in options.related if one.dataset_id != "customers"]
    if options.observations is not None:
        named.append(options.observations.dataset_id)
    others = [by_name[name] for name in dict.fromkeys(named)]
    return Case([main, *others, main], options, ExtractionOptions(**fixed))


@pytest.mark.parametrize(("field", "options", "fixed", "words"), FAULTY, ids=[f"{one[0]}: {one[3]}" for one in FAULTY])
def test_options_that_do_not_fit(field: str, options: TableOptions, fixed: dict[str, Any], words: str) -> None:
    """The error names the member, and says what is wrong with it."""
    with pytest.raises(InvalidRequest) as raised:
        faulty_case(options, fixed).tables.layout  # noqa: B018 - laid out when it is read
    assert [(fault.field, words in fault.message) for fault in raised.value.errors] == [(field, True)], (
        raised.value.errors
    )


def test_what_joins_by_chance_or_by_a_personal_column_names_no_value() -> None:
    """A personal column's values are not quoted in an error."""
    rows = [("a@b.c", START), ("a@b.c", START)]
    people = Given("people", {"mail": "VARCHAR", "at": "TIMESTAMP"}, rows, personal=("mail",))
    case = Case([people, replaced(people)], TableOptions(related=(RelatedTable("mails", "mail"),)))
    with pytest.raises(InvalidRequest) as raised:
        case.tables.layout  # noqa: B018 - laid out when it is read
    assert "a@b.c" not in raised.value.errors[0].message
    assert "1 values in 2 rows" in raised.value.errors[0].message


def replaced(given_table: Given) -> Given:
    """Return the table under another name."""
    return Given("mails", given_table.columns, given_table.rows, personal=given_table.personal)


def shop_faults(*features: Any, grain: Any = "entity", time: str | None = "orders.at") -> list[tuple[str, str]]:
    """Return where a plan over the shop is wrong, and why."""
    plan = FeaturePlan(grain, planned(*features), "customer" if grain == "entity" else None, time)
    return [(fault.field, fault.message) for fault in Shop([], [], []).case().faults(plan)]


def test_plans_that_would_multiply_rows() -> None:
    """Every fault says which table is meant, and what to do."""
    above = shop_faults(("f", op.Aggregate("orders.amount", "sum", P)))
    assert above == [("features[0].operation", above[0][1])]
    assert "would count once for every row of items" in above[0][1]
    child = shop_faults(("f", op.Value("orders.amount")), grain="row")
    assert child[0][0] == "features[0].operation"
    assert "can only be aggregated" in child[0][1]
    assert shop_faults(("f", op.Count(), "prices")) == [
        ("features[0].table", "'prices' is no dataset whose rows can be aggregated")
    ]
    assert shop_faults(("f", op.Recency("prices.since")))[0][0] == "features[0].operation.time"


RATES = {"since": "TIMESTAMP", "rate": "DOUBLE"}
stamps = st.integers(0, 12).map(lambda hours: START + timedelta(hours=12 * hours))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(stamps, st.floats(0, 9)), max_size=6),
    st.lists(instants, min_size=1, max_size=5),
    st.sampled_from([0.5, 1.0, 2.25]),
)
def test_the_latest_row_of_all(rates: list[Any], asked: list[Any], days_before: float) -> None:
    """Without a column that joins, the time alone says which row is looked up; days before it, under another name."""
    case = Case(
        [Given("loans", {"at": "TIMESTAMP"}, [(at,) for at in asked]), Given("rates", RATES, rates)],
        TableOptions(
            related=(
                RelatedTable("rates", time="since"),
                RelatedTable("rates", time="since", name="earlier", days_before=days_before),
            )
        ),
        ExtractionOptions(time="at"),
    )
    features = planned(("now", op.Value("rates.rate")), ("then", op.Value("earlier.rate")))
    found = case.compute(FeaturePlan("row", features, time="at"))

    def held(at: datetime | None) -> float | None:
        known = [(since, place, rate) for place, (since, rate) in enumerate(rates) if at is not None and since <= at]
        return max(known)[2] if known else None

    assert [(row["now"], row["then"]) for row in found] == [
        (held(at), held(None if at is None else at - days_before * DAY)) for at in asked
    ]


def test_a_table_that_is_joined_twice() -> None:
    """A flight's two airports are rows of one table: each joins under a name of its own."""
    flights = [("JFK", "LAX"), ("LAX", None), ("JFK", "JFK"), ("ORD", "JFK")]
    airports = [("JFK", 40.6), ("LAX", 33.9)]
    case = Case(
        [
            Given("flights", {"origin": "VARCHAR", "dest": "VARCHAR"}, flights),
            Given("airports", {"code": "VARCHAR", "latitude": "DOUBLE"}, airports),
        ],
        TableOptions(
            related=(
                RelatedTable("airports", "code", to_on="origin", name="departure"),
                RelatedTable("airports", "code", to_on="dest", name="arrival"),
            )
        ),
    )
    north = op.Difference("departure.latitude", "arrival.latitude")
    found = case.compute(FeaturePlan("row", planned(("north", north), ("to", op.Value("arrival.latitude")))))
    assert [row["to"] for row in found] == [33.9, None, 40.6, 40.6]
    assert [row["north"] for row in found] == [pytest.approx(40.6 - 33.9), None, 0.0, None]


@pytest.mark.parametrize(
    ("related", "field"),
    [
        ((RelatedTable("rates", "since"), RelatedTable("rates", "since")), "options.related[1].dataset_id"),
        ((RelatedTable("rates", time="since", name="loans"),), "options.related[0].name"),
        ((RelatedTable("rates"),), "options.related[0].on"),
        ((RelatedTable("rates", "since", to_on="at", time="since"),), "options.related[0].on"),
        ((RelatedTable("rates", "since", to_on="at", days_before=1.0),), "options.related[0].days_before"),
    ],
    ids=["twice", "name taken", "neither", "by time", "no time"],
)
def test_names_and_joins_that_cannot_be(related: tuple[RelatedTable, ...], field: str) -> None:
    """Each fault names its member."""
    case = Case(
        [Given("loans", {"at": "TIMESTAMP"}, [(START,)]), Given("rates", RATES, [(START, 1.0)])],
        TableOptions(related=related),
        ExtractionOptions(time="at"),
    )
    with pytest.raises(InvalidRequest) as caught:
        _ = case.tables
    assert [error.field for error in caught.value.errors] == [field]


def machines(**options: Any) -> Case:
    """Return machines with readings and, more rarely, failures."""
    hours = [START + timedelta(hours=hour) for hour in range(72)]
    return Case(
        [
            Given(
                "machines",
                {"machine": "VARCHAR", "built": "TIMESTAMP"},
                [("m", START - 900 * DAY), ("n", START)],
                ("machine",),
            ),
            Given(
                "readings",
                {"machine": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"},
                [("m", hour, 1.0) for hour in hours],
            ),
            Given(
                "failures", {"machine": "VARCHAR", "at": "TIMESTAMP"}, [("m", START + DAY), ("m", START + 1.5 * DAY)]
            ),
            Given(
                "moments",
                {"machine": "VARCHAR", "when": "TIMESTAMP"},
                [("m", START + days * DAY) for days in (0, 1.2, 1.6, 2.5)],
            ),
        ],
        TableOptions(
            related=(RelatedTable("readings", "machine", time="at"), RelatedTable("failures", "machine", time="at")),
            observations=Observations("moments", "machine", "when"),
            **options,
        ),
    )


def test_a_label_of_rare_events_is_known_as_far_as_the_data_go() -> None:
    """Readings go on after the last failure: that none follows is known."""
    horizon = Horizon(1, "any", "failures.at", name="fails")
    plan = by_entity("machine", "built", ("n", op.Count(), "readings"))
    found = machines(horizon=horizon).compute(plan)
    assert [row["fails"] for row in found] == [0, 1, 0, None]


def test_a_label_says_whose_rows_are_counted() -> None:
    """Of several tables that happen in time, none is taken silently."""
    with pytest.raises(InvalidRequest) as caught:
        _ = machines(horizon=Horizon(1)).tables
    (error,) = caught.value.errors
    assert error.field == "options.horizon.column"
    assert "machines, readings, failures" in error.message
