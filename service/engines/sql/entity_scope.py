"""What features of the entity grain share: one aggregation over the dataset, its latest instant, and tallies.

Each feature adds the aggregates it needs to `entities` (equal ones once). Categories are measured in one `tally` for
each column and set of rows. "As of" is the dataset's latest instant; "the last days" is the span
(as of - days, as of]. Rows without entity are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field
from sqlglot import exp

from service.engines.sql.columns import SqlColumns
from service.engines.sql.template import DATASET, ROW_ID, Primitive, column, microseconds, named, node_of, template
from service.features.model import Profile
from service.features.operations import Days, Where
from service.features.operations.expression import DAY, WINDOWS, Expression, Part

KNOWN_IN_TIME = "FILTER (WHERE NOT :x IS NULL AND NOT :instant IS NULL)"
KNOWN_AND_MET = "FILTER (WHERE NOT :x IS NULL AND NOT :instant IS NULL AND :met)"
COUNT: Mapping[str, str] = {"n": "COUNT(*)"}
BY_FREQUENCY = {"place": "ROW_NUMBER() OVER (PARTITION BY :k ORDER BY COUNT(*) DESC, :v)"}
"""Place of a category among its entity's, the smallest of equals first."""
HORIZON = "horizon"
"""Table of one row, the latest instant `as_of`."""


class _Tally(Struct):
    """One column's categories, measured by entity over the rows that meet the condition."""

    column: str
    condition: exp.Expr | None
    measures: dict[exp.Expr, str] = field(default_factory=dict[exp.Expr, str])
    """Aggregates over the rows of one category, with their names."""
    figures: dict[exp.Expr, str] = field(default_factory=dict[exp.Expr, str])
    """Aggregates over an entity's categories, with their names."""

    def measure(self, aggregate: exp.Expr) -> exp.Expr:
        return column(self.measures.setdefault(aggregate, f"n{len(self.measures)}"), "c")

    def figure(self, aggregate: exp.Expr) -> str:
        return self.figures.setdefault(aggregate, f"f{len(self.figures)}")


class EntityRows(Struct, frozen=True):
    """The rows that entities are made of."""

    table: str = DATASET
    entity: str = ""
    """The column that identifies entities."""
    time: str | None = None
    """The column whose latest value is "as of", unless a moment is given."""
    moment: exp.Expr | None = None
    """Given: the instant before which all is known, in microseconds; a column of the rows, or a literal."""
    present: exp.Expr | None = None
    """Whether the row is one: an entity without rows may stand in the table once, with nulls."""
    shared_horizon: bool = False
    """Whether the statement around this one has the table `horizon`."""


