"""A validated plan as one SQL syntax tree, to be spelled in the engine's dialect (`dialects`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from msgspec import Struct
from sqlglot import exp

from service.engines.sql.columns import SqlColumns
from service.engines.sql.entity_scope import EntityRows, EntityScope
from service.engines.sql.row_scope import RowScope
from service.engines.sql.template import DATASET, ROW_ID, column, named, node_of, template
from service.features.lineage import is_over_features
from service.features.model import FeaturePlan, FeatureType, PlannedFeature, Profile
from service.features.operations import named_columns, spec_of
from service.features.operations.expression import Expression
from service.features.operations.literals import feature_type
from service.features.operations.operation import EntityOperation, RowOperation
from service.features.tables import features_profile, made_of, parts_profile

COMPUTED = "computed"
"""Name of the table or common table expression that holds the features as computed."""


class CompiledPlan(Struct, frozen=True):
    """The statement that computes a plan's features, in its two steps."""

    computed: exp.Select
    """First step: keys and features as computed, unordered; numbers may be NaN or infinite."""
    keys: tuple[str, ...]
    """Published key columns."""
    features: dict[str, FeatureType]
    """The features' types by name, in the plan's order."""
    identity: str = ""
    """The column that identifies rows; by default the first key."""
    time: str | None = None
    """The key that orders rows in time, at row grain. What is known of an entity grows: that is no drift."""
    label: str | None = None
    """The key that is to be predicted."""

    @property
    def row_key(self) -> str:
        """The column that identifies rows."""
        return self.identity or self.keys[0]

    def published(self, names: Sequence[str] | None = None) -> exp.Select:
        """Second step: keys and the named features (all by default) FROM computed, numbers that are none made null."""
        chosen = self.features if names is None else names
        projections = [column(key, "c") for key in self.keys] + [self._finite(name) for name in chosen]
        order = [column(key, "c") for key in (self.keys if self.identity else self.keys[:1])]
        return exp.select(*projections).from_(f"{COMPUTED} AS c").order_by(*order)

    def statement(self) -> exp.Select:
        """Both steps as one statement."""
        return self.published().with_(COMPUTED, as_=self.computed)

    def _finite(self, name: str) -> exp.Expr:
        node = column(name, "c")
        if self.features[name] != "number":
            return node
        return named(template("CASE WHEN IS_FINITE(:x) THEN :x END", x=node), name)


def compile_plan(plan: FeaturePlan, profile: Profile) -> CompiledPlan:
    """Translate a plan in which `plan.validate` found no fault, for one dataset; values become literal nodes."""
    features = feature_types(plan, profile)
    if plan.grain == "entity" and plan.entity is not None:
        rows = EntityRows(entity=plan.entity, time=plan.time)
        computed = entity_features(plan.features, profile, rows, plan.entity)
        return CompiledPlan(computed, (plan.entity,), features)
    keys = {row_key(plan, profile): ROW_ID} | {name: name for name in (plan.entity, plan.time) if name is not None}
    computed = row_features(plan.features, profile, DATASET, keys)
    return CompiledPlan(computed, tuple(keys), features, time=plan.time)


def feature_types(plan: FeaturePlan, profile: Profile) -> dict[str, FeatureType]:
    """The published features' types by name."""
    made = features_profile(plan.features, profile, parts_profile(plan.entity_key or made_of(profile), profile))
    return {
        feature.name: _type(feature, made if is_over_features(plan, feature) else profile) for feature in plan.published
    }


def entity_features(
    features: Sequence[PlannedFeature], profile: Profile, rows: EntityRows, key: str, parts: Sequence[str] = ()
) -> exp.Select:
    """SELECT the entity as `key`, its `parts` and its features, of each entity of the rows.

    `parts` are columns with one value in all rows of an entity.
    """
    scope = EntityScope(profile, rows)
    own = [named(node_of(scope.rows("MIN(:x)", x=scope.raw(name))), name) for name in parts]
    values = [cast("EntityOperation", feature.operation).compile(scope) for feature in features]
    return scope.select([named(column("k", "entities"), key), *own, *_named(features, values)])


def row_features(features: Sequence[PlannedFeature], profile: Profile, table: str, keys: dict[str, str]) -> exp.Select:
    """SELECT the key columns, each under its name, and the features of each row of the table."""
    scope = RowScope(profile, table)
    values = [cast("RowOperation", feature.operation).compile(scope) for feature in features]
    return scope.select([named(column(source), key) for key, source in keys.items()] + _named(features, values))


def _named(features: Sequence[PlannedFeature], values: Sequence[Expression]) -> list[exp.Expr]:
    return [named(node_of(value), feature.name) for feature, value in zip(features, values, strict=True)]


def _type(feature: PlannedFeature, profile: Profile) -> FeatureType:
    dtype = spec_of(feature.operation).dtype
    if dtype is not None:
        return dtype
    return feature_type(SqlColumns(profile).profile_of(named_columns(feature.operation)["column"]))


def row_key(plan: FeaturePlan, profile: Profile) -> str:
    """A name for the row's id that neither a column nor a feature has."""
    taken = {column.name.casefold() for column in profile.columns} | {feature.name for feature in plan.features}
    name, number = "row_id", 0
    while name in taken:
        number += 1
        name = f"row_id_{number}"
    return name
