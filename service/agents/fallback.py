"""Several planners in a row: the next one plans when the one before cannot."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from msgspec.structs import replace

from service.agents.gate import Gates, soonest
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

SHARE = 0.6
"""Of the time left, for each planner but the last: a model that hangs leaves the next one time to plan."""

EXCUSED = (ModelUnavailable, ModelTimeout, ModelOutputInvalid)
"""Errors of a model, which another model may not make; that a request is impossible is an answer."""


class FallbackPlanner:
    """`ports.Planner` on several: asks them in order, the first alone while it plans.

    Enter it as an async context to keep the connections of all open.
    """

    def __init__(self, planners: Sequence[AgentPlanner], *, observer: Observer, timeout: float) -> None:
        """`planners` are at least one, the preferred first; `timeout` bounds them together, in seconds."""
        if not planners:
            raise ValueError("a fallback planner needs a planner")
        self._planners = tuple(planners)
        self._gates = Gates([planner.gate for planner in planners])
        self._observer = observer
        self._timeout = timeout
        self._resources = AsyncExitStack()

    @property
    def name(self) -> str:
        """The first model's name."""
        return self._planners[0].name

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            for planner in self._planners:
                await opened.enter_async_context(planner)
            self._resources = opened.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._resources.aclose()

    async def ping(self) -> None:
        """Raises ModelUnavailable while the first model is left alone; the others' circuits are looked at as well.

        No model is asked, so it costs nothing.
        """
        await self._gates.ping()

    async def require_capacity(self, request: PlanRequest) -> None:
        """Raises ModelUnavailable while every model is left alone."""
        await self._gates.require_capacity(request)

    async def propose(self, request: PlanRequest) -> Proposal:
        """Plan with the first planner that can.

        Raises RequestImpossible from whichever found it so; when all fail, the last one's error (ModelUnavailable,
        ModelTimeout, ModelOutputInvalid) with the soonest time at which one of them wants to be asked again; and
        DeadlineExceeded when there is no time to begin with.
        """
        failures: list[FeatureAgentError] = []
        with deadline(seconds_left(self._timeout)):
            for index, planner in enumerate(self._planners):
                if failures and remaining() <= 0:
                    break
                if failures:
                    self._fell_back(self._planners[index - 1], planner, failures[-1])
                try:
                    proposal = await self._ask(planner, request, last=planner is self._planners[-1])
                except EXCUSED as failure:
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

    def _fell_back(self, from_: AgentPlanner, to: AgentPlanner, failure: FeatureAgentError) -> None:
        self._observer.record(ModelFellBack(from_.name, to.name, failure.code))
