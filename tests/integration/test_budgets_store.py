from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url, select, text

from service.features.errors import BudgetExceeded, DependencyUnavailable
from service.features.events import BudgetChecked, BudgetWarned
from service.features.model import Dataset, ExtractionOptions, FeaturePlan, ModelUsage, PlannedFeature, Profile
from service.features.operations import Value
from service.features.ports import PlanRequest, Proposal, Spending, Spent
from service.planning.budgets import BudgetedPlanner
from service.store.budgets import PostgresBudgets
from service.store.database import Database, open_database
from service.store.embedded import start_embedded
from service.store.schema import upgrade
from service.store.tables import model_spending
from tests.doubles import FixedClock, Recorder

ROOT = Path(__file__).parents[2]
DAY = date(2026, 3, 1)
EVENING = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
PROPOSAL = Proposal(FeaturePlan("row", (PlannedFeature("age", "The age.", Value("age")),)), ModelUsage("m"))


def open_at(url: str) -> Database:
    """A database with a small pool."""
    return open_database(url, pool_size=4, max_overflow=0, pool_timeout=60.0)


@pytest.fixture(scope="module")
def migrated_url(new_database: Callable[[], str]) -> str:
    """Address of a database with tables; tests in it keep apart by principal."""
    url = new_database()
    upgrade(make_url(url), {})
    return url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """An open database."""
    database = open_at(migrated_url)
    yield database
    await database.close()


@pytest.fixture
async def pools(migrated_url: str) -> AsyncIterator[list[PostgresBudgets]]:
    """The books through two pools of connections, as two processes have them."""
    databases = [open_at(migrated_url) for _ in range(2)]
    yield [PostgresBudgets(database.store) for database in databases]
    for database in databases:
        await database.close()


@pytest.fixture
def principal() -> str:
    """A principal that no other test uses."""
    return f"principal-{uuid4().hex}"


class BudgetRecorder(Recorder):
    """An observer that also lists the budgets' warnings."""

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Return unit and level of the warnings."""
        return [(event.unit, event.level) for event in self.of(BudgetWarned)]


class Model:
    """Spends the same each time."""

    def __init__(self, spending: Spending) -> None:
        self.spending = spending
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def propose(self, request: PlanRequest) -> Proposal:
        """Spend and plan."""
        for name in Spending.__struct_fields__:
            setattr(request.spending, name, getattr(self.spending, name))
        self.entered.set()
        await self.go.wait()
        return PROPOSAL


def ask(principal: str) -> PlanRequest:
    """A request of that principal."""
    dataset = Dataset("people", principal, "text/csv", 10, "k", Profile(1, (), "f"), EVENING)
    return PlanRequest(dataset, "ages", ExtractionOptions())


def budgeted(model: Model, books: PostgresBudgets, watcher: BudgetRecorder, **changed: Any) -> BudgetedPlanner:
    """A planner with a budget of 10 000 tokens and 10 dollars."""
    made: dict[str, Any] = {"clock": FixedClock(EVENING), "tokens_per_day": 10_000, "usd_per_day": 10.0}
    return BudgetedPlanner(model, budgets=books, observer=watcher, **(made | changed))


# -------------------------------------------------------------------------------------------------------------- books


async def test_nothing_is_spent_at_first(database: Database, principal: str) -> None:
    """A principal without a row has spent nothing."""
    assert await PostgresBudgets(database.store).spent(principal, DAY) == Spent()


async def test_a_charge_adds(database: Database, principal: str) -> None:
    """Each charge gives the sums before and after it, and what was spent is read back; no day touches another."""
    books = PostgresBudgets(database.store)
    assert await books.charge(principal, DAY, Spending(80, 20, 0.1, 1)) == (Spent(), Spent(100, 0.1, 1))
    assert await books.charge(principal, DAY, Spending(1, 2, 0.2)) == (Spent(100, 0.1, 1), Spent(103, 0.3, 1))
    assert await books.spent(principal, DAY) == Spent(103, 0.3, 1)
    assert await books.spent(principal, DAY + timedelta(days=1)) == Spent()
    assert await books.spent(principal + "x", DAY) == Spent()


async def test_the_row_says_what_went_in_and_out(database: Database, principal: str) -> None:
    """Input and output tokens are kept apart, with the time of the latest charge."""
    books = PostgresBudgets(database.store)
    for _ in range(2):
        await books.charge(principal, DAY, Spending(2**40, 7, 0.000_000_01, 1))
    async with database.store.begin() as work:
        found = await work.connection.execute(select(model_spending).where(model_spending.c.principal == principal))
        row = found.mappings().one()
        now = (await work.connection.execute(text("SELECT now()"))).scalar_one()
    assert (row["input_tokens"], row["output_tokens"], row["unpriced_calls"]) == (2**41, 14, 2)
    assert float(row["cost_usd"]) == 0.000_000_02
    assert now - timedelta(hours=1) < row["updated_at"] <= now


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=5))
def test_sums_of_money_link_up(migrated_url: str, costs: list[float]) -> None:
    """Whatever is charged, each charge begins exactly where the one before it ended, so no level is crossed twice."""

    async def charge() -> list[tuple[Spent, Spent]]:
        database = open_at(migrated_url)
        books, who = PostgresBudgets(database.store), uuid4().hex
        sums = [await books.charge(who, DAY, Spending(1, cost_usd=cost)) for cost in costs]
        await database.close()
        return sums

    sums = asyncio.run(charge())
    assert [before for before, _ in sums] == [Spent(), *(after for _, after in sums[:-1])]
    assert sums[-1][1].cost_usd == pytest.approx(sum(costs), abs=1e-6)


async def test_charges_at_once_are_exact(pools: list[PostgresBudgets], principal: str) -> None:
    """50 charges at once over two pools add up exactly, and each sum is met as an end and as a beginning once."""
    charges = [pools[number % 2].charge(principal, DAY, Spending(80, 20, 0.1, 1)) for number in range(50)]
    sums = await asyncio.gather(*charges)
    assert await pools[0].spent(principal, DAY) == Spent(5000, 5.0, 50)
    assert sorted(before.tokens for before, _ in sums) == list(range(0, 5000, 100))
    assert all(after == Spent(before.tokens + 100, after.cost_usd, before.unpriced_calls + 1) for before, after in sums)
    assert sorted(before.cost_usd for before, _ in sums) == [number / 10 for number in range(50)]


_OTHER_PROCESS = """
import asyncio, json, sys
from datetime import date
from service.features.ports import Spending
from service.store.budgets import PostgresBudgets
from service.store.database import open_database

