"""Reading an NDJSON upload: one object a line, its scalars as text cells, nested objects flattened one level."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.detect import PreparedText
from service.engines.duckdb.detect_dialect import SINGLE_COLUMN
from service.engines.duckdb.ingest_csv import rejects, scan
from service.engines.duckdb.ingest_source import (
    MAX_COLUMNS,
    MAX_FAULTS,
    Source,
    SourceColumn,
    no_rows,
    require_width,
    unique_names,
    unreadable,
)
from service.engines.duckdb.ingest_sql import (
    call,
    case,
    listed,
    long_form,
    named,
    number,
    parquet,
    reference,
    run,
    string,
    write_parquet,
)
from service.engines.duckdb.sandbox import Row, Sandbox
from service.engines.limits import Limits, require_expansion
from service.features.errors import DatasetUnreadable
from service.features.model import FieldError

KEYS_IN_ONE_OBJECT = 1_000_000
"""More than an object of the longest line can have; keeps row and place apart in one number."""


MAX_DEPTH = 32
"""Objects and arrays within each other, the line's own object counted."""


class _Field(Struct, frozen=True):
    """One future column."""

    name: str
    pointer: str
    """Its place in each object (JSON Pointer, RFC 6901)."""


async def read_ndjson(box: Sandbox, text: PreparedText, limits: Limits) -> Source:
    """The objects' values as a Parquet file of text columns, keys in the order of their first appearance.

    Raises DatasetUnreadable, naming lines, for a line that is not one whole JSON object or is nested too deep;
    DatasetTooLarge.
    """
    if text.head.lstrip().startswith("["):
        raise DatasetUnreadable("The file is one JSON array. Send NDJSON: one object a line, without brackets around.")
    limits.require_size(text.min_rows, 1)
    lines = await _lines(box, text)
    faults = await _faults(box, lines)
    if faults:
        raise unreadable("The file is not NDJSON, which has one JSON object a line", faults)
    rows = await _count(box, lines)
    size = (await asyncio.to_thread(text.path.stat)).st_size

    def require(columns: int) -> None:
        require_width(columns)
        limits.require_size(rows, columns)
        require_expansion(size, rows, columns)

    fields = await _fields(box, lines, require)
    if not fields:
        raise no_rows("lines")
    path = box.folder / "cells.parquet"
    await run(box, lambda: write_parquet(_extract(lines, fields), path, len(fields)))
    names, renamed = unique_names([field.name for field in fields])
    columns = tuple(SourceColumn(name, position, "VARCHAR") for position, name in enumerate(names))
    return Source(path, len(fields), columns, notes=(*text.notes, *renamed))


async def _lines(box: Sandbox, text: PreparedText) -> Path:
    """The file's lines as one text column, blank ones null, so that a row's number is its line's."""
    path = box.folder / "lines.parquet"
    query = scan(text.path, SINGLE_COLUMN, "", 1, header=False)
    try:
        await run(box, lambda: write_parquet(query, path, 1))
    except duckdb.Error as error:
        raise DatasetUnreadable("The file cannot be read line by line. Send one JSON object a line.") from error
    if await rejects(box):
        raise DatasetUnreadable("A line holds a control character or is longer than 8 MiB. Send smaller objects.")
    return path


async def _count(box: Sandbox, lines: Path) -> int:
    query = exp.select("count(*)").from_(parquet(lines, 1)).where(_not_blank())
    return int((await run(box, lambda: query))[0][0])


def _not_blank() -> exp.Expr:
    return exp.NEQ(this=call("trim", reference(0)), expression=string(""))


async def _faults(box: Sandbox, lines: Path) -> list[FieldError]:
    line = reference(0)
    kind = case(
        (call("json_valid", line.copy()).not_(), string("INVALID")),
        (_is_deep(line), string("DEEP")),
        otherwise=call("json_type", line.copy()),
    )
    query = (
        exp.select(exp.column("r"), exp.alias_(kind, "kind"))
        .from_(parquet(lines, 1, row_number=True))
        .where(_not_blank(), exp.NEQ(this=kind.copy(), expression=string("OBJECT")))
        .order_by("r")
        .limit(MAX_FAULTS)
    )
    return [FieldError(f"row {row + 1}", _in_words(kind)) for row, kind in await run(box, lambda: query)]


