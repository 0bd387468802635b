"""The target of a prediction, brought to the grain of the features."""

from __future__ import annotations

from typing import Literal

from sqlglot import exp

from service.engines.duckdb.statements import template
from service.engines.sql.columns import SqlColumns
from service.engines.sql.template import DATASET, ROW_ID, column, node_of
from service.features.model import FeaturePlan, Profile

TargetKind = Literal["number", "category"]


def target_kind(profile: Profile, target: str) -> TargetKind:
    """Whether the target's values have an order, or are classes."""
    source = SqlColumns(profile)
    coded = source.profile_of(target).logical_type in {"categorical", "identifier", "text"}
    return "category" if coded or source.storage(target) == "string" else "number"


def target_values(plan: FeaturePlan, profile: Profile, target: str, kind: TargetKind) -> exp.Select:
    """SELECT k, t: by row id; or by entity, its mean or its most frequent category (the smallest of equals)."""
    source = SqlColumns(profile)
    value = node_of(source.text(target))
    if kind == "number":
        dated = source.storage(target) == "datetime"
        value = template("CAST(:x AS DOUBLE)", x=source.instant(target) if dated else source.raw(target))
    if plan.grain == "row" or plan.entity is None:
        return _pairs(column(ROW_ID), value).from_(f"{DATASET} AS d")
    key = column(plan.entity)
    if kind == "number":
        return _pairs(key, template("AVG(:x)", x=value)).from_(f"{DATASET} AS d").group_by(key)
    counts = _pairs(key, value).select(exp.alias_(template("COUNT(*)"), "n", quoted=True)).from_(f"{DATASET} AS d")
    counts = counts.where(template("NOT :v IS NULL", v=value)).group_by(key, value)
    top = template("MAX(:n) OVER (PARTITION BY :k)", n=column("n", "c"), k=column("k", "c"))
    ranked = exp.select(column("k", "c"), column("t", "c"), column("n", "c"), exp.alias_(top, "top", quoted=True))
    ranked = ranked.from_(exp.Subquery(this=counts, alias=exp.to_identifier("c")))
    modes = _pairs(column("k", "r"), template("MIN(:t)", t=column("t", "r")))
    modes = modes.from_(exp.Subquery(this=ranked, alias=exp.to_identifier("r")))
    return modes.where(template(":n = :top", n=column("n", "r"), top=column("top", "r"))).group_by(column("k", "r"))


def _pairs(key: exp.Expr, value: exp.Expr) -> exp.Select:
    return exp.select(exp.alias_(key, "k", quoted=True), exp.alias_(value, "t", quoted=True))
