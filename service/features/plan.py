"""Decides on a proposed plan: it may run only when nothing is found against it.

A planner is not trusted. Every column it names, every literal and every cost is checked here against the dataset's
profile and the client's options; each fault says where it is and how to fix it, so that a planner can try again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, islice
from typing import cast

from msgspec.structs import replace

from service.features.faults import Fault, Found, UnknownColumn, shown, worded
from service.features.layout import Layout
from service.features.lineage import columns_of, group_of, is_over_features, needed, read_by, reads_time
from service.features.model import ColumnProfile, ExtractionOptions, FeaturePlan, GroupedRows, PlannedFeature, Profile
from service.features.operations import (
    ANY,
    ENTITY,
    NUMBER,
    PUBLISHED,
    TIME,
    Accepted,
    AnyOperation,
    Predicate,
    masks_rare,
    named_columns,
    predicates,
    source_columns,
    spec_of,
)
from service.features.operations.literals import LiteralUnfit, convert, feature_type
from service.features.operations.parameters import LogicalType
from service.features.table_options import EntityKey
from service.features.tables import (
    features_profile,
    is_known,
    is_labelled,
    is_observed,
    layout_of,
    made_of,
    parts_profile,
    reserved_in,
    with_columns,
    with_groups,
    with_key,
    working_profile,
)

MADE_OF: Accepted = ENTITY | TIME | frozenset[LogicalType]({"boolean"})
"""Types of the columns that an entity can be made of."""
MAX_FAULTS = 50
"""Faults that are looked for, some more than a planner gets at once: each may take a comparison with all names."""
MAX_SORTED_CELLS = 500_000_000
"""Rows x features that need the rows sorted or grouped anew (windows, ranks, distinct counts, medians): what two
threads get through in a few minutes. A plan above it is refused rather than run into the deadline."""


def validate(plan: FeaturePlan, profile: Profile, options: ExtractionOptions) -> tuple[Fault, ...]:
    """What is wrong with the plan, at most MAX_FAULTS faults; empty when it may run."""
    key = plan.entity_key
    data = with_key(profile, key) if key is not None and is_known(key, profile) else profile
    rows = working_profile(plan, profile)
    profile = with_groups(rows, plan)
    faults = chain(
        _keys(plan, profile, options),
        _column_names(plan, data),
        _names(plan, profile),
        _repetitions(plan),
        _cost(plan, profile, options),
        chain.from_iterable(
            _computed(f"columns[{index}]", plan, with_columns(data, plan.columns[:index]), options, index)
            for index in range(len(plan.columns))
        ),
        chain.from_iterable(
            _grouped(f"groups[{index}]", group, plan, rows, options) for index, group in enumerate(plan.groups)
        ),
        chain.from_iterable(
            _over_features(f"features[{index}].operation", index, plan, profile, options)
            if is_over_features(plan, feature)
            else _feature(f"features[{index}].operation", feature, plan, profile, options)
            for index, feature in enumerate(plan.features)
        ),
    )
    return worded(islice(faults, MAX_FAULTS), profile)


def _keys(plan: FeaturePlan, profile: Profile, options: ExtractionOptions) -> Found:
    if plan.grain == "entity" and plan.entity is None:
        yield Fault("grain", "entity", "a plan of grain 'entity' names the column that identifies entities")
    if plan.grain == "row" and is_observed(profile):
        yield Fault("grain", "grain", "observations get features of their entities: take grain 'entity'")
    elif plan.grain == "row" and is_labelled(profile):
        yield Fault("grain", "grain", "the horizon's label is one of entities: take grain 'entity'")
    yield from _identity(plan, profile, options)
    if options.entity is not None and plan.entity != options.entity:
        yield Fault("grain", "entity", f"the client fixed the entity: it must be {shown(options.entity)}")
    layout = layout_of(profile)
    times = set[str | None]() if layout is None else {layout.time_of(level) for level in layout.levels}
    if options.time is not None and plan.time not in {options.time, *times}:
        yield Fault("other", "time", f"the time column is fixed: it must be {shown(options.time)}")
    made = plan.entity_key is not None and plan.entity == plan.entity_key.name
    for field, name, accepted in (("entity", plan.entity, ENTITY), ("time", plan.time, TIME)):
        # What an entity is made of is checked column by column.
        if name is not None and not (made and field == "entity"):
            yield from _column(field, name, accepted, profile, options)


def _identity(plan: FeaturePlan, profile: Profile, options: ExtractionOptions) -> Found:
    """The columns that identify entities lie in the dataset's rows."""
    layout = layout_of(profile)
    if plan.entity_key is not None:
        yield from _made_key(plan.entity_key, plan, profile, options)
    identifying = [] if plan.entity is None else [plan.entity, *(plan.entity_key.columns if plan.entity_key else ())]
    for name in identifying if layout is not None else ():
        if layout is not None and layout.levels_of([name]) not in {(), (0,)}:
            field = "entity" if name == plan.entity else "entity_key.columns"
            yield Fault("grain", field, f"{shown(name)} is of a child table: take a column of the dataset")