def _is_deep(line: exp.Expr) -> exp.Expr:
    """Whether objects and arrays stand within each other deeper than MAX_DEPTH.

    Strings and scalars are cut out, then the innermost brackets, a level at a time: what is left in the end is deeper.
    Only lines with so many brackets are looked at.
    """
    brackets = exp.Sub(this=call("length", line.copy()), expression=call("length", _cut(line.copy(), r"[\[{]")))
    left = _cut(_cut(line.copy(), r'"(?:[^"\\]|\\.)*"'), r"[^\[\]{}]+")
    for _ in range(MAX_DEPTH):
        left = _cut(left, r"\[\]|\{\}")
    return exp.and_(exp.GT(this=exp.Paren(this=brackets), expression=number(MAX_DEPTH)), left.neq(""))


def _cut(value: exp.Expr, pattern: str) -> exp.Expr:
    return call("regexp_replace", value, string(pattern), string(""), string("g"))


def _in_words(kind: str) -> str:
    words = {
        "INVALID": "is not one valid JSON value",
        "ARRAY": "is a JSON array, not an object",
        "DEEP": f"has objects or arrays within each other more than {MAX_DEPTH} deep, which is the limit",
    }
    return words.get(kind, "is a single JSON value, not an object")


async def _fields(box: Sandbox, lines: Path, require: Callable[[int], None]) -> list[_Field]:
    """The future columns; `require` raises for too many of them, as soon as they are known."""
    keys = await _keys(box, lines, "")
    require(len(keys))
    nested = await _nested(box, lines, keys)
    fields: list[_Field] = []
    for position, key in enumerate(keys):
        pointer = _pointer(key)
        children = await _keys(box, lines, pointer) if position in nested else []
        fields.extend(_Field(f"{key}_{child}", pointer + _pointer(child)) for child in children)
        if not children:
            fields.append(_Field(key, pointer))
        require(len(fields))
    return fields


async def _keys(box: Sandbox, lines: Path, pointer: str) -> list[str]:
    """Keys of the objects at a place, in the order of their first appearance.

    Raises DatasetUnreadable for a key with a NUL character, which no database takes as text.
    """
    arguments = [reference(0), string(pointer)] if pointer else [reference(0)]
    keys = call("json_keys", *arguments)
    places = call("unnest", call("range", call("len", keys.copy())))
    each = exp.select(exp.alias_(call("unnest", keys), "k"), exp.alias_(places, "p"), "r")
    each = each.from_(parquet(lines, 1, row_number=True)).where(_not_blank())
    appearance = exp.Add(
        this=exp.Mul(this=exp.column("r"), expression=number(KEYS_IN_ONE_OBJECT)), expression=exp.column("p")
    )
    query = (
        exp.select("k").from_(each.subquery()).group_by("k").order_by(call("min", appearance)).limit(MAX_COLUMNS + 1)
    )
    found = [row[0] for row in await run(box, lambda: query)]
    if any("\0" in key for key in found):
        raise DatasetUnreadable("A key holds the NUL character. Rename that key.")
    return found


async def _nested(box: Sandbox, lines: Path, keys: Sequence[str]) -> set[int]:
    """Positions of the keys whose every value is an object or null."""
    if not keys:
        return set()
    pointers = listed(string(_pointer(key)) for key in keys)
    types = exp.select(named(call("json_type", reference(0), pointers), "types"))
    types = types.from_(parquet(lines, 1), copy=False).where(_not_blank(), copy=False)
    cells = [(i, call("list_extract", exp.column("types"), number(i + 1))) for i in range(len(keys))]
    rows = long_form(types.subquery(copy=False), cells)
    query = exp.select("k", "v").distinct(copy=False).from_(rows, copy=False)
    found: dict[int, set[str]] = {}
    kinds_found: list[Row] = await run(box, lambda: query)
    for position, kind in kinds_found:
        found.setdefault(position, set()).add(kind)
    return {position for position, kinds in found.items() if "OBJECT" in kinds and kinds <= {"OBJECT", "NULL"}}


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _extract(lines: Path, fields: Sequence[_Field]) -> exp.Select:
    pointers = listed(string(field.pointer) for field in fields)
    values = exp.select(named(call("json_extract_string", reference(0), pointers), "x"))
    values = values.from_(parquet(lines, 1), copy=False).where(_not_blank(), copy=False)
    cells = [named(call("list_extract", exp.column("x"), number(i + 1)), f"c{i}") for i in range(len(fields))]
    return exp.select(*cells).from_(values.subquery(copy=False), copy=False)
