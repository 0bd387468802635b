"""What the features of a plan are made of, down to the columns of the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from service.features.model import FeaturePlan, PlannedFeature
from service.features.operations import Operation, source_columns


def sources_of(plan: FeaturePlan, feature: PlannedFeature) -> tuple[str, ...]:
    """Return the columns of the data that the feature is made of, each once, through features and computed columns."""
    place = plan.features.index(feature)
    made = {one.name: one.operation for one in plan.columns}
    if is_over_features(plan, feature):
        made |= {one.name: one.operation for one in plan.features[:place]}
    return tuple(dict.fromkeys(_expanded(source_columns(feature.operation), made)))


def _expanded(names: Iterable[str], made: dict[str, Operation]) -> Iterable[str]:
    for name in names:
        if name in made:
            earlier = {other: operation for other, operation in made.items() if other != name}
            yield from _expanded(source_columns(made[name]), earlier)
        else:
            yield name


def is_over_features(plan: FeaturePlan, feature: PlannedFeature) -> bool:
    """Whether the feature is a row operation over the features of entities."""
    return plan.grain == "entity" and feature.operation.grain == "row"


def layers(operations: Mapping[str, Operation]) -> tuple[tuple[str, ...], ...]:
    """Order the names so that each is in a later layer than those that its operation reads."""
    depth: dict[str, int] = {}
    for name, operation in operations.items():
        depth[name] = 1 + max((depth[read] for read in source_columns(operation) if read in depth), default=-1)
    return tuple(
        tuple(name for name, layer in depth.items() if layer == level)
        for level in range(1 + max(depth.values(), default=-1))
    )


def needed(plan: FeaturePlan, names: Iterable[str]) -> tuple[str, ...]:
    """Return the computed columns among the names and those that they are made of, in the plan's order."""
    made = {one.name: one.operation for one in plan.columns}
    found: set[str] = set()
    pending = [name for name in names if name in made]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += [read for read in source_columns(made[name]) if read in made]
    return tuple(name for name in made if name in found)
