"""The planner: a typed pydantic-ai agent whose answers the domain judges before anybody sees them."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any, NoReturn, Self

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.capabilities import AbstractCapability, Instrumentation
from pydantic_ai.exceptions import (
    FallbackExceptionGroup,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelHTTPError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelTimeoutError,
    RunTimedOut,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.output import OutputContext
from pydantic_ai.usage import UsageLimits
from pydantic_core import ValidationError

from service.agents.measured import MeasuredModel
from service.agents.output import Answer, Impossible, answer_tools, schema_faults
from service.agents.prompts import INSTRUCTIONS, build_request, render
from service.agents.run import PlanningRun
from service.features.errors import (
    FeatureAgentError,
    ModelOutputInvalid,
    ModelTimeout,
    ModelUnavailable,
    RequestImpossible,
)
from service.features.model import ExtractionOptions, FeaturePlan, FieldError, Profile
from service.features.plan import Fault, validate
from service.features.ports import Observer, PlanRequest, Proposal

TOTAL_TOKENS = 400_000
"""Tokens one planning run may take over all its attempts: four of the longest prompts and answers with room left."""
MAX_FAULTS = 40
"""Faults told to the model, and to the client, at once."""
AWAY_SECONDS = 60.0
"""How long a failed call makes the model count as away for the health check; the next good answer ends it sooner."""
LISTED_COLUMNS = 50
"""Columns named in the message that a request is impossible."""

NO_CALL = Fault("schema", "", "The answer called neither tool.")


class _Rejections(AbstractCapability[PlanningRun]):
    """Notes the answers that never reach the output validator: undecodable ones, and plain text."""

    async def on_output_validate_error(
        self,
        ctx: RunContext[PlanningRun],
        *,
        output_context: OutputContext,
        output: object,
        error: ValidationError | ModelRetry,
    ) -> Any:
        """Send every fault of the schema back with its exact place."""
        del output_context, output
        if isinstance(error, ValidationError):
            _send_back(ctx.deps, schema_faults(error))
        raise error

    async def after_model_request(
        self, ctx: RunContext[PlanningRun], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """An answer without a tool call is rejected by pydantic-ai; it counts like any other."""
        del request_context
        if not response.tool_calls:
            ctx.deps.reject((NO_CALL,))
        return response


def _send_back(run: PlanningRun, faults: tuple[Fault, ...]) -> NoReturn:
    run.reject(faults)
    lines = [f"- {fault.field or 'answer'}: {fault.message}" for fault in faults[:MAX_FAULTS]]
    raise ModelRetry("The answer was rejected. Mend every fault and answer again:\n" + "\n".join(lines))


async def _judge(ctx: RunContext[PlanningRun], answer: Answer) -> Answer:
    """Let the domain decide on a decoded plan."""
    if isinstance(answer, FeaturePlan):
        faults = validate(answer, ctx.deps.profile, ctx.deps.options)
        if faults:
            _send_back(ctx.deps, faults)
    return answer


class AgentPlanner:
    """`ports.Planner` on any pydantic-ai model. Enter it as an async context to keep the model's connections open."""

    def __init__(
        self,
        model: Model,
        *,
        name: str,
        observer: Observer,
        tracer_provider: TracerProvider | None = None,
        timeout: float = 60.0,
        retries: int = 3,
    ) -> None:
        """Plan with `model`, which metrics and answers call `name`.

        `timeout` bounds a whole run in seconds, all its attempts together; a rejected answer is sent back at most
        `retries` times. Without a tracer provider the global one is used.
        """
        self._model = model
        self._name = name
        self._observer = observer
        self._timeout = timeout
        self._limits = UsageLimits(request_limit=retries + 1, total_tokens_limit=TOTAL_TOKENS)
        self._resources = AsyncExitStack()
        self._away_until = 0.0
        self._agent = Agent[PlanningRun, Answer](
            None,
            name="planner",
            deps_type=PlanningRun,
            output_type=answer_tools(),
            instructions=INSTRUCTIONS,
            retries={"output": retries, "tools": 0},
            capabilities=[_Rejections(), Instrumentation(_instrumentation(tracer_provider))],
        )
        self._agent.output_validator(_judge)

    @property
    def name(self) -> str:
        """The configured model's name, as metrics and answers show it."""
        return self._name

    async def __aenter__(self) -> Self:
        await self._resources.enter_async_context(self._model)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._resources.aclose()

    async def ping(self) -> None:
        """Raises ModelUnavailable for AWAY_SECONDS after the model's last call failed; calls nothing, costs nothing."""
        if time.monotonic() < self._away_until:
            raise ModelUnavailable(f"The model {self._name} did not answer its last call.")

    async def propose(self, request: PlanRequest) -> Proposal:
        """Plan the described features.

        Raises RequestImpossible, ModelUnavailable, ModelTimeout or ModelOutputInvalid.
        """
        profile, options = request.dataset.profile, request.options
        run = PlanningRun(request, self._observer)
        model = MeasuredModel(self._model, self._name, self._observer)
        # In a thread: ranking thousands of columns takes a tenth of a second.
        prompt = await asyncio.to_thread(_prompt, request.description, profile, options)
        try:
            result = await self._agent.run(
                prompt, model=model, deps=run, usage_limits=self._limits, timeout=self._timeout
            )
        except RunTimedOut as error:
            model.timed_out()
            self._away_until = time.monotonic() + AWAY_SECONDS
            raise ModelTimeout(f"The model {self._name} did not plan within {self._timeout:g} seconds.") from error
        except (ModelAPIError, FallbackExceptionGroup) as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            raise _unavailable(self._name, error) from error
        except (UnexpectedModelBehavior, UsageLimitExceeded) as error:
            raise _invalid(self._name, run.faults) from error
        self._away_until = 0.0
        if isinstance(result.output, Impossible):
            raise _impossible(result.output, profile)
        return Proposal(result.output, model.usage)


