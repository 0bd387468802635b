"""Limit what each principal spends on models in a day (UTC): warn as the budget is nearly spent, refuse when it is."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from service.features.errors import BudgetExceeded, DependencyUnavailable
from service.features.events import BudgetChecked, BudgetWarned
from service.features.ports import Budgets, Clock, Observer, Planner, PlanRequest, Proposal, Spending, Spent

LEVELS: tuple[Literal["80", "95", "100"], ...] = ("80", "95", "100")
"""Percentages of a budget that are warned of when spending crosses them."""
ACCOUNTS_TIMEOUT_SECONDS = 2.0
"""A request waits no longer than this for its principal's account, before planning and after."""
BUSY_RETRY_SECONDS = 10.0
"""When the requests being planned may take all that is left, some of them are done about then."""
WEIGHT = 0.2
"""Of the latest planning in the mean cost of one (an exponentially weighted moving average of about the last nine,
2/0.2 - 1)."""

_LOG = logging.getLogger(__name__)


class _Limit(Struct, frozen=True):
    """One unit's budget for a day."""

    unit: Literal["tokens", "usd"]
    maximum: float

    def of(self, spent: Spent) -> float:
        """Return how much of the unit was spent."""
        return spent.tokens if self.unit == "tokens" else spent.cost_usd

    def shown(self, amount: float) -> str:
        """Format an amount for a message."""
        return f"{amount:,.0f} tokens" if self.unit == "tokens" else f"{amount:,.4f} US dollars"


class BudgetedPlanner:
    """A planner that each principal may use until its day's budget is spent; for one event loop.

    What planning cost is charged however it ended, also when its request is cancelled, to the day on which it began.
    The accounts are in the database: while they cannot be read, requests are planned unchecked, and a charge that
    cannot be written is logged and lost, since budgets protect the purse and not the service.

    What a planning costs is known only afterwards, so a budget can be overshot. Each planning of a principal that is
    under way in this process counts as the recent mean, and a request that these may leave nothing for is refused for
    the moment. A process thus overshoots by one planning, and by as much as those under way cost beyond the mean;
    never by more than all that admission has places for can cost. Several processes overshoot by the sum.

    Calls without a known price are counted separately. A budget in dollars cannot see them: refusals say how many there
    were, and a principal's first one of a day is logged as a warning. A budget in tokens sees them all.
    """

    def __init__(
        self,
        planner: Planner,
        *,
        budgets: Budgets,
        observer: Observer,
        clock: Clock,
        tokens_per_day: int,
        usd_per_day: float,
    ) -> None:
        """A limit of 0 is none."""
        self._planner = planner
        self._budgets = budgets
        self._observer = observer
        self._clock = clock
        limits = (_Limit("tokens", tokens_per_day), _Limit("usd", usd_per_day))
        self._limits = tuple(limit for limit in limits if limit.maximum > 0)
        self._counts_dollars = usd_per_day > 0
        self._under_way: Counter[str] = Counter()
        self._mean = Spent()
        self._charging: set[asyncio.Task[None]] = set()

    async def propose(self, request: PlanRequest) -> Proposal:
        """Plan, and charge what it cost. Raises BudgetExceeded, and what the planner raises."""
        principal, now = request.dataset.owner, self._clock.now().astimezone(UTC)
        await self._require_budget(principal, now)
        self._under_way[principal] += 1
        try:
            return await self._planner.propose(request)
        finally:
            await self._settle(principal, now.date(), request.spending)

    async def _require_budget(self, principal: str, now: datetime) -> None:
        try:
            async with asyncio.timeout(ACCOUNTS_TIMEOUT_SECONDS):
                spent = await self._budgets.spent(principal, now.date())
        except (DependencyUnavailable, TimeoutError):
            self._observer.record(BudgetChecked("unchecked"))
            return
        refusal = self._refusal(spent, self._under_way[principal], now)
        self._observer.record(BudgetChecked("refused" if refusal else "allowed"))
        if refusal is not None:
            raise refusal

    def _refusal(self, spent: Spent, under_way: int, now: datetime) -> BudgetExceeded | None:
        for limit in self._limits:
            if limit.of(spent) >= limit.maximum:
                return _exceeded(limit, spent, now)
        for limit in self._limits:
            if limit.of(spent) + under_way * limit.of(self._mean) >= limit.maximum:
                return _reserved(limit)
        return None

    async def _settle(self, principal: str, day: date, spending: Spending) -> None:
        """Charge in a task of its own, which outlives the timeout and the request's cancellation."""
        if spending == Spending():
            self._leave(principal)
            return
        charging = asyncio.create_task(self._charge(principal, day, replace(spending)))
        self._charging.add(charging)
        charging.add_done_callback(self._charging.discard)
        await asyncio.wait({charging}, timeout=ACCOUNTS_TIMEOUT_SECONDS)

    async def _charge(self, principal: str, day: date, spending: Spending) -> None:
        try:
            before, after = await self._budgets.charge(principal, day, spending)
            self._warn(principal, before, after)
        except Exception as fault:  # noqa: BLE001 - no fault of the accounts may cost a client its plan
            _LOG.warning(
                "spending of %r not charged (%s): %d + %d tokens, %.6f US dollars, %d calls without a known price",
                principal, type(fault).__name__, spending.input_tokens, spending.output_tokens, spending.cost_usd,
                spending.unpriced_calls,
            )  # fmt: skip
        finally:
            self._note(spending)
            self._leave(principal)

    def _leave(self, principal: str) -> None:
        self._under_way[principal] -= 1
        if not self._under_way[principal]:
            del self._under_way[principal]

    def _note(self, spending: Spending) -> None:
        tokens, weight = spending.input_tokens + spending.output_tokens, WEIGHT if self._mean.tokens else 1.0
        self._mean = Spent(
            round(self._mean.tokens + weight * (tokens - self._mean.tokens)),
            self._mean.cost_usd + weight * (spending.cost_usd - self._mean.cost_usd),
        )

    def _warn(self, principal: str, before: Spent, after: Spent) -> None:
        """Record each level that the charge crossed; charges are serialised, so each level is crossed once."""
        for limit in self._limits:
            for level in LEVELS:
                if limit.of(before) < limit.maximum * int(level) / 100 <= limit.of(after):
                    self._observer.record(BudgetWarned(principal, limit.unit, level))
        if self._counts_dollars and after.unpriced_calls > 0 == before.unpriced_calls:
            _LOG.warning("the day's budget in dollars cannot see calls without a known price; %r made one", principal)


def _exceeded(limit: _Limit, spent: Spent, now: datetime) -> BudgetExceeded:
    midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    unseen = f", not counting {spent.unpriced_calls} calls without a known price" if spent.unpriced_calls else ""
    return BudgetExceeded(
        f"You have spent {limit.shown(limit.of(spent))} on models today{unseen if limit.unit == 'usd' else ''}; your "
        f"budget is {limit.shown(limit.maximum)} a day. It is free again at {midnight:%Y-%m-%dT%H:%M:%SZ}.",
        retry_after=(midnight - now).total_seconds(),
    )


def _reserved(limit: _Limit) -> BudgetExceeded:
    return BudgetExceeded(
        "Your requests that are being planned may take all that is left of the day's budget, "
        f"{limit.shown(limit.maximum)}; try again when they are done.",
        retry_after=BUSY_RETRY_SECONDS,
    )
