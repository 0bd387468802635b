"""A plan over several tables, as of a moment, or for observations, as one SQL syntax tree.

Rows of each level are joined once (`rows_0`, `rows_1` …). Where entities have moments of their own, or rows of more
than one level, `moments` lists them, and each level's features are computed from the rows that lie before the moment;
an entity without rows has one row of nulls, so that its counts are 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from msgspec import Struct
from msgspec.structs import replace
from sqlglot import exp

from service.engines.sql.columns import SqlColumns
from service.engines.sql.compile import (
    CompiledPlan,
    compile_plan,
    entity_features,
    feature_types,
    row_features,
    row_key,
)
from service.engines.sql.entity_scope import HORIZON, EntityRows, EntityScope, latest
from service.engines.sql.labels import LABEL, known_label, label_of_moments
from service.engines.sql.relations import (
    ENTITY,
    KEY,
    MOMENT,
    MOMENTS,
    OBSERVATIONS,
    before,
    instant_of,
    joined_text,
    keyed,
    level_rows,
    view_of,
)
from service.engines.sql.row_scope import RowScope
from service.engines.sql.template import ROW_ID, all_columns, column, named, node_of, template
from service.features.layout import Layout
from service.features.lineage import group_of, is_over_features, layers, needed, read_by
from service.features.model import FeaturePlan, GroupedRows, PlannedFeature, Profile
from service.features.operations import source_columns
from service.features.operations.operation import EntityOperation, RowOperation
from service.features.table_options import EntityKey, Horizon
from service.features.tables import (
    Tables,
    features_profile,
    is_known,
    known_entity,
    parts_profile,
    with_groups,
    working_profile,
)

GROUP = "__group"
OF = "__of"
"""Columns of groups: their key, and that of the moment they belong to."""


def compile_tables(plan: FeaturePlan, tables: Tables) -> CompiledPlan:
    """Translate a plan in which `plan.validate` found no fault; values become literal nodes."""
    if tables.plain and plan.entity_key is None and not (plan.columns or plan.groups or _over_features(plan)):
        return compile_plan(plan, tables.main.profile)
    return _Compilation(plan, tables).compiled()


def _over_features(plan: FeaturePlan) -> tuple[PlannedFeature, ...]:
    return tuple(feature for feature in plan.features if is_over_features(plan, feature))


def main_rows(plan: FeaturePlan, tables: Tables, names: Sequence[str]) -> exp.Select:
    """The dataset's rows with the named columns, and with the plan's entity."""
    return _Compilation(plan, tables).main_rows(names)


class _Level(Struct, frozen=True):
    """A level and the features that are computed from its rows."""

    place: int
    features: tuple[PlannedFeature, ...]
    time: str | None
    groups: tuple[GroupedRows, ...] = ()
    """Groups of its rows."""
    names: tuple[str, ...] = ()
    """Other columns that are read of its rows."""

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that are read of its rows."""
        own = [name for one in self.features for name in source_columns(one.operation)]
        return (*own, *(name for group in self.groups for name in read_by(group)), *self.names)

    @property
    def rows(self) -> str:
        return f"rows_{self.place}"


