"""What the planning agent may look up before it answers: column statistics, operations, and how a plan would turn out.

The tools only read, and none takes code, SQL or a path. What they answer is fenced like the prompt (`fence.py`), holds
statistics and never a row, and is bounded in number and length. Trying a plan runs it on a sample in the engine's
sandbox; that a plan cannot be tried is an answer like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Annotated, Any

from msgspec.structs import asdict
from pydantic import Field
from pydantic_ai import RunContext, Tool
from pydantic_ai.messages import ModelResponse
from pydantic_ai.tools import ToolDefinition

from service.agents.answers import (
    Described,
    DescribedOperation,
    Detail,
    Found,
    FoundColumns,
    Refused,
    Tried,
    TriedFeature,
    Unknown,
)
from service.agents.fence import encodable, fence, within
from service.agents.output import decode_plan, field_path, json_schema
from service.agents.prompts import MAX_NAME, describe, nameable, short
from service.agents.run import PlanningRun
from service.agents.words import mention, stems
from service.concurrency.deadline import seconds_left
from service.features.errors import DeadlineExceeded, FeatureAgentError
from service.features.model import ColumnProfile, FeaturePlan, Threshold
from service.features.operations import REGISTRY
from service.features.plan import validate
from service.features.ports import RehearsedFeature
from service.features.quality import BARS, Bar

DESCRIBED_COLUMNS = 10
FOUND_COLUMNS = 30
MAX_VALUES = 20
CLOSE_NAMES = 3
MAX_FAULTS = 40
MAX_FAULT = 500
MAX_ANSWER_CHARACTERS = 16_000
"""No answer's items are longer together: some 4 000 tokens."""
LOOKS = frozenset({"describe_columns", "find_columns", "describe_operation"})
LOOK_UPS = 8
"""Look-ups that a run is answered, all together; more of them are not planning."""
TRIES = 3
"""Plans that a run may try: each takes the engine about a second."""
TRY_SECONDS = 6.0
"""A trial that takes longer is given up; the engine's own limit comes before it."""
BAD_ARGUMENTS = 3
"""Times that a tool's undecodable arguments are sent back before the run is given up."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


def planner_tools() -> list[Tool[PlanningRun]]:
    """The tools of the planning agent, in the order that it is told of them."""
    return [
        Tool(describe_columns, max_retries=BAD_ARGUMENTS, strict=False),
        Tool(find_columns, max_retries=BAD_ARGUMENTS, strict=False),
        Tool(describe_operation, max_retries=BAD_ARGUMENTS, strict=False),
        # One at a time, so that a run never has two sandboxes open.
        Tool(try_plan, max_retries=BAD_ARGUMENTS, strict=False, sequential=True, prepare=_when_rehearsed),
    ]


def describe_columns(
    ctx: RunContext[PlanningRun],
    names: Annotated[list[Name], Field(min_length=1, max_length=DESCRIBED_COLUMNS)],
) -> str:
    """All statistics of columns, by their exact names: range, quantiles, distinct and frequent values, missing share.

    Also for columns that the prompt leaves out. An unknown name gives the names that are close to it.
    """
    if _asked(ctx, LOOKS) > LOOK_UPS:
        return _too_many(LOOK_UPS)
    profile = ctx.deps.profile
    by_name = {column.name: column for column in nameable(profile.columns)}
    details = [_detail(by_name[name], profile.row_count) for name in dict.fromkeys(names) if name in by_name]
    unknown = [Unknown(name, _close(name, list(by_name))) for name in dict.fromkeys(names) if name not in by_name]
    shown = within(details, MAX_ANSWER_CHARACTERS)
    return fence(Described(shown, within(unknown, MAX_ANSWER_CHARACTERS), len(details) - len(shown)))


def find_columns(ctx: RunContext[PlanningRun], words: Annotated[str, Field(min_length=1, max_length=200)]) -> str:
    """Names and types of the columns whose names match these words, best matches first."""
    if _asked(ctx, LOOKS) > LOOK_UPS:
        return _too_many(LOOK_UPS)
    matches = _matching(words, nameable(ctx.deps.profile.columns))
    found = [Found(column.name, column.logical_type, column.personal) for column in matches[:FOUND_COLUMNS]]
    shown = within(found, MAX_ANSWER_CHARACTERS)
    return fence(FoundColumns(shown, len(matches) - len(shown)))


def describe_operation(ctx: RunContext[PlanningRun], kind: Annotated[str, Field(min_length=1, max_length=64)]) -> str:
    """What an operation computes, at which grain, the column types and parameters that it takes, the type it gives."""
    if _asked(ctx, LOOKS) > LOOK_UPS:
        return _too_many(LOOK_UPS)
    spec = REGISTRY.get(kind)
    if spec is None:
        return fence(Refused("there is no operation of that kind; close ones:", _close(kind, list(REGISTRY))))
    schema: dict[str, Any] = json_schema(spec.type)["properties"]
    parameters = {name: content for name, content in schema.items() if name not in {"kind", *spec.columns}}
    columns = {field: tuple(sorted(accepted)) for field, accepted in spec.columns.items()}
    return fence(DescribedOperation(spec.kind, spec.grain, spec.summary, columns, parameters, spec.dtype))


async def try_plan(
    ctx: RunContext[PlanningRun],
    plan: Annotated[dict[str, Any], Field(description="The arguments that `propose_plan` would be called with.")],
) -> str:
    """Judge a plan, then compute it on a sample of the dataset: each feature's statistics, or what is wrong.

    Of a large dataset, counts and distinct values are the sample's. Redundancy, drift and leakage are not measured.
    """
    if _asked(ctx, {"try_plan"}) > TRIES:
        return _too_many(TRIES)
    decoded, faults = await asyncio.to_thread(_judged, ctx.deps, plan)
    if decoded is None:
        return fence(Refused("the plan is not valid", faults))
    try:
        features = await _rehearsed(ctx.deps, decoded)
    except FeatureAgentError as error:
        return fence(Refused(f"the plan could not be computed: {error.message}"))
    told = [_tried(feature) for feature in features]
    shown = within(told, MAX_ANSWER_CHARACTERS)
    names = {feature.name for feature in told}
    untold = tuple(feature.name for feature in decoded.features if feature.name not in names)
    return fence(Tried(shown, within(untold, MAX_ANSWER_CHARACTERS), len(told) - len(shown)))


async def _when_rehearsed(ctx: RunContext[PlanningRun], definition: ToolDefinition) -> ToolDefinition | None:
    return None if ctx.deps.rehearsal is None else definition


def _judged(run: PlanningRun, answer: dict[str, Any]) -> tuple[FeaturePlan | None, tuple[str, ...]]:
    """The plan when it may run, or what is wrong with it."""
    plan, places = decode_plan(answer)
    if plan is None:
        return None, _listed([(field_path(location), message) for location, message in places])
    faults = validate(plan, run.profile, run.options)
    return (None, _listed([(fault.field, fault.message) for fault in faults])) if faults else (plan, ())


def _listed(faults: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    lines = [encodable(f"{field or 'plan'}: {message}"[:MAX_FAULT]) for field, message in faults[:MAX_FAULTS]]
    return within(lines, MAX_ANSWER_CHARACTERS)


async def _rehearsed(run: PlanningRun, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
    """Raises DeadlineExceeded when the trial does not end in its time, or no time is left to begin with."""
    if run.rehearsal is None:
        return ()
    seconds = seconds_left(TRY_SECONDS)
    try:
        async with asyncio.timeout(seconds):
            return await run.rehearsal.rehearse(run.request.dataset, plan)
    except TimeoutError:
        raise DeadlineExceeded(f"It did not end within {seconds:.0f} seconds.") from None


def _tried(feature: RehearsedFeature) -> TriedFeature:
    rejected: list[Threshold] = [threshold for threshold, bar in BARS.items() if not _clears(feature, bar)]
    return TriedFeature(
        name=feature.name,
        dtype=feature.dtype,
        null_ratio=round(feature.null_ratio, 4),
        distinct_count=feature.distinct_count,
        top_share=round(feature.top_share, 4),
        mean=short(feature.mean),
        standard_deviation=short(feature.standard_deviation),
        rejected_at=tuple(rejected),
    )


def _clears(feature: RehearsedFeature, bar: Bar) -> bool:
    """Whether what a trial measures clears the bar; most of it is measured on all rows alone."""
    varied = feature.distinct_count >= bar.min_distinct and feature.top_share <= bar.max_top_share
    return varied and feature.null_ratio <= bar.max_null_ratio


def _detail(column: ColumnProfile, row_count: int) -> Detail:
    shown = describe(column, row_count, values=MAX_VALUES)
    if column.personal:
        return Detail(**asdict(shown))
    quantiles = {name: value for name, number in column.quantiles.items() if (value := short(number)) is not None}
    return Detail(
        **asdict(shown),
        physical_type=column.physical_type,
        quantiles=quantiles or None,
        not_finite=short(column.non_finite_ratio) or 0.0,
    )


def _close(name: str, names: Sequence[str]) -> tuple[str, ...]:
    by_folded = {one.casefold(): one for one in names}
    return tuple(by_folded[match] for match in get_close_matches(name.casefold(), by_folded, n=CLOSE_NAMES))


def _matching(words: str, columns: Sequence[ColumnProfile]) -> list[ColumnProfile]:
    """Columns that the words mention or spell a part of, the plainest mention first."""
    sentence, spelled = stems(words), words.casefold().strip()

    def strength(column: ColumnProfile) -> int:
        return mention(stems(column.name), sentence) or int(spelled in column.name.casefold())

    ranked = sorted(((strength(column), column) for column in columns), key=lambda pair: (-pair[0], pair[1].position))
    return [column for matched, column in ranked if matched]


def _asked(ctx: RunContext[PlanningRun], tools: Collection[str]) -> int:
    """Which call of these tools in this run it is, from 1; the last of those that bear one and the same id."""
    responses = (message for message in ctx.messages if isinstance(message, ModelResponse))
    calls = [call.tool_call_id for response in responses for call in response.tool_calls if call.tool_name in tools]
    return max((place for place, call in enumerate(calls, start=1) if call == ctx.tool_call_id), default=len(calls) + 1)


def _too_many(most: int) -> str:
    return fence(Refused(f"{most} such calls are answered in a run: propose a plan now"))