def _made_key(key: EntityKey, plan: FeaturePlan, profile: Profile, options: ExtractionOptions) -> Found:
    """Check what an entity is made of."""
    for place, name in enumerate(key.columns):
        field = f"entity_key.columns[{place}]"
        period = key.by is not None and place == len(key.columns) - 1
        yield from _column(field, name, TIME if period else MADE_OF, profile, options)
    if key.by is not None and not key.columns:
        yield Fault("schema", "entity_key.columns", "`by` takes the datetime column whose periods count")
    if key.by is not None and len(key.parts) > 1 and profile.column(key.parts[-1]) is not None:
        yield Fault("name", "entity_key.by", f"{shown(key.parts[-1])} is a column: name it in place of the period")
    if len(key.columns) == 1 and key.by is None:
        yield Fault("schema", "entity_key", "one column is an entity by its name: set `entity`, and no entity_key")
    if len({*key.columns}) < len(key.columns):
        yield Fault("schema", "entity_key.columns", "each column once")
    if plan.entity != key.name:
        yield Fault("grain", "entity", f"the entity that is made of columns is named {shown(key.name)}")


def _names(plan: FeaturePlan, profile: Profile) -> Iterator[Fault]:
    keys = {name.casefold() for name in (plan.entity, plan.time, *reserved_in(profile)) if name is not None}
    seen: set[str] = set()
    for index, feature in enumerate(plan.features):
        if feature.name in keys:
            yield Fault(
                "name", f"features[{index}].name", "it is the name of the entity, the time or a published column"
            )
        if feature.name in seen:
            yield Fault("name", f"features[{index}].name", "another feature of the plan has that name")
        seen.add(feature.name)


def _repetitions(plan: FeaturePlan) -> Iterator[Fault]:
    first: dict[tuple[AnyOperation, str | None], int] = {}
    for index, feature in enumerate(plan.features):
        earlier = first.setdefault((feature.operation, feature.table), index)
        if earlier != index:
            yield Fault("other", f"features[{index}].operation", f"features[{earlier}] already computes the same")


def _cost(plan: FeaturePlan, profile: Profile, options: ExtractionOptions) -> Iterator[Fault]:
    published = len(plan.published)
    if published > options.max_features:
        yield Fault("cost", "features", f"{published} features; the client asked for {options.max_features}")
    if not published:
        yield Fault("other", "unpublished", "every feature is unpublished: none would be left")
    sorting = sum(one.operation.sorts() for one in (*plan.features, *plan.columns))
    if sorting * profile.row_count > MAX_SORTED_CELLS:
        most = MAX_SORTED_CELLS // profile.row_count
        yield Fault(
            "cost",
            "features",
            f"{sorting} features sort {profile.row_count} rows; at most {most} can (windows, ranks, distinct counts)",
        )


