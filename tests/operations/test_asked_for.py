"""How many of the features that analysts ask for can be said: each is validated, and computed on made-up rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import duckdb
import msgspec
import pytest

from service.engines.sql.compile import compile_plan
from service.features.model import ColumnProfile, ExtractionOptions, FeaturePlan, PlannedFeature, Profile
from service.features.operations import AnyOperation
from service.features.operations.operation import spec_of
from service.features.plan import validate
from tests.operations.asked_for import ASKED, TABLES
from tests.operations.engines import compute, table

ROWS = 160
START = datetime(2024, 1, 3, 9, tzinfo=UTC)
SAID = [one for one in ASKED if one[2] is not None]


def plan_of(field: str, phrase: str, operation: dict[str, Any]) -> FeaturePlan:
    """The plan of the one feature."""
    decoded = msgspec.convert(operation, AnyOperation)
    feature = PlannedFeature("asked", phrase, decoded)
    return FeaturePlan(spec_of(decoded).grain, (feature,), TABLES[field].entity, TABLES[field].time)


@cache
def table_of(field: str) -> duckdb.DuckDBPyConnection:
    """A database of the field's rows, the same each time; some values are missing."""
    chance = random.Random(field)  # noqa: S311 -- made-up data
    columns = {name: physical for name, (_, physical, _) in TABLES[field].columns.items()}
    return table([made_row(field, chance) for _ in range(ROWS)], columns)


def made_row(field: str, chance: random.Random) -> list[Any]:
    """One row."""
    at = START + timedelta(minutes=chance.randrange(0, 130 * 24 * 60))
    return [value(kind, domain, at, chance) for kind, _, domain in TABLES[field].columns.values()]


def value(kind: str, domain: Any, at: datetime, chance: random.Random) -> Any:
    """One value of the domain."""
    if kind == "datetime":
        shift = {0: 0, 1: chance.uniform(0.1, 12), -1: -chance.uniform(3000, 20000)}[domain]
        return at + timedelta(days=shift)
    if kind in {"numeric", "integer"}:
        if chance.random() < 0.05:
            return None
        return round(chance.uniform(*domain), 2) if kind == "numeric" else chance.randint(*domain)
    return chance.choice(domain)


def profile_of(field: str) -> Profile:
    """The table's profile."""
    columns = [
        ColumnProfile(name, place, logical, physical, 0.0, 10)  # type: ignore[arg-type] - words of the table
        for place, (name, (logical, physical, _)) in enumerate(TABLES[field].columns.items())
    ]
    return Profile(ROWS, tuple(columns), "fingerprint")


@pytest.mark.parametrize(("field", "phrase", "operation"), SAID, ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_asked_for_can_be_computed(field: str, phrase: str, operation: dict[str, Any]) -> None:
    """The plan may run with the field's target set, and gives known values."""
    plan, profile = plan_of(field, phrase, operation), profile_of(field)
    target = {"banking": "fraud", "telecom": "dropped"}.get(field) if "target" in operation else None
    assert validate(plan, profile, ExtractionOptions(target=target)) == ()
    found = compute(compile_plan(plan, profile), table_of(field))["asked"]
    assert any(value is not None for value in found)


def test_nearly_all_that_is_asked_for_can_be_said() -> None:
    """At least 95 of 100 phrases, of at least 93 in eight fields."""
    assert len({phrase for _, phrase, _ in ASKED}) == len(ASKED) >= 93
    assert len({field for field, *_ in ASKED}) == len(TABLES) == 8
    assert len(SAID) / len(ASKED) >= 0.95