def _prompt(description: str, profile: Profile, options: ExtractionOptions) -> str:
    return render(build_request(description, profile, options))


def _instrumentation(tracer_provider: TracerProvider | None) -> InstrumentationSettings:
    """Spans without content. Metrics are the observer's, so pydantic-ai's own go nowhere."""
    return InstrumentationSettings(
        tracer_provider=tracer_provider,
        meter_provider=NoOpMeterProvider(),
        include_content=False,
        include_binary_content=False,
        include_model_request_parameters=False,
        version=5,
    )


def _unavailable(name: str, error: ModelAPIError | FallbackExceptionGroup) -> FeatureAgentError:
    """Say what kind of failure it was; never the provider's own words, which may quote the request or a key."""
    if isinstance(error, ModelTimeoutError | ModelRequestTimeout):
        return ModelTimeout(f"The model {name} did not answer in time.")
    retry_after = error.retry_after if isinstance(error, ModelAPIError) else None
    return ModelUnavailable(f"The model {name} {_trouble(error)}.", retry_after=retry_after)


def _trouble(error: Exception) -> str:
    if isinstance(error, ModelAuthenticationError):
        return "refused the service's credentials"
    if isinstance(error, ModelRateLimitError):
        return "is limiting the service's requests"
    if isinstance(error, ModelConnectionError):
        return "could not be reached"
    if isinstance(error, ModelHTTPError):
        return f"answered with HTTP status {error.status_code}"
    return "did not answer"


def _invalid(name: str, faults: tuple[Fault, ...]) -> ModelOutputInvalid:
    return ModelOutputInvalid(
        f"The model {name} did not propose a valid plan.",
        errors=(FieldError(fault.field, fault.message) for fault in faults[:MAX_FAULTS]),
    )


def _impossible(answer: Impossible, profile: Profile) -> RequestImpossible:
    names = [column.name for column in profile.columns[:LISTED_COLUMNS]]
    more = len(profile.columns) - len(names)
    listed = ", ".join(names) + (f" and {more} more" if more else "")
    return RequestImpossible(f"{answer.reason.rstrip(' .')}. The dataset's columns are: {listed}.")
