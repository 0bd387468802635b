"""The rows that features are computed from, where they are not simply the dataset's: joined, cut off, observed.

Each table of a request is a view: `dataset`, `related_1`, `related_2` … and `observations`. `level_rows` joins to the
rows of one level what they look up and what they belong to. Every join finds at most one row on its other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlglot import exp

from service.engines.sql.columns import SqlColumns
from service.engines.sql.template import (
    DATASET,
    ROW_ID,
    all_columns,
    column,
    microseconds,
    named,
    node_of,
    number,
    template,
)
from service.features.layout import Join, Layout
from service.features.table_options import CalendarUnit, EntityKey

OBSERVATIONS = "observations"
KEY = "__key"
"""Column that identifies entities, or observations, where their own columns do not."""
MOMENT = "__moment"
"""Column with the instant, in microseconds, before which all is known."""
MOMENTS = "moments"
"""Table of entities or observations: `__key`, the entity `__entity`, `__moment` and what is published of them."""
ENTITY = "__entity"
UNTIL = "__until"
"""Column with the instant from which a row of an as-of table is replaced by a later one."""
NEVER = 2**62
"""An instant, in microseconds, after all others."""
PERIODS: dict[CalendarUnit, str] = {
    "hour": "HOUR_OF_DAY(:t)",
    "weekday": "ISO_WEEKDAY(:t)",
    "day": "DATE_TRUNC('DAY', :t)",
    "week": "DATE_TRUNC('WEEK', :t)",
    "month": "DATE_TRUNC('MONTH', :t)",
    "quarter": "DATE_TRUNC('QUARTER', :t)",
    "year": "DATE_TRUNC('YEAR', :t)",
}


def view_of(place: int) -> str:
    """The view of a table of the layout, by its place."""
    return f"related_{place}" if place else DATASET


def level_rows(layout: Layout, level: int, names: Iterable[str]) -> exp.Select:
    """The level's rows with the named columns and the row id."""
    chosen = {name: layout.places[name] for name in names if name in layout.places}
    columns = [named(column(own, f"t{place}"), name) for name, (place, own) in chosen.items()]
    rows = exp.select(*columns, named(column(ROW_ID, f"t{level}"), ROW_ID)).from_(f"{view_of(level)} AS t{level}")
    for place in _joined(layout, level, {place for place, _ in chosen.values()}):
        rows = _join(rows, layout, level, place)
    return rows


def _joined(layout: Layout, level: int, needed: Iterable[int]) -> tuple[int, ...]:
    """The tables to join to the level's, each after the one that it joins."""
    above, found = [*layout.above(level)], dict[int, None]()

    def add(place: int) -> None:
        if place == level or place in found:
            return
        if place in above:
            add(above[above.index(place) - 1])
        else:
            join = _join_of(layout, place)
            add(join.to)
            if join.kind == "as_of":
                add(_time_place(layout, layout.level(join.to))[0])
        found[place] = None

    for place in sorted(needed):
        add(place)
    return tuple(found)


def _join(rows: exp.Select, layout: Layout, level: int, place: int) -> exp.Select:
    """Add a table that the rows look up, or that they belong to."""
    above = [*layout.above(level)]
    if place in above:
        below = above[above.index(place) - 1]
        join = _join_of(layout, below)
        return rows.join(f"{view_of(place)} AS t{place}", on=_same(join, below, place), join_type="LEFT")
    join = _join_of(layout, place)
    on = [_same(join, place, join.to)]
    if join.kind == "parent" or join.time is None:
        return rows.join(f"{view_of(place)} AS t{place}", on=exp.and_(*on), join_type="LEFT")
    now = _time_at(layout, layout.level(join.to))
    if join.days_before is not None:
        now = template(":now - :span", now=now, span=microseconds(join.days_before))
    seen = {"known": _instant(join.time, f"t{place}"), "until": column(UNTIL, f"t{place}")}
    # Two plain inequalities: engines have joins for those.
    on = [
        *(on if join.on is not None else []),
        template(":now >= :known", now=now, **seen),
        template(":now < :until", now=now, **seen),
    ]
    return rows.join(_valid(place, join), on=exp.and_(*on), join_type="LEFT")


def _same(join: Join, place: int, to: int) -> exp.Expr:
    """That the table's column equals the other's."""
    return template(":a = :b", a=column(join.on or "", f"t{place}"), b=column(join.other or "", f"t{to}"))


def _valid(place: int, join: Join) -> exp.Subquery:
    """An as-of table whose rows say until when they hold; of those at one time for one key the last one counts."""
    key = template("0") if join.on is None else column(join.on)
    parts = {"key": key, "instant": _instant(join.time or "", "d"), "row": column(ROW_ID), "never": number(NEVER)}
    last = template("ROW_NUMBER() OVER (PARTITION BY :key, :instant ORDER BY :row DESC)", **parts)
    inner = exp.select("*", named(last, "__place")).from_(f"{view_of(place)} AS d")
    inner = inner.where(template("NOT :instant IS NULL", instant=parts["instant"]))
    until = template("COALESCE(LEAD(:instant) OVER (PARTITION BY :key ORDER BY :instant), :never)", **parts)
    rows = exp.select("*", named(until, UNTIL)).from_(inner.subquery("d"))
    return rows.where(template(":place = 1", place=column("__place"))).subquery(f"t{place}")


def _join_of(layout: Layout, place: int) -> Join:
    join = layout.tables[place].join
    if join is None:
        raise ValueError(f"table {place} joins none")
    return join


def _time_at(layout: Layout, level: int) -> exp.Expr:
    """The instant of a row of the level, from the joined tables."""
    place, own = _time_place(layout, level)
    return _instant(own, f"t{place}")


def _time_place(layout: Layout, level: int) -> tuple[int, str]:
    name = layout.time_of(level)
    if name is None:
        raise ValueError(f"rows of level {level} have no time")
    return layout.places[name]


def _instant(name: str, table: str) -> exp.Expr:
    return template("EPOCH_US(:t)", t=column(name, table))


def keyed(table: str, key: EntityKey) -> exp.Select:
    """The table's rows with the entity that is made of columns, null where one of them is, and its period."""
    made = dict[str, exp.Expr]()
    if key.by is not None:
        made[key.parts[-1]] = template(PERIODS[key.by], t=column(key.columns[-1]))
    if len(key.parts) != 1:
        parts = [made.get(name, column(name)) for name in key.parts]
        made[key.name] = joined_text(parts) if parts else template("CAST(0 AS BIGINT)")
    return exp.select(all_columns(), *(named(node, name) for name, node in made.items())).from_(f"{table} AS d")


def joined_text(values: Sequence[exp.Expr]) -> exp.Expr:
    """One text of several values: with its length before each, no two combinations read the same. Null where one is."""
    texts = [template("CAST(:x AS VARCHAR)", x=value) for value in values]
    parts = [template("CAST(TEXT_LENGTH(:x) AS VARCHAR) || ':' || :x", x=text) for text in texts]
    joined = parts[0]
    for part in parts[1:]:
        joined = template(":a || :b", a=joined, b=part)
    return joined


def before(rows: str, source: SqlColumns, time: str | None, moment: exp.Expr) -> exp.Select:
    """The rows of a table that are known before the moment; all, when nothing says their time."""
    select = exp.select("*").from_(f"{rows} AS d")
    if time is None:
        return select
    return select.where(template(":i < :moment", i=node_of(source.instant(time)), moment=moment))


def instant_of(moment: datetime) -> exp.Expr:
    """The moment in microseconds since 1970."""
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return number(since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds)
