"""What features of the row grain share: statistics of the dataset and of its groups, and windows over histories.

Statistics of the whole dataset are one row of `totals`, joined to every row; statistics of a group come from one
aggregation a grouping column, joined by its value. A row whose group is null belongs to none and gets null. Windows
over an entity's history see earlier rows only: those before in (time, row id), or, where the frame is a span of time,
those at an earlier instant. A row without entity or time has no history, and belongs to no other's.
"""

from __future__ import annotations

from sqlglot import exp

from service.engines.sql.columns import SqlColumns
from service.engines.sql.template import DATASET, column, microseconds, named, template
from service.features.model import Profile
from service.features.operations import Days
from service.features.operations.expression import WINDOWS, Expression, Part

EARLIER = "OVER earlier"
IN_SPAN = "ORDER BY :instant RANGE BETWEEN :span PRECEDING AND 1 PRECEDING"


class RowScope(SqlColumns):
    """Collects the statistics that features share while they are compiled; see `expression.Rows`."""

    def __init__(self, profile: Profile, table: str = DATASET) -> None:
        super().__init__(profile, table)
        self._totals: dict[exp.Expr, str] = {}
        self._groups: dict[str, dict[exp.Expr, str]] = {}

    def over(self, group: str | None, text: str, **parts: Part) -> Expression:
        """A statistic of the row's group, null where the group is null; without a group, of the whole dataset."""
        aggregate = template(text, **parts)
        if group is None:
            name = self._totals.setdefault(aggregate, f"s{len(self._totals)}")
            return Expression(column(name, "totals"))
        shared = self._groups.setdefault(group, {})
        name = shared.setdefault(aggregate, f"s{len(shared)}")
        return Expression(column(name, self._group_table(group)))

    def history(self, text: str, entity: str | None, time: str, **parts: Part) -> Expression:
        """`text` over the entity's rows in order of time, then row id."""
        return self._windowed(text, WINDOWS, self._keys(entity), time, **parts)

    def recent(self, text: str, entity: str | None, time: str, days: Days, **parts: Part) -> Expression:
        """`text` over the entity's rows in the span of days before the row's instant."""
        span = Expression(microseconds(days))
        return self._windowed(text, {EARLIER: IN_SPAN}, self._keys(entity), time, **parts, span=span)

    def _keys(self, entity: str | None) -> list[Part]:
        return [] if entity is None else [self.raw(entity)]

    def select(self, projections: list[exp.Expr]) -> exp.Select:
        """The projections over the dataset and everything collected for them."""
        query = self._with_derived(self._from_rows(exp.select(*projections)))
        if self._totals:
            totals = self._from_rows(exp.select(*_named(self._totals)))
            query = query.with_("totals", as_=totals).join("totals", join_type="CROSS")
        for group, shared in self._groups.items():
            key, table = column(group), self._group_table(group)
            statistics = self._from_rows(exp.select(named(key, "k"), *_named(shared)))
            statistics = statistics.where(template("NOT :k IS NULL", k=key)).group_by(key)
            query = query.with_(table, as_=statistics)
            query = query.join(table, on=template(":a = :b", a=key, b=column("k", table)), join_type="LEFT")
        return query

    def _group_table(self, group: str) -> str:
        return f"group{list(self._groups).index(group)}"


def _named(shared: dict[exp.Expr, str]) -> list[exp.Expr]:
    return [named(aggregate, name) for aggregate, name in shared.items()]
