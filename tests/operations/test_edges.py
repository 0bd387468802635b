"""Operations at the edges of what columns hold: no finite number, rounding, places that are none, long series."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pandas as pd
import pytest

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.features import operations as op
from service.features.model import ExtractionOptions
from service.features.operations import REGISTRY, AnyOperation, OperationSpec, Predicate
from service.features.plan import validate
from tests.operations.engines import fetch, plan, table, values
from tests.operations.test_basic_oracles import VARIANTS
from tests.operations.test_properties import COLUMNS, profile

START = datetime(2024, 2, 28, 12, tzinfo=UTC)
N = None
NUMBERS = [math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.1, N, 0.0, -0.0]
INTEGERS = [2**63 - 1, -(2**63), 0, N]
INSTANTS = [START, N, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC), START]
TEXTS = ["x" * 5000, "", "http://[::1]/a", "İß", N]
HOSTILE = [
    (["a", "b", N][place % 3], INSTANTS[place % 5], x, y, ["NL", N][place % 2], [True, False, N][place % 3],
     TEXTS[place % 5], START)
    for place, (x, y) in enumerate(product(NUMBERS, INTEGERS))
]  # fmt: skip


@pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.kind)
def test_no_value_of_a_column_stops_a_statement(spec: OperationSpec) -> None:
    """Every operation computes on the greatest and smallest numbers, on NaN and infinities, and over all centuries."""
    variants = [one for one in VARIANTS if type(one) is spec.type]
    statement = render(compile_plan(plan(variants, spec.grain), profile()).statement(), "duckdb")
    with table(HOSTILE, COLUMNS) as connection:
        found = fetch(statement, connection)
    numbers = [value for column in found.values() for value in column if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))


HIDDEN: list[AnyOperation] = [
    op.Clip("x", -1, 1),
    op.BinByEdges("x", (0,)),
    op.IsRound("x", 1),
    op.ColumnOfMaximum(("x", "x")),
    op.GridCell("x", "zero"),
    op.GridCell("zero", "x"),
    op.DistanceToPoint("x", "zero", 0, 0),
    op.Bearing("zero", "zero", "x", "zero"),
    op.Winsorize("x"),
    *(op.OutlierFlag("x", method) for method in ("iqr", "mad", "z_score")),
]


@pytest.mark.parametrize("operation", HIDDEN, ids=lambda one: type(one).__name__)
def test_no_finite_number_is_in_no_bin(operation: AnyOperation) -> None:
    """Where the result would hide it, NaN or an infinity gives null as a missing value does."""
    rows = [(x, 0.0) for x in (math.nan, math.inf, -math.inf, N, 1.0, 2.0)]
    found = values(operation, rows, {"x": "DOUBLE", "zero": "DOUBLE"}, entity=None, time=None)
    assert found[:4] == [N, N, N, N]
    assert N not in found[4:]


@pytest.mark.parametrize(("latitude", "longitude"), [(90.5, 0.0), (-1e6, 0.0), (0.0, 361.0), (0.0, -1e300)])
def test_what_lies_off_the_earth_is_no_place(latitude: float, longitude: float) -> None:
    """Latitudes beyond the poles and longitudes beyond a turn have neither distance nor bearing nor cell."""
    columns = dict.fromkeys(("lat", "lon"), "DOUBLE")
    for operation in (op.Distance("lat", "lon", "lat", "lon"), op.Bearing("lat", "lon", "lat", "lon")):
        assert values(operation, [(latitude, longitude)], columns, entity=None, time=None) == [N]
    assert values(op.GridCell("lat", "lon"), [(latitude, longitude)], columns, entity=None, time=None) == [N]


def test_antipodes_and_poles() -> None:
    """The farthest places lie half a great circle apart; at one place the direction is 0."""
    columns = dict.fromkeys(("lat", "lon", "to_lat", "to_lon"), "DOUBLE")
    rows = [(0.0, 0.0, 0.0, 180.0), (90.0, 0.0, -90.0, 50.0), (52.37, 4.9, -52.37, -175.1), (10.0, 20.0, 10.0, 20.0)]
    keys: Any = {"entity": None, "time": None}
    half = math.pi * 6371.0088
    assert values(op.Distance(*columns), rows, columns, **keys) == pytest.approx([half, half, half, 0.0])
    assert values(op.Bearing(*columns), rows, columns, **keys)[3] == 0.0


def test_equal_values_are_neither_outliers_nor_skewed() -> None:
    """The mean of equal values may differ from them by rounding; that is no deviation."""
    columns = {"user": "VARCHAR", "x": "DOUBLE"}
    rows = [("a", 0.1)] * 10
    for method in ("iqr", "mad", "z_score"):
        assert values(op.OutlierFlag("x", method, 0.001), rows, columns, time=None) == [0] * 10
    for figure in ("skewness", "kurtosis"):
        assert values(op.Shape("x", figure), rows, columns, time=None) == [N]


@pytest.mark.parametrize(("method", "flagged"), [("iqr", 15), ("mad", 21), ("z_score", 17)])
def test_each_rule_of_outliers_has_its_usual_factor(method: Any, flagged: int) -> None:
    """Fences of 1.5 interquartile ranges, a modified z-score of 3.5, three deviations."""
    rows = [(float(x),) for x in range(10)]

    def found(last: float) -> Any:
        return values(op.OutlierFlag("x", method), [*rows, *rows, (last,)], {"x": "DOUBLE"}, entity=None, time=None)[-1]

    ends = [last for last in range(10, 60) if found(last)]
    assert ends[0] == flagged


@pytest.mark.parametrize("half_life", [0.1, 0.37, 2.0, 40.0])
@pytest.mark.parametrize("include", [True, False])
def test_exponential_means_are_those_of_pandas(half_life: float, *, include: bool) -> None:
    """Over more rows than one block has, with nulls in between."""
    xs = [N if place % 7 == 3 else math.sin(place) * 10 for place in range(90)]
    rows = [("a", START + timedelta(hours=place), x) for place, x in enumerate(xs)]
    found = values(
        op.ExponentialMean("x", "user", "at", half_life, include),
        rows[::-1],
        {"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"},
    )[::-1]
    series = pd.Series(xs, dtype=float)
    means = series.ewm(halflife=half_life).mean()
    expected = means if include else means.shift()
    assert [math.nan if value is None else value for value in found] == pytest.approx(expected.tolist(), nan_ok=True)


def test_a_return_too_small_for_a_number_is_one() -> None:
    """The quotient of the smallest and the greatest number is 0, its logarithm is not."""
    rows = [("a", START, 1e308), ("a", START + timedelta(1), 5e-324)]
    found = values(op.LogReturn("x", "user", "at"), rows, {"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"})
    assert found == [N, pytest.approx(math.log(5e-324) - math.log(1e308))]


def test_terms_whose_letter_case_changes_their_length() -> None:
    """A term and a text are put into lower case by the same rules."""
    rows = [("İstanbul, İZMİR",), ("straße STRASSE",), (N,)]
    columns = {"note": "VARCHAR"}
    assert values(op.TermCount("note", "İ"), rows, columns, entity=None, time=None) == [3, 0, N]
    assert values(op.TermCount("note", "STRASSE"), rows, columns, entity=None, time=None) == [0, 1, N]


def test_hosts_of_any_form() -> None:
    """Addresses of IPv6 keep their brackets and colons; ports, users and www. go."""
    urls = ["http://[2001:DB8::1]:8080/a", "https://user:p@WWW.Shop.example:8/", "ftp://a.b", "//a.b", "http:///x", N]
    expected = ["[2001:db8::1]", "shop.example", "a.b", N, N, N]
    assert values(op.UrlHost("c"), [(url,) for url in urls], {"c": "VARCHAR"}, entity=None, time=None) == expected


def test_similar_texts() -> None:
    """A missing text is like none; beyond a thousand characters texts are not compared."""
    columns = {"a": "VARCHAR", "b": "VARCHAR"}
    rows = [("ab", N), (N, "ab"), ("AB", "ab"), ("", "x"), ("y" * 1000 + "a", "y" * 1000 + "b")]
    found = values(op.TextSimilarity("a", "b"), rows, columns, entity=None, time=None)
    assert found == [N, N, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("part", "value"), [("hour", 24), ("day_of_week", 0), ("week", 54), ("month", 13), ("quarter", 5), ("year", 0)]
)
def test_parts_that_no_time_has_are_refused(part: Any, value: int) -> None:
    """A value outside the part's range would count nothing."""
    operation = op.AtTimes("at", part, (1, value), "count")
    [fault] = validate(plan([operation], "entity"), profile(), ExtractionOptions())
    assert (fault.reason, fault.field) == ("other", "features[0].operation.values")


