"""Decode and validate a model's answer, then accept it, send it back or give up."""

from __future__ import annotations

from typing import Any, NoReturn

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.output import OutputContext
from pydantic_core import ValidationError

from service.agents.failures import MAX_FAULTS
from service.agents.fence import encodable, fence, within
from service.agents.output import Answer, schema_faults
from service.agents.run import PlanningRun
from service.agents.tool_calls import UNKNOWN
from service.concurrency.threads import run_in_thread
from service.features.errors import ModelOutputInvalid
from service.features.faults import Fault
from service.features.model import FeaturePlan
from service.features.plan import validate

NO_CALL = Fault("schema", "", "The answer called neither tool.")
NO_SUCH_TOOL = Fault("unknown_tool", "", "The answer called a tool that does not exist.")
MAX_FAULT_CHARACTERS = 16_000
"""Characters of all faults that are sent back at once."""
CUT_OFF = {
    "length": "stopped at its token limit (MODEL_MAX_TOKENS) before its answer was whole",
    "content_filter": "refused the request by its content filter",
}
"""Finish reasons that would only repeat if the answer were sent back."""


class Rejections(AbstractCapability[PlanningRun]):
    """Count answers that never reach the output validator: undecodable, plain text, unknown tools, cut off."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def on_output_validate_error(
        self,
        ctx: RunContext[PlanningRun],
        *,
        output_context: OutputContext,
        output: object,
        error: ValidationError | ModelRetry,
    ) -> Any:
        """Send back every schema fault with its location."""
        del output_context, output
        if isinstance(error, ValidationError):
            _send_back(ctx.deps, schema_faults(error))
        raise error

    async def after_model_request(
        self, ctx: RunContext[PlanningRun], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Count an answer without a tool call or with unknown tools only, which pydantic-ai itself rejects.

        Raises ModelOutputInvalid for an answer that was cut off.
        """
        del request_context
        if response.finish_reason in CUT_OFF and not _is_complete(response):
            raise ModelOutputInvalid(f"The model {self._name} {CUT_OFF[response.finish_reason]}.")
        if not response.tool_calls:
            ctx.deps.reject((NO_CALL,))
        elif all(call.tool_name == UNKNOWN for call in response.tool_calls):
            ctx.deps.reject((NO_SUCH_TOOL,))
        return response


def _is_complete(response: ModelResponse) -> bool:
    """Check whether the answer calls a tool and the last call's arguments are complete."""
    calls = response.tool_calls
    if not calls:
        return False
    try:
        calls[-1].args_as_dict(raise_if_invalid=True)
    except (ValueError, AssertionError, RecursionError):
        return False
    return True


def _send_back(run: PlanningRun, faults: tuple[Fault, ...]) -> NoReturn:
    run.reject(faults)
    # As fenced data: a fault quotes column names and the model's own words, which may read like instructions.
    listed = [{"field": fault.field or "answer", "fault": encodable(fault.message)} for fault in faults[:MAX_FAULTS]]
    raise ModelRetry(
        "The answer was rejected. Fix every fault and answer again. " + fence(within(listed, MAX_FAULT_CHARACTERS))
    )


async def judge(ctx: RunContext[PlanningRun], answer: Answer) -> Answer:
    """Let the domain validate a decoded plan."""
    if isinstance(answer, FeaturePlan):
        # In a thread: a hundred features on thousands of columns take a while.
        faults = await run_in_thread(validate, answer, ctx.deps.profile, ctx.deps.options)
        if faults:
            _send_back(ctx.deps, faults)
    return answer
