"""Read what a Parquet file's footer declares, in bounded time, before the engine reads any of it.

The footer is a Thrift structure in the compact protocol (format specification, `parquet.thrift`). Only the schema, the
number of rows and the number of row groups are read; each is checked against its bound before what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from service.features.errors import DatasetUnreadable

MAX_FOOTER_BYTES = 64 * 2**20
MAX_SCHEMA_ELEMENTS = 50_000
MAX_ROW_GROUPS = 100_000
MAX_NESTING = 8
"""Lists, maps and structs within each other: rendering them takes time and memory that double with each."""
MAX_FIELD_DEPTH = 16
"""Thrift structures within each other; the format itself has fewer."""

LENGTH_BYTES = 4
MAX_SKIPPED = 2_000_000
"""Values that are not needed; a schema of 50 000 elements has some ten each."""
REPEATED = 2
"""Of `FieldRepetitionType`."""
CONVERTED_NESTED = frozenset({1, 2, 3})
"""Of `ConvertedType`: MAP, MAP_KEY_VALUE and LIST, whose repeated child is part of them."""
PAIR = 2
"""A map's repeated child has key and value; a list's has its element."""
LOGICAL_NESTED = frozenset({2, 3})
"""Of `LogicalType`: MAP and LIST, likewise."""

# Types of the compact protocol.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
MAX_SHIFT = 63
"""Of an integer's last seven bits."""
LONG_FORM = 15
"""From this length on, a list's length follows its header as a number of its own (Thrift compact protocol)."""


class Footer(Struct, frozen=True):
    """What the file declares of itself."""

    columns: int
    """At the top."""
    rows: int


class _Element(Struct, frozen=True):
    """One node of the schema, in depth-first order."""

    name: str
    children: int
    repeated: bool
    wrapped: bool
    """Whether it is a list or map, whose repeated child is no level of its own."""


class _Damaged(Exception):
    """The bytes are not what the format says."""


def damaged() -> DatasetUnreadable:
    """Return the error for a file that begins and ends as Parquet and is not sound inside."""
    return DatasetUnreadable("The Parquet file is damaged: its contents cannot be decoded. Write and send it again.")


