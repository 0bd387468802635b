"""Every engine gives, for every operation, the values worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from service.engines.sql.compile import compile_plan
from service.features.model import Grain
from service.features.operations import REGISTRY, AnyOperation
from tests.operations import oracles as oracle
from tests.operations import oracles_basic, oracles_entities, oracles_rows
from tests.operations.engines import ENGINES, Run, plan, profile, values
from tests.operations.golden import COLUMNS, ENTITY_CASES, ROW_CASES, ROWS


@pytest.fixture(params=ENGINES)
def run(request: pytest.FixtureRequest) -> Run:
    """One engine after the other."""
    return ENGINES[request.param]


def approx(expected: Sequence[Any]) -> Any:
    """Numbers to nine digits; everything else exactly."""
    return [pytest.approx(one, rel=1e-9, abs=1e-9) if isinstance(one, float) else one for one in expected]


def test_every_operation_has_golden_values_or_an_oracle() -> None:
    """No operation of the registry is without a row of the table, or an oracle, under its own grain."""
    modules = (oracles_basic, oracles_rows, oracles_entities)
    assert {module.__name__ for module in modules} <= {*oracle.MODULES.values()}
    for grain, cases, oracles in (("row", ROW_CASES, oracle.ROWS), ("entity", ENTITY_CASES, oracle.ENTITIES)):
        registered = {spec.type for spec in REGISTRY.values() if spec.grain == grain}
        assert {type(operation) for operation, _ in cases} | oracles.keys() == registered


@pytest.mark.parametrize(("operation", "expected"), ROW_CASES, ids=lambda one: type(one).__name__)
def test_row_operation(run: Run, operation: AnyOperation, expected: list[Any]) -> None:
    """A row operation gives the value worked out by hand for each row."""
    assert values(operation, run=run) == approx(expected)


@pytest.mark.parametrize(("operation", "expected"), ENTITY_CASES, ids=lambda one: type(one).__name__)
def test_entity_operation(run: Run, operation: AnyOperation, expected: list[Any]) -> None:
    """An entity operation gives the value worked out by hand for each entity; rows without one are left out."""
    assert values(operation, run=run) == approx(expected)


@pytest.mark.parametrize("grain", ["row", "entity"])
def test_all_operations_in_one_statement(run: Run, grain: Grain) -> None:
    """Compiled together, operations give what they give alone: shared parts are not mixed up."""
    cases = ROW_CASES if grain == "row" else ENTITY_CASES
    compiled = compile_plan(plan([operation for operation, _ in cases], grain), profile(COLUMNS))
    found = run(compiled, ROWS, COLUMNS)
    for place, (_, expected) in enumerate(cases):
        assert found[f"f{place}"] == approx(expected)