class EntityScope(SqlColumns):
    """Collects aggregates and tallies that features share while they are compiled; see `expression.Entities`."""

    def __init__(self, profile: Profile, rows: EntityRows) -> None:
        super().__init__(profile, rows.table)
        self._rows = rows
        self._entity = rows.entity
        self._time = rows.time
        self._aggregates: dict[exp.Expr, str] = {}
        self._tallies: dict[tuple[str, exp.Expr | None], _Tally] = {}
        self._dated = False

    def rows(self, text: str, where: Where = (), last_days: Days | None = None, **parts: Part) -> Expression:
        """The aggregate `text` over the entity's rows that meet the predicates and lie in the last days."""
        aggregate, condition = template(text, **parts), self._counted(where, last_days)
        if condition is not None:
            aggregate = _filtered(aggregate, condition)
        return self._aggregate(aggregate)

    def _counted(self, where: Where, last_days: Days | None) -> exp.Expr | None:
        """The condition on rows that meet the predicates and lie in the last days; None where all do."""
        conditions = [node_of(self.condition(where))] if where else []
        if last_days is not None and self._time is not None:
            conditions.append(node_of(self.is_recent(self._time, last_days)))
        if self._rows.present is not None:
            conditions.append(self._rows.present)
        return exp.and_(*conditions) if conditions else None

    def sequence(self, text: str, time: str, where: Where = (), **parts: Part) -> Expression:
        """`text` over the entity's rows with a time that meet the predicates, as a column of each of them."""
        instant = self.instant(time)
        counted = self.sql("CASE WHEN NOT :i IS NULL THEN 1 END", i=instant)
        if where:
            condition = self.condition(where)
            counted = self.sql("CASE WHEN :condition AND NOT :i IS NULL THEN 1 END", condition=condition, i=instant)
        return self.derived(self._windowed(text, WINDOWS, [self.raw(self._entity), counted], time, **parts))

    def grouped(self, aggregate: str, group: Expression, **parts: Part) -> Expression:
        """The aggregate over those of the entity's rows that share the group, as a column of each of them."""
        text = f"{aggregate} OVER (PARTITION BY :entity, :group)"
        return self.derived(self.sql(text, entity=self.raw(self._entity), group=group, **parts))

    def first_of(self, group: Expression) -> Expression:
        """1 in the first of the entity's rows that share the group, in the source's order, null in the others."""
        text = "CASE WHEN ROW_NUMBER() OVER (PARTITION BY :entity, :group ORDER BY :row) = 1 THEN 1 END"
        return self.derived(self.sql(text, entity=self.raw(self._entity), group=group, row=Expression(column(ROW_ID))))

    def ranked(self, value: Expression) -> Expression:
        """The row's place among the entity's rows in rising order of the value, as a column."""
        text = "ROW_NUMBER() OVER (PARTITION BY :entity ORDER BY :value NULLS LAST)"
        return self.derived(self.sql(text, entity=self.raw(self._entity), value=value))

    def lies_between(self, time: str, from_days: float, to_days: float) -> Expression:
        """Whether the row lies in the span (as of - from_days, as of - to_days]."""
        parts = {"i": self.instant(time), "as_of": self._last_known(), "start": Expression(microseconds(from_days))}
        end = self.sql(":as_of - :back", as_of=parts["as_of"], back=round(to_days * DAY))
        return self.sql(":i > :as_of - :start AND :i <= :end", **parts, end=end)

    def as_of(self) -> Expression:
        """The dataset's latest instant."""
        self._dated = True
        return Expression(column("as_of", HORIZON))

    def is_recent(self, time: str, days: Days) -> Expression:
        """Whether the row lies in the dataset's last days."""
        span = Expression(microseconds(days))
        return self.sql(":i > :as_of - :span", i=self.instant(time), as_of=self._last_known(), span=span)

    def _last_known(self) -> Expression:
        """The last instant that is known, with which windows end: a given moment is not known itself."""
        return self.as_of() if self._rows.moment is None else self.sql(":as_of - 1", as_of=self.as_of())

    def first_value(self, column: str, time: str, met: Expression | None = None) -> Expression:
        """The earliest non-null value by time, then row id."""
        return self._end("FIRST_BY", column, time, met)

    def last_value(self, column: str, time: str, met: Expression | None = None) -> Expression:
        """The latest non-null value by time, then row id."""
        return self._end("LAST_BY", column, time, met)

    def inventory(
        self,
        column_name: str,
        text: str,
        measures: Mapping[str, str] = COUNT,
        where: Where = (),
        last_days: Days | None = None,
        **parts: Part,
    ) -> Expression:
        """An aggregate over what was measured of the entity's categories."""
        moment, condition = self._rows.moment, self._counted(where, last_days)
        condition = None if condition is None else _at(condition, moment)
        tally = self._tallies.setdefault((column_name, condition), _Tally(column_name, condition))
        keys = {"k": column(self._entity), "v": column(column_name)}
        measured = {name: tally.measure(_at(template(one, **keys, **parts), moment)) for name, one in measures.items()}
        figure = tally.figure(template(text, v=column("v", "c"), **measured, **parts))
        return _column(figure, self._tally_table(tally))

    def categories(self, column: str, text: str) -> Expression:
        """An aggregate over the counts of the entity's categories."""
        return self.inventory(column, text)

    def most_frequent(self, column: str) -> Expression:
        """The most frequent category, the smallest of equals."""
        return self.inventory(column, "MAX(CASE WHEN :place = 1 THEN :v END)", BY_FREQUENCY)

    def select(self, projections: list[exp.Expr]) -> exp.Select:
        """The projections over the entities and everything collected for them."""
        moment = None if self._rows.moment is None else node_of(self._aggregate(exp.Min(this=self._rows.moment)))
        query = self._with_derived(exp.select(*(_at(one, moment) for one in projections)).from_("entities"))
        if self._is_dated():
            query = self._join_horizon(query)
        query = query.with_("entities", as_=self._entities())
        for tally in self._tallies.values():
            query = self._join_tally(query, tally)
        return query

    def derived(self, value: Expression) -> Expression:
        """The value of each row as a column; see `expression.Columns`."""
        return super().derived(Expression(_at(node_of(value), self._rows.moment)))

    def _aggregate(self, aggregate: exp.Expr) -> Expression:
        aggregate = _at(aggregate, self._rows.moment)
        name = self._aggregates.setdefault(aggregate, f"a{len(self._aggregates)}")
        return _column(name, "entities")

    def _end(self, primitive: str, name: str, time: str, met: Expression | None) -> Expression:
        keys = {"x": self.raw(name), "instant": self.instant(time), "row": column(ROW_ID)}
        known = KNOWN_IN_TIME if met is None else KNOWN_AND_MET
        return self._aggregate(template(f"{primitive}(:x, :instant, :row) {known}", **keys, met=met or ""))

    def _tally_table(self, tally: _Tally) -> str:
        return f"tally{list(self._tallies.values()).index(tally)}"

    def _is_dated(self) -> bool:
        """Whether anything reads the dataset's latest instant."""
        return self._dated and self._rows.moment is None and self._time is not None

    def _join_horizon(self, query: exp.Select) -> exp.Select:
        query = query.join(HORIZON, join_type="CROSS")
        if self._rows.shared_horizon or self._time is None:
            return query
        return query.with_(HORIZON, as_=latest([(self._rows.table, self.instant(self._time))]))

    def _entities(self) -> exp.Select:
        key = column(self._entity)
        shared = [named(aggregate, name) for aggregate, name in self._aggregates.items()]
        query = self._from_rows(exp.select(named(key, "k"), *shared))
        return _dated(query, self._aggregates).where(template("NOT :k IS NULL", k=key)).group_by(key)

    def _join_tally(self, query: exp.Select, tally: _Tally) -> exp.Select:
        """What is measured by entity and category, and from it the figures by entity."""
        table = self._tally_table(tally)
        query = query.with_(f"{table}_counts", as_=self._counts(tally))
        return _left_join(query.with_(table, as_=_figures(f"{table}_counts", tally)), table)

    def _counts(self, tally: _Tally) -> exp.Select:
        key, value = column(self._entity), column(tally.column)
        measures = [named(aggregate, name) for aggregate, name in tally.measures.items()]
        query = self._from_rows(exp.select(named(key, "k"), named(value, "v"), *measures))
        conditions = [template("NOT :k IS NULL AND NOT :v IS NULL", k=key, v=value)]
        conditions += [] if tally.condition is None else [tally.condition]
        return _dated(query, (*tally.measures, *conditions)).where(*conditions).group_by(key, value)


