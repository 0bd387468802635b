from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from service.features.errors import BudgetExceeded, DependencyUnavailable, ModelUnavailable
from service.features.events import BudgetChecked, BudgetWarned
from service.features.model import (
    Dataset,
    ExtractionOptions,
    FeaturePlan,
    ModelUsage,
    PlannedFeature,
    Profile,
)
from service.features.operations import Value
from service.features.ports import PlanRequest, Proposal, Spending, Spent
from service.planning import budgets as module
from service.planning.budgets import BUSY_RETRY_SECONDS, BudgetedPlanner
from tests.doubles import FixedClock, Recorder

EVENING = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
TODAY = EVENING.date()
PROPOSAL = Proposal(FeaturePlan("row", (PlannedFeature("age", "The age.", Value("age")),)), ModelUsage("m"))


class BudgetRecorder(Recorder):
    """An observer that also lists the budgets' decisions and warnings."""

    @property
    def decisions(self) -> list[str]:
        """Return the decisions, in order."""
        return [event.decision for event in self.of(BudgetChecked)]

    @property
    def warnings(self) -> list[tuple[str, str, str]]:
        """Return principal, unit and level of the warnings, in order."""
        return [(each.principal, each.unit, each.level) for each in self.of(BudgetWarned)]


class Books:
    """The books in a dictionary; away or silent on command."""

    def __init__(self) -> None:
        self.days: dict[tuple[str, date], Spent] = {}
        self.charges: list[Spending] = []
        self.fault: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def spent(self, principal: str, day: date) -> Spent:
        """What is written."""
        await self._answer()
        return self.days.get((principal, day), Spent())

    async def charge(self, principal: str, day: date, spending: Spending) -> tuple[Spent, Spent]:
        """Write."""
        await self._answer()
        self.charges.append(spending)
        before = self.days.get((principal, day), Spent())
        after = self.days[principal, day] = Spent(
            before.tokens + spending.input_tokens + spending.output_tokens,
            before.cost_usd + spending.cost_usd,
            before.unpriced_calls + spending.unpriced_calls,
        )
        return before, after

    async def _answer(self) -> None:
        await self.open.wait()
        if self.fault is not None:
            raise self.fault


class Model:
    """Spends what the test says, then ends as the test says."""

    def __init__(self, *spending: Spending) -> None:
        self.spending = list(spending) or [Spending(80, 20)]
        self.error: Exception | None = None
        self.calls = 0
        self.go = asyncio.Event()
        self.go.set()

    async def propose(self, request: PlanRequest) -> Proposal:
        """Spend and plan."""
        takes = self.spending[min(self.calls, len(self.spending) - 1)]
        self.calls += 1
        for name in Spending.__struct_fields__:
            setattr(request.spending, name, getattr(takes, name))
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return PROPOSAL


def ask(owner: str = "ann") -> PlanRequest:
    """A request of that principal."""
    dataset = Dataset("people", owner, "text/csv", 10, "k", Profile(1, (), "f"), EVENING)
    return PlanRequest(dataset, "ages", ExtractionOptions())


def budgeted(model: Model, books: Books, **changed: Any) -> BudgetedPlanner:
    """A planner with a budget of 1 000 tokens."""
    made: dict[str, Any] = {
        "budgets": books, "observer": BudgetRecorder(), "clock": FixedClock(EVENING), "tokens_per_day": 1000,
        "usd_per_day": 0.0,
    }  # fmt: skip
    return BudgetedPlanner(model, **(made | changed))


async def settle() -> None:
    """Let every task run until it waits for something that only the test gives."""
    for _ in range(10):
        await asyncio.sleep(0)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings in the log."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Books that do not answer are not waited for."""
    monkeypatch.setattr(module, "ACCOUNTS_TIMEOUT_SECONDS", 0.01)


# ------------------------------------------------------------------------------------------------------------ refusals


async def test_requests_pass_until_the_budget_is_spent() -> None:
    """With 1 000 tokens a day and 100 a planning, ten requests are planned and the eleventh is refused."""
    model, books, watcher = Model(), Books(), BudgetRecorder()
    planner = budgeted(model, books, observer=watcher)
    for _ in range(10):
        assert await planner.propose(ask()) == PROPOSAL
    with pytest.raises(BudgetExceeded) as refused:
        await planner.propose(ask())
    assert str(refused.value) == (
        "You have spent 1,000 tokens on models today; your budget is 1,000 tokens a day. It is free again at "
        "2026-03-02T00:00:00Z."
    )
    assert refused.value.retry_after == 2 * 3600
    assert (model.calls, watcher.decisions) == (10, ["allowed"] * 10 + ["refused"])


