from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from service.features.errors import ModelUnavailable, PlanningBusy
from service.features.model import Dataset, ExtractionOptions, FeaturePlan, ModelUsage, Profile
from service.features.ports import KeptPlan, PlanRequest, Proposal
from service.planning.admission import Admission
from service.planning.breaker import SPREAD_SECONDS, Breaker
from service.planning.capacity import PlanningCapacity
from service.planning.plan_cache import KeptPlans

REQUEST = PlanRequest(
    Dataset("d", "acme", "text/csv", 1, "k", Profile(1, (), "0" * 64), datetime(2026, 1, 1, tzinfo=UTC)),
    "a sentence",
    ExtractionOptions(),
)


class Silent:
    """An observer that keeps nothing."""

    def record(self, event: Any) -> None:
        """Forget it."""

    @contextmanager
    def stage(self, extraction_id: str, stage: str) -> Any:
        """No span."""
        yield


class ElsewhereBreaker(Breaker):
    """A breaker whose circuit another process has opened, which a look finds out."""

    def __init__(self, name: str, seconds: float | None) -> None:
        super().__init__(name, observer=Silent(), timer=lambda: 100.0)
        self._seconds = seconds
        self.looks = 0

    async def look(self) -> None:
        """Learn of it."""
        self.looks += 1
        if self._seconds is not None:
            self._view.update("open", self._seconds)


def capacity(*breakers: Breaker, plans: KeptPlans | None = None, queue: int = 0) -> PlanningCapacity:
    """Capacity of a process with one place."""
    admission = Admission(concurrency=1, queue=queue, observer=Silent())
    return PlanningCapacity({breaker.model: breaker for breaker in breakers}, plans, admission)


async def test_health_is_the_first_model_s() -> None:
    """The first model decides; the others' circuits are looked at as well, so that their metrics are right."""
    second = ElsewhereBreaker("second", 9.0)
    await capacity(ElsewhereBreaker("first", None), second).ping()
    assert (second.looks, second.state) == (1, "open")
    with pytest.raises(ModelUnavailable, match="first") as unhealthy:
        await capacity(ElsewhereBreaker("first", 9.0), ElsewhereBreaker("second", None)).ping()
    assert unhealthy.value.retry_after == 9.0


async def test_what_another_process_found_out_is_refused_after_a_health_check() -> None:
    """A process that calls no model learns of an open circuit when its health is asked, and refuses from then on."""
    breaker = ElsewhereBreaker("only", 9.0)
    gates = capacity(breaker)
    await gates.require_capacity(REQUEST)
    with pytest.raises(ModelUnavailable):
        await gates.ping()
    with pytest.raises(ModelUnavailable) as refused:
        await gates.require_capacity(REQUEST)
    assert refused.value.retry_after is not None
    assert 9 <= refused.value.retry_after <= 9 + SPREAD_SECONDS


async def test_one_healthy_model_is_enough() -> None:
    """Requests are refused only while all circuits are open, with the soonest time to ask again."""
    first, second = ElsewhereBreaker("first", 20.0), ElsewhereBreaker("second", 1.0)
    gates = capacity(first, second)
    await first.look()
    await gates.require_capacity(REQUEST)
    await second.look()
    with pytest.raises(ModelUnavailable, match="second") as refused:
        await gates.require_capacity(REQUEST)
    assert refused.value.retry_after is not None
    assert 1 <= refused.value.retry_after <= 2


async def test_a_full_queue_is_refused_before_the_request_is_stored() -> None:
    """While all places are taken and nobody may wait, a request is refused as if it had come to the admission."""
    gates = capacity(ElsewhereBreaker("only", None))
    async with gates.admission.place():
        with pytest.raises(PlanningBusy):
            await gates.require_capacity(REQUEST)
    await gates.require_capacity(REQUEST)


async def test_a_cached_plan_needs_no_capacity() -> None:
    """With the circuit open and the queue full, a request whose plan is cached is taken in; a fresh one is refused."""
    plans = KeptPlans(shared=None, seconds=60.0, entries=2, models=["only"], versions=[])
    breaker = ElsewhereBreaker("only", 9.0)
    gates = capacity(breaker, plans=plans)
    await breaker.look()
    with pytest.raises(ModelUnavailable):
        await gates.require_capacity(REQUEST)
    plan = Proposal(FeaturePlan(grain="row", features=()), ModelUsage("only", cached=True))
    plans.remember(await plans.key(REQUEST), KeptPlan(plan, 60.0))
    await gates.require_capacity(REQUEST)
    fresh = PlanRequest(REQUEST.dataset, REQUEST.description, REQUEST.options, fresh=True)
    with pytest.raises(ModelUnavailable):
        await gates.require_capacity(fresh)
