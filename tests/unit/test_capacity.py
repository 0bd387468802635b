"""What a process that takes requests in knows of planning: circuits, and plans that are kept."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest

from service.agents.breaker import Breaker, BreakerPolicy, open_breaker
from service.agents.gate import SPREAD_SECONDS, Gate, Gates
from service.features.errors import ModelUnavailable
from service.features.events import Event
from service.features.model import (
    ColumnProfile,
    Dataset,
    ExtractionOptions,
    FeaturePlan,
    ModelUsage,
    Profile,
    Stage,
)
from service.features.plan_cache import KeptPlans
from service.features.ports import KeptPlan, PlanRequest, Proposal
from service.resources.capacity import WatchedCapacity

NAMES = ("preferred", "fallback")
OPEN_SECONDS = 15.0
AGE = ColumnProfile("age", 0, "integer", "BIGINT", 0.0, 40)
DATASET = Dataset(
    "people", "ann", "text/csv", 10, "k", Profile(100, (AGE,), "f" * 64), datetime(2026, 3, 1, tzinfo=UTC)
)
PROPOSAL = Proposal(FeaturePlan(grain="row", features=()), ModelUsage(NAMES[0], cached=True))


class Deaf:
    """An observer of no interest."""

    def record(self, event: Event) -> None:
        """Forget it."""

    def stage(self, extraction_id: str, stage: Stage) -> AbstractContextManager[None]:
        """Nothing to surround."""
        return nullcontext()


class Shared:
    """Plans that another process keeps under every key."""

    async def get(self, key: str) -> KeptPlan | None:
        """The one plan there is."""
        return KeptPlan(PROPOSAL, 60.0)

    async def put(self, key: str, proposal: Proposal) -> None:
        """Nothing is put by who plans nothing."""
        raise AssertionError


class World:
    """Two models' circuits, and a clock that the test moves."""

    def __init__(self, shared: Shared | None = None) -> None:
        self.seconds = 0.0
        policy = BreakerPolicy(failures=1, open_seconds=OPEN_SECONDS)
        self.breakers: list[Breaker] = [
            open_breaker(name, observer=Deaf(), pool=None, policy=policy, timer=lambda: self.seconds) for name in NAMES
        ]
        gates = Gates([Gate(name, breaker) for name, breaker in zip(NAMES, self.breakers, strict=True)])
        kept = KeptPlans(shared=shared, seconds=60.0, entries=2, models=NAMES, versions=("1",))
        self.capacity = WatchedCapacity(gates, kept)

    async def fail(self, number: int) -> None:
        """That model's circuit opens."""
        await (await self.breakers[number].admit()).failed()


def ask(**changed: Any) -> PlanRequest:
    """A request for a plan."""
    return PlanRequest(DATASET, "The age of each person", ExtractionOptions(), **changed)


async def test_one_model_that_works_is_enough_to_take_requests_in() -> None:
    """Requests are taken in while the fallback may be asked, and health tells of the preferred model's fault."""
    world = World()
    await world.fail(0)
    await world.capacity.require_capacity(ask())
    with pytest.raises(ModelUnavailable, match="preferred") as told:
        await world.capacity.ping()
    assert told.value.retry_after == OPEN_SECONDS


async def test_requests_are_refused_until_the_first_circuit_lets_a_probe_through() -> None:
    """With every circuit open the client is told a moment after the soonest probe; then requests are taken again."""
    world = World()
    await world.fail(0)
    world.seconds = 5.0
    await world.fail(1)
    with pytest.raises(ModelUnavailable) as refused:
        await world.capacity.require_capacity(ask())
    assert refused.value.retry_after is not None
    assert OPEN_SECONDS - 5 <= refused.value.retry_after <= OPEN_SECONDS - 5 + SPREAD_SECONDS
    world.seconds = OPEN_SECONDS
    await world.capacity.require_capacity(ask())
    await world.capacity.ping()


async def test_a_plan_that_is_kept_needs_no_model() -> None:
    """What some process has planned is taken in while all models are left alone, unless a fresh plan is asked for."""
    world = World(Shared())
    await world.fail(0)
    await world.fail(1)
    await world.capacity.require_capacity(ask())
    with pytest.raises(ModelUnavailable):
        await world.capacity.require_capacity(ask(fresh=True))
