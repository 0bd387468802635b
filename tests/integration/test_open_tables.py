"""What is checked on the data before tables are joined: keys that must be unique, and how much observations read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from msgspec.structs import replace

from service.engines.duckdb import open_tables
from service.engines.duckdb.open_tables import check_joins, views
from service.engines.duckdb.statements import Connection
from service.features.errors import InvalidRequest
from service.features.model import ExtractionOptions
from service.features.table_options import Observations, RelatedTable, TableOptions
from service.features.tables import Tables
from tests.tables.support import Case, Given, load

START = datetime(2024, 1, 1, tzinfo=UTC)
ORDERS = Given(
    "orders",
    {"customer": "VARCHAR", "at": "TIMESTAMP"},
    [("c1", START + timedelta(days=day)) for day in range(4)],
)
CUSTOMERS = Given("customers", {"customer": "VARCHAR", "segment": "VARCHAR"}, [("c1", "x"), ("c2", "y"), ("c2", "z")])


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database."""
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        yield connection


def check(database: duckdb.DuckDBPyConnection, tables: Tables, *given: Given) -> None:
    """Load the tables and check their joins."""

    def execute(statement: str, parameters: Any = ()) -> list[Any]:
        return database.execute(statement, list(parameters) or None).fetchall()

    for view, one in zip(views(tables), given, strict=True):
        load(database, view, one)
    check_joins(Connection(execute), tables)


@pytest.mark.parametrize("personal", [False, True])
def test_a_key_that_the_profile_took_for_unique(database: duckdb.DuckDBPyConnection, *, personal: bool) -> None:
    """The error names the member, two rows, and a value unless it is personal."""
    taken = replace(CUSTOMERS, personal=("customer",) if personal else ())
    columns = tuple(replace(one, distinct_count=3) for one in taken.profile.columns)
    customers = replace(taken.dataset, profile=replace(taken.profile, columns=columns))
    options = TableOptions(related=(RelatedTable("customers", "customer"),))

    with pytest.raises(InvalidRequest) as raised:
        check(database, Tables(ORDERS.dataset, (customers,), options=options), ORDERS, CUSTOMERS)

    [fault] = raised.value.errors
    assert fault.field == "options.related[0].on"
    assert "'customer' of 'customers' must be unique" in fault.message
    assert "is in 2 rows (2 and 3 among them)" in fault.message
    assert ("'c2'" in fault.message) is not personal


def test_observations_that_would_read_too_much(
    database: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each observation reads its entity's history: the rows of all together are bounded before they are read."""
    moments = Given("moments", {"who": "VARCHAR", "when": "TIMESTAMP"}, [("c1", START)] * 3 + [("c9", START)])
    options = TableOptions(observations=Observations("moments", "who", "when"))
    case = Case([ORDERS, moments], options, ExtractionOptions(entity="customer", time="at"))

    check(database, case.tables, ORDERS, moments)
    monkeypatch.setattr(open_tables, "MAX_PAIRS", 11)
    database.execute("DROP TABLE dataset; DROP TABLE observations")
    with pytest.raises(InvalidRequest) as raised:
        check(database, case.tables, ORDERS, moments)

    [fault] = raised.value.errors
    assert fault.field == "options.observations.dataset_id"
    assert "see 12 rows of their entities' histories together; at most 11" in fault.message
