"""Write a feature table as CSV or NDJSON, also as CSV in which no text is a formula to a spreadsheet."""

from __future__ import annotations

import re
from pathlib import Path

from sqlglot import exp

from service.engines.duckdb.ingest_parquet import PLAIN_TYPES, describe
from service.engines.duckdb.ingest_sql import call, case, cast, holds, named, parquet, reference, run, string
from service.engines.duckdb.sandbox import Row, Sandbox
from service.engines.duckdb.statements import template
from service.features.model import SPREADSHEET_CSV, TableForm

CSV = "COPY (SELECT * FROM :rows) TO :path (FORMAT CSV, HEADER TRUE)"
NDJSON = "COPY (SELECT * FROM :rows) TO :path (FORMAT JSON)"

FORMULA_START = re.compile("^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""What a cell begins with that spreadsheets run (OWASP, CSV injection), with the full-width forms."""
GUARD = "'"
"""What makes text of a cell; spreadsheets do not show it."""


async def write_table(box: Sandbox, source: Path, target: Path, form: TableForm) -> None:
    """Render a Parquet file with all its rows. Raises what `Sandbox.run` raises."""
    described: list[Row] = []
    if form == SPREADSHEET_CSV:
        described = await box.execute(describe(source).sql(dialect="duckdb"))
    await run(box, lambda: _copy(source, target, form, described))


def _copy(source: Path, target: Path, form: TableForm, described: list[Row]) -> exp.Expr:
    rows = _guarded(source, described).subquery() if form == SPREADSHEET_CSV else parquet(source, 0)
    return template(NDJSON if form == "application/x-ndjson" else CSV, rows=rows, path=string(str(target)))


def _guarded(source: Path, described: list[Row]) -> exp.Select:
    """Select all columns, with an apostrophe before names and texts that begin as a formula."""
    columns = [
        named(_guarded_cell(position, kind), _guarded_name(name), quoted=True)
        for position, (name, kind, *_) in enumerate(described)
    ]
    return exp.select(*columns).from_(parquet(source, len(described)), copy=False)


def _guarded_cell(position: int, kind: str) -> exp.Expr:
    cell = reference(position)
    if PLAIN_TYPES.get(kind.partition("(")[0], "VARCHAR") != "VARCHAR":
        return cell
    text = cast(cell, "VARCHAR")
    return case((holds(text, FORMULA_START), call("concat", string(GUARD), text)), otherwise=text)


def _guarded_name(name: str) -> str:
    return GUARD + name if FORMULA_START.match(name) else name
