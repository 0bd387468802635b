"""The operations that have golden values equal plain Python, too; and no operation is without an oracle or example."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.features import operations as op
from service.features.operations import REGISTRY, Operation
from service.features.operations.calendar import PERIODS
from tests.operations import oracles_basic, oracles_entities, oracles_rows
from tests.operations.engines import fetch, plan, table
from tests.operations.more_variants import ENTITY_VARIANTS as MORE_ENTITY_VARIANTS
from tests.operations.more_variants import ROW_VARIANTS as MORE_ROW_VARIANTS
from tests.operations.oracles import ENTITIES, MODULES, ROWS
from tests.operations.test_oracles import (
    BACK,
    ENTITY_VARIANTS,
    NL,
    ROW,
    ROW_VARIANTS,
    SERIES,
    TIES,
    TRIED,
    as_rows,
    same,
)
from tests.operations.test_properties import COLUMNS, profile
from tools.operations_document import document

ORACLES = (oracles_basic, oracles_rows, oracles_entities)
"""Modules that register what they hold when they are imported."""
STATISTICS = get_args(op.AggregateFunction)
WINDOW_FUNCTIONS = get_args(op.WindowFunction)
BASIC_ROW_VARIANTS: list[Operation] = [
    *(op.ValueWhere("amount", where, otherwise) for where in (NL,) for otherwise in (None, -1.0)),
    *(op.FirstKnown(("amount", "items"), otherwise) for otherwise in (None, 7.0)),
    *(op.Value(column) for column in ("amount", "items", "country", "returned")),
    op.Logarithm("amount"),
    op.Logarithm("items"),
    op.AbsoluteValue("amount"),
    op.Difference("amount", "items"),
    op.Product("amount", "returned"),
    op.Ratio("amount", "items"),
    *(op.IsMissing(column) for column in COLUMNS),
    op.Flag(NL),
    op.Flag((*NL, *BACK)),
    *(op.DatePartOf("at", part) for part in get_args(op.DatePart)),
    *(op.CyclicTime("at", part, wave) for part in PERIODS for wave in ("sine", "cosine")),
    op.IsWeekend("at"),
    op.ElapsedDays("at", "delivered_at"),
    op.TextLength("note"),
    op.WordCount("note"),
    op.TextContains("note", "AB"),
    *(op.CharacterShare("note", kind) for kind in ("digit", "uppercase", "punctuation", "space", "emoji")),
    op.TextContains("note", "ab", whole_word=True),
    op.TextContains("note", "a", whole_word=True),
    *(op.TextNumber("note", n) for n in (1, 2)),
    op.ZScore("amount"),
    op.ZScore("amount", "country"),
    op.MinMaxScale("items"),
    op.QuantileBin("amount", 3),
    op.PercentRank("amount"),
    op.PercentRank("amount", "country"),
    op.FrequencyEncoding("country"),
    *(op.GroupStatistic("amount", "country", function) for function in STATISTICS),
    op.GroupCount("returned"),
    *(op.PreviousValue(column, "user", "at", 2) for column in ("amount", "country", "returned")),
    *(op.PreviousValue(*keys) for keys in SERIES),
    *(op.ChangeFromPrevious(*keys) for keys in SERIES),
    *(op.PercentChange(*keys) for keys in SERIES),
    *(op.DaysSincePrevious(*keys[1:]) for keys in SERIES),
    *(op.RollingStatistic(*keys, 9.5, function) for keys in SERIES for function in WINDOW_FUNCTIONS),
    *(op.RollingStatistic(*keys, 9.5, function, include_row=True) for keys in SERIES for function in WINDOW_FUNCTIONS),
    *(op.RollingCount(*keys[1:], 9.5, where) for keys in SERIES for where in ((), NL)),
    *(op.RollingCount(*keys[1:], 9.5, NL, include_row=True) for keys in SERIES),
    *(op.CumulativeCount(*keys[1:]) for keys in SERIES),
]
BASIC_ENTITY_VARIANTS: list[Operation] = [
    *(op.Count(where, span) for where in ((), NL) for span in (None, 20.0)),
    *(op.CountDistinct("country", where, span) for where in ((), BACK) for span in (None, 20.0)),
    *(
        op.Aggregate("amount", function, where, span)
        for function in STATISTICS
        for where, span in (((), None), (NL, 20.0))
    ),
    op.Quantile("amount", 0.3),
    op.Quantile("amount", 0.9, NL),
    op.Quantile("amount", 0.5, (), 20.0),
    op.Rate(BACK),
    op.Rate(BACK, NL, 30.0),
    op.RatioOfSums("amount", "items"),
    op.RatioOfSums("amount", "items", NL, 20.0),
    op.MissingShare("country"),
    *(op.Recency("at", where) for where in ((), NL)),
    op.Tenure("at"),
    op.ActiveSpan("at"),
    *(op.MeanGap("at", where) for where in ((), NL)),
    *(op.EventsPerDay("at", where) for where in ((), NL)),
    op.Trend("amount", "at"),
    *(op.RecentShare("at", 20.0, where) for where in ((), NL)),
    op.HourShare("at", 22, 6),
    op.HourShare("at", 6, 22),
    op.WeekendShare("at"),
    op.ActiveDays("at"),
    *(op.MostFrequent(column) for column in ("country", "items")),
    op.TopShare("country"),
    op.Entropy("items"),
    *(op.LastValue(column, "at") for column in ("amount", "country")),
    *(op.FirstValue(column, "at") for column in ("amount", "returned")),
]
VARIANTS = [
    *(*ROW_VARIANTS, *MORE_ROW_VARIANTS, *BASIC_ROW_VARIANTS),
    *(*ENTITY_VARIANTS, *MORE_ENTITY_VARIANTS, *BASIC_ENTITY_VARIANTS),
]
"""All that are held to an oracle."""


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_operation_has_an_oracle_and_an_example(kind: str) -> None:
    """Whoever adds an operation adds its oracle, variants that are tried, and an example, which the page computes."""
    spec = REGISTRY[kind]
    assert all(module.__name__ in MODULES.values() for module in ORACLES)
    assert spec.type in (ROWS if spec.grain == "row" else ENTITIES)
    assert spec.type in {type(one) for one in VARIANTS}


def test_every_operation_has_an_example_table() -> None:
    """The page shows each operation's own values."""
    sections = document().split("\n### ")[1:]
    assert [section.partition("\n")[0] for section in sections] == list(REGISTRY)
    for section in sections:
        assert f"| {section.partition(chr(10))[0]} |\n|---|" in section
        assert section.count("\n| ") >= 3