async def main():
    database = open_database(sys.argv[1], pool_size=4, max_overflow=0, pool_timeout=60.0)
    books = PostgresBudgets(database.store)
    print("ready", flush=True)
    sys.stdin.readline()
    day = date(2026, 3, 1)
    sums = await asyncio.gather(*(books.charge(sys.argv[2], day, Spending(1, 1, 0.1)) for _ in range(40)))
    print(json.dumps([before.tokens for before, _ in sums]))
    await database.close()

asyncio.run(main())
"""


def test_two_processes_charge_exactly(migrated_url: str, principal: str) -> None:
    """80 charges at once through two processes are met as beginnings once each."""
    command = [sys.executable, "-W", "error", "-c", _OTHER_PROCESS, migrated_url, principal]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        begun = [tokens for process in processes for tokens in json.loads(process.communicate(timeout=60)[0])]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert sorted(begun) == list(range(0, 160, 2))


async def test_a_database_that_is_away_is_said_to_be(tmp_path: Path, principal: str) -> None:
    """Without the database both calls raise DependencyUnavailable."""
    server = start_embedded(tmp_path)
    upgrade(make_url(server.url), {})
    database = open_at(server.url)
    books, watcher = PostgresBudgets(database.store), BudgetRecorder()
    await books.charge(principal, DAY, Spending(10_000))
    planner = budgeted(Model(Spending(1)), books, watcher)
    with pytest.raises(BudgetExceeded):
        await planner.propose(ask(principal))
    server.stop()
    with pytest.raises(DependencyUnavailable):
        await books.spent(principal, DAY)
    with pytest.raises(DependencyUnavailable):
        await books.charge(principal, DAY, Spending(1))
    assert await planner.propose(ask(principal)) == PROPOSAL
    assert [event.decision for event in watcher.events if isinstance(event, BudgetChecked)] == ["refused", "unchecked"]
    await database.close()


# ------------------------------------------------------------------------------------------------------------ planning


async def test_each_level_is_warned_of_once_over_all(pools: list[PostgresBudgets], principal: str) -> None:
    """Concurrent plannings in two processes cross each level of each budget, and each level is reported once in all."""
    watcher = BudgetRecorder()
    planners = [budgeted(Model(Spending(200, 50, 0.25)), books, watcher) for books in pools]
    burst = [planners[number % 2].propose(ask(principal)) for number in range(40)]
    await asyncio.gather(*burst, return_exceptions=True)  # some may be refused because of others under way
    while (await pools[0].spent(principal, DAY)).tokens < 10_000:
        await planners[0].propose(ask(principal))
    assert sorted(watcher.warnings) == [(unit, level) for unit in ("tokens", "usd") for level in ("100", "80", "95")]
    with pytest.raises(BudgetExceeded):
        await planners[0].propose(ask(principal))
    assert len(watcher.warnings) == 6


async def test_calls_without_a_price_are_told_of_once_over_all(
    pools: list[PostgresBudgets], principal: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 20 unpriced plannings in two processes, one is reported."""
    planners = [budgeted(Model(Spending(1, unpriced_calls=2)), books, BudgetRecorder()) for books in pools]
    await asyncio.gather(*(planners[number % 2].propose(ask(principal)) for number in range(20)))
    assert [principal in record.getMessage() for record in caplog.records] == [True]
    assert await pools[0].spent(principal, DAY) == Spent(20, 0.0, 40)


async def test_a_spent_budget_is_whole_at_midnight(pools: list[PostgresBudgets], principal: str) -> None:
    """A budget that another process spent refuses until midnight UTC, and then not."""
    clock, watcher = FixedClock(EVENING), BudgetRecorder()
    planner = budgeted(Model(Spending(1)), pools[0], watcher, clock=clock)
    await pools[1].charge(principal, DAY, Spending(10_000))
    with pytest.raises(BudgetExceeded) as refused:
        await planner.propose(ask(principal))
    assert refused.value.retry_after == 60
    clock.instant += timedelta(seconds=60)
    assert await planner.propose(ask(principal)) == PROPOSAL


async def test_a_cancelled_request_is_charged(database: Database, principal: str) -> None:
    """The spending of a request whose client disconnected is recorded."""
    books = PostgresBudgets(database.store)
    model = Model(Spending(80, 20, 0.5))
    model.go.clear()
    planning = asyncio.create_task(budgeted(model, books, BudgetRecorder()).propose(ask(principal)))
    await model.entered.wait()
    planning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await planning
    assert await books.spent(principal, DAY) == Spent(100, 0.5)
