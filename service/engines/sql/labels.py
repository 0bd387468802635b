"""The label of each moment: a statistic of the entity's rows from the moment on, up to the horizon."""

from __future__ import annotations

from sqlglot import exp

from service.engines.sql.columns import SqlColumns
from service.engines.sql.entity_scope import HORIZON
from service.engines.sql.relations import ENTITY, KEY, MOMENT, MOMENTS
from service.engines.sql.template import ROW_ID, column, microseconds, named, node_of, template
from service.features.table_options import Horizon

LABEL = "label"
"""Table of the moments' labels, and its column."""
STATISTICS: dict[str, str] = {
    "any": "CAST(COUNT(:x) > 0 AS BIGINT)",
    "count": "COUNT(:x)",
    "sum": "COALESCE(SUM(:x), 0)",
}


def label_of_moments(horizon: Horizon, rows: str, source: SqlColumns, time: str, entity: str) -> exp.Select:
    """SELECT k (the moment's key) and the statistic of the entity's rows from the moment on."""
    parts = {
        "i": node_of(source.instant(time)),
        "moment": column(MOMENT, "m"),
        "span": microseconds(horizon.days),
    }
    on = [
        template(":a = :b", a=column(entity), b=column(ENTITY, "m")),
        template(":i >= :moment AND :i < :moment + :span", **parts),
    ]
    if horizon.where:
        on.append(node_of(source.condition(horizon.where)))
    x = column(ROW_ID) if horizon.column is None else column(horizon.column)
    if horizon.aggregate == "sum" and horizon.column is not None:
        x = node_of(source.number(horizon.column))
    value = template(STATISTICS[horizon.aggregate], x=x)
    labels = exp.select(named(column(KEY, "m"), "k"), named(value, LABEL)).from_(f"{MOMENTS} AS m")
    return labels.join(f"{rows} AS d", on=exp.and_(*on), join_type="LEFT").group_by(column(KEY, "m"))


def known_label(horizon: Horizon) -> exp.Expr:
    """The label of moment `m`; null where the data end before the horizon does."""
    moment, as_of = column(MOMENT, "m"), column("as_of", HORIZON)
    parts = {"moment": moment, "as_of": as_of, "span": microseconds(horizon.days), "x": column(LABEL, LABEL)}
    return template("CASE WHEN :moment + :span <= :as_of + 1 THEN :x END", **parts)
