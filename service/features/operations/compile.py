"""A validated plan as one SQL syntax tree, to be written in the engine's dialect (`engines/dialect.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlglot import exp

from service.features.model import FeaturePlan, FeatureType, PlannedFeature, Profile
from service.features.operations.compile_entity import ENTITY_COMPILERS
from service.features.operations.compile_row import ROW_COMPILERS
from service.features.operations.compile_window import WINDOW_COMPILERS
from service.features.operations.entity_scope import EntityScope
from service.features.operations.literals import feature_type
from service.features.operations.registry import named_columns, spec_of
from service.features.operations.row_scope import RowScope
from service.features.operations.sql import ROW_ID, Source, column, template

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
        return exp.alias_(template("CASE WHEN ISFINITE(:x) THEN :x END", x=node), name, quoted=True)


def compile_plan(plan: FeaturePlan, profile: Profile) -> CompiledPlan:
    """Translate a plan in which `plan.validate` found no fault; every value in it becomes a literal node."""
    features: dict[str, FeatureType] = {feature.name: _type(feature, profile) for feature in plan.features}
    if plan.grain == "entity" and plan.entity is not None:
        return CompiledPlan(_entities(plan, profile, plan.entity), (plan.entity,), features)
    bearings = {name: name for name in (plan.entity, plan.time) if name is not None}
    keys = {_row_key(plan, profile): ROW_ID} | bearings
    return CompiledPlan(_rows(plan, profile, keys), tuple(keys), features)


def _entities(plan: FeaturePlan, profile: Profile, entity: str) -> exp.Select:
    scope = EntityScope(profile, entity, plan.time)
    values = [ENTITY_COMPILERS[type(feature.operation)](feature.operation, scope) for feature in plan.features]
    return scope.select([_named(column("k", "entities"), entity), *_features(plan, values)])


def _rows(plan: FeaturePlan, profile: Profile, keys: dict[str, str]) -> exp.Select:
    scope = RowScope(profile)
    compilers = ROW_COMPILERS | WINDOW_COMPILERS
    values = [compilers[type(feature.operation)](feature.operation, scope) for feature in plan.features]
    return scope.select([_named(column(source), key) for key, source in keys.items()] + _features(plan, values))


def _features(plan: FeaturePlan, values: Sequence[exp.Expr]) -> list[exp.Expr]:
    return [_named(value, feature.name) for feature, value in zip(plan.features, values, strict=True)]


def _named(node: exp.Expr, name: str) -> exp.Expr:
    return exp.alias_(node, name, quoted=True)


def _type(feature: PlannedFeature, profile: Profile) -> FeatureType:
    dtype = spec_of(feature.operation).dtype
    if dtype is not None:
        return dtype
    return feature_type(Source(profile).profile_of(named_columns(feature.operation)["column"]))


def _row_key(plan: FeaturePlan, profile: Profile) -> str:
    taken = {column.name.casefold() for column in profile.columns} | {feature.name for feature in plan.features}
    name, number = "row_id", 0
    while name in taken:
        number += 1
        name = f"row_id_{number}"
    return name
