"""Plan features with a typed pydantic-ai agent; the domain validates every answer before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from msgspec.structs import replace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider, get_tracer
from pydantic_ai import Agent, Tool
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.exceptions import AgentRunError, RunTimedOut, UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.models import Model
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.usage import UsageLimits

from service.agents.failures import failed, invalid, out_of_time
from service.agents.measured import MeasuredModel
from service.agents.output import Answer, Impossible, answer_tools
from service.agents.prompts import INSTRUCTIONS, MAX_DESCRIPTION, build_request, render
from service.agents.rejections import Rejections, judge
from service.agents.retrying import RetryingModel
from service.agents.run import PlanningRun
from service.agents.tool_calls import SanitizedToolCalls
from service.concurrency.deadline import deadline, seconds_left
from service.concurrency.threads import run_in_thread
from service.features.errors import DeadlineExceeded, RequestImpossible
from service.features.model import ExtractionOptions, FeaturePlan, ModelUsage, Profile
from service.features.ports import Observer, PlanRequest, Proposal, Rehearsal, Spending
from service.planning.breaker import Breaker

MAX_TOTAL_TOKENS = 400_000
"""Tokens of one planning run over all its attempts: four of the longest prompts and answers, with some reserve."""
MAX_TOOL_CALLS = 12
"""Tool calls of one planning run; each may take a request of its own."""
MAX_BAD_TOOL_CALLS = 2
"""Times that undecodable tool arguments are sent back, for tools without a number of their own."""
MAX_STEPS = 20
"""Steps of a plan (`FeaturePlan.steps`)."""
MAX_LISTED_COLUMNS = 50
"""Columns listed in the message of an impossible request."""


class AgentPlanner:
    """Implement `ports.Planner` with any pydantic-ai model. Enter it as an async context to reuse connections."""

    def __init__(  # noqa: PLR0913 -- a composition: what the agent is made of, each by its name
        self,
        model: Model,
        *,
        name: str,
        observer: Observer,
        breaker: Breaker | None = None,
        tracer_provider: TracerProvider | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        rehearsal: Rehearsal | None = None,
        tools: Sequence[Tool[PlanningRun]] = (),
    ) -> None:
        """Plan with `model`, which metrics and answers call `name`.

        `timeout` is in seconds, for a whole run with all its attempts; a rejected answer is sent back at most `retries`
        times. The defaults are a breaker of its own and the global tracer provider. The model may call `tools` before
        it answers; `rehearsal` is for them.
        """
        self._model = model
        self._name = name
        self._observer = observer
        self._breaker = breaker or Breaker(name, observer=observer)
        self._tracer = get_tracer("service.agents", tracer_provider=tracer_provider)
        self._timeout = timeout
        self._rehearsal = rehearsal
        self._limits = UsageLimits(
            request_limit=retries + 1 + (MAX_TOOL_CALLS if tools else 0),
            tool_calls_limit=MAX_TOOL_CALLS,
            total_tokens_limit=MAX_TOTAL_TOKENS,
        )
        self._resources = AsyncExitStack()
        self._agent = Agent[PlanningRun, Answer](
            None,
            name="planner",
            deps_type=PlanningRun,
            output_type=answer_tools(),
            instructions=INSTRUCTIONS,
            tools=tools,
            retries={"output": retries, "tools": MAX_BAD_TOOL_CALLS},
            capabilities=[Rejections(name), Instrumentation(_instrumentation(tracer_provider))],
        )
        self._agent.output_validator(judge)

    @property
    def name(self) -> str:
        """Return the configured model's name for metrics and answers."""
        return self._name

    async def __aenter__(self) -> Self:
        await self._resources.enter_async_context(self._model)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._resources.aclose()

    async def propose(self, request: PlanRequest) -> Proposal:
        """Plan the described features.

        Raises RequestImpossible, ModelUnavailable, ModelTimeout or ModelOutputInvalid; DeadlineExceeded when no time is
        left to begin with.
        """
        seconds = seconds_left(self._timeout)
        self._breaker.require_not_open()  # before the agent starts, which costs as much as the rest of a refusal
        with deadline(seconds):
            answer = await self._answer(request, seconds)
        if isinstance(answer, Impossible):
            raise _impossible(answer, request.dataset.profile)
        return Proposal(_with_notes(answer, request.description), _usage(self._name, request.spending))

    async def _answer(self, request: PlanRequest, seconds: float) -> Answer:
        run = PlanningRun(request, self._observer, self._rehearsal)
        try:
            # In a thread: ranking thousands of columns takes a tenth of a second.
            prompt = await run_in_thread(_prompt, request.description, request.dataset.profile, request.options)
            result = await self._agent.run(
                prompt,
                model=self._wrapped_model(request.spending),
                deps=run,
                usage_limits=self._limits,
                timeout=seconds_left(seconds),
            )
        except (RunTimedOut, DeadlineExceeded) as error:
            raise out_of_time(self._name, seconds) from error
        except (UnexpectedModelBehavior, UsageLimitExceeded, RecursionError) as error:
            raise invalid(self._name, run.faults) from error
        except AgentRunError as error:
            raise failed(self._name, error) from error
        return result.output

    def _wrapped_model(self, spending: Spending) -> RetryingModel:
        measured = MeasuredModel(SanitizedToolCalls(self._model), self._name, self._observer, spending)
        return RetryingModel(measured, self._name, breaker=self._breaker, observer=self._observer, tracer=self._tracer)


def _prompt(description: str, profile: Profile, options: ExtractionOptions) -> str:
    return render(build_request(description, profile, options))


def _with_notes(plan: FeaturePlan, description: str) -> FeaturePlan:
    """Say in the plan's steps what of the sentence no model was shown."""
    if len(description) <= MAX_DESCRIPTION:
        return plan
    note = f"Only the first {MAX_DESCRIPTION} of the request's {len(description)} characters were read."
    return replace(plan, steps=(*plan.steps[: MAX_STEPS - 1], note))


def _usage(name: str, spending: Spending) -> ModelUsage:
    """Return the usage of the whole request, including failed attempts of other models."""
    cost = None if spending.unpriced_calls else spending.cost_usd
    return ModelUsage(name, spending.input_tokens, spending.output_tokens, cost)


def _instrumentation(tracer_provider: TracerProvider | None) -> InstrumentationSettings:
    """Configure spans without content. Metrics come from the observer, so pydantic-ai's own are discarded."""
    return InstrumentationSettings(
        tracer_provider=tracer_provider,
        meter_provider=NoOpMeterProvider(),
        include_content=False,
        include_binary_content=False,
        include_model_request_parameters=False,
        version=5,
    )


def _impossible(answer: Impossible, profile: Profile) -> RequestImpossible:
    names = [column.name for column in profile.columns[:MAX_LISTED_COLUMNS]]
    more = len(profile.columns) - len(names)
    listed = ", ".join(names) + (f" and {more} more" if more else "")
    return RequestImpossible(f"{answer.reason.rstrip(' .')}. The dataset's columns are: {listed}.")
