"""Cache plans in the process and in what all processes share, and plan once for equal requests that arrive together."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Literal

from cachetools import TLRUCache
from msgspec.structs import replace

from service.concurrency.deadline import remaining, seconds_left
from service.concurrency.threads import run_in_thread
from service.features.errors import DeadlineExceeded, FeatureAgentError, ModelTimeout, PlanningBusy
from service.features.events import CacheLooked
from service.features.model import ModelUsage
from service.features.plan import validate
from service.features.ports import KeptPlan, Observer, Planner, PlanRequest, Proposal, SharedPlans
from service.planning.plan_key import plan_key

OUT_OF_TIME = (DeadlineExceeded, ModelTimeout, PlanningBusy)
"""Errors of a planning that had too little time; a request with more time may succeed."""
WIDE_COLUMNS = 500
"""The key of a wider dataset's request takes milliseconds (40 with 5 000 columns), so it is made in a thread."""
LONG_DESCRIPTION = 1_000
"""Characters; that of a longer sentence is made in a thread, too: normalising 10 000 characters can take 110 ms."""


class KeptPlans:
    """The cached plans: in this process's memory, then in what all processes share; for one event loop."""

    def __init__(
        self,
        *,
        shared: SharedPlans | None,
        seconds: float,
        entries: int,
        models: Sequence[str],
        versions: Sequence[str],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep at most `entries` plans in the process for `seconds`, and in `shared` for as long as that keeps them.

        `models` are the names of the planning models, the one that is not a fallback first; `versions` are those of
        all else that plans depend on, such as operations and prompt: with other ones, other plans are made. Raises
        ValueError for a cache without room.
        """
        if entries < 1:
            raise ValueError("A cache needs at least one entry.")
        self.shared = shared
        """The cache that all processes share, if there is one."""
        self.seconds = seconds
        """How long a plan is kept."""
        self.models = tuple(models)
        """The planning models' names, the preferred one first."""
        self._memory: TLRUCache[str, KeptPlan, float] = TLRUCache(entries, _expiry, timer)
        self._versions = tuple(versions)

    async def key(self, request: PlanRequest) -> str:
        """Return a key that is equal for requests which one plan answers."""
        wide = len(request.dataset.profile.columns) > WIDE_COLUMNS
        if not wide and len(request.description) <= LONG_DESCRIPTION:
            return plan_key(request, models=self.models, versions=self._versions)
        return await run_in_thread(plan_key, request, models=self.models, versions=self._versions)

    def remembered(self, key: str) -> Proposal | None:
        """Return the plan in this process's memory."""
        kept = self._memory.get(key)
        return None if kept is None else kept.proposal

    def remember(self, key: str, plan: KeptPlan) -> None:
        """Keep the plan in this process's memory, in place of an earlier one."""
        self._memory[key] = plan

    async def has(self, request: PlanRequest) -> bool:
        """Whether a plan is cached that may answer the request."""
        if request.fresh:
            return False
        key = await self.key(request)
        if self.remembered(key) is not None:
            return True
        return self.shared is not None and await self.shared.get(key) is not None


def _expiry(_key: str, plan: KeptPlan, now: float) -> float:
    return now + plan.seconds


class CachedPlanner:
    """A planner that is asked once for equal requests (`plan_key`), at once or within some time; for one event loop.

    A plan from the cache has cost nothing: its usage says so, and names the model that once made it. Requests that
    arrive while an equal one is being planned wait for its plan, or its error, each no longer than its own deadline
    allows. When the request that plans is cancelled, or runs out of less time than another has, one of those that wait
    plans in its place. Errors are not cached, nor plans of a fallback model.

    A `fresh` request reads nothing, waits for no other, and replaces what is cached; another process may serve what it
    has in its own memory until that expires.
    """

    def __init__(self, planner: Planner, plans: KeptPlans, observer: Observer) -> None:
        self._planner = planner
        self._plans = plans
        self._observer = observer
        self._flights: dict[str, _Flight] = {}

    async def propose(self, request: PlanRequest) -> Proposal:
        """Return a cached plan, or plan. Raises what the planner raises, and DeadlineExceeded for too long a wait."""
        key = await self._plans.key(request)
        if request.fresh:
            self._record("memory", "bypassed")
            return await self._plan_afresh(key, request)
        if (kept := self._plans.remembered(key)) is not None:
            self._record("memory", "hit")
            return kept
        self._record("memory", "joined" if key in self._flights else "miss")
        return await self._join(key) or await self._lead(key, request)

    async def _join(self, key: str) -> Proposal | None:
        """Return the plan of an equal request under way; None when there is none, or none that serves."""
        while (flight := self._flights.get(key)) is not None:
            answer = await flight.landed() or self._plans.remembered(key)
            if answer is not None:
                return answer
        return None

    async def _lead(self, key: str, request: PlanRequest) -> Proposal:
        flight = self._flights[key] = _Flight()
        newest = False
        try:
            kept = await self._ask_shared(key, request)
            answer = kept.proposal if kept else await self._planner.propose(request)
        except FeatureAgentError as error:
            flight.land(copy(error))
            raise
        except Exception:
            flight.land(FeatureAgentError("An equal request, whose plan this one waited for, failed unexpectedly."))
            raise
        else:
            newest = self._flights.get(key) is flight
            if newest:
                self._remember(key, answer, min(self._plans.seconds, kept.seconds if kept else math.inf))
            flight.land(_again(answer))
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.land(None)
        if newest and kept is None:
            await self._share(key, answer)
        return answer

    async def _plan_afresh(self, key: str, request: PlanRequest) -> Proposal:
        answer = await self._planner.propose(request)
        if not answer.usage.fallback:
            self._flights.pop(key, None)  # an equal request that began earlier must not replace this plan by its own
            self._remember(key, answer, self._plans.seconds)
            await self._share(key, answer)
        return answer

    def _remember(self, key: str, answer: Proposal, seconds: float) -> None:
        if not answer.usage.fallback:
            self._plans.remember(key, KeptPlan(_again(answer), seconds))

    async def _share(self, key: str, answer: Proposal) -> None:
        if self._plans.shared is not None and not answer.usage.fallback:
            await self._plans.shared.put(key, _again(answer))

    async def _ask_shared(self, key: str, request: PlanRequest) -> KeptPlan | None:
        if self._plans.shared is None:
            return None
        kept = await self._plans.shared.get(key)
        if kept is not None and not self._sound(kept.proposal, request):
            kept = None
        self._record("redis", "miss" if kept is None else "hit")
        return kept

    def _sound(self, proposal: Proposal, request: PlanRequest) -> bool:
        """Whether a plan read from Redis is valid, and its usage is what this class writes."""
        written = ModelUsage(self._plans.models[0], cached=True)
        return proposal.usage == written and not validate(proposal.plan, request.dataset.profile, request.options)

    def _record(self, level: Literal["memory", "redis"], result: Literal["hit", "miss", "bypassed", "joined"]) -> None:
        self._observer.record(CacheLooked("plan", level, result))


class _Flight:
    """One planning under way, for the equal requests that wait for it."""

    def __init__(self) -> None:
        self._seconds = remaining()
        self._landing: asyncio.Future[Proposal | FeatureAgentError | None] = asyncio.get_running_loop().create_future()

    def land(self, outcome: Proposal | FeatureAgentError | None) -> None:
        """Set its outcome: None for one that concerns no other request. The first outcome stays."""
        if not self._landing.done():
            self._landing.set_result(outcome)

    async def landed(self) -> Proposal | None:
        """Wait for the plan, and return it; None when the caller had better plan by itself.

        Raises the error that the planning ended with, and DeadlineExceeded when the caller's own time is over first.
        """
        left = seconds_left(math.inf)
        await asyncio.wait({self._landing}, timeout=None if math.isinf(left) else left)
        if not self._landing.done():
            raise DeadlineExceeded("The plan of an equal request did not come within the time that this one may take.")
        outcome = self._landing.result()
        if isinstance(outcome, OUT_OF_TIME) and remaining() > self._seconds:
            return None
        if isinstance(outcome, FeatureAgentError):
            raise copy(outcome)  # one instance raised in many tasks would mix up their tracebacks
        return outcome


def _again(proposal: Proposal) -> Proposal:
    """Return the proposal for an equal request: it costs nothing."""
    usage = replace(proposal.usage, input_tokens=0, output_tokens=0, cost_usd=0.0, cached=True)
    return Proposal(proposal.plan, usage)
