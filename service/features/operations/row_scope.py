"""What features of the row grain share: statistics of the dataset and of its groups, and windows over histories."""

from __future__ import annotations

from sqlglot import exp

from service.features.model import Profile
from service.features.operations.sql import DATASET, ROW_ID, Source, column, template

HAS_HISTORY = "NOT :entity IS NULL AND NOT :instant IS NULL"


class RowScope(Source):
    """Collects the statistics that features share while they are compiled."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self._totals: dict[exp.Expr, str] = {}
        self._groups: dict[str, dict[exp.Expr, str]] = {}

    def total(self, aggregate: exp.Expr) -> exp.Expr:
        """A statistic of the whole dataset."""
        name = self._totals.setdefault(aggregate, f"s{len(self._totals)}")
        return column(name, "totals")

    def grouped(self, group: str, aggregate: exp.Expr) -> exp.Expr:
        """A statistic of the row's group; null where the group is null."""
        shared = self._groups.setdefault(group, {})
        name = shared.setdefault(aggregate, f"s{len(shared)}")
        return column(name, self._table(group))

    def over(self, group: str | None, aggregate: exp.Expr) -> exp.Expr:
        """A statistic of the row's group, or of the dataset when there is none."""
        return self.total(aggregate) if group is None else self.grouped(group, aggregate)

    def history(self, value: str, entity: str, time: str, window: str, **nodes: exp.Expr) -> exp.Expr:
        """`value` over a window of the entity's rows, null for a row that has no history."""
        text = f"CASE WHEN {HAS_HISTORY} THEN {value.replace('@window', f'({window})')} END"
        bearings = {"entity": column(entity), "instant": self.instant(time), "row": column(ROW_ID)}
        return template(text, **bearings, **nodes)

    def select(self, projections: list[exp.Expr]) -> exp.Select:
        """The projections over the dataset and everything collected for them."""
        query = exp.select(*projections).from_(f"{DATASET} AS d")
        if self._totals:
            totals = exp.select(*_aliased(self._totals)).from_(f"{DATASET} AS d")
            query = query.with_("totals", as_=totals).join("totals", join_type="CROSS")
        for group, shared in self._groups.items():
            key, table = column(group), self._table(group)
            statistics = exp.select(exp.alias_(key, "k", quoted=True), *_aliased(shared)).from_(f"{DATASET} AS d")
            statistics = statistics.where(template("NOT :k IS NULL", k=key)).group_by(key)
            query = query.with_(table, as_=statistics)
            query = query.join(table, on=template(":a = :b", a=key, b=column("k", table)), join_type="LEFT")
        return query

    def _table(self, group: str) -> str:
        return f"group{list(self._groups).index(group)}"


def _aliased(shared: dict[exp.Expr, str]) -> list[exp.Expr]:
    return [exp.alias_(aggregate, name, quoted=True) for aggregate, name in shared.items()]
