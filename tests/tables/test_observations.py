"""Features as of a moment and for observations, against row-by-row oracles; nothing at or after a moment is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.features import operations as op
from service.features.model import ExtractionOptions, FeaturePlan, PlannedFeature
from service.features.operations import REGISTRY, Predicate
from service.features.operations.operation import example_of
from service.features.table_options import Horizon, Observations, TableOptions
from tests.operations.engines import plan
from tests.tables.support import Case, Given, by_entity
from tools.operations_document import EXAMPLE_COLUMNS

COLUMNS = {name: physical for name, (_, physical) in EXAMPLE_COLUMNS.items()}
START = datetime(2024, 2, 27, tzinfo=UTC)
DAY = timedelta(days=1)
FIXED = ExtractionOptions(max_features=200, entity="user", time="at")
ALONE = [spec for spec in REGISTRY.values() if spec.grain == "entity" and spec.sees == "entity"]
"""Operations of which an entity's value depends on its own rows alone."""
CHUNK = 25
PLANS = [
    plan([example_of(spec) for spec in ALONE[start : start + CHUNK]], "entity") for start in range(0, len(ALONE), CHUNK)
]
"""All of them together are more than a database plans in a second."""
OBSERVATIONS = Observations("moments", "who", "when")
MOMENTS = {"who": "VARCHAR", "when": "TIMESTAMP", "note": "VARCHAR"}

instants = st.integers(0, 12).map(lambda hours: START + timedelta(hours=18 * hours))
VALUES = {
    "VARCHAR": st.sampled_from(["a", "b", "", "A b 1"]),
    "DOUBLE": st.sampled_from([0.0, -1.5, 2.0, 7.25]),
    "BIGINT": st.integers(-3, 5),
    "BOOLEAN": st.booleans(),
    "TIMESTAMP": instants,
}
rows = st.lists(
    st.tuples(
        *(
            st.sampled_from(["u1", "u2"]) if name == "user" else st.none() | VALUES[physical]
            for name, physical in COLUMNS.items()
        )
    ),
    min_size=1,
    max_size=12,
)
moments = st.lists(st.tuples(st.sampled_from(["u1", "u2", "u3"]), instants, st.just("n")), min_size=1, max_size=4)


def events(given_rows: Sequence[Sequence[Any]]) -> Given:
    """Return the table of orders."""
    return Given("orders", COLUMNS, given_rows, ("user",))


def observing(given_rows: Sequence[Sequence[Any]], asked: Sequence[Sequence[Any]]) -> Case:
    """Return a request for observations."""
    tables = [events(given_rows), Given("moments", MOMENTS, asked, ("who",))]
    return Case(tables, TableOptions(observations=OBSERVATIONS), FIXED)


def observed(given_rows: Sequence[Sequence[Any]], asked: Sequence[Sequence[Any]], plan: FeaturePlan) -> list[Any]:
    """Return the features of each observation."""
    return [features(row) for row in observing(given_rows, asked).compute(plan)]


SOME_ROW = ("u1", *(None for _ in range(len(COLUMNS) - 1)))


@cache
def of_operations(chunk: int, moment: datetime | None) -> str:
    """Return the statement of some operations, for observations or as of a moment; it takes long to compile."""
    if moment is None:
        return observing([SOME_ROW], [("u1", START, "n")]).statement(PLANS[chunk])
    return Case([events([SOME_ROW])], TableOptions(as_of=moment), FIXED).statement(PLANS[chunk])


