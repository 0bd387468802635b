"""Whether planning may be tried at all, by the models' circuits; imports nothing of the agent library.

A process that serves the API while workers plan needs this much of the models, and neither their SDKs nor their keys.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from service.agents.breaker import Breaker
from service.features.errors import FeatureAgentError, ModelUnavailable
from service.features.ports import PlanRequest

SPREAD_SECONDS = 10.0
"""Those who wait for an open circuit are told to come back within so many seconds of each other, and no later than
twice the wait: a process that turns hundreds away gets them back at tens a second."""


def left_alone(name: str, retry_after: float) -> ModelUnavailable:
    """What is told of a model whose circuit is open for so many seconds.

    All that are refused meanwhile wait for the same moment: told it, they would come back as one wave, just when a
    single request tries the model. So each is told a moment of its own after it.
    """
    wait = retry_after + random.uniform(0, min(retry_after, SPREAD_SECONDS))  # noqa: S311 -- hides nothing
    return ModelUnavailable(f"The model {name} failed lately and is left alone for a while.", retry_after=wait)


class Gate:
    """One model's circuit, seen from before planning. It asks Redis at most, never the model."""

    def __init__(self, name: str, breaker: Breaker) -> None:
        self.name = name
        """The configured model's name."""
        self._breaker = breaker

    async def look(self) -> None:
        """Learn what other processes found out about the model: one without traffic of its own sees nothing else."""
        await self._breaker.look()

    async def ping(self) -> None:
        """Raises ModelUnavailable while the model is left alone.

        Once a probe may go, the model counts as there again: without traffic nobody would find out that it is.
        """
        await self.look()
        wait = self._breaker.retry_after
        if self._breaker.state != "closed" and wait:
            raise ModelUnavailable(f"The model {self.name} failed lately.", retry_after=wait)

    def require_open(self) -> None:
        """Raises ModelUnavailable while the model is left alone for a time that this process knows.

        A half-open circuit is not asked for here: only the next call finds out what became of the probe.
        """
        wait = self._breaker.retry_after
        if self._breaker.state == "open" and wait:
            raise left_alone(self.name, wait)


class Gates:
    """Those of all models, in the order in which they are asked; implements `ports.Capacity`."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        """At least one."""
        self._gates = tuple(gates)

    async def ping(self) -> None:
        """Raises ModelUnavailable while the first model is left alone; the others' circuits are looked at as well."""
        for other in self._gates[1:]:
            await other.look()
        await self._gates[0].ping()

    async def require_capacity(self, request: PlanRequest) -> None:  # noqa: ARG002 - the protocol's signature
        """Raises ModelUnavailable while every model is left alone, with the soonest time to ask again."""
        failures: list[FeatureAgentError] = []
        for gate in self._gates:
            try:
                gate.require_open()
            except ModelUnavailable as failure:
                failures.append(failure)
            else:
                return
        raise soonest(failures)


def soonest(failures: Sequence[FeatureAgentError]) -> FeatureAgentError:
    """The last failure, with the least wait that any of them names."""
    last = failures[-1]
    waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
    last.retry_after = min(waits, default=None)
    return last