def read_footer(path: Path) -> Footer:
    """Return what the footer declares.

    Raises DatasetUnreadable for a damaged footer, and for a footer, schema, nesting or number of row groups over its
    bound.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(size - 2 * LENGTH_BYTES)
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if length > size - 3 * LENGTH_BYTES:
            raise damaged()
        _require("The footer of the Parquet file has", length, MAX_FOOTER_BYTES, "bytes")
        file.seek(size - 2 * LENGTH_BYTES - length)
        content = file.read(length)
    try:
        return _parse(_Compact(content))
    except (_Damaged, IndexError):
        raise damaged() from None


def _parse(data: _Compact) -> Footer:
    columns = rows = None
    for field, kind in data.fields():
        if field == 2:  # noqa: PLR2004 -- `FileMetaData.schema`
            columns = _columns(data)
        elif field == 3:  # noqa: PLR2004 -- `FileMetaData.num_rows`
            rows = data.integer()
        elif field == 4:  # noqa: PLR2004 -- `FileMetaData.row_groups`, the last that is needed
            _require("The Parquet file has", data.list_size(), MAX_ROW_GROUPS, "row groups")
            break
        else:
            data.skip(kind)
    if columns is None or rows is None:
        raise _Damaged
    return Footer(columns, rows)


def _columns(data: _Compact) -> int:
    """Return the number of columns at the top, after every node was held against the bounds."""
    count = data.list_size()
    _require("The Parquet file's schema has", count, MAX_SCHEMA_ELEMENTS, "elements")
    if not count:
        raise _Damaged
    root = _element(data)
    open_nodes: list[tuple[int, int, bool]] = [(root.children, 0, False)]
    column = ""
    for _ in range(count - 1):
        while open_nodes and not open_nodes[-1][0]:
            open_nodes.pop()
        if not open_nodes:
            raise _Damaged
        left, depth, wrapped = open_nodes.pop()
        open_nodes.append((left - 1, depth, wrapped))
        node = _element(data)
        column = node.name if len(open_nodes) == 1 else column
        if node.children or node.repeated:
            part_of_parent = wrapped and node.repeated and node.children <= PAIR
            level = depth if part_of_parent else depth + 1
            _require_nesting(column, level)
            open_nodes.append((node.children, level, node.wrapped and not node.repeated))
    return root.children


def _element(data: _Compact) -> _Element:
    name, children, repeated, wrapped = "", 0, False, False
    for field, kind in data.fields():
        match field:
            case 3:
                repeated = data.integer() == REPEATED
            case 4:
                name = data.text()
            case 5:
                children = max(data.integer(), 0)
            case 6:
                wrapped = wrapped or data.integer() in CONVERTED_NESTED
            case 10:
                wrapped = data.union() in LOGICAL_NESTED or wrapped
            case _:
                data.skip(kind)
    return _Element(name, children, repeated, wrapped)


def _require(what: str, found: int, bound: int, unit: str) -> None:
    if found > bound:
        raise DatasetUnreadable(f"{what} {found:,} {unit}; at most {bound:,} are read. Write it anew in fewer.")


def _require_nesting(column: str, level: int) -> None:
    if level > MAX_NESTING:
        raise DatasetUnreadable(
            f"Column {column[:256]!r} holds lists, maps or structs within each other more than {MAX_NESTING} deep, "
            f"which is the limit. Flatten it, or leave it out."
        )


class _Compact:
    """A reader of Thrift's compact protocol; raises IndexError at the end of the bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self._skipped = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Iterate over a structure's fields as id and type; each value is to be read or skipped before the next."""
        field = 0
        while (head := self._byte()) != 0:
            field = field + (head >> 4) if head >> 4 else self.integer()
            yield field, head & 15

    def integer(self) -> int:
        """Read an integer of up to 64 bits."""
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def text(self) -> str:
        """Read a string."""
        return self._bytes(self._varint()).decode("utf-8", "replace")

    def list_size(self) -> int:
        """Read a list's header; returns the number of elements."""
        return self._list_header()[0]

    def union(self) -> int:
        """Read a union; returns the id of the field that it holds, 0 for none."""
        found = 0
        for field, kind in self.fields():
            found = field
            self.skip(kind)
        return found

    def skip(self, kind: int, depth: int = 0) -> None:
        """Read past a value."""
        self._skipped += 1
        if self._skipped > MAX_SKIPPED or depth > MAX_FIELD_DEPTH:
            raise _Damaged
        if kind in {BYTE, DOUBLE}:
            self._bytes(1 if kind == BYTE else 8)
        elif kind in {I16, I32, I64}:
            self._varint()
        elif kind == BINARY:
            self._bytes(self._varint())
        elif kind in {LIST, SET, MAP, STRUCT}:
            self._skip_parts(kind, depth + 1)
        elif kind not in {TRUE, FALSE}:  # these two have no bytes of their own
            raise _Damaged

    def _skip_parts(self, kind: int, depth: int) -> None:
        if kind == STRUCT:
            for _, part in self.fields():
                self.skip(part, depth)
            return
        if kind == MAP:
            size = self._varint()
            kinds = self._byte() if size else 0
            parts = (kinds >> 4, kinds & 15)
        else:
            size, part = self._list_header()
            parts = (part,)
        for _ in range(size):
            for part in parts:
                self.skip(BYTE if part in {TRUE, FALSE} else part, depth)

    def _list_header(self) -> tuple[int, int]:
        head = self._byte()
        size = head >> 4
        return (self._varint() if size == LONG_FORM else size), head & 15

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 128:
            number |= (byte & 127) << shift
            shift += 7
            if shift > MAX_SHIFT:
                raise _Damaged
        return number | byte << shift

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        if size > len(self._content) - self._at:
            raise _Damaged
        self._at += size
        return self._content[self._at - size : self._at]
