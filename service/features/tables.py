"""The data that one request reads, and what of it a planner sees: one profile of all columns that a plan may name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC
from functools import cached_property

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from service.features.joins import joined
from service.features.layout import Join, Layout, Table
from service.features.lineage import columns_of, group_of, is_over_features
from service.features.model import ColumnProfile, ComputedColumn, Dataset, FeaturePlan, PlannedFeature, Profile
from service.features.operations import (
    FeatureType,
    LogicalType,
    Operation,
    masks_rare,
    named_columns,
    source_columns,
    spec_of,
)
from service.features.operations.literals import feature_type
from service.features.table_options import EntityKey, TableOptions

PARTS_OF_CALENDAR = frozenset({"hour", "weekday"})


class WorkingProfile(Profile, frozen=True, dict=True):
    """What the planner sees of several tables, or of one whose entity is made of columns."""

    layout: Layout | None = None
    reserved: tuple[str, ...] = ()
    """Names that no feature may have: columns that are published beside the features."""
    key: EntityKey | None = None
    """What the entity is made of, where the client said it."""
    labelled: bool = False
    """Whether a label is made from what happens after the moment."""
    observed: bool = False
    """Whether features are computed for observations, each at a moment of its own."""
    explained: tuple[str, ...] = ()
    """How the tables join and what is known when, in words."""


class Tables(Struct, frozen=True, dict=True):
    """All data that one request reads, and how; made by `resolve`, which checks it."""

    main: Dataset
    related: tuple[Dataset, ...] = ()
    observed: Dataset | None = None
    options: TableOptions = TableOptions()
    time: str | None = None
    """The dataset's time column, when it was fixed or is needed and the only one."""
    entity: str | None = None
    """The dataset's column that holds the entities of observations."""

    @property
    def plain(self) -> bool:
        """Whether it is the one dataset, all of it, with a column as the entity."""
        return self.options == TableOptions()

    @cached_property
    def layout(self) -> Layout:
        """Return how the tables join. Raises InvalidRequest where they cannot."""
        tables = [Table(self.main, "")]
        for place, (wanted, dataset) in enumerate(zip(self.options.related, self.related, strict=True)):
            tables.append(joined(tables, wanted, dataset, f"options.related[{place}]"))
        return Layout(tuple(tables), self.time)

    @cached_property
    def profile(self) -> Profile:
        """Return what the planner sees: of several tables all columns, and an entity that is made of columns."""
        if self.plain:
            return self.main.profile
        profile: Profile = _merged(self)
        key = self.options.entity
        return profile if key is None else with_key(profile, key)

    @property
    def dataset(self) -> Dataset:
        """Return the dataset as the planner sees it."""
        return self.main if self.plain else replace(self.main, profile=self.profile)

    @property
    def all(self) -> tuple[Dataset, ...]:
        """Return every dataset that is read, the request's own first."""
        return (self.main, *self.related, *(() if self.observed is None else (self.observed,)))


def layout_of(profile: Profile) -> Layout | None:
    """Return how the profile's tables join; None for a single table."""
    layout = profile.layout if isinstance(profile, WorkingProfile) else None
    return layout if layout is not None and len(layout.tables) > 1 else None


def with_key(profile: Profile, key: EntityKey | None) -> Profile:
    """Return the profile with a column for entities that are made of columns; those columns must be in it."""
    if key is None or profile.column(key.name) is not None:
        return profile
    parts = [column for name in key.columns if (column := profile.column(name)) is not None]
    made = ColumnProfile(
        name=key.name,
        position=len(profile.columns),
        logical_type="identifier",
        physical_type="VARCHAR" if len(key.parts) > 1 else _key_type(key),
        null_ratio=max((part.null_ratio for part in parts), default=0.0),
        distinct_count=_key_count(parts, profile.row_count),
        personal=any(part.personal for part in parts),
    )
    known = profile if isinstance(profile, WorkingProfile) else _working(profile)
    return replace(known, columns=(*profile.columns, made), reserved=(*known.reserved, *key.parts))


def reserved_in(profile: Profile) -> tuple[str, ...]:
    """Return the names that no feature may have."""
    return profile.reserved if isinstance(profile, WorkingProfile) else ()


def working_profile(plan: FeaturePlan, profile: Profile) -> Profile:
    """Return the profile with what the plan adds: an entity that is made of columns, and computed columns."""
    key = plan.entity_key
    if key is not None and is_known(key, profile):
        return with_columns(with_key(profile, key), plan.columns)
    rows = with_columns(profile, plan.columns)
    return with_key(rows, key) if key is not None and is_known(key, rows) else rows