@cache
def statement(grain: str) -> str:
    """All the operations' features f0 … in one statement."""
    operations = BASIC_ROW_VARIANTS if grain == "row" else BASIC_ENTITY_VARIANTS
    return render(compile_plan(plan(operations, operations[0].grain), profile()).statement(), "duckdb")


@TRIED
@given(st.lists(ROW, max_size=9))
@example(TIES)
def test_row_operations(rows: list[Any]) -> None:
    """Every row operation gives for every row what plain Python gives."""
    plain = as_rows(rows)
    with table(rows, COLUMNS) as connection:
        found = fetch(statement("row"), connection)
    for place, one in enumerate(BASIC_ROW_VARIANTS):
        expected = ROWS[type(one)](one, plain)
        assert all(map(same, found[f"f{place}"], expected)), (one, found[f"f{place}"], expected)


@TRIED
@given(st.lists(ROW, max_size=12))
@example(TIES)
def test_entity_operations(rows: list[Any]) -> None:
    """Every entity operation gives for every entity what plain Python gives."""
    plain = as_rows(rows)
    with table(rows, COLUMNS) as connection:
        found = fetch(statement("entity"), connection)
    entities = sorted({row["user"] for row in plain} - {None})
    for place, one in enumerate(BASIC_ENTITY_VARIANTS):
        expected = [ENTITIES[type(one)](one, [row for row in plain if row["user"] == who], plain) for who in entities]
        assert all(map(same, found[f"f{place}"], expected)), (one, found[f"f{place}"], expected)
