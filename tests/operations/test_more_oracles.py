"""Operations equal plain Python, NumPy, pandas and SciPy on made-up rows; see `test_oracles`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import sqlglot
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.engines.sql.template import Primitive
from service.features.operations import Operation
from tests.operations import oracles_entities, oracles_rows
from tests.operations.engines import fetch, plan, table
from tests.operations.more_variants import ENTITY_VARIANTS, ROW_VARIANTS
from tests.operations.oracles import ENTITIES, MODULES, ROWS
from tests.operations.test_dialects import NATIVE, calls
from tests.operations.test_oracles import RARE, ROW, TIES, as_rows, same
from tests.operations.test_properties import COLUMNS, profile

CHUNK = 40
"""Operations in one statement."""
CHUNKS = [
    (kind, start)
    for kind, variants in (("row", ROW_VARIANTS), ("entity", ENTITY_VARIANTS))
    for start in range(0, len(variants), CHUNK)
]


def chunk(grain: str, start: int) -> Sequence[Operation]:
    """Operations of one statement."""
    return (ROW_VARIANTS if grain == "row" else ENTITY_VARIANTS)[start : start + CHUNK]


@cache
def statement(grain: str, start: int) -> str:
    """The operations' features f0 … in one statement."""
    operations = chunk(grain, start)
    return render(compile_plan(plan(operations, operations[0].grain), profile()).statement(), "duckdb")


def expected(one: Operation, plain: list[dict[str, Any]], users: Sequence[str]) -> list[Any]:
    """The oracle's values."""
    if one.grain == "row":
        return ROWS[type(one)](one, plain)
    return [ENTITIES[type(one)](one, [row for row in plain if row["user"] == who], plain) for who in users]


@pytest.mark.parametrize(("grain", "start"), CHUNKS)
@settings(max_examples=15, deadline=None)
@given(rows=st.lists(ROW, max_size=14))
@example(rows=RARE)
@example(rows=TIES)
def test_operations_equal_their_oracles(grain: str, start: int, rows: list[Any]) -> None:
    """Every operation gives for every row or entity what the oracle gives."""
    with table(rows, COLUMNS) as connection:
        found = fetch(statement(grain, start), connection)
    plain = as_rows(rows)
    users = sorted({row["user"] for row in plain} - {None})
    for place, one in enumerate(chunk(grain, start)):
        wanted = expected(one, plain, users)
        assert all(map(same, found[f"f{place}"], wanted)), (one, found[f"f{place}"], wanted)


def test_every_operation_is_tried() -> None:
    """Each oracle of these modules is used."""
    kinds = {type(one) for one in (*ROW_VARIANTS, *ENTITY_VARIANTS)}
    assert kinds == {
        kind for kind, module in MODULES.items() if module in {oracles_rows.__name__, oracles_entities.__name__}
    }


@pytest.mark.parametrize(
    "one", {type(one): one for one in (*ROW_VARIANTS, *ENTITY_VARIANTS)}.values(), ids=lambda one: type(one).__name__
)
def test_every_operation_is_spelled_for_spark(one: Operation) -> None:
    """The statement parses in the other dialect, and no primitive is left in it."""
    compiled = compile_plan(plan([one], one.grain), profile()).statement()
    text = render(compiled, "spark")
    assert sqlglot.parse_one(text, read="spark")
    called = {node.name for node in compiled.find_all(Primitive)} - NATIVE["spark"]
    assert not [name for name in called if calls(name, text)]
