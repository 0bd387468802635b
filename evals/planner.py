"""The planner under evaluation, built as the service builds it, but alone: no cache, no fallback."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from msgspec import Struct
from pydantic import SecretStr

from evals.evaluators import Outcome
from evals.suite import EvalCase, load_profile
from service.agents.planner import AgentPlanner
from service.agents.providers import build_model
from service.features.errors import FeatureAgentError
from service.features.events import Event, ModelCalled, OutputRetried
from service.features.model import Dataset, Stage
from service.features.ports import Planner, PlanRequest
from service.settings import Settings

WHEN = datetime(2026, 4, 1, tzinfo=UTC)
"""When the profiles' datasets count as uploaded; no planner sees it."""


class Ledger:
    """`ports.Observer` that keeps what happened."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    def stage(self, extraction_id: str, stage: Stage) -> AbstractContextManager[None]:
        """Planning alone has no stages."""
        del extraction_id, stage
        return nullcontext()

    def effort(self) -> Effort:
        """What all of it took."""
        calls = [event for event in self.events if isinstance(event, ModelCalled)]
        priced = [call.cost_usd for call in calls if call.cost_usd is not None]
        return Effort(
            calls=len(calls),
            retried=sum(isinstance(event, OutputRetried) for event in self.events),
            input_tokens=sum(call.input_tokens for call in calls),
            output_tokens=sum(call.output_tokens for call in calls),
            cost_usd=sum(priced) if len(priced) == len(calls) else None,
        )


class Effort(Struct, frozen=True):
    """What a whole evaluation took."""

    calls: int
    """Requests to the model."""
    retried: int
    """Faults for which answers were sent back to it."""
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None when the price of a call is not known."""


def open_planner(settings: Settings, ledger: Ledger) -> AgentPlanner:
    """The planner on PRIMARY_MODEL. Raises ModelConfigurationError saying how to fix it."""
    model = build_model(
        settings.primary_model,
        keys=_keys(settings),
        openai_base_url=settings.openai_base_url,
        temperature=settings.model_temperature,
        max_tokens=settings.model_max_tokens,
        timeout=settings.model_timeout_seconds,
    )
    return AgentPlanner(
        model,
        name=settings.primary_model,
        observer=ledger,
        timeout=settings.model_timeout_seconds,
        retries=settings.model_output_retries,
    )


def _keys(settings: Settings) -> dict[str, str]:
    secrets: dict[str, SecretStr | None] = {
        "OPENAI_API_KEY": settings.openai_api_key,
        "ANTHROPIC_API_KEY": settings.anthropic_api_key,
        "GOOGLE_API_KEY": settings.google_api_key,
    }
    return {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}


async def answer(planner: Planner, case: EvalCase) -> Outcome:
    """What the planner makes of the case; its errors are outcomes too."""
    profile = load_profile(case.profile)
    dataset = Dataset(case.profile, "evals", "text/csv", 0, f"datasets/{case.profile}.parquet", profile, WHEN)
    try:
        proposal = await planner.propose(PlanRequest(dataset, case.sentence, case.options, fresh=True))
    except FeatureAgentError as error:
        return Outcome(error=error.code)
    return Outcome(proposal.plan, usage=proposal.usage)
