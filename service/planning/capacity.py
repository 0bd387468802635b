"""Whether a request could be planned now: what a process that takes requests in asks before it stores anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.features.errors import FeatureAgentError, ModelUnavailable
from service.features.ports import PlanRequest
from service.planning.admission import Admission
from service.planning.breaker import Breaker
from service.planning.plan_cache import KeptPlans


class PlanningCapacity:
    """`ports.Capacity` on the plan cache, the admission and the models' circuits of one process.

    Asks Redis at most, never a model, so an API process needs neither the models' SDKs nor their keys. Where workers
    of their own plan, the API's admission always has a place.
    """

    def __init__(self, breakers: Mapping[str, Breaker], plans: KeptPlans | None, admission: Admission) -> None:
        self.breakers = breakers
        """At least one, by the models' names, in the order in which they are asked."""
        self.plans = plans
        """None when no plans are cached."""
        self.admission = admission

    async def ping(self) -> None:
        """Raises ModelUnavailable while calls to the first model are refused.

        Looks at the other circuits as well: a process without traffic of its own learns of them here.
        """
        first, *others = self.breakers.values()
        for other in others:
            await other.look()
        await first.ping()

    async def require_capacity(self, request: PlanRequest) -> None:
        """Raises PlanningBusy for a full queue, or ModelUnavailable while all models' circuits are open.

        Neither when a plan is kept that may serve the request.
        """
        try:
            self.admission.require_place()
            self._require_a_model()
        except FeatureAgentError:
            if self.plans is None or not await self.plans.has(request):
                raise

    def _require_a_model(self) -> None:
        failures: list[FeatureAgentError] = []
        for breaker in self.breakers.values():
            try:
                breaker.require_not_open()
            except ModelUnavailable as failure:
                failures.append(failure)
            else:
                return
        raise soonest(failures)


def soonest(failures: Sequence[FeatureAgentError]) -> FeatureAgentError:
    """Return the last failure, with the least wait that any of them names."""
    last = failures[-1]
    waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
    last.retry_after = min(waits, default=None)
    return last