def is_known(key: EntityKey, profile: Profile) -> bool:
    """Return whether every column that the entity is made of is in the profile."""
    return all(profile.column(name) is not None for name in key.columns)


def with_columns(profile: Profile, columns: Sequence[ComputedColumn]) -> Profile:
    """Return the profile with computed columns; one that reads an unknown column is taken for text."""
    if not columns:
        return profile
    known = profile if isinstance(profile, WorkingProfile) else _working(profile)
    for computed in columns:
        layout = known.layout
        if layout is not None:
            level = next(iter(layout.levels_of(source_columns(computed.operation))), 0)
            layout = replace(layout, computed=(*layout.computed, (computed.name, level)))
        made = _computed_column(computed, known)
        known = replace(known, columns=(*known.columns, made), layout=layout, reserved=(*known.reserved, computed.name))
    return known


def with_groups(profile: Profile, plan: FeaturePlan) -> Profile:
    """Return the profile with the columns of the plan's groups; of a column that is not known, as text."""
    columns = list(profile.columns)
    for group in plan.groups:
        for name, content in columns_of(group).items():
            if content is None:
                made = ColumnProfile(name, 0, "datetime", "TIMESTAMP", 0.0, profile.row_count)
            elif isinstance(content, str):
                made = profile.column(content) or ColumnProfile(content, 0, "text", "VARCHAR", 0.0, 1)
            else:
                made = _made_column(name, content.operation, profile)
            columns.append(replace(made, name=name, position=len(columns)))
    if not plan.groups:
        return profile
    known = profile if isinstance(profile, WorkingProfile) else _working(profile)
    return replace(known, columns=tuple(columns))


def parts_profile(key: EntityKey | None, profile: Profile) -> tuple[ColumnProfile, ...]:
    """Return the columns that an entity is published as, of which a period is a datetime."""
    if key is None:
        return ()
    parts = [column for name in key.columns if (column := profile.column(name)) is not None]
    if key.by is None or not parts:
        return tuple(parts)
    logical: LogicalType = "integer" if key.by in PARTS_OF_CALENDAR else "datetime"
    period = replace(parts[-1], name=key.parts[-1], logical_type=logical, physical_type=_key_type(key))
    return (*parts[:-1], period)


def features_profile(
    features: Sequence[PlannedFeature], profile: Profile, parts: Sequence[ColumnProfile] = ()
) -> Profile:
    """Return the profile of a table of the features beside `parts`, for operations that read them as columns."""
    made = Profile(profile.row_count, tuple(parts), profile.fingerprint)
    for feature in features:
        source = made if feature.operation.grain == "row" else profile
        column = replace(_made_column(feature.name, feature.operation, source), position=len(made.columns))
        made = replace(made, columns=(*made.columns, column))
    return made


PHYSICAL: dict[FeatureType, tuple[LogicalType, str]] = {
    "number": ("numeric", "DOUBLE"),
    "integer": ("integer", "BIGINT"),
    "boolean": ("boolean", "BOOLEAN"),
    "string": ("categorical", "VARCHAR"),
}


def _computed_column(computed: ComputedColumn, profile: Profile) -> ColumnProfile:
    """Describe a computed column: what it takes over from another one, it may not publish where that one may not."""
    operation = computed.operation
    own = profile.column(named_columns(operation).get("column", ""))
    made = _made_column(computed.name, operation, profile)
    if spec_of(operation).dtype is None and own is not None:
        return replace(made, logical_type=own.logical_type, physical_type=own.physical_type)
    return replace(made, personal=made.personal or masks_rare(operation))


def _made_column(name: str, operation: Operation, profile: Profile) -> ColumnProfile:
    """Describe a column as far as its operation says: of its values nothing is known."""
    read = [column for source in source_columns(operation) if (column := profile.column(source)) is not None]
    dtype = spec_of(operation).dtype
    if dtype is None:
        own = profile.column(named_columns(operation).get("column", ""))
        dtype = "string" if own is None else feature_type(own)
    logical, physical = PHYSICAL[dtype]
    personal = any(column.personal for column in read)
    return ColumnProfile(name, len(profile.columns), logical, physical, 0.0, profile.row_count, personal=personal)


def _working(profile: Profile) -> WorkingProfile:
    return WorkingProfile(**{name: getattr(profile, name) for name in profile.__struct_fields__})


def _key_type(key: EntityKey) -> str:
    if key.by is None:
        return "VARCHAR" if key.columns else "BIGINT"
    return "BIGINT" if key.by in PARTS_OF_CALENDAR else "TIMESTAMP"


def _key_count(parts: Sequence[ColumnProfile], rows: int) -> int:
    count = 1
    for part in parts:
        count = min(count * max(part.distinct_count, 1), max(rows, 1))
    return count