async def test_dollars_are_a_budget_of_their_own() -> None:
    """A spent budget in dollars refuses, naming the calls that it could not see."""
    books = Books()
    books.days["ann", TODAY] = Spent(10, 1.25, 3)
    with pytest.raises(BudgetExceeded) as refused:
        await budgeted(Model(), books, tokens_per_day=1000, usd_per_day=1.0).propose(ask())
    assert str(refused.value) == (
        "You have spent 1.2500 US dollars on models today, not counting 3 calls without a known price; your budget is "
        "1.0000 US dollars a day. It is free again at 2026-03-02T00:00:00Z."
    )


async def test_a_limit_of_zero_is_none() -> None:
    """What has no limit is not refused, and is charged all the same."""
    books = Books()
    books.days["ann", TODAY] = Spent(10**12, 1e9, 5)
    planner = budgeted(Model(), books, tokens_per_day=0, usd_per_day=0.0)
    assert await planner.propose(ask()) == PROPOSAL
    assert books.days["ann", TODAY].tokens == 10**12 + 100


async def test_principals_have_budgets_of_their_own() -> None:
    """One principal's spending takes nothing from another's budget."""
    books = Books()
    books.days["ann", TODAY] = Spent(1000)
    planner = budgeted(Model(), books)
    with pytest.raises(BudgetExceeded):
        await planner.propose(ask("ann"))
    assert await planner.propose(ask("bob")) == PROPOSAL


async def test_a_day_turns_at_midnight_utc() -> None:
    """A second before midnight the wait is a second; at midnight the budget is whole, wherever the clock is read."""
    books, clock = Books(), FixedClock(EVENING)
    books.days["ann", TODAY] = Spent(1000)
    planner = budgeted(Model(), books, clock=clock)
    clock.instant = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    with pytest.raises(BudgetExceeded) as refused:
        await planner.propose(ask())
    assert refused.value.retry_after == 1
    clock.instant += timedelta(seconds=1)
    assert await planner.propose(ask()) == PROPOSAL
    assert books.days["ann", TODAY + timedelta(days=1)].tokens == 100


async def test_a_planning_over_midnight_is_the_old_day_s() -> None:
    """What began before midnight is charged to the day whose budget allowed it."""
    model, books, clock = Model(), Books(), FixedClock(EVENING)
    model.go.clear()
    planning = asyncio.create_task(budgeted(model, books, clock=clock).propose(ask()))
    await settle()
    clock.instant += timedelta(hours=3)
    model.go.set()
    await planning
    assert books.days == {("ann", TODAY): Spent(100)}


# ------------------------------------------------------------------------------------------------------------- charges


async def test_a_failed_planning_is_charged() -> None:
    """What a planning took before it failed is charged, and its error is what the client sees."""
    model, books = Model(Spending(70, 7, 0.5, 1)), Books()
    model.error = ModelUnavailable("away")
    with pytest.raises(ModelUnavailable, match="away"):
        await budgeted(model, books).propose(ask())
    assert books.charges == [Spending(70, 7, 0.5, 1)]


async def test_a_cancelled_planning_is_charged() -> None:
    """A request that is cancelled while it is planned is charged before the cancellation goes on."""
    model, books = Model(), Books()
    model.go.clear()
    planning = asyncio.create_task(budgeted(model, books).propose(ask()))
    await settle()
    planning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await planning
    assert books.charges == [Spending(80, 20)]


async def test_a_charge_outlives_the_cancellation_of_its_request() -> None:
    """A request that is cancelled while its charge is being written is charged nevertheless, once."""
    books = Books()
    planner = budgeted(Model(), books)
    model = planner._planner
    assert isinstance(model, Model)
    model.go.clear()
    planning = asyncio.create_task(planner.propose(ask()))
    await settle()
    books.open.clear()
    model.go.set()
    await settle()
    for _ in range(2):
        planning.cancel()
        await settle()
    assert planning.cancelled()
    assert books.charges == []
    books.open.set()
    await settle()
    assert books.charges == [Spending(80, 20)]
    assert not planner._charging
    assert not planner._under_way