def test_every_published_column_may_be_personal() -> None:
    """Whatever field names it, but for the keys, a personal column's values are not published."""
    known = profile(personal=["amount", "country"])
    operations = [
        op.GridCell("amount", "items"),
        op.GridCell("items", "amount"),
        op.CombinedCategory(("items", "country")),
    ]
    for operation in operations:
        assert [fault.reason for fault in validate(plan([operation], "row"), known, ExtractionOptions())] == ["other"]
    pair = op.MostFrequentPair("items", "country")
    assert [fault.reason for fault in validate(plan([pair], "entity"), known, ExtractionOptions())] == ["other"]


def test_energy_leaves_rows_without_a_time_out() -> None:
    """As every figure of a series does."""
    rows = [("a", START, 2.0), ("a", N, 5.0)]
    columns = {"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}
    assert values(op.SeriesShape("x", "at", "energy"), rows, columns) == [4.0]


def test_zero_crossings_are_tsfreshs() -> None:
    """A 0 is not above 0: leaving it downwards crosses nothing."""
    rows = [("a", START + timedelta(place), x) for place, x in enumerate([1.0, 0.0, -1.0, 2.0, N, -1.0, 3.0])]
    columns = {"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}
    assert values(op.SeriesShape("x", "at", "zero_crossings"), rows, columns) == [3.0]


def test_a_streak_of_predicates_that_are_unknown_is_broken() -> None:
    """A comparison with a null does not hold."""
    rows = [("a", START + timedelta(place), x) for place, x in enumerate([1.0, N, 1.0])]
    columns = {"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}
    where = (Predicate("x", "gt", (0,)),)
    assert values(op.Streak("user", "at", where), rows, columns) == [1, 0, 1]
    assert values(op.LongestStreak("at", where), rows, columns) == [1]
