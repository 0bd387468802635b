"""What features of the row grain share: statistics of the dataset and of its groups, and windows over histories.

Statistics of the whole dataset are one row of `totals`, joined to every row; statistics of a group come from one
aggregation a grouping column, joined by its value. A row whose group is null belongs to none and gets null. Windows
over an entity's history see earlier rows only: those before in (time, row id), or, where the frame is a span of time,
those at an earlier instant. A row without entity or time has no history, and belongs to no other's.
"""

from __future__ import annotations

from sqlglot import exp

from service.engines.sql.columns import SqlColumns
from service.engines.sql.template import DATASET, ROW_ID, column, microseconds, named, template
from service.features.model import Profile
from service.features.operations import Days
from service.features.operations.expression import WINDOWS, Expression, Group, Part

EARLIER = "OVER earlier"
IN_SPAN = "ORDER BY :instant RANGE BETWEEN {start} PRECEDING AND {end}"


class RowScope(SqlColumns):
    """Collects the statistics that features share while they are compiled; see `expression.Rows`."""

    def __init__(self, profile: Profile, table: str = DATASET) -> None:
        super().__init__(profile, table)
        self._totals: dict[exp.Expr, str] = {}
        self._groups: dict[tuple[str, ...], dict[exp.Expr, str]] = {}

    def over(self, group: Group, text: str, **parts: Part) -> Expression:
        """A statistic of the row's group, null where its key is; without a group, of the whole dataset."""
        aggregate = template(text, **parts)
        if group is None:
            name = self._totals.setdefault(aggregate, f"s{len(self._totals)}")
            return Expression(column(name, "totals"))
        key = (group,) if isinstance(group, str) else tuple(group)
        shared = self._groups.setdefault(key, {})
        name = shared.setdefault(aggregate, f"s{len(shared)}")
        return Expression(column(name, self._group_table(key)))

    def history(self, text: str, entity: str | None, time: str, **parts: Part) -> Expression:
        """`text` over the entity's rows in order of time, then row id."""
        return self._windowed(text, WINDOWS, self._keys(entity), time, **parts)

    def recent(
        self,
        text: str,
        entity: str | None,
        time: str,
        days: Days | None,
        before: Days | None = None,
        *,
        include_row: bool = False,
        **parts: Part,
    ) -> Expression:
        """`text` over the entity's rows in the span of days that ends before the row's instant."""
        end = "1 PRECEDING" if before is None else ":before PRECEDING"
        start = "UNBOUNDED" if days is None else ":span"
        window = IN_SPAN.format(start=start, end="CURRENT ROW" if include_row else end)
        spans = {
            "span": Expression(microseconds((days or 0) + (before or 0))),
            "before": Expression(microseconds(before or 0)),
        }
        return self._windowed(text, {EARLIER: window}, self._keys(entity), time, **parts, **spans)

    def row_id(self) -> Expression:
        """The row's position in the source, from 0."""
        return Expression(column(ROW_ID))

    def _keys(self, entity: str | None) -> list[Part]:
        return [] if entity is None else [self.raw(entity)]

    def select(self, projections: list[exp.Expr]) -> exp.Select:
        """The projections over the dataset and everything collected for them."""
        query = self._with_derived(self._from_rows(exp.select(*projections)))
        if self._totals:
            totals = self._from_rows(exp.select(*_named(self._totals)))
            query = query.with_("totals", as_=totals).join("totals", join_type="CROSS")
        for group, shared in self._groups.items():
            query = self._join_group(query, group, shared)
        return query

    def _join_group(self, query: exp.Select, group: tuple[str, ...], shared: dict[exp.Expr, str]) -> exp.Select:
        """The query with the statistics of each row's group beside it."""
        table, keys = self._group_table(group), {f"k{place}": column(name) for place, name in enumerate(group)}
        statistics = self._from_rows(exp.select(*(named(key, name) for name, key in keys.items()), *_named(shared)))
        known = [template("NOT :k IS NULL", k=key) for key in keys.values()]
        statistics = statistics.where(*known).group_by(*keys.values())
        same = [template(":a = :b", a=key, b=column(name, table)) for name, key in keys.items()]
        return query.with_(table, as_=statistics).join(table, on=exp.and_(*same), join_type="LEFT")

    def _group_table(self, group: tuple[str, ...]) -> str:
        return f"group{list(self._groups).index(group)}"


def _named(shared: dict[exp.Expr, str]) -> list[exp.Expr]:
    return [named(aggregate, name) for aggregate, name in shared.items()]
