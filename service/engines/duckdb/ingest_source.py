"""What a reader of one format hands on: a Parquet file with the upload's cells, and what its columns are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.ingest_sql import parquet
from service.engines.sql.template import ROW_ID
from service.features.errors import DatasetUnreadable
from service.features.model import FieldError

MAX_COLUMNS = 10_000
MAX_NAME_CHARACTERS = 256
MAX_FAULTS = 5
"""Faults listed in one error: enough to see the pattern."""
MAX_NOTES = 40
MAX_NAMES = 10
"""Columns named in one note."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class SourceColumn(Struct, frozen=True):
    """One column of the upload."""

    name: str
    """Unique; as the upload spells it wherever that is possible."""
    position: int
    """In the file."""
    type: str
    """The file's own type, as the engine names it; VARCHAR for text formats."""


class Source(Struct, frozen=True):
    """The upload as a Parquet file."""

    path: Path
    width: int
    """Columns in the file; those that cannot be used are not among `columns`."""
    columns: tuple[SourceColumn, ...]
    notes: tuple[str, ...] = ()
    typed: bool = False
    """The file itself says its columns' types."""
    decimal_comma: bool = False
    """Numbers may be written with a decimal comma."""
    padded_cells: bool = False
    """Spaces around all values of a column stand between cells, rather than in them."""

    @property
    def scan(self) -> exp.Table:
        """The file, its columns called by position, as those of a file of text cells are already."""
        return parquet(self.path, self.width if self.typed else 0)


def unique_names(raw: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Usable, unique column names, and a note on each that had to change.

    Unique without regard to case, because the engine's names are.
    """
    taken: dict[str, int] = {ROW_ID: 1}
    names: list[str] = []
    notes: list[str] = []
    for position, written in enumerate(raw, start=1):
        wanted = CONTROL.sub(" ", written).strip()
        name = _free(_shortened(wanted) or f"column_{position}", taken)
        names.append(name)
        if name != wanted:
            notes.append(f"column {position} {_reason(wanted)}: now {name!r}")
    return tuple(names), tuple(notes)


def merged(remarks: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Notes from names of columns and remarks on them, an equal remark on several columns being one note."""
    names: dict[str, list[str]] = {}
    for name, remark in remarks:
        names.setdefault(remark, []).append(name)
    return tuple(f"{_listed(those)}: {remark}" for remark, those in names.items())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:MAX_NAMES])
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES} more columns"


def bounded(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes, the last of them saying how many were left out when there are too many."""
    every = tuple(notes)
    if len(every) <= MAX_NOTES:
        return every
    return (*every[: MAX_NOTES - 1], f"and {len(every) - MAX_NOTES + 1} more notes like these")


def require_width(columns: int) -> None:
    """Raises DatasetUnreadable for a table that is wider than the service takes."""
    if columns > MAX_COLUMNS:
        raise DatasetUnreadable(
            f"The table has {columns} columns; at most {MAX_COLUMNS} are taken. Leave out columns that are not needed."
        )


def unreadable(what: str, faults: Sequence[FieldError]) -> DatasetUnreadable:
    """The error for rows at fault; its message repeats the first of them."""
    first = faults[0]
    return DatasetUnreadable(f"{what}: {first.field} {first.message}.", errors=faults[:MAX_FAULTS])


def no_rows(what: str) -> DatasetUnreadable:
    """The error for a table without rows."""
    return DatasetUnreadable(f"The file has {what} but no rows. Send at least one row of data.")


def _shortened(name: str) -> str:
    return name[:MAX_NAME_CHARACTERS].rstrip()


def _free(name: str, taken: dict[str, int]) -> str:
    """The name, numbered where it is taken; `taken` remembers the last number of each, so equal names stay cheap."""
    if name.casefold() == ROW_ID:
        name = "row_id"
    key, candidate = name.casefold(), name
    while candidate.casefold() in taken:
        taken[key] = taken.get(key, 1) + 1
        ending = f"_{taken[key]}"
        candidate = name[: MAX_NAME_CHARACTERS - len(ending)] + ending
    taken.setdefault(candidate.casefold(), 1)
    return candidate


def _reason(wanted: str) -> str:
    if not wanted:
        return "has no name"
    if wanted.casefold() == ROW_ID:
        return "has a name that the service uses"
    if len(wanted) > MAX_NAME_CHARACTERS:
        return f"has a name over {MAX_NAME_CHARACTERS} characters"
    return "has the name of an earlier column"
