"""A validated plan as one SQL syntax tree, to be spelled in the engine's dialect (`dialects`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from msgspec import Struct
from sqlglot import exp

from service.engines.sql.columns import SqlColumns
from service.engines.sql.entity_scope import EntityScope
from service.engines.sql.row_scope import RowScope
from service.engines.sql.template import ROW_ID, column, named, node_of, template
from service.features.model import FeaturePlan, FeatureType, PlannedFeature, Profile
from service.features.operations import named_columns, spec_of
from service.features.operations.expression import Expression
from service.features.operations.literals import feature_type
from service.features.operations.operation import EntityOperation, RowOperation

COMPUTED = "computed"
"""Name of the table or common table expression that holds the features as computed."""


class CompiledPlan(Struct, frozen=True):
    """The statement that computes a plan's features, in its two steps."""

    computed: exp.Select
    """First step: keys and features as computed, unordered; numbers may be NaN or infinite."""
    keys: tuple[str, ...]
    """Published key columns. The first tells rows apart: the row id, or the entity."""
    features: dict[str, FeatureType]
    """The features' types by name, in the plan's order."""

    def published(self, names: Sequence[str] | None = None) -> exp.Select:
        """Second step: keys and the named features (all by default) FROM computed, numbers that are none made null."""
        chosen = self.features if names is None else names
        projections = [column(key, "c") for key in self.keys] + [self._finite(name) for name in chosen]
        return exp.select(*projections).from_(f"{COMPUTED} AS c").order_by(column(self.keys[0], "c"))

    def statement(self) -> exp.Select:
        """Both steps as one statement."""
        return self.published().with_(COMPUTED, as_=self.computed)

    def _finite(self, name: str) -> exp.Expr:
        node = column(name, "c")
        if self.features[name] != "number":
            return node
        return named(template("CASE WHEN IS_FINITE(:x) THEN :x END", x=node), name)


def compile_plan(plan: FeaturePlan, profile: Profile) -> CompiledPlan:
    """Translate a plan in which `plan.validate` found no fault; every value in it becomes a literal node."""
    features: dict[str, FeatureType] = {feature.name: _type(feature, profile) for feature in plan.features}
    if plan.grain == "entity" and plan.entity is not None:
        return CompiledPlan(_entities(plan, profile, plan.entity), (plan.entity,), features)
    keys = {_row_key(plan, profile): ROW_ID} | {name: name for name in (plan.entity, plan.time) if name is not None}
    return CompiledPlan(_rows(plan, profile, keys), tuple(keys), features)


def _entities(plan: FeaturePlan, profile: Profile, entity: str) -> exp.Select:
    scope = EntityScope(profile, entity, plan.time)
    operations = [cast("EntityOperation", feature.operation) for feature in plan.features]
    values = [operation.compile(scope) for operation in operations]
    return scope.select([named(column("k", "entities"), entity), *_features(plan, values)])


def _rows(plan: FeaturePlan, profile: Profile, keys: dict[str, str]) -> exp.Select:
    scope = RowScope(profile)
    operations = [cast("RowOperation", feature.operation) for feature in plan.features]
    values = [operation.compile(scope) for operation in operations]
    return scope.select([named(column(source), key) for key, source in keys.items()] + _features(plan, values))


def _features(plan: FeaturePlan, values: Sequence[Expression]) -> list[exp.Expr]:
    return [named(node_of(value), feature.name) for feature, value in zip(plan.features, values, strict=True)]


def _type(feature: PlannedFeature, profile: Profile) -> FeatureType:
    dtype = spec_of(feature.operation).dtype
    if dtype is not None:
        return dtype
    return feature_type(SqlColumns(profile).profile_of(named_columns(feature.operation)["column"]))


def _row_key(plan: FeaturePlan, profile: Profile) -> str:
    taken = {column.name.casefold() for column in profile.columns} | {feature.name for feature in plan.features}
    name, number = "row_id", 0
    while name in taken:
        number += 1
        name = f"row_id_{number}"
    return name
