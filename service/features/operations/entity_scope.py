"""What features of the entity grain share: one aggregation over the dataset, its latest instant, and tallies.

Each feature adds the aggregates it needs to `entities` (equal ones once). Categories are counted in one `tally` for
each column. "As of" is the dataset's latest instant; "the last days" is the span (as of - days, as of]. Rows without
entity are left out.
"""

from __future__ import annotations

from sqlglot import exp

from service.features.model import Profile
from service.features.operations.sql import DATASET, Source, column, microseconds, template
from service.features.operations.types import Days, Where

ENTROPY = "GREATEST(LN(SUM(:n)) - SUM(:n * LN(:n)) / SUM(:n), 0) / LN(2)"
"""Shannon (1948): - sum p log2 p with p = n / N, written so that one pass over the counts is enough."""


class EntityScope(Source):
    """Collects aggregates and tallies that features share while they are compiled."""

    def __init__(self, profile: Profile, entity: str, time: str | None) -> None:
        super().__init__(profile)
        self._entity = entity
        self._time = time
        self._aggregates: dict[exp.Expr, str] = {}
        self._tallied: list[str] = []
        self._modes: set[str] = set()
        self._dated = False

    def aggregate(self, aggregate: exp.Expr) -> exp.Expr:
        """An aggregate over the entity's rows."""
        name = self._aggregates.setdefault(aggregate, f"a{len(self._aggregates)}")
        return column(name, "entities")

    def rows(self, text: str, where: Where, last_days: Days | None = None, **nodes: exp.Expr) -> exp.Expr:
        """The aggregate `text` over the entity's rows that meet the predicates and lie in the last days."""
        conditions = [self.condition(where)] if where else []
        if last_days is not None and self._time is not None:
            conditions.append(self.recent(self._time, last_days))
        if not conditions:
            return self.aggregate(template(text, **nodes))
        return self.aggregate(
            exp.Filter(this=template(text, **nodes), expression=exp.Where(this=exp.and_(*conditions)))
        )

    def as_of(self) -> exp.Expr:
        """The dataset's latest instant."""
        self._dated = True
        return column("as_of", "horizon")

    def recent(self, time: str, days: Days) -> exp.Expr:
        """Whether the row lies in the dataset's last days."""
        return template(":i > :as_of - :span", i=self.instant(time), as_of=self.as_of(), span=microseconds(days))

    def tally(self, name: str, figure: str) -> exp.Expr:
        """A figure of the entity's categories: `top` (rows of the most frequent) or `entropy` (bits)."""
        return column(figure, self._tally(name))

    def mode(self, name: str) -> exp.Expr:
        """The most frequent category."""
        self._modes.add(name)
        return column("mode", f"{self._tally(name)}_mode")

    def _tally(self, name: str) -> str:
        if name not in self._tallied:
            self._tallied.append(name)
        return f"tally{self._tallied.index(name)}"

    def select(self, projections: list[exp.Expr]) -> exp.Select:
        """The projections over the entities and everything collected for them."""
        query = exp.select(*projections).from_("entities")
        if self._dated and self._time is not None:
            query = query.with_("horizon", as_=self._horizon(self._time)).join("horizon", join_type="CROSS")
        query = query.with_("entities", as_=self._entities())
        for name in self._tallied:
            query = self._join_tally(query, name)
        return query

    def _horizon(self, time: str) -> exp.Select:
        latest = template("MAX(:i)", i=self.instant(time))
        return exp.select(exp.alias_(latest, "as_of", quoted=True)).from_(f"{DATASET} AS d")

    def _entities(self) -> exp.Select:
        key = column(self._entity)
        shared = [exp.alias_(aggregate, name, quoted=True) for aggregate, name in self._aggregates.items()]
        query = exp.select(exp.alias_(key, "k", quoted=True), *shared).from_(f"{DATASET} AS d")
        if any(node.table == "horizon" for aggregate in self._aggregates for node in aggregate.find_all(exp.Column)):
            query = query.join("horizon", join_type="CROSS")
        return query.where(template("NOT :k IS NULL", k=key)).group_by(key)

    def _join_tally(self, query: exp.Select, name: str) -> exp.Select:
        """Counts by entity and category; from them the figures, and the smallest of the most frequent categories."""
        table = self._tally(name)
        key, value = column(self._entity), column(name)
        counts = exp.select(
            exp.alias_(key, "k", quoted=True),
            exp.alias_(value, "v", quoted=True),
            exp.alias_(template("COUNT(*)"), "n", quoted=True),
        ).from_(f"{DATASET} AS d")
        counts = counts.where(template("NOT :k IS NULL AND NOT :v IS NULL", k=key, v=value)).group_by(key, value)
        entropy = template(ENTROPY, n=column("n", "c"))
        figures = exp.select(
            column("k", "c"),
            exp.alias_(template("MAX(:n)", n=column("n", "c")), "top", quoted=True),
            exp.alias_(entropy, "entropy", quoted=True),
        ).from_(f"{table}_counts AS c").group_by(column("k", "c"))  # fmt: skip
        query = query.with_(f"{table}_counts", as_=counts).with_(table, as_=figures)
        query = _left_join(query, table)
        if name not in self._modes:
            return query
        smallest = exp.alias_(template("MIN(:v)", v=column("v", "c")), "mode", quoted=True)
        modes = exp.select(column("k", "c"), smallest).from_(f"{table}_counts AS c")
        same = {"a": column("k", "c"), "b": column("k", table), "n": column("n", "c"), "top": column("top", table)}
        modes = modes.join(table, on=template(":a = :b AND :n = :top", **same)).group_by(column("k", "c"))
        return _left_join(query.with_(f"{table}_mode", as_=modes), f"{table}_mode")


def _left_join(query: exp.Select, table: str) -> exp.Select:
    on = template(":a = :b", a=column("k", "entities"), b=column("k", table))
    return query.join(table, on=on, join_type="LEFT")
