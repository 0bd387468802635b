"""A model wrapper that reports every request to the observer: status, seconds, tokens, cost."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Literal

from pydantic_ai.exceptions import (
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelTimeoutError,
)
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from service.agents.builtin.model import SYSTEM as BUILTIN
from service.features.events import ModelCalled
from service.features.model import ModelUsage
from service.features.ports import Observer

Outcome = Literal["success", "error", "timeout", "rate_limited"]


class MeasuredModel(WrapperModel):
    """Wraps the model of one planning run: each attempt counts by itself, `usage` adds them up."""

    def __init__(self, wrapped: Model, name: str, observer: Observer) -> None:
        super().__init__(wrapped)
        self._name = name
        self._observer = observer
        self._unfinished: float | None = None
        self._input_tokens = 0
        self._output_tokens = 0
        self._cost_usd: float | None = 0.0

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Pass the request on, and record how it ended."""
        started = perf_counter()
        try:
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        except asyncio.CancelledError:
            # Only the run knows whether its time was up or the client went away; see `timed_out`.
            self._unfinished = perf_counter() - started
            raise
        except Exception as error:
            self._record(_outcome(error), perf_counter() - started)
            raise
        self._succeeded(response, perf_counter() - started)
        return response

    def timed_out(self) -> None:
        """The run's time is up: the request that it cut off, if any, ended so. A cancelled one says nothing."""
        if self._unfinished is not None:
            self._record("timeout", self._unfinished)

    @property
    def usage(self) -> ModelUsage:
        """What the run has taken so far; the cost is unknown as soon as one request's is."""
        return ModelUsage(self._name, self._input_tokens, self._output_tokens, self._cost_usd)

    def _succeeded(self, response: ModelResponse, seconds: float) -> None:
        tokens = response.usage
        cost = 0.0 if self.system == BUILTIN else _price(response)
        self._input_tokens += tokens.input_tokens
        self._output_tokens += tokens.output_tokens
        self._cost_usd = None if self._cost_usd is None or cost is None else self._cost_usd + cost
        self._observer.record(
            ModelCalled(self._name, "success", seconds, tokens.input_tokens, tokens.output_tokens, cost)
        )

    def _record(self, status: Outcome, seconds: float) -> None:
        self._observer.record(ModelCalled(self._name, status, seconds))


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, ModelTimeoutError | ModelRequestTimeout):
        return "timeout"
    if isinstance(error, ModelRateLimitError | ModelQuotaExceededError):
        return "rate_limited"
    return "error"


def _price(response: ModelResponse) -> float | None:
    """US dollars by genai-prices; None for a model, provider or usage that it has no price for."""
    if not response.model_name:
        return None
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError):
        return None
