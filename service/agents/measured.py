"""Report each request to a model to the observer, and add its tokens and cost to the request's spending."""

from __future__ import annotations

import asyncio
import math
from time import perf_counter

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings, merge_model_settings

from service.agents.builtin.model import SYSTEM as BUILTIN
from service.agents.failures import Outcome, kind_of
from service.concurrency.deadline import is_over, remaining
from service.features.events import ModelCalled
from service.features.ports import Observer, Spending

MAX_TOKENS = 10_000_000
"""Most tokens counted for one answer: no model takes so many, and accounts must survive a provider's nonsense."""


class MeasuredModel(WrapperModel):
    """Wrap the model of one planning run: each request counts by itself, and ends with the run's deadline."""

    def __init__(self, wrapped: Model, name: str, observer: Observer, spending: Spending) -> None:
        super().__init__(wrapped)
        self._name = name
        self._observer = observer
        self._spending = spending

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Pass the request on with the time that is left for it, and record how it ended."""
        limit = _limit(model_settings)
        settings = merge_model_settings(model_settings, ModelSettings(timeout=limit)) if limit else model_settings
        started = perf_counter()
        try:
            # The SDKs' timeouts are for each read: an answer that trickles in could take for ever.
            async with asyncio.timeout(limit if limit and limit < remaining() else None):
                response = await self.wrapped.request(messages, settings, model_request_parameters)
        except asyncio.CancelledError:
            # A client that went away says nothing of the model.
            if is_over():
                self._failed("timeout", perf_counter() - started)
            raise
        except Exception as error:
            self._failed(kind_of(error).outcome, perf_counter() - started)
            raise
        self._succeeded(response, perf_counter() - started)
        return response

    def _succeeded(self, response: ModelResponse, seconds: float) -> None:
        input_tokens, output_tokens = _plausible(response.usage.input_tokens), _plausible(response.usage.output_tokens)
        cost = 0.0 if self.system == BUILTIN else _price(response)
        spending = self._spending
        spending.input_tokens += input_tokens
        spending.output_tokens += output_tokens
        if cost is None:
            spending.unpriced_calls += 1
        else:
            spending.cost_usd += cost
        self._observer.record(ModelCalled(self._name, "success", seconds, input_tokens, output_tokens, cost))

    def _failed(self, status: Outcome, seconds: float) -> None:
        self._observer.record(ModelCalled(self._name, status, seconds))


def _limit(settings: ModelSettings | None) -> float | None:
    """Return the seconds for one request: the model's own timeout, or what is left of the run if that is less."""
    own = (settings or {}).get("timeout")
    limit = min(float(own) if isinstance(own, int | float) else math.inf, remaining())
    return limit if 0 < limit < math.inf else None


def _plausible(tokens: int) -> int:
    return min(max(tokens, 0), MAX_TOKENS)


def _price(response: ModelResponse) -> float | None:
    """Return US dollars by genai-prices; None for a model, provider or usage without a price there."""
    if not response.model_name or not response.usage.has_values():
        return None
    try:
        price = float(response.cost().total_price)
    except (LookupError, ValueError, ArithmeticError):
        return None
    return price if 0 <= price < math.inf else None