def _feature(
    path: str, feature: PlannedFeature, plan: FeaturePlan, profile: Profile, options: ExtractionOptions
) -> Found:
    operation, spec = feature.operation, spec_of(feature.operation)
    if spec.grain == "entity" and spec.sees == "dataset" and is_observed(profile):
        yield Fault("grain", path, f"{spec.kind} compares entities at one moment; observations have many")
    if spec.grain != plan.grain:
        yield Fault("grain", path, f"{spec.kind} is an operation of grain {spec.grain!r}; the plan's is {plan.grain!r}")
    yield from _reads(path, operation, profile, options)
    layout, group = layout_of(profile), group_of(plan, feature)
    if group is not None:
        yield from _keys_agree(path, operation, plan, times={group.time})
        if foreign := [name for name in source_columns(operation) if name not in columns_of(group)]:
            yield Fault("grain", path, f"it reads groups of {group.name}: {shown(foreign[0])} is no column of theirs")
    elif layout is None:
        yield from _keys_agree(path, operation, plan, times={plan.time})
        if feature.table is not None:
            yield Fault("other", f"{path}.table", "the request has no related tables: leave it out")
    else:
        level = layout.level_of(feature, plan.time)
        yield from _keys_agree(path, operation, plan, times={plan.time, layout.time_of(level, plan.time)})
        yield from _level(path.removesuffix(".operation"), feature, plan, layout, level)
    yield from _publication(path, operation, profile)


def _reads(
    path: str, operation: AnyOperation, profile: Profile, options: ExtractionOptions, *, published: bool = True
) -> Found:
    """Columns, predicates and parameters of an operation."""
    spec = spec_of(operation)
    for place, name in named_columns(operation).items():
        field = place.partition("[")[0]
        readable = replace(options, target=None) if field in spec.targets else options
        accepted = spec.columns[field]
        if accepted == PUBLISHED and not published:
            accepted = ANY
        yield from _column(f"{path}.{place}", name, accepted, profile, readable)
    for place, predicate in predicates(operation).items():
        yield from _predicate(f"{path}.{place}", predicate, profile, options)
    numbers = [*_unusable_numbers(path, operation)]
    yield from numbers
    if not numbers:  # an operation's own faults compare its numbers, and nothing compares with NaN
        for field, message in operation.faults():
            yield Fault("other", f"{path}.{field}", message)


def _unusable_numbers(path: str, operation: AnyOperation) -> Iterator[Fault]:
    """Parameters that are NaN or infinite, which bounds do not refuse and no comparison holds for."""
    for field in operation.__struct_fields__:
        value: object = getattr(operation, field)
        listed = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in listed):
            yield Fault("other", f"{path}.{field}", "give a finite number")


def _column_names(plan: FeaturePlan, profile: Profile) -> Iterator[Fault]:
    """Names of computed columns and of unpublished features."""
    taken = {column.name.casefold() for column in profile.columns}
    for index, computed in enumerate(plan.columns):
        if computed.name.casefold() in taken:
            yield Fault("name", f"columns[{index}].name", "another column has that name")
        taken.add(computed.name.casefold())
    names = {feature.name for feature in plan.features}
    for index, name in enumerate(plan.unpublished):
        if name not in names:
            yield Fault("name", f"unpublished[{index}]", f"no feature is named {shown(name)}")


def _computed(path: str, plan: FeaturePlan, profile: Profile, options: ExtractionOptions, index: int) -> Found:
    """A computed column, which may read the columns in the profile."""
    operation = plan.columns[index].operation
    spec, path = spec_of(operation), f"{path}.operation"
    if spec.grain != "row":
        yield Fault("grain", path, f"{spec.kind} is an operation of grain 'entity'; columns take those of grain 'row'")
    if spec.sees == "dataset" and not masks_rare(operation) and is_observed(profile):
        yield Fault("grain", path, f"{spec.kind} compares rows of all times, of which observations know some")
    yield from _reads(path, operation, profile, options, published=False)
    layout = layout_of(profile)
    if layout is None:
        yield from _keys_agree(path, operation, plan, times={plan.time})
        return
    levels = layout.levels_of(source_columns(operation)) or (0,)
    visible = {*layout.above(levels[0])}
    if unrelated := [one for one in levels if one not in visible]:
        names = " and ".join(layout.tables[one].name for one in (levels[0], *unrelated))
        yield Fault("grain", path, f"it reads rows of {names}, which do not belong to one another")
    yield from _keys_agree(path, operation, plan, times={plan.time, layout.time_of(levels[0], plan.time)})


