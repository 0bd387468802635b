"""Define the read-only tools of the planning agent: column statistics, operations, and a trial of a plan.

No tool takes code, SQL or a path. Answers are fenced like the prompt (`fence.py`), hold statistics and never a row, and
are bounded in number and length. A trial runs the plan on a sample in the engine's sandbox; if that is not possible,
the answer says so.
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

from service.agents.fence import encodable, fence, within
from service.agents.output import decode_plan, field_path, json_schema
from service.agents.prompts import MAX_NAME, describe, nameable, short
from service.agents.run import PlanningRun
from service.agents.tool_answers import (
    ColumnDetail,
    ColumnsAnswer,
    FoundColumn,
    FoundColumnsAnswer,
    OperationAnswer,
    ToolRefusal,
    TrialAnswer,
    TriedFeature,
    UnknownColumn,
)
from service.agents.words import Phrase, mention, stems
from service.concurrency.deadline import seconds_left
from service.concurrency.threads import run_in_thread
from service.features.errors import DeadlineExceeded, FeatureAgentError
from service.features.model import ColumnProfile, FeaturePlan, Threshold
from service.features.operations import REGISTRY
from service.features.plan import validate
from service.features.ports import RehearsedFeature
from service.features.quality import BARS, Bar
from service.features.tables import Tables

MAX_DESCRIBED_COLUMNS = 10
MAX_FOUND_COLUMNS = 30
MAX_VALUES = 20
MAX_SIMILAR_NAMES = 3
MAX_FAULTS = 40
MAX_FAULT = 500
MAX_ANSWER_CHARACTERS = 16_000
"""Characters of all items of an answer: some 4 000 tokens."""
LOOKUP_TOOLS = frozenset({"describe_columns", "find_columns", "describe_operation"})
MAX_LOOKUPS = 8
"""Look-ups that a run may make in all; more are not planning."""
MAX_TRIALS = 3
"""Plans that a run may try; each takes the engine about a second."""
TRIAL_TIMEOUT_SECONDS = 6.0
"""Seconds after which a trial is stopped; the engine's own limit comes first."""
MAX_BAD_ARGUMENTS = 3
"""Times that a tool's undecodable arguments are sent back before the run fails."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


def planner_tools() -> list[Tool[PlanningRun]]:
    """Return the tools of the planning agent, in the order of their descriptions to the model."""
    return [
        Tool(describe_columns, max_retries=MAX_BAD_ARGUMENTS, strict=False),
        Tool(find_columns, max_retries=MAX_BAD_ARGUMENTS, strict=False),
        Tool(describe_operation, max_retries=MAX_BAD_ARGUMENTS, strict=False),
        # Sequential, so that a run never has two sandboxes open.
        Tool(try_plan, max_retries=MAX_BAD_ARGUMENTS, strict=False, sequential=True, prepare=_if_trials_possible),
    ]


def describe_columns(
    ctx: RunContext[PlanningRun],
    names: Annotated[list[Name], Field(min_length=1, max_length=MAX_DESCRIBED_COLUMNS)],
) -> str:
    """All statistics of columns, by their exact names: range, quantiles, distinct and frequent values, missing share.

    Also for columns that the prompt leaves out. An unknown name gives the names that are close to it.
    """
    if _call_number(ctx, LOOKUP_TOOLS) > MAX_LOOKUPS:
        return _too_many(MAX_LOOKUPS)
    profile = ctx.deps.profile
    by_name = {column.name: column for column in nameable(profile.columns)}
    details = [_detail(by_name[name], profile.row_count) for name in dict.fromkeys(names) if name in by_name]
    unknown = [
        UnknownColumn(name, _similar(name, list(by_name))) for name in dict.fromkeys(names) if name not in by_name
    ]
    shown = within(details, MAX_ANSWER_CHARACTERS)
    return fence(ColumnsAnswer(shown, within(unknown, MAX_ANSWER_CHARACTERS), len(details) - len(shown)))


def find_columns(ctx: RunContext[PlanningRun], words: Annotated[str, Field(min_length=1, max_length=200)]) -> str:
    """Names and types of the columns whose names match these words, best matches first."""
    if _call_number(ctx, LOOKUP_TOOLS) > MAX_LOOKUPS:
        return _too_many(MAX_LOOKUPS)
    matches = _matching(words, nameable(ctx.deps.profile.columns))
    found = [FoundColumn(column.name, column.logical_type, column.personal) for column in matches[:MAX_FOUND_COLUMNS]]
    shown = within(found, MAX_ANSWER_CHARACTERS)
    return fence(FoundColumnsAnswer(shown, len(matches) - len(shown)))


def describe_operation(ctx: RunContext[PlanningRun], kind: Annotated[str, Field(min_length=1, max_length=64)]) -> str:
    """What an operation computes, at which grain, the column types and parameters that it takes, the type it gives."""
    if _call_number(ctx, LOOKUP_TOOLS) > MAX_LOOKUPS:
        return _too_many(MAX_LOOKUPS)
    spec = REGISTRY.get(kind)
    if spec is None:
        return fence(ToolRefusal("there is no operation of that kind; close ones:", _similar(kind, list(REGISTRY))))
    schema: dict[str, Any] = json_schema(spec.type)["properties"]
    parameters = {name: content for name, content in schema.items() if name not in {"kind", *spec.columns}}
    columns = {field: tuple(sorted(accepted)) for field, accepted in spec.columns.items()}
    return fence(OperationAnswer(spec.kind, spec.grain, spec.summary, columns, parameters, spec.dtype))


async def try_plan(
    ctx: RunContext[PlanningRun],
    plan: Annotated[dict[str, Any], Field(description="The arguments that `propose_plan` would be called with.")],
) -> str:
    """Judge a plan, then compute it on a sample of the dataset: each feature's statistics, or what is wrong.

    Of a large dataset, counts and distinct values are the sample's. Redundancy, drift and leakage are not measured.
    """
    if _call_number(ctx, {"try_plan"}) > MAX_TRIALS:
        return _too_many(MAX_TRIALS)
    try:
        decoded, faults = await run_in_thread(_decode_and_validate, ctx.deps, plan)
        if decoded is None:
            return fence(ToolRefusal("the plan is not valid", faults))
        features = await _rehearse(ctx.deps, decoded)
    except FeatureAgentError as error:
        return fence(ToolRefusal(f"the plan could not be computed: {error.message}"))
    statistics = [_trial_of(feature) for feature in features]
    shown = within(statistics, MAX_ANSWER_CHARACTERS)
    names = {feature.name for feature in statistics}
    personal = tuple(feature.name for feature in decoded.features if feature.name not in names)
    return fence(TrialAnswer(shown, within(personal, MAX_ANSWER_CHARACTERS), len(statistics) - len(shown)))


async def _if_trials_possible(ctx: RunContext[PlanningRun], definition: ToolDefinition) -> ToolDefinition | None:
    return None if ctx.deps.rehearsal is None else definition


def _decode_and_validate(run: PlanningRun, answer: dict[str, Any]) -> tuple[FeaturePlan | None, tuple[str, ...]]:
    """Return the plan if it may run, otherwise its faults."""
    plan, located = decode_plan(answer)
    if plan is None:
        return None, _format_faults([(field_path(location), message) for location, message in located])
    faults = validate(plan, run.profile, run.options)
    return (None, _format_faults([(fault.field, fault.message) for fault in faults])) if faults else (plan, ())


def _format_faults(faults: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    lines = [encodable(f"{field or 'plan'}: {message}"[:MAX_FAULT]) for field, message in faults[:MAX_FAULTS]]
    return within(lines, MAX_ANSWER_CHARACTERS)


async def _rehearse(run: PlanningRun, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
    """Compute the plan on a sample. Raises DeadlineExceeded if the trial takes too long or no time is left."""
    if run.rehearsal is None:
        return ()
    seconds = seconds_left(TRIAL_TIMEOUT_SECONDS)
    try:
        async with asyncio.timeout(seconds):
            return await run.rehearsal.rehearse(run.request.tables or Tables(run.request.dataset), plan)
    except TimeoutError:
        raise DeadlineExceeded(f"It did not end within {seconds:.0f} seconds.") from None


def _trial_of(feature: RehearsedFeature) -> TriedFeature:
    rejected: list[Threshold] = [threshold for threshold, bar in BARS.items() if not _passes(feature, bar)]
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


def _passes(feature: RehearsedFeature, bar: Bar) -> bool:
    """Check the bars that a trial can measure; most are measured on all rows only."""
    varied = feature.distinct_count >= bar.min_distinct and feature.top_share <= bar.max_top_share
    return varied and feature.null_ratio <= bar.max_null_ratio


def _detail(column: ColumnProfile, row_count: int) -> ColumnDetail:
    shown = describe(column, row_count, values=MAX_VALUES)
    if column.personal:
        return ColumnDetail(**asdict(shown))
    quantiles = {name: value for name, number in column.quantiles.items() if (value := short(number)) is not None}
    return ColumnDetail(
        **asdict(shown),
        physical_type=column.physical_type,
        quantiles=quantiles or None,
        not_finite=short(column.non_finite_ratio) or 0.0,
    )


def _similar(name: str, names: Sequence[str]) -> tuple[str, ...]:
    by_folded = {one.casefold(): one for one in names}
    return tuple(by_folded[match] for match in get_close_matches(name.casefold(), by_folded, n=MAX_SIMILAR_NAMES))


def _matching(words: str, columns: Sequence[ColumnProfile]) -> list[ColumnProfile]:
    """Return the columns whose names match the words or contain them, the clearest match first."""
    sentence, spelled = Phrase(stems(words)), words.casefold().strip()

    def strength(column: ColumnProfile) -> int:
        return mention(stems(column.name), sentence) or int(spelled in column.name.casefold())

    ranked = sorted(((strength(column), column) for column in columns), key=lambda pair: (-pair[0], pair[1].position))
    return [column for matched, column in ranked if matched]


def _call_number(ctx: RunContext[PlanningRun], tools: Collection[str]) -> int:
    """Count the calls of these tools in this run, up to the current one; equal ids count as the last of them."""
    responses = (message for message in ctx.messages if isinstance(message, ModelResponse))
    calls = [call.tool_call_id for response in responses for call in response.tool_calls if call.tool_name in tools]
    return max(
        (number for number, call in enumerate(calls, start=1) if call == ctx.tool_call_id), default=len(calls) + 1
    )


def _too_many(limit: int) -> str:
    return fence(ToolRefusal(f"{limit} such calls are answered in a run: propose a plan now"))