class _Compilation:
    """One plan on its way to a statement."""

    def __init__(self, plan: FeaturePlan, tables: Tables) -> None:
        self._plan = plan
        self._tables = tables
        self._key: EntityKey | None = known_entity(plan, tables)
        self._profile: Profile = with_groups(working_profile(plan, tables.profile), plan)
        self._layout = _layout(tables, plan)
        self._source = SqlColumns(self._profile)
        self._as_of = tables.options.as_of
        self._horizon = tables.options.horizon

    def compiled(self) -> CompiledPlan:
        """The statement with its keys."""
        if self._plan.grain == "row":
            return self._by_row()
        levels = [*self._levels()]
        observed = self._tables.observed is not None
        grouped = bool(self._plan.groups)
        alone = [level.place for level in levels] == [0] and not self._layout.dated_children
        if alone and not observed and not grouped and self._horizon is None:
            return self._by_entity(levels[0])
        return self._by_moment(levels)

    def _levels(self) -> Iterator[_Level]:
        """The levels with features; the dataset itself in any case, for it says which entities there are."""
        by_place: dict[int, list[PlannedFeature]] = {0: []}
        for feature in self._plan.features:
            if is_over_features(self._plan, feature) or group_of(self._plan, feature) is not None:
                continue
            by_place.setdefault(self._layout.level_of(feature, self._plan.time), []).append(feature)
        groups = {group.name: self._level_of_group(group) for group in self._plan.groups}
        for place in dict.fromkeys((*by_place, *groups.values())):
            own = tuple(group for group in self._plan.groups if groups[group.name] == place)
            features = tuple(by_place.get(place, ()))
            yield _Level(place, features, self._layout.time_of(place, self._plan.time), own)

    def _level_of_group(self, group: GroupedRows) -> int:
        return next(iter(self._layout.levels_of(read_by(group))), 0)

    # -- one table of rows -------------------------------------------------------------------------------------------

    def _by_row(self) -> CompiledPlan:
        plan, features = self._plan, feature_types(self._plan, self._profile)
        level = _Level(0, plan.features, plan.time)
        keys = {row_key(plan, self._profile): ROW_ID} | dict.fromkeys(self._entity_columns(), "")
        keys |= {} if plan.time is None else {plan.time: plan.time}
        keys = {name: source or name for name, source in keys.items()}
        computed = row_features(plan.features, self._profile, self._known(level), keys)
        return CompiledPlan(self._with_rows(computed, [level]), tuple(keys), features, time=plan.time)

    def _by_entity(self, level: _Level) -> CompiledPlan:
        """From the rows of the dataset alone, with one moment for all."""
        moment = None if self._as_of is None else instant_of(self._as_of)
        rows = EntityRows(self._known(level), self._entity, level.time, moment)
        parts = self._parts()
        computed = entity_features(level.features, self._profile, rows, KEY if parts else self._entity, parts)
        features = feature_types(self._plan, self._profile)
        identity = KEY if parts else ""
        computed = self._combined(self._with_rows(computed, [level]))
        return CompiledPlan(computed, parts or (self._entity,), features, identity)

    # -- moments -----------------------------------------------------------------------------------------------------

    def _by_moment(self, levels: Sequence[_Level]) -> CompiledPlan:
        """From the rows of each level before each moment."""
        published = self._published_of_moments()
        projections = [named(column(KEY, "m"), KEY), *(named(column(name, "m"), name) for name in published)]
        query = exp.select(*projections).from_(f"{MOMENTS} AS m")
        label_level = self._label_level()
        if self._horizon is not None:
            query = query.select(named(known_label(self._horizon), self._horizon.name))
            query = _left_join(query, LABEL, LABEL).join(HORIZON, join_type="CROSS")
            published = (*published, self._horizon.name)
        for part, features in self._parts_of(levels):
            query = _left_join(query.select(*(column(one.name, part) for one in features)), part, part)
        all_levels = {level.place: level for level in levels}
        if label_level is not None:
            all_levels.setdefault(label_level.place, label_level)
        query = self._with_rows(query, [*all_levels.values()])
        query = query.with_(HORIZON, as_=self._latest([*all_levels.values()]))
        query = query.with_(MOMENTS, as_=self._moments(all_levels[0]))
        for level in levels:
            query = self._with_parts(query, level)
        if self._horizon is not None and label_level is not None:
            for name, rows in self._added(label_level, label_level.rows, "all"):
                query = query.with_(name, as_=rows)
            query = query.with_(LABEL, as_=self._label(self._horizon, label_level))
        return self._compiled_moments(query, published)

    def _parts_of(self, levels: Sequence[_Level]) -> Iterator[tuple[str, Sequence[PlannedFeature]]]:
        """The tables of features by moment, each with its features."""
        yield from ((f"part_{level.place}", level.features) for level in levels if level.features)
        yield from ((f"part_{group.name}", self._features_of(group)) for group in self._plan.groups)

    def _with_parts(self, query: exp.Select, level: _Level) -> exp.Select:
        """The query with the features of the level and of the groups of its rows."""
        if level.features or level.groups:
            query = query.with_(f"seen_{level.place}", as_=self._seen(level))
        if level.features:
            query = query.with_(f"part_{level.place}", as_=self._part(level))
        for group in level.groups:
            query = self._with_group(query, level, group)
        return query

    def _compiled_moments(self, query: exp.Select, keys: tuple[str, ...]) -> CompiledPlan:
        observations = self._tables.options.observations
        label = self._horizon.name if self._horizon is not None else None
        identity = KEY
        if observations is not None:
            keys = ("row_id", *keys)
            query = query.select(named(column(KEY, "m"), "row_id"))
            identity, label = "row_id", label or observations.label
        features = feature_types(self._plan, self._profile)
        return CompiledPlan(self._combined(query), keys, features, identity, label=label)

    def _published_of_moments(self) -> tuple[str, ...]:
        observed = self._tables.observed
        if observed is not None:
            return tuple(one.name for one in observed.profile.columns)
        return self._parts() or (self._entity,)

    def _moments(self, main: _Level) -> exp.Select:
        """SELECT __key, __entity, __moment and what is published, of each entity or observation."""
        observations, observed = self._tables.options.observations, self._tables.observed
        if observations is not None and observed is not None:
            source = SqlColumns(observed.profile)
            columns = [column(one.name) for one in observed.profile.columns]
            made = [
                named(column(ROW_ID), KEY),
                named(column(observations.entity), ENTITY),
                named(node_of(source.instant(observations.time)), MOMENT),
            ]
            return exp.select(*columns, *made).from_(f"{OBSERVATIONS} AS d")
        entity = column(self._entity)
        moment = template("CAST(NULL AS BIGINT)") if self._as_of is None else instant_of(self._as_of)
        parts = [named(template("MIN(:x)", x=column(name)), name) for name in self._parts()]
        own = parts or [named(entity, self._entity)]
        rows = exp.select(*own, named(entity, KEY), named(entity, ENTITY), named(moment, MOMENT))
        rows = rows.from_(f"{self._known(main)} AS d").where(template("NOT :e IS NULL", e=entity))
        return rows.group_by(entity)

    def _seen(self, level: _Level) -> exp.Select:
        """The level's rows that each moment knows, or one of nulls."""
        on = [template(":a = :b", a=column(self._entity), b=column(ENTITY, "m"))]
        if level.time is not None and self._has_moment:
            instant = node_of(self._source.instant(level.time))
            on.append(template(":i < :moment", i=instant, moment=column(MOMENT, "m")))
        rows = exp.select(all_columns())
        rows = rows.select(column(KEY, "m"), column(MOMENT, "m")).from_(f"{MOMENTS} AS m")
        return rows.join(f"{self._known(level)} AS d", on=exp.and_(*on), join_type="LEFT")

    def _part(self, level: _Level) -> exp.Select:
        """SELECT k and the features of the level, of each moment."""
        rows = EntityRows(
            f"seen_{level.place}",
            KEY,
            level.time,
            column(MOMENT) if self._has_moment else None,
            template("NOT :row IS NULL", row=column(ROW_ID)),
            shared_horizon=True,
        )
        return entity_features(level.features, self._profile, rows, "k")

    # -- groups of rows ----------------------------------------------------------------------------------------------

    def _features_of(self, group: GroupedRows) -> tuple[PlannedFeature, ...]:
        return tuple(one for one in self._plan.features if group_of(self._plan, one) == group)

    def _with_group(self, query: exp.Select, level: _Level, group: GroupedRows) -> exp.Select:
        """The query with the groups of what each moment knows of the level's rows, and the features made of them."""
        name = group.name
        query = query.with_(f"keyed_{name}", as_=self._keyed(level, group))
        query = query.with_(f"rows_{name}", as_=self._group_rows(level, group))
        seen = exp.select(all_columns(), column(KEY, "m"), column(MOMENT, "m")).from_(f"{MOMENTS} AS m")
        on = template(":a = :b", a=column(OF), b=column(KEY, "m"))
        query = query.with_(f"seen_{name}", as_=seen.join(f"rows_{name} AS d", on=on, join_type="LEFT"))
        moment = column(MOMENT) if self._has_moment else None
        time = None if level.time is None else group.time
        present = template("NOT :row IS NULL", row=column(ROW_ID))
        rows = EntityRows(f"seen_{name}", KEY, time, moment, present, shared_horizon=True)
        return query.with_(f"part_{name}", as_=entity_features(self._features_of(group), self._profile, rows, "k"))

    def _keyed(self, level: _Level, group: GroupedRows) -> exp.Select:
        """The rows with a key of the moment and what they are grouped by; those that lack one of it are left out."""
        key = joined_text([column(KEY), *(column(name) for name in group.by)])
        rows = exp.select(all_columns(), named(key, GROUP)).from_(f"seen_{level.place} AS d")
        known = [template("NOT :x IS NULL", x=column(name)) for name in (ROW_ID, *group.by)]
        return rows.where(exp.and_(*known))

    def _group_rows(self, level: _Level, group: GroupedRows) -> exp.Select:
        """SELECT __of (the moment's key), a row id and the group's columns, of each group."""
        moment = column(MOMENT) if self._has_moment else None
        rows = EntityRows(f"keyed_{group.name}", GROUP, level.time, moment, shared_horizon=True)
        scope = EntityScope(self._profile, rows)
        values = {OF: scope.rows("MIN(:x)", x=scope.raw(KEY))}
        values |= {group.column(name): scope.rows("MIN(:x)", x=scope.raw(name)) for name in group.by}
        if level.time is not None:
            values[group.time] = scope.rows("MAX(:x)", x=scope.raw(level.time))
        for feature in group.features:
            values[group.column(feature.name)] = cast("EntityOperation", feature.operation).compile(scope)
        row = template("ROW_NUMBER() OVER (ORDER BY :k)", k=column("k", "entities"))
        return scope.select([named(row, ROW_ID), *(named(node_of(value), name) for name, value in values.items())])

    @property
    def _has_moment(self) -> bool:
        return self._as_of is not None or self._tables.observed is not None

    # -- labels ------------------------------------------------------------------------------------------------------

    def _label_level(self) -> _Level | None:
        """The level whose rows make the label."""
        horizon = self._horizon
        if horizon is None:
            return None
        names = [*([] if horizon.column is None else [horizon.column]), *(one.column for one in horizon.where)]
        place = next(iter(self._layout.levels_of(names)), 0)
        return _Level(place, (), self._layout.time_of(place, self._plan.time))

    def _label(self, horizon: Horizon, level: _Level) -> exp.Select:
        if level.time is None:
            raise ValueError("a label needs rows with a time")
        return label_of_moments(horizon, self._all_rows(level), self._source, level.time, self._entity)

    def _all_rows(self, level: _Level) -> str:
        """The table of the level's rows, those after the moment included."""
        return self._last(level, level.rows, "all")

    # -- rows --------------------------------------------------------------------------------------------------------

    def _known(self, level: _Level) -> str:
        """The table of the level's rows, those before the moment when there is one for all, with computed columns."""
        return self._last(level, self._before_moment(level), "with")

    def _before_moment(self, level: _Level) -> str:
        """The table of the level's rows before the one moment; of all rows without one."""
        return level.rows if self._as_of is None or level.time is None else f"known_{level.place}"

    def _last(self, level: _Level, rows: str, name: str) -> str:
        """The last of the tables that `_added` makes of the rows."""
        steps = self._steps(level)
        return f"{name}_{level.place}_{len(steps) - 1}" if steps else rows

    def _with_rows(self, query: exp.Select, levels: Sequence[_Level]) -> exp.Select:
        """The query preceded by the rows of each level."""
        return _preceded(query, [table for level in levels for table in self._tables_of(level)])

    def main_rows(self, names: Sequence[str]) -> exp.Select:
        """The dataset's rows with the named columns and the entity, those that are not known yet included."""
        level = _Level(0, (), self._plan.time, names=tuple(names))
        *tables, (_, rows) = [(level.rows, self._rows(level)), *self._added(level, level.rows, "with")]
        return _preceded(rows, tables)

    def _tables_of(self, level: _Level) -> list[tuple[str, exp.Select]]:
        """The level's rows, then those that are known, then with what the plan makes of them; each by its name."""
        tables = [(level.rows, self._rows(level))]
        if self._as_of is not None and level.time is not None:
            known = before(level.rows, self._source, level.time, instant_of(self._as_of))
            tables.append((self._before_moment(level), known))
        return [*tables, *self._added(level, tables[-1][0], "with")]

    def _added(self, level: _Level, rows: str, name: str) -> Iterator[tuple[str, exp.Select]]:
        """The rows with the entity that is made of columns, and layers of computed columns; each by its name."""
        for place, operations in enumerate(self._steps(level)):
            made = f"{name}_{level.place}_{place}"
            if operations is not None:
                yield made, self._with_columns(rows, operations)
            elif self._key is not None:
                yield made, keyed(rows, self._key)
            rows = made

    def _steps(self, level: _Level) -> list[dict[str, RowOperation] | None]:
        """Layers of computed columns and, as None, the entity that is made of columns: after those it is made of."""
        computed = {one: self._computed[one] for one in self._columns_of(level)}
        steps: list[dict[str, RowOperation] | None] = [
            {one: computed[one] for one in names} for names in layers(computed)
        ]
        if self._key is not None:
            steps.insert(0 if is_known(self._key, self._tables.profile) else len(steps), None)
        return steps

    @property
    def _computed(self) -> dict[str, RowOperation]:
        return {one.name: cast("RowOperation", one.operation) for one in self._plan.columns}

    def _with_columns(self, table: str, operations: dict[str, RowOperation]) -> exp.Select:
        """The table's rows with a column for each operation."""
        scope = RowScope(self._profile, table)
        made = [named(node_of(operation.intermediate(scope)), name) for name, operation in operations.items()]
        return scope.select([all_columns(), *made])

    def _columns_of(self, level: _Level) -> tuple[str, ...]:
        return needed(self._plan, (*level.read, *self._identifying))

    @property
    def _identifying(self) -> tuple[str, ...]:
        """The columns that distinguish entities."""
        columns = () if self._key is None else self._key.columns
        return columns if self._plan.entity is None else (self._plan.entity, *columns)

    def _rows(self, level: _Level) -> exp.Select:
        computed = [self._computed[name] for name in self._columns_of(level)]
        names = [*level.read, *(name for operation in computed for name in source_columns(operation))]
        names += [name for name in (level.time, self._plan.time) if name is not None]
        names += self._identifying
        horizon = self._horizon
        if horizon is not None:
            names += [one.column for one in horizon.where] + ([] if horizon.column is None else [horizon.column])
        visible = {*self._layout.above(level.place)}
        kept = [name for name in names if {*self._layout.levels_of([name])} <= visible]
        return level_rows(self._layout, level.place, kept)

    # -- features of features ----------------------------------------------------------------------------------------

    def _combined(self, query: exp.Select) -> exp.Select:
        """The table of entities with the features that are made of others."""
        over = {one.name: cast("RowOperation", one.operation) for one in _over_features(self._plan)}
        parts = parts_profile(self._key, self._profile)
        profile = features_profile(self._plan.features, self._profile, parts)
        if any(operation.sees == "history" for operation in over.values()):
            row = template("ROW_NUMBER() OVER (ORDER BY :k)", k=column(KEY if self._parts() else self._entity))
            numbered = exp.select(all_columns(), named(row, ROW_ID)).from_("entities_features AS d")
            query = _preceded(numbered, [("entities_features", query)])
        for depth, names in enumerate(layers(over)):
            table = f"features_{depth}"
            scope = RowScope(profile, table)
            made = [named(node_of(over[name].compile(scope)), name) for name in names]
            query = _preceded(scope.select([all_columns(), *made]), [(table, query)])
        return query

    def _latest(self, levels: Sequence[_Level]) -> exp.Select:
        """SELECT the latest instant as `as_of`: of all child tables, and of the dataset where it is aggregated.

        A column of the dataset alone may lie in the future (the end of a contract). Where there is a label, it is the
        label's rows that must be known to the end.
        """
        children, label = self._layout.dated_children, self._label_level()
        used = {level.place: level for level in levels}
        needed = bool(used[0].features or used[0].groups) if label is None else label.place == 0
        if children and not needed:
            del used[0]
        timed = [(level.rows, self._source.instant(level.time)) for level in used.values() if level.time is not None]
        for place, time in children.items():
            if place not in used:
                timed.append((view_of(place), self._source.sql("EPOCH_US(:t)", t=self._source.raw(time))))
        if not timed:
            return exp.select(named(template("CAST(NULL AS BIGINT)"), "as_of"))
        return latest(timed)

    @property
    def _entity(self) -> str:
        return self._plan.entity or ""

    def _parts(self) -> tuple[str, ...]:
        """The columns that an entity of several is published as."""
        return () if self._key is None else self._key.published

    def _entity_columns(self) -> tuple[str, ...]:
        if self._plan.entity is None:
            return ()
        return self._parts() or (self._plan.entity,)


def _preceded(query: exp.Select, tables: Sequence[tuple[str, exp.Select]]) -> exp.Select:
    """The query with more tables, in their order, before all that it has."""
    for name, rows in reversed(tables):
        query = query.with_(name, as_=rows)
        known = query.args["with_"].expressions
        known.insert(0, known.pop())
    return query


def _layout(tables: Tables, plan: FeaturePlan) -> Layout:
    """The layout, with the plan's computed columns."""
    layout = tables.layout
    for one in plan.columns:
        level = next(iter(layout.levels_of(source_columns(one.operation))), 0)
        layout = replace(layout, computed=(*layout.computed, (one.name, level)))
    return layout


def _left_join(query: exp.Select, table: str, alias: str) -> exp.Select:
    on = template(":a = :b", a=column("k", alias), b=column(KEY, "m"))
    return query.join(table, on=on, join_type="LEFT")
