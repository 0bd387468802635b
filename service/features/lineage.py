"""What the features of a plan are made of, down to the columns of the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from service.features.model import FeaturePlan, GroupedRows, PlannedFeature
from service.features.operations import Operation, source_columns


def sources_of(plan: FeaturePlan, feature: PlannedFeature) -> tuple[str, ...]:
    """Return the columns of the data that the feature is made of, each once, through features and computed columns."""
    place = plan.features.index(feature)
    by_name = {group.column(name): name for group in plan.groups for name in group.by}
    times = {group.time for group in plan.groups}
    made = {one.name: one.operation for one in plan.columns}
    made |= {group.column(one.name): one.operation for group in plan.groups for one in group.features}
    if is_over_features(plan, feature):
        made |= {one.name: one.operation for one in plan.features[:place]}
    expanded = _expanded(source_columns(feature.operation), made)
    return tuple(dict.fromkeys(by_name.get(name, name) for name in expanded if name not in times))


def read_by(group: GroupedRows) -> tuple[str, ...]:
    """Return the columns that groups of rows are made of."""
    return (*group.by, *(name for feature in group.features for name in source_columns(feature.operation)))


def all_sources(plan: FeaturePlan) -> tuple[str, ...]:
    """Return every column that the plan names anywhere, those among them that it makes itself included."""
    operations = [one.operation for one in (*plan.features, *plan.columns)]
    grouped = [name for group in plan.groups for name in read_by(group)]
    return tuple(dict.fromkeys([*(name for one in operations for name in source_columns(one)), *grouped]))


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


def group_of(plan: FeaturePlan, feature: PlannedFeature) -> GroupedRows | None:
    """Return the groups whose rows the feature aggregates: those that it names, or whose columns it reads."""
    read = set(source_columns(feature.operation))
    for group in plan.groups:
        if feature.table == group.name or not read.isdisjoint(columns_of(group)):
            return group
    return None


def columns_of(group: GroupedRows) -> dict[str, PlannedFeature | str | None]:
    """Return the group's columns by their names in the plan: a feature, a column of `by`, or None for the time."""
    made: dict[str, PlannedFeature | str | None] = {group.column(name): name for name in group.by}
    made |= {group.column(feature.name): feature for feature in group.features}
    return {**made, group.time: None}


def reads_time(plan: FeaturePlan, group: GroupedRows) -> bool:
    """Whether a feature reads when the group's last row happened."""
    return any(group.time in source_columns(feature.operation) for feature in plan.features)


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
