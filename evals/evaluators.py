"""One evaluator for each property, so that a failure says which one does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Struct
from pydantic_evals.evaluators import EvaluationReason, Evaluator, EvaluatorContext

from evals.matching import DAYS, conditions, fits, near, stated
from evals.suite import EvalCase, load_profile
from service.features.errors import RequestImpossible
from service.features.model import FeaturePlan, ModelUsage
from service.features.operations import AnyOperation, predicates, source_columns
from service.features.plan import validate


class Outcome(Struct, frozen=True):
    """What a planner made of a case: a plan, or the code of the error that it ended with."""

    plan: FeaturePlan | None = None
    error: str | None = None
    usage: ModelUsage | None = None


Context = EvaluatorContext[EvalCase, Outcome, None]
Verdicts = dict[str, EvaluationReason]
NOT_LOOKED_AT: Verdicts = {}


def _verdict(name: str, fault: str | None) -> Verdicts:
    return {name: EvaluationReason(fault is None, fault)}


@dataclass(repr=False)
class Answered(Evaluator[EvalCase, Outcome, None]):
    """A request is refused when, and only when, nothing could serve it; no other error is an answer."""

    def evaluate(self, ctx: Context) -> Verdicts:
        """Always looked at."""
        impossible = RequestImpossible.code
        wanted = impossible if ctx.inputs.impossible else None
        fault = None
        if ctx.output.error != wanted:
            fault = f"ended with {ctx.output.error}" if ctx.output.error else "planned what no column can serve"
        return _verdict("answered", fault)


@dataclass(repr=False)
class _OfPlan(Evaluator[EvalCase, Outcome, None]):
    """A property of a plan: not looked at without a plan, nor where the case does not state it."""

    def evaluate(self, ctx: Context) -> Verdicts:
        """The verdict under the property's name."""
        if ctx.output.plan is None or ctx.inputs.impossible or not self.stated(ctx.inputs):
            return NOT_LOOKED_AT
        return _verdict(type(self).__name__.lower(), self.fault(ctx.inputs, ctx.output.plan))

    def stated(self, case: EvalCase) -> bool:
        """Whether the case states the property."""
        return bool(getattr(case, type(self).__name__.lower()))

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """What is wrong; None when the property holds."""
        raise NotImplementedError


@dataclass(repr=False)
class Valid(_OfPlan):
    """The service would run the plan."""

    def stated(self, case: EvalCase) -> bool:
        """For every plan."""
        return not case.impossible

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The first fault that validation finds."""
        found = validate(plan, load_profile(case.profile), case.options)
        return f"{found[0].field}: {found[0].message}" if found else None


@dataclass(repr=False)
class Grained(_OfPlan):
    """One row stands for what the sentence wants one row for."""

    def stated(self, case: EvalCase) -> bool:
        """Where the sentence leaves no choice."""
        return case.grain is not None

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The other grain."""
        return None if plan.grain == case.grain else f"of grain {plan.grain}, not {case.grain}"


@dataclass(repr=False)
class Entity(_OfPlan):
    """The right column tells the entities apart."""

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The wrong column."""
        return None if plan.entity in case.entity else f"entity is {plan.entity}, not {' or '.join(case.entity)}"


@dataclass(repr=False)
class Time(_OfPlan):
    """The right column tells the time."""

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The wrong column."""
        return None if plan.time in case.time else f"time is {plan.time}, not {' or '.join(case.time)}"


@dataclass(repr=False)
class Reads(_OfPlan):
    """The columns that matter are read."""

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The first group of which no column is read."""
        used = {*_read(plan), plan.entity}
        missing = next((group for group in case.reads if used.isdisjoint(group)), None)
        return f"nothing reads {' or '.join(missing)}" if missing else None


@dataclass(repr=False)
class Avoids(_OfPlan):
    """The target, what gives it away, personal and unwanted columns are left alone."""

    def stated(self, case: EvalCase) -> bool:
        """A target is always to be avoided."""
        return bool(case.avoids) or case.options.target is not None

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The first such column that is used."""
        used = {*_read(plan), plan.entity, plan.time}
        named = next((name for name in (*case.avoids, case.options.target) if name is not None and name in used), None)
        return f"uses {named}" if named is not None else None


@dataclass(repr=False)
class Wants(_OfPlan):
    """What is asked for is computed."""

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The first group of patterns that no operation fits."""
        for group in case.wants:
            if not any(fits(pattern, operation) for pattern in group for operation in _operations(plan)):
                return f"no {' or '.join(msgspec.json.encode(pattern).decode() for pattern in group)}"
        return None


@dataclass(repr=False)
class Filters(_OfPlan):
    """The rows that are meant are selected, by their values."""

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The first condition that no predicate is."""
        found = {each for op in _operations(plan) for each in conditions(predicates(op).values())}
        missing = next((each for each in case.filters if not stated(each) <= found), None)
        return f"no predicate for {msgspec.json.encode(missing).decode()}" if missing else None


@dataclass(repr=False)
class Windows(_OfPlan):
    """Operations look back as far as the sentence says."""

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """The first window that no operation has."""
        found = [getattr(operation, name, None) for operation in _operations(plan) for name in DAYS]
        missing = next((days for days in case.windows if not any(near(days, each) for each in found)), None)
        return f"no window of {missing:g} days" if missing is not None else None


@dataclass(repr=False)
class Features(_OfPlan):
    """As many features as the client can use."""

    def fault(self, case: EvalCase, plan: FeaturePlan) -> str | None:
        """Too few or too many."""
        least, most = case.features or (1, case.options.max_features)
        count = len(plan.features)
        return None if least <= count <= most else f"{count} features, not {least} to {most}"


EVALUATORS: tuple[Evaluator[EvalCase, Outcome, None], ...] = (
    Answered(), Valid(), Grained(), Entity(), Time(), Reads(), Avoids(), Wants(), Filters(), Windows(), Features(),
)  # fmt: skip


def _operations(plan: FeaturePlan) -> Iterator[AnyOperation]:
    return (feature.operation for feature in plan.features)


def _read(plan: FeaturePlan) -> frozenset[str]:
    return frozenset(name for operation in _operations(plan) for name in source_columns(operation))