def all_observed(chunk: int, given_rows: Sequence[Sequence[Any]], asked: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the features of some operations for each observation."""
    return [features(row) for row in observing(given_rows, asked).run(of_operations(chunk, None))]


def features(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's features, numbers rounded."""
    return {
        name: float(f"{value:.9g}") if isinstance(value, float) else value
        for name, value in row.items()
        if name.startswith("f") and name[1:].isdigit()
    }


@pytest.mark.parametrize("chunk", range(len(PLANS)))
@settings(max_examples=6, deadline=None)
@given(given_rows=rows, asked=moments)
def test_every_operation_sees_what_was_known_before(chunk: int, given_rows: list[Any], asked: list[Any]) -> None:
    """For each observation: the same as of a request on the entity's rows before its time, as of that time."""
    at = [*COLUMNS].index("at")
    found = all_observed(chunk, given_rows, asked)
    for (who, when, _), got in zip(asked, found, strict=True):
        known = [row for row in given_rows if row[0] == who and row[at] is not None and row[at] < when]
        if known:
            alone = Case([events(known)], TableOptions(as_of=when), FIXED)
            assert got == features(alone.run(of_operations(chunk, when))[0]), (who, when)


@pytest.mark.parametrize("chunk", range(len(PLANS)))
@settings(max_examples=6, deadline=None)
@given(given_rows=rows, asked=moments, later=rows)
def test_later_events_change_nothing(chunk: int, given_rows: list[Any], asked: list[Any], later: list[Any]) -> None:
    """Events at the very instant of an entity's last observation, or after it, are not known to any."""
    last = max(when for _, when, _ in asked)
    at = [*COLUMNS].index("at")
    shifted = [(*row[:at], last + (row[at] - START if row[at] else DAY), *row[at + 1 :]) for row in later]
    assert all_observed(chunk, given_rows, asked) == all_observed(chunk, given_rows + shifted, asked)


@settings(max_examples=20, deadline=None)
@given(rows, moments, st.floats(0.25, 6.0))
def test_windows_and_counts_by_hand(given_rows: list[Any], asked: list[Any], days: float) -> None:
    """Counts, sums, recency and windows of days, worked out row by row; an observation without events has zeros."""
    at, amount = [*COLUMNS].index("at"), [*COLUMNS].index("amount")
    wanted = by_entity(
        "user",
        "at",
        ("f0", op.Count()),
        ("f1", op.Count(last_days=days)),
        ("f2", op.Aggregate("amount", "sum")),
        ("f3", op.Recency("at")),
    )
    span = timedelta(microseconds=max(1, round(days * 86_400_000_000)))
    expected = []
    for who, when, _ in asked:
        known = [row for row in given_rows if row[0] == who and row[at] is not None and row[at] < when]
        recent = [row for row in known if row[at] >= when - span]
        total = math.fsum(row[amount] for row in known if row[amount] is not None)
        recency = (when - max(row[at] for row in known)) / DAY if known else None
        expected.append({"f0": len(known), "f1": len(recent), "f2": total, "f3": recency and float(f"{recency:.9g}")})
    assert observed(given_rows, asked, wanted) == expected


def label(given_rows: Sequence[Sequence[Any]], asked: Sequence[Sequence[Any]], horizon: Horizon) -> list[Any]:
    """Return the label of each observation."""
    case = Case(
        [events(given_rows), Given("moments", MOMENTS, asked, ("who",))],
        TableOptions(observations=OBSERVATIONS, horizon=horizon),
        FIXED,
    )
    return [row[horizon.name] for row in case.compute(by_entity("user", "at", ("f0", op.Count())))]


@settings(max_examples=20, deadline=None)
@given(rows, moments, st.integers(1, 8), st.sampled_from(["any", "count", "sum"]))
def test_labels_by_hand(given_rows: list[Any], asked: list[Any], days: int, aggregate: Any) -> None:
    """What happens from the moment on, its instant included and the last one not; null where the data end before."""
    at, amount, country = ([*COLUMNS].index(name) for name in ("at", "amount", "country"))
    where = (Predicate("country", "eq", ("a",)),)
    column = "amount" if aggregate == "sum" else None
    dated = [row for row in given_rows if row[at] is not None]
    expected = []
    for who, when, _ in asked:
        ahead = [row for row in dated if row[0] == who and when <= row[at] < when + days * DAY and row[country] == "a"]
        value = {
            "any": int(bool(ahead)),
            "count": len(ahead),
            "sum": math.fsum(row[amount] or 0.0 for row in ahead),
        }[aggregate]
        covered = dated and when + days * DAY <= max(row[at] for row in dated) + timedelta(microseconds=1)
        expected.append(value if covered else None)
    assert label(given_rows, asked, Horizon(days, aggregate, column, where, "next_days")) == expected


def test_a_table_of_observations() -> None:
    """Row ids in the observations' order, their own columns, the label, the features."""
    orders = [("u1", START, 5.0), ("u1", START + 2 * DAY, 7.0), ("u2", START + 3 * DAY, 1.0)]
    asked = [("u2", START, "x"), ("u1", START + DAY, None), ("u1", START + 2 * DAY, "y"), (None, START, "z")]
    case = Case(
        [
            Given("orders", {"user": "VARCHAR", "at": "TIMESTAMP", "amount": "DOUBLE"}, orders, ("user",)),
            Given("moments", MOMENTS, asked, ("who",)),
        ],
        TableOptions(observations=OBSERVATIONS, horizon=Horizon(2)),
        ExtractionOptions(entity="user"),
    )
    found = case.compute(by_entity("user", "at", ("n", op.Count()), ("spent", op.Aggregate("amount", "sum"))))

    assert [*found[0]] == ["row_id", "who", "when", "note", "label", "n", "spent"]
    assert [[*row.values()] for row in found] == [
        [0, "u2", START.replace(tzinfo=None), "x", 0, 0, 0.0],
        [1, "u1", (START + DAY).replace(tzinfo=None), None, 1, 1, 5.0],
        [2, "u1", (START + 2 * DAY).replace(tzinfo=None), "y", None, 1, 5.0],
        [3, None, START.replace(tzinfo=None), "z", 0, 0, 0.0],
    ]


def test_as_of_a_moment_entities_are_those_that_are_known() -> None:
    """Of entities, those with rows before the moment; of rows, those before it."""
    orders = [("u1", START, 5.0), ("u1", START + 2 * DAY, 7.0), ("u2", START + 2 * DAY, 1.0)]
    given_orders = Given("orders", {"user": "VARCHAR", "at": "TIMESTAMP", "amount": "DOUBLE"}, orders, ("user",))
    case = Case([given_orders], TableOptions(as_of=START + 2 * DAY, horizon=Horizon(0.5, "sum", "amount")))
    found = case.compute(by_entity("user", "at", ("n", op.Count()), ("days", op.Recency("at"))))
    assert found == [{"user": "u1", "label": None, "n": 1, "days": 2.0}]

    rows = Case([given_orders], TableOptions(as_of=START + 2 * DAY))
    values = FeaturePlan("row", (PlannedFeature("v", "A feature.", op.Value("amount")),), None, "at")
    assert [row["v"] for row in rows.compute(values)] == [5.0]


@pytest.mark.parametrize("spec", [spec for spec in REGISTRY.values() if spec.grain == "entity"], ids=lambda s: s.kind)
def test_what_compares_entities_is_refused_for_observations(spec: Any) -> None:
    """Other entities are known at other moments: such a feature is no feature of one moment."""
    case = Case(
        [events([("u1", START, 1.0, 1, "a", True, "t", START)]), Given("moments", MOMENTS, [("u1", START, "n")])],
        TableOptions(observations=OBSERVATIONS),
        FIXED,
    )
    faults = case.faults(plan([example_of(spec)], "entity"))
    assert bool(faults) == (spec.sees == "dataset")
    assert all("one moment" in fault.message for fault in faults)
