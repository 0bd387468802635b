"""Open the datasets of a request as views, and check what its joins rely on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.statements import Connection, template
from service.engines.sql.relations import OBSERVATIONS, level_rows, view_of
from service.engines.sql.template import column
from service.features.joins import invalid
from service.features.model import FieldError
from service.features.tables import Tables

OPEN = "SELECT * FROM READ_PARQUET(:path)"
REPEATED = """SELECT CAST(ANY_VALUE(:key) AS VARCHAR), COUNT(*), MIN(:row), MAX(:row)"""
MAX_PAIRS = 200_000_000
"""Rows that are joined to observations, each once for every observation that may know it: some minutes of work."""
PAIRS = "SELECT CAST(COALESCE(SUM(CAST(o.n AS DOUBLE) * d.n), 0) AS DOUBLE) FROM :o AS o JOIN :d AS d ON o.k = d.k"


class _UniqueKey(Struct, frozen=True):
    """A column in which no value may come twice."""

    view: str
    dataset_id: str
    column: str
    personal: bool
    path: str


def views(tables: Tables) -> Iterator[str]:
    """The views' names, in the order of `Tables.all`."""
    yield from (view_of(place) for place in range(len(tables.related) + 1))
    if tables.observed is not None:
        yield OBSERVATIONS


def open_tables(connection: Connection, tables: Tables, paths: Sequence[Path]) -> None:
    """Make a view of each file, which are in the order of `Tables.all`."""
    for view, path in zip(views(tables), paths, strict=True):
        rows = template(OPEN, path=str(path))
        assert isinstance(rows, exp.Select)  # noqa: S101 -- tells the type checker
        connection.name(view, rows)


def check_joins(connection: Connection, tables: Tables) -> None:
    """Raise InvalidRequest for a key that is not unique where it must be, and for too many observed rows."""
    for key in _unique_keys(tables):
        repeated = connection.query(_repeated(key))
        if repeated:
            raise invalid([FieldError(key.path, _words(key, *repeated[0]))])
    if tables.observed is not None and (pairs := _pairs(connection, tables)) > MAX_PAIRS:
        message = (
            f"its rows see {pairs:.0f} rows of their entities' histories together; at most {MAX_PAIRS} can be read"
        )
        raise invalid([FieldError("options.observations.dataset_id", message)])


def _unique_keys(tables: Tables) -> Iterator[_UniqueKey]:
    for place, table in enumerate(tables.layout.tables):
        join = table.join
        if join is None or join.kind == "as_of" or join.on is None or join.other is None:
            continue
        path = f"options.related[{place - 1}]"
        if join.kind == "parent":
            yield _unique_key(tables, place, join.on, f"{path}.on")
        else:
            yield _unique_key(tables, join.to, join.other, f"{path}.to_on")


def _unique_key(tables: Tables, place: int, name: str, path: str) -> _UniqueKey:
    table = tables.layout.tables[place]
    known = table.profile.column(name)
    return _UniqueKey(view_of(place), table.name, name, known is not None and known.personal, path)


def _repeated(key: _UniqueKey) -> exp.Select:
    """The first value that comes twice, how often, and two of its rows."""
    name = column(key.column)
    rows = template(REPEATED, key=name, row=column("__row_id"))
    assert isinstance(rows, exp.Select)  # noqa: S101 -- tells the type checker
    rows = rows.from_(f"{key.view} AS d").where(template("NOT :k IS NULL", k=name)).group_by(name)
    return rows.having(template("COUNT(*) > 1")).order_by(template("MIN(:row)", row=column("__row_id"))).limit(1)


def _words(key: _UniqueKey, value: str, count: int, first: int, last: int) -> str:
    shown = "a value" if key.personal else repr(value[:80])
    return (
        f"{key.column!r} of {key.dataset_id!r} must be unique, and {shown} is in {count} rows "
        f"({first + 1} and {last + 1} among them): rows would multiply"
    )


def _pairs(connection: Connection, tables: Tables) -> float:
    """At most so many rows are joined to observations, those of all levels together."""
    observations, entity = tables.options.observations, tables.entity
    if observations is None or entity is None:
        return 0.0
    observed = _counts(exp.select(column(observations.entity)).from_(f"{OBSERVATIONS} AS d"), observations.entity)
    found = 0.0
    for level in tables.layout.levels:
        rows = _counts(level_rows(tables.layout, level, [entity]), entity)
        found += float(connection.query(template(PAIRS, o=observed, d=rows))[0][0])
    return found


def _counts(rows: exp.Select, name: str) -> exp.Expr:
    """SELECT k and n: how many rows have each value of the column."""
    counts = exp.select(exp.alias_(column(name), "k"), exp.alias_(template("COUNT(*)"), "n"))
    return counts.from_(rows.subquery("d")).group_by(column(name)).subquery(copy=False)