async def test_nothing_spent_is_nothing_charged() -> None:
    """A planning that took nothing is not written."""
    books = Books()
    await budgeted(Model(Spending()), books).propose(ask())
    assert books.charges == []


async def test_a_request_that_is_refused_is_not_charged() -> None:
    """A refusal costs nothing."""
    books = Books()
    books.days["ann", TODAY] = Spent(1000)
    with pytest.raises(BudgetExceeded):
        await budgeted(Model(), books).propose(ask())
    assert books.charges == []


# ------------------------------------------------------------------------------------------------------------ warnings


async def test_each_level_is_warned_of_once() -> None:
    """As 1 000 tokens are spent by hundreds, each level is told once: 80 at 800, 95 and 100 at the last."""
    books, watcher = Books(), BudgetRecorder()
    planner = budgeted(Model(), books, observer=watcher)
    told: dict[int, list[str]] = {}
    for number in range(1, 11):
        before = len(watcher.warnings)
        await planner.propose(ask())
        told[number] = [level for _, _, level in watcher.warnings[before:]]
    assert {number: levels for number, levels in told.items() if levels} == {8: ["80"], 10: ["95", "100"]}
    assert {(principal, unit) for principal, unit, _ in watcher.warnings} == {("ann", "tokens")}


async def test_one_charge_may_cross_every_level() -> None:
    """A planning that takes more than the whole budget crosses three levels of each unit."""
    watcher = BudgetRecorder()
    planner = budgeted(Model(Spending(5000, 0, 9.0)), Books(), observer=watcher, usd_per_day=1.0)
    await planner.propose(ask())
    assert watcher.warnings == [("ann", unit, level) for unit in ("tokens", "usd") for level in ("80", "95", "100")]


async def test_calls_without_a_price_are_told_of_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    """A budget in dollars that cannot see a call says so once a principal and day; one in tokens is silent."""
    books, clock = Books(), FixedClock(EVENING)
    planner = budgeted(Model(Spending(1, 1, 0.0, 1)), books, clock=clock, tokens_per_day=0, usd_per_day=1.0)
    for owner in ("ann", "ann", "bob"):
        await planner.propose(ask(owner))
    text = "the day's budget in dollars cannot see calls without a known price; {} made one"
    assert lines(caplog) == [text.format("'ann'"), text.format("'bob'")]
    clock.instant += timedelta(days=1)
    await planner.propose(ask())
    assert len(lines(caplog)) == 3
    caplog.clear()
    await budgeted(Model(Spending(1, 1, 0.0, 1)), Books()).propose(ask())
    assert lines(caplog) == []


# ------------------------------------------------------------------------------------------------------ without books


async def test_without_books_requests_are_planned_unchecked(caplog: pytest.LogCaptureFixture) -> None:
    """While the database is away requests are planned, and each charge that is lost is told of with its amounts."""
    books, watcher = Books(), BudgetRecorder()
    books.fault = DependencyUnavailable("away")
    planner = budgeted(Model(Spending(70, 7, 0.5, 1)), books, observer=watcher)
    assert await planner.propose(ask()) == PROPOSAL
    assert watcher.decisions == ["unchecked"]
    (line,) = lines(caplog)
    assert line.startswith("spending of 'ann' not charged (DependencyUnavailable): 70 + 7 tokens, 0.500000 US dollars")
    assert line.endswith("1 calls without a known price")


@pytest.mark.usefixtures("hurried")
async def test_silent_books_are_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Books that never answer delay a request by the patience before and after; the charge is written when they do."""
    books, watcher = Books(), BudgetRecorder()
    books.open.clear()
    assert await budgeted(Model(), books, observer=watcher).propose(ask()) == PROPOSAL
    assert watcher.decisions == ["unchecked"]
    books.open.set()
    await settle()
    assert books.charges == [Spending(80, 20)]
    assert lines(caplog) == []


async def test_a_mistake_in_the_books_costs_no_plan(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error while charging is logged by its kind alone, and the plan is answered."""
    model, books = Model(), Books()
    model.go.clear()
    planning = asyncio.create_task(budgeted(model, books).propose(ask()))
    await settle()
    books.fault = ValueError("secret")
    model.go.set()
    assert await planning == PROPOSAL
    assert "ValueError" in lines(caplog)[0]
    assert "secret" not in caplog.text