def _merged(tables: Tables) -> WorkingProfile:
    """Every column that a plan may name, over as many rows as the longest level has."""
    layout = tables.layout
    columns: list[ColumnProfile] = []
    for name, (place, own) in layout.places.items():
        column = layout.tables[place].profile.column(own)
        if column is not None:
            columns.append(replace(column, name=name, position=len(columns)))
    rows = max(layout.tables[level].profile.row_count for level in tables.layout.levels)
    explained = tuple(explain(tables))
    notes = (*tables.main.profile.notes, *explained)
    return WorkingProfile(
        rows,
        tuple(columns),
        _fingerprint(tables),
        notes,
        layout=layout,
        reserved=tuple(_published(tables)),
        key=tables.options.entity,
        labelled=tables.options.horizon is not None,
        observed=tables.observed is not None,
        explained=explained,
    )


def _published(tables: Tables) -> Iterator[str]:
    """List the columns beside the entity that are published with the features."""
    if tables.observed is not None:
        yield "row_id"
        yield from (column.name for column in tables.observed.profile.columns)
    if tables.options.horizon is not None:
        yield tables.options.horizon.name


def explain(tables: Tables) -> Iterator[str]:
    """Say in words how the tables join, and what is known when; nothing of a plain dataset."""
    layout, options = tables.layout, tables.options
    for table in layout.tables[1:]:
        join = table.join
        if join is not None:
            other, own = layout.tables[join.to].name, table.name
            yield {
                "parent": f"Each row of {other} has the columns {own}.… of the {own} row with the same {join.on}.",
                "as_of": f"Each row of {other} has the columns {own}.… of the latest {own} row {_when(join)}.",
                "child": f"Rows of {own} belong to the row of {other} whose {join.other} is their {join.on}.",
            }[join.kind]
    if options.as_of is not None:
        yield f"Only what happened before {options.as_of.astimezone(UTC).isoformat()} is known."
    if options.observations is not None:
        yield "Each observation gets the features of its entity from what happened before its time."
    if options.horizon is not None:
        yield f"{options.horizon.name} is null where the data end within the {options.horizon.days:g} days after."
    cut_off = options.as_of is not None or options.observations is not None
    for level in layout.levels:
        if cut_off and (time := layout.time_of(level)) is not None:
            yield f"Rows of {layout.tables[level].name} are known after {time}."
    untimed = [layout.tables[level].name for level in tables.layout.levels if layout.time_of(level) is None]
    if untimed and cut_off:
        yield f"Rows of {', '.join(untimed)} have no time: they are known at every moment."


def _when(join: Join) -> str:
    same = "" if join.on is None else f" with the same {join.on}"
    return (
        f"{same} at its time".strip()
        if join.days_before is None
        else f"{same} {join.days_before:g} days before its time".strip()
    )


def _fingerprint(tables: Tables) -> str:
    parts = [dataset.profile.fingerprint for dataset in tables.all]
    return hashlib.sha256(msgspec.json.encode((parts, tables.options, tables.time))).hexdigest()


def explained_in(profile: Profile) -> tuple[str, ...]:
    """Return how the profile's tables join, in words."""
    return profile.explained if isinstance(profile, WorkingProfile) else ()


def is_observed(profile: Profile) -> bool:
    """Return whether features are computed for observations."""
    return isinstance(profile, WorkingProfile) and profile.observed


def is_labelled(profile: Profile) -> bool:
    """Return whether a label is made."""
    return isinstance(profile, WorkingProfile) and profile.labelled


def made_of(profile: Profile) -> EntityKey | None:
    """Return what the client said the entity is made of; None where it is a column, or the plan says it."""
    return profile.key if isinstance(profile, WorkingProfile) else None


def with_levels(plan: FeaturePlan, tables: Tables) -> FeaturePlan:
    """Return the plan in which each feature names the dataset whose rows it is aggregated from, of several."""
    layout = tables.layout
    if plan.grain == "row" or len(layout.levels) == 1:
        return plan
    known = layout_of(working_profile(plan, tables.profile)) or layout

    def named(feature: PlannedFeature) -> PlannedFeature:
        if is_over_features(plan, feature) or group_of(plan, feature) is not None:
            return feature
        return replace(feature, table=layout.tables[known.level_of(feature, plan.time)].name)

    return replace(plan, features=tuple(named(feature) for feature in plan.features))


def known_entity(plan: FeaturePlan, tables: Tables) -> EntityKey | None:
    """Return what the plan's entity is made of; None when it is a column."""
    return plan.entity_key if plan.entity_key is not None else tables.options.entity
