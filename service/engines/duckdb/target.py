"""The target of a prediction, brought to the grain of the features."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.statements import template
from service.engines.sql.columns import SqlColumns
from service.engines.sql.compile import COMPUTED, CompiledPlan
from service.engines.sql.compile_tables import main_rows
from service.engines.sql.template import DATASET, ROW_ID, column, node_of
from service.features.model import FeaturePlan, Profile
from service.features.tables import Tables

TargetKind = Literal["number", "category"]


class Target(Struct, frozen=True):
    """What is to be predicted."""

    kind: TargetKind
    values: exp.Select
    """SELECT k, t: its value for each row of the features."""


def target_of(plan: FeaturePlan, tables: Tables, compiled: CompiledPlan, target: str | None) -> Target | None:
    """Return the label, or the target at the features' grain; None without one."""
    label, observed = compiled.label, tables.observed
    if label is not None:
        carried = observed is not None and observed.profile.column(label) is not None
        kind = target_kind(observed.profile, label) if carried and observed is not None else "number"
        return Target(kind, label_values(compiled, label, kind))
    if target is None or tables.profile.column(target) is None or observed is not None:
        return None
    if tables.layout.levels_of([target]) != (0,):
        return None
    kind = target_kind(tables.profile, target)
    return Target(kind, target_values(plan, tables, target, kind))


def target_kind(profile: Profile, target: str) -> TargetKind:
    """Whether the target's values have an order, or are classes."""
    source = SqlColumns(profile)
    coded = source.profile_of(target).logical_type in {"categorical", "identifier", "text"}
    return "category" if coded or source.storage(target) == "string" else "number"


def label_values(compiled: CompiledPlan, label: str, kind: TargetKind) -> exp.Select:
    """SELECT k, t: the label that was computed or carried beside the features."""
    value = template(":x" if kind == "category" else "CAST(:x AS DOUBLE)", x=column(label, "c"))
    return _pairs(column(compiled.row_key, "c"), value).from_(f"{COMPUTED} AS c")


def target_values(plan: FeaturePlan, tables: Tables, target: str, kind: TargetKind) -> exp.Select:
    """SELECT k, t: by row id; or by entity, its mean or its most frequent category (the smallest of equals)."""
    source, rows = SqlColumns(tables.profile), _rows(plan, tables, target)
    value = node_of(source.text(target))
    if kind == "number":
        dated = source.storage(target) == "datetime"
        value = template("CAST(:x AS DOUBLE)", x=source.instant(target) if dated else source.raw(target))
    if plan.grain == "row" or plan.entity is None:
        return _pairs(column(ROW_ID), value).from_(rows)
    key = column(plan.entity)
    if kind == "number":
        return _pairs(key, template("AVG(:x)", x=value)).from_(rows).group_by(key)
    counts = _pairs(key, value).select(exp.alias_(template("COUNT(*)"), "n", quoted=True)).from_(rows)
    counts = counts.where(template("NOT :v IS NULL", v=value)).group_by(key, value)
    top = template("MAX(:n) OVER (PARTITION BY :k)", n=column("n", "c"), k=column("k", "c"))
    ranked = exp.select(column("k", "c"), column("t", "c"), column("n", "c"), exp.alias_(top, "top", quoted=True))
    ranked = ranked.from_(exp.Subquery(this=counts, alias=exp.to_identifier("c")))
    modes = _pairs(column("k", "r"), template("MIN(:t)", t=column("t", "r")))
    modes = modes.from_(exp.Subquery(this=ranked, alias=exp.to_identifier("r")))
    return modes.where(template(":n = :top", n=column("n", "r"), top=column("top", "r"))).group_by(column("k", "r"))


def _rows(plan: FeaturePlan, tables: Tables, target: str) -> exp.Expr:
    """The dataset's rows, with what they look up and the entity that is made of columns."""
    if tables.plain and plan.entity_key is None and not plan.columns:
        return exp.alias_(exp.to_table(DATASET), "d", table=True)
    return main_rows(plan, tables, [target]).subquery("d")


def _pairs(key: exp.Expr, value: exp.Expr) -> exp.Select:
    return exp.select(exp.alias_(key, "k", quoted=True), exp.alias_(value, "t", quoted=True))