def _grouped(path: str, group: GroupedRows, plan: FeaturePlan, profile: Profile, options: ExtractionOptions) -> Found:
    """Groups of rows of one level, each made one row."""
    if plan.grain != "entity":
        yield Fault("grain", path, "groups are aggregated to entities: take grain 'entity'")
    if reads_time(plan, group) and _group_time(group, plan, profile) is None:
        yield Fault("other", "time", f"{group.time} is read: set the plan's time, which says when rows happened")
    names = [feature.name for feature in group.features]
    if len({*names, *group.by, "time"}) <= len(names) + len(group.by):
        yield Fault("name", f"{path}.features", "its columns, `time` among them, need names of their own")
    if sum(other.name == group.name for other in plan.groups) > 1:
        yield Fault("name", f"{path}.name", "other groups have that name")
    for place, name in enumerate(group.by):
        yield from _column(f"{path}.by[{place}]", name, MADE_OF, profile, options)
    alone = replace(plan, groups=())
    for index, feature in enumerate(group.features):
        yield from _feature(f"{path}.features[{index}].operation", feature, alone, profile, options)
    layout = layout_of(profile)
    if layout is not None:
        levels = layout.levels_of(read_by(group))
        if unrelated := [one for one in levels if one not in {*layout.above(levels[0])}]:
            owners = " and ".join(layout.tables[one].name for one in (levels[0], *unrelated))
            yield Fault("grain", path, f"it reads rows of {owners}, which do not belong to one another")


def _group_time(group: GroupedRows, plan: FeaturePlan, profile: Profile) -> str | None:
    """The column that says when the rows of the group happened."""
    layout = layout_of(profile)
    if layout is None:
        return plan.time
    return layout.time_of(next(iter(layout.levels_of(read_by(group))), 0), plan.time)


def _over_features(path: str, index: int, plan: FeaturePlan, profile: Profile, options: ExtractionOptions) -> Found:
    """A row operation in a plan of entities: it reads features before it, by their names."""
    feature, earlier = plan.features[index], plan.features[:index]
    operation, spec = feature.operation, spec_of(feature.operation)
    parts = parts_profile(plan.entity_key or made_of(profile), profile)
    if not {one.name for one in (*earlier, *parts)}.intersection(source_columns(operation)):
        message = (
            f"{spec.kind} is an operation of grain 'row': in a plan of entities it reads features before it, or what "
            "the entity is made of"
        )
        yield Fault("grain", path, message)
        return
    made = features_profile(earlier, profile, parts)
    faults = _reads(path, operation, made, replace(options, target=None))
    yield from worded(faults, made, "the table of features so far and of the entity's parts has no column {}")
    if spec.fits == "folds" or (spec.sees == "history" and (not parts or is_observed(profile))):
        yield Fault("grain", path, f"{spec.kind} looks back on rows; features of an entity are one row")
    if spec.sees == "dataset" and is_observed(profile):
        yield Fault("grain", path, f"{spec.kind} compares entities at one moment; observations have many")
    if feature.table is not None:
        yield Fault("other", f"{path.removesuffix('.operation')}.table", "it reads features: leave it out")
    yield from _publication(path, operation, made)