# ---------------------------------------------------------------------------------------------------------- overshoot


async def started(planner: BudgetedPlanner, requests: int, owner: str = "ann") -> list[asyncio.Task[Proposal]]:
    """That many requests at once, as far as they come."""
    tasks = [asyncio.create_task(planner.propose(ask(owner))) for _ in range(requests)]
    await settle()
    return tasks


def refusals(tasks: list[asyncio.Task[Proposal]]) -> list[BudgetExceeded]:
    """The refusals among them."""
    found = [task.exception() for task in tasks if task.done()]
    return [error for error in found if isinstance(error, BudgetExceeded)]


async def test_a_burst_overshoots_by_at_most_one_planning() -> None:
    """Of 50 requests at once, as many are planned as the rest of the budget is good for, the others wait a little."""
    model, books = Model(), Books()
    planner = budgeted(model, books)
    await planner.propose(ask())  # 100 tokens: now it is known what a planning takes
    model.go.clear()
    burst = await started(planner, 50)
    assert model.calls - 1 == 9
    assert {error.retry_after for error in refusals(burst)} == {BUSY_RETRY_SECONDS}
    assert len(refusals(burst)) == 41
    assert "try again when they are done" in str(refusals(burst)[0])
    model.go.set()
    await settle()
    assert books.days["ann", TODAY].tokens == 1000


async def test_places_that_are_given_up_are_free_again() -> None:
    """When what was under way took less than was thought, or failed, or was cancelled, others may plan again."""
    model, books = Model(), Books()
    planner = budgeted(model, books)
    await planner.propose(ask())
    model.go.clear()
    model.spending = [Spending()]
    burst = await started(planner, 10)
    assert len(refusals(burst)) == 1
    for task in burst[:5]:
        task.cancel()
    model.error = ModelUnavailable("away")
    model.go.set()
    await asyncio.gather(*burst, return_exceptions=True)
    assert not planner._under_way
    model.error = None
    assert await planner.propose(ask()) == PROPOSAL


async def test_a_burst_of_one_does_not_stop_another() -> None:
    """What a principal has under way is counted against nobody else."""
    model, books = Model(), Books()
    planner = budgeted(model, books)
    await planner.propose(ask())
    model.go.clear()
    burst = await started(planner, 20)
    assert refusals(burst)
    others = await started(planner, 5, "bob")
    assert not refusals(others)
    model.go.set()
    await asyncio.gather(*burst, *others, return_exceptions=True)


async def test_dollars_under_way_count_too() -> None:
    """The mean of what plannings cost bounds a burst on a budget in dollars."""
    model, books = Model(Spending(1, 1, 0.25)), Books()
    planner = budgeted(model, books, tokens_per_day=0, usd_per_day=1.0)
    await planner.propose(ask())
    model.go.clear()
    burst = await started(planner, 10)
    assert model.calls == 1 + 3
    model.go.set()
    await asyncio.gather(*burst, return_exceptions=True)
    assert books.days["ann", TODAY].cost_usd == 1.0


async def test_a_spent_budget_is_named_before_a_busy_one() -> None:
    """Who has spent the dollars is sent to midnight, though the tokens are only taken for the moment."""
    model, books = Model(), Books()
    planner = budgeted(model, books, usd_per_day=1.0)
    await planner.propose(ask())
    model.go.clear()
    burst = await started(planner, 9)
    books.days["ann", TODAY] = replace(books.days["ann", TODAY], cost_usd=2.0)
    late = await started(planner, 1)
    assert refusals(late)[0].retry_after == 2 * 3600
    model.go.set()
    await asyncio.gather(*burst)


@pytest.mark.parametrize("ends", [lambda model: None, lambda model: setattr(model, "error", ModelUnavailable("x"))])
async def test_the_mean_follows_what_plannings_take(ends: Callable[[Model], None]) -> None:
    """Plannings that grow dearer bound the next burst more, also when they fail."""
    model, books = Model(Spending(10), Spending(110)), Books()
    ends(model)
    planner = budgeted(model, books, tokens_per_day=10_000)
    for _ in range(2):
        await asyncio.gather(planner.propose(ask()), return_exceptions=True)
    assert planner._mean.tokens == 30  # 10 + 0.2 · (110 - 10)