def _filtered(node: exp.Expr, condition: exp.Expr) -> exp.Expr:
    """The expression with every aggregate in it taken over the rows that meet the condition."""
    if isinstance(node, exp.AggFunc | Primitive):
        return exp.Filter(this=node, expression=exp.Where(this=condition.copy()))
    for part in list(node.iter_expressions()):
        part.replace(_filtered(part.copy(), condition))
    return node


def _dated(query: exp.Select, read: Iterable[exp.Expr]) -> exp.Select:
    """The query with the dataset's latest instant beside each row, where one of the expressions reads it."""
    dated = any(node.table == HORIZON for one in read for node in one.find_all(exp.Column))
    return query.join(HORIZON, join_type="CROSS") if dated else query


def latest(tables: Sequence[tuple[str, Expression]]) -> exp.Select:
    """The latest of all instants of the tables, of each its name and the instant of a row in `d`."""
    first, *others = (exp.select(named(template("MAX(:i)", i=i), "i")).from_(f"{table} AS d") for table, i in tables)
    if not others:
        return exp.select(named(first.expressions[0].this, "as_of")).from_(f"{tables[0][0]} AS d")
    each = exp.union(first, *others, distinct=False)
    return exp.select(named(template("MAX(:i)", i=column("i", "e")), "as_of")).from_(each.subquery("e"))


def _at(node: exp.Expr, moment: exp.Expr | None) -> exp.Expr:
    """The expression with a given moment in place of the dataset's latest instant."""
    if moment is None:
        return node

    def given(one: exp.Expr) -> exp.Expr:
        return moment.copy() if isinstance(one, exp.Column) and one.table == HORIZON else one

    return node.transform(given)


def _figures(counts: str, tally: _Tally) -> exp.Select:
    """The aggregates over what was measured of an entity's categories."""
    key = column("k", "c")
    figures = [named(aggregate, name) for aggregate, name in tally.figures.items()]
    return exp.select(key, *figures).from_(f"{counts} AS c").group_by(key)


def _column(name: str, table: str) -> Expression:
    return Expression(column(name, table))


def _left_join(query: exp.Select, table: str) -> exp.Select:
    on = template(":a = :b", a=column("k", "entities"), b=column("k", table))
    return query.join(table, on=on, join_type="LEFT")