def _level(path: str, feature: PlannedFeature, plan: FeaturePlan, layout: Layout, level: int) -> Iterator[Fault]:
    """All that the feature reads lies in rows of one level, and no row of another is counted more than once."""
    operation = feature.operation
    if feature.table is not None and layout.level_named(feature.table) is None:
        yield Fault("other", f"{path}.table", f"{shown(feature.table)} is no dataset whose rows can be aggregated")
    levels, visible = layout.levels_of(source_columns(operation)), {*layout.above(level)}
    if unrelated := [one for one in levels if one not in visible]:
        names = " and ".join(layout.tables[one].name for one in (level, *unrelated))
        yield Fault("grain", f"{path}.operation", f"it reads rows of {names}, which do not belong to one another")
    elif plan.grain == "row" and level != 0:
        child = layout.tables[level].name
        yield Fault("grain", f"{path}.operation", f"rows of {child} can only be aggregated: take grain 'entity'")
    elif not layout.is_value_of(operation, level):
        child = layout.tables[level].name
        message = (
            f"its values are of a table above {child}, each of whose rows would count once for every row of {child}"
        )
        yield Fault("grain", f"{path}.operation", message)
    if operation.reads_plan_time() and layout.time_of(level, plan.time) is None:
        yield Fault("other", f"{path}.operation.last_days", f"rows of {layout.tables[level].name} have no time")
    identifying = [] if plan.entity is None else [plan.entity]
    for name in needed(plan, (*source_columns(operation), *identifying)):
        computed = next(one.operation for one in plan.columns if one.name == name)
        looks_around = spec_of(computed).sees != "row" and not masks_rare(computed)
        if looks_around and (own := layout.levels_of([name])) not in {(), (level,)}:
            message = (
                f"{shown(name)} looks at several rows of {layout.tables[own[0]].name}, of which rows of "
                f"{layout.tables[level].name} repeat some"
            )
            yield Fault("grain", f"{path}.operation", message)


def _column(field: str, name: str, accepted: Accepted, profile: Profile, options: ExtractionOptions) -> Found:
    column = profile.column(name)
    if column is None:
        yield UnknownColumn(field, name)
        return
    if not _fits(column, accepted):
        wanted = ", ".join(sorted(accepted))
        yield Fault("type_mismatch", field, f"{shown(name)} is {column.logical_type}; this needs one of {wanted}")
    if name == options.target:
        yield Fault("leakage", field, f"{shown(name)} is the target: no feature may read it")


def _fits(column: ColumnProfile, accepted: Accepted) -> bool:
    """A category that is stored as numbers (a grade 1 … 5) serves as a number, too."""
    coded = column.logical_type == "categorical" and feature_type(column) in {"integer", "number"}
    return column.logical_type in accepted or (coded and accepted == NUMBER)


def _predicate(path: str, predicate: Predicate, profile: Profile, options: ExtractionOptions) -> Found:
    column = profile.column(predicate.column)
    if column is None:
        yield UnknownColumn(f"{path}.column", predicate.column)
        return
    if predicate.column == options.target:
        yield Fault("leakage", f"{path}.column", f"{shown(predicate.column)} is the target: no feature may read it")
    if wanted := _arity_fault(predicate):
        yield Fault("schema", f"{path}.values", f"{predicate.comparison} takes {wanted}")
        return
    for index, value in enumerate(predicate.values):
        try:
            convert(value, column, predicate.comparison)
        except LiteralUnfit as unfit:
            yield Fault("type_mismatch", f"{path}.values[{index}]", str(unfit))


def _arity_fault(predicate: Predicate) -> str | None:
    count = len(predicate.values)
    if predicate.comparison in {"is_null", "not_null"}:
        return "no value" if count else None
    if predicate.comparison in {"in", "not_in"}:
        return None if count else "one value or more"
    return None if count == 1 else "exactly one value"


def _keys_agree(path: str, operation: AnyOperation, plan: FeaturePlan, times: set[str | None]) -> Iterator[Fault]:
    """What the operation says of entity and time must be what the plan says, or what the rows it reads have."""
    for field, planned, fitting in (("entity", plan.entity, {plan.entity}), ("time", plan.time, times)):
        named = getattr(operation, field, None)
        if named is not None and named not in fitting:
            should = "set it on the plan, too" if planned is None else f"the plan's is {shown(planned)}"
            yield Fault(
                "grain" if field == "entity" else "other", f"{path}.{field}", f"differs from the plan: {should}"
            )
    if operation.reads_plan_time() and plan.time is None:
        yield Fault("other", f"{path}.last_days", "needs the plan's time column: set the plan's time")


def _publication(path: str, operation: AnyOperation, profile: Profile) -> Iterator[Fault]:
    """A personal column's own values never leave the engine."""
    spec = spec_of(operation)
    if spec.publishes_values:
        for place, name in named_columns(operation).items():
            column = profile.column(name)
            if column is not None and column.personal and place not in {"entity", "time"}:
                message = f"{spec.kind} would publish values of the personal {shown(name)}"
                yield Fault("other", f"{path}.{place}", message)
