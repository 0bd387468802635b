"""Runs the cases through a planner and gathers what came of each."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from pydantic_evals import Case, Dataset
from pydantic_evals.reporting import EvaluationReport

from evals.evaluators import EVALUATORS, Outcome
from evals.planner import answer
from evals.suite import EvalCase
from service.features.ports import Planner


class CaseResult(Struct, frozen=True):
    """A case and which of its properties did not hold."""

    name: str
    tags: tuple[str, ...]
    held_out: bool
    failed: dict[str, str]
    """Property → what was wrong; empty when the case passed."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every property held."""
        return not self.failed


async def run_cases(planner: Planner, cases: Sequence[EvalCase], *, concurrency: int) -> tuple[CaseResult, ...]:
    """Evaluate the cases, at most `concurrency` of them at once; results are in the order of the cases."""

    async def plan(case: EvalCase) -> Outcome:
        return await answer(planner, case)

    dataset = Dataset[EvalCase, Outcome, None](
        name="planners", cases=[Case(name=case.name, inputs=case) for case in cases], evaluators=EVALUATORS
    )
    report = await dataset.evaluate(plan, max_concurrency=concurrency, progress=False)
    return _results(report)


def _results(report: EvaluationReport[EvalCase, Outcome, None]) -> tuple[CaseResult, ...]:
    """Raises RuntimeError when a case could not be evaluated: that is a fault of the program, not of the planner."""
    broken = [f"{failure.name}: {failure.error_message}" for failure in report.failures]
    broken += [f"{case.name}: {fault.error_message}" for case in report.cases for fault in case.evaluator_failures]
    if broken:
        raise RuntimeError(f"{len(broken)} cases could not be evaluated: {broken[0]}")
    return tuple(
        CaseResult(
            case.name,
            case.inputs.tags,
            case.inputs.held_out,
            {name: verdict.reason or "" for name, verdict in case.assertions.items() if not verdict.value},
            case.task_duration,
        )
        for case in report.cases
    )
