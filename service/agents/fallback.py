"""Ask several planners in order: the next one plans when the one before cannot."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from msgspec.structs import replace

from service.agents.planner import AgentPlanner
from service.concurrency.deadline import deadline, remaining, seconds_left
from service.features.errors import (
    DeadlineExceeded,
    FeatureAgentError,
    ModelOutputInvalid,
    ModelTimeout,
    ModelUnavailable,
)
from service.features.events import ModelFellBack
from service.features.ports import Observer, PlanRequest, Proposal
from service.planning.capacity import soonest

SHARE = 0.6
"""Of the time left, for each planner but the last: a model that hangs leaves the next one time to plan."""

MODEL_FAULTS = (ModelUnavailable, ModelTimeout, ModelOutputInvalid)
"""Errors that another model may not make; that a request is impossible is an answer, and final."""


class FallbackPlanner:
    """`ports.Planner` on several: asks the first, and the next one only when it fails.

    Enter it as an async context to keep the connections of all open.
    """

    def __init__(self, planners: Sequence[AgentPlanner], *, observer: Observer, timeout: float) -> None:
        """`planners` are at least one, the preferred first; `timeout` bounds them together, in seconds."""
        if not planners:
            raise ValueError("a fallback planner needs a planner")
        self._planners = tuple(planners)
        self._observer = observer
        self._timeout = timeout
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            for planner in self._planners:
                await opened.enter_async_context(planner)
            self._resources = opened.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._resources.aclose()

    async def propose(self, request: PlanRequest) -> Proposal:
        """Plan with the first planner that can.

        Raises RequestImpossible from any of them; when all fail, the last one's error (ModelUnavailable, ModelTimeout,
        ModelOutputInvalid) with the least Retry-After of them; DeadlineExceeded when there is no time to begin with.
        """
        failures: list[FeatureAgentError] = []
        with deadline(seconds_left(self._timeout)):
            for index, planner in enumerate(self._planners):
                if failures and remaining() <= 0:
                    break
                if failures:
                    self._record_fallback(self._planners[index - 1], planner, failures[-1])
                try:
                    proposal = await self._ask(planner, request, last=planner is self._planners[-1])
                except MODEL_FAULTS as failure:
                    failures.append(failure)
                else:
                    return replace(proposal, usage=replace(proposal.usage, fallback=index > 0))
        raise soonest(failures)

    async def _ask(self, planner: AgentPlanner, request: PlanRequest, *, last: bool) -> Proposal:
        seconds = remaining() * (1.0 if last else SHARE)
        try:
            with deadline(seconds):
                return await planner.propose(request)
        except DeadlineExceeded as error:
            raise ModelTimeout(f"The model {planner.name} was not asked in time.") from error

    def _record_fallback(self, from_: AgentPlanner, to: AgentPlanner, failure: FeatureAgentError) -> None:
        self._observer.record(ModelFellBack(from_.name, to.name, failure.code))
