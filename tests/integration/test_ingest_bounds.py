"""Files that are small and would become large or deep: refused before the engine reads them, with the limit."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.engines.duckdb import parquet_footer
from service.engines.duckdb.engine import DuckDBEngine
from service.engines.duckdb.parquet_footer import MAX_NESTING, Footer, read_footer
from service.engines.limits import Limits
from service.features.errors import DatasetTooLarge, DatasetUnreadable
from service.features.model import MediaType, Profile
from service.store.artifacts import FolderArtifacts

LIMITS = Limits(memory_bytes=512 * 2**20, threads=2, scratch_bytes=64 * 2**20, seconds=60.0)
CSV: MediaType = "text/csv"
NDJSON: MediaType = "application/x-ndjson"
PARQUET: MediaType = "application/vnd.apache.parquet"


async def ingest(folder: Path, content: bytes, media_type: MediaType, **limits: int) -> Profile:
    """Read an upload within those limits."""
    artifacts = FolderArtifacts(folder / "artifacts")
    (folder / "content").write_bytes(content)
    await artifacts.put_file("upload", folder / "content")
    engine = DuckDBEngine(artifacts, replace(LIMITS, **limits), folder / "scratch")
    return await engine.ingest("upload", media_type, "typed.parquet")


def nested(kind: str, levels: int) -> pa.Table:
    """A column `ok`, and one of that kind within itself."""
    type_: Any = pa.int8()
    value: Any = 1
    for _ in range(levels):
        if kind == "list":
            type_, value = pa.list_(type_), [value]
        elif kind == "struct":
            type_, value = pa.struct([("x", type_)]), {"x": value}
        else:
            type_, value = pa.map_(pa.string(), type_), [("k", value)]
    return pa.table({"ok": pa.array([1]), "deep": pa.array([value], type_)})


def parquet(table: pa.Table) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def repeated(rows: int, pieces: int = 1) -> bytes:
    """A Parquet file of one small integer, again and again."""
    sink = io.BytesIO()
    column = pa.array([0] * rows, pa.int8())
    with pq.ParquetWriter(sink, pa.schema([("a", pa.int8())]), compression="zstd") as writer:
        for _ in range(pieces):
            writer.write_table(pa.table({"a": column}), row_group_size=rows)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["list", "struct", "map"])
async def test_nesting_in_parquet_is_bounded(kind: str, tmp_path: Path) -> None:
    """Eight levels are read; one more is refused with the column and the limit, and sixty as quickly."""
    assert (await ingest(tmp_path, parquet(nested(kind, MAX_NESTING)), PARQUET)).row_count == 1
    for levels in (MAX_NESTING + 1, 60):
        began = time.monotonic()
        with pytest.raises(DatasetUnreadable, match=f"'deep'.* {MAX_NESTING} deep"):
            await ingest(tmp_path, parquet(nested(kind, levels)), PARQUET)
        assert time.monotonic() - began < 5


async def test_rows_and_cells_of_parquet_are_known_from_its_footer(tmp_path: Path) -> None:
    """200 million rows in less than a megabyte are refused without reading them."""
    content = repeated(10_000_000, 20)
    assert len(content) < 2**20
    began = time.monotonic()
    with pytest.raises(DatasetTooLarge, match="200,000,000 rows; at most 100,000,000"):
        await ingest(tmp_path, content, PARQUET)
    assert time.monotonic() - began < 5
    small = parquet(pa.table({"a": [1, 2, 3], "b": [1, 2, 3]}))
    with pytest.raises(DatasetTooLarge, match="6 cells; at most 5"):
        await ingest(tmp_path, small, PARQUET, max_cells=5)
    assert (await ingest(tmp_path, small, PARQUET, max_rows=3, max_cells=6)).row_count == 3


async def test_a_file_may_not_grow_out_of_all_proportion(tmp_path: Path) -> None:
    """Above 256 MiB a dataset may be a thousand times its file: as cells, as bytes, and in NDJSON."""
    with pytest.raises(DatasetUnreadable, match="expands to at least 400,000,000 bytes"):
        await ingest(tmp_path, repeated(10_000_000, 5), PARQUET)
    zeros = pa.table({"a": pa.array(["0" * 2**20] * 300)})
    sink = io.BytesIO()
    pq.write_table(zeros, sink, compression="zstd", use_dictionary=False)
    with pytest.raises(DatasetUnreadable, match="expands to at least"):
        await ingest(tmp_path, sink.getvalue(), PARQUET)
    wide = b"{" + b",".join(b'"k%d":1' % key for key in range(2000)) + b"}\n" + b"{}\n" * 200_000
    with pytest.raises(DatasetUnreadable, match="expands to at least 3,200,016,000 bytes"):
        await ingest(tmp_path, wide, NDJSON)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"a,b\n" + b"1,2\n" * 1000, CSV),
        (b"a,b\n" + b'1,"2\n"\n' * 1000, CSV),
        (b'{"a":1,"b":2}\n' * 1000, NDJSON),
        (b'{"a":1,"b":2}\n\n' * 1000, NDJSON),
    ],
)
async def test_rows_and_cells_of_text_are_bounded(content: bytes, media_type: MediaType, tmp_path: Path) -> None:
    """Exactly as many as are allowed are read; a row or a cell more is refused, with both numbers."""
    found = await ingest(tmp_path, content, media_type, max_rows=1000, max_cells=2000)
    assert (found.row_count, len(found.columns)) == (1000, 2)
    with pytest.raises(DatasetTooLarge, match="1,000 rows; at most 999"):
        await ingest(tmp_path, content, media_type, max_rows=999)
    with pytest.raises(DatasetTooLarge, match="2,000 cells; at most 1,999"):
        await ingest(tmp_path, content, media_type, max_cells=1999)


async def test_plain_lines_are_counted_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text without quotes and blank lines is refused by its lines alone."""

    async def read(*_: object) -> int:
        raise AssertionError("it was read")

    monkeypatch.setattr("service.engines.duckdb.ingest_csv._copy", read)
    with pytest.raises(DatasetTooLarge):
        await ingest(tmp_path, b"a,b\n" + b"1,2\n" * 1000, CSV, max_rows=999)


@pytest.mark.parametrize("levels", [32, 10_000])
async def test_nesting_in_ndjson_is_bounded(levels: int, tmp_path: Path) -> None:
    """The line and the limit are named; brackets within strings and beside each other are no levels."""
    fine = b'{"a":' + b"[" * 31 + b"]" * 31 + b"}\n"
    beside = b'{"a":[' + b",".join([b'{"x":[1,"]"]}'] * 200) + b'],"b":"' + b"[{" * 100 + b'\\""}\n'
    assert (await ingest(tmp_path, fine + beside, NDJSON)).row_count == 2
    deep = b'{"a":' + b"[" * levels + b"]" * levels + b"}\n"
    with pytest.raises(DatasetUnreadable, match="row 2 has objects or arrays within each other more than 32 deep"):
        await ingest(tmp_path, fine + deep, NDJSON)


def test_the_footer_tells_columns_and_rows(tmp_path: Path) -> None:
    """Whoever wrote the file; groups that repeat without a list around them count as levels."""
    path = tmp_path / "file.parquet"
    path.write_bytes(parquet(pa.table({"a": [1, 2], "b": [[1], []], "c": [{"x": {"y": 1}}, None]})))
    assert read_footer(path) == Footer(3, 2)


@pytest.mark.parametrize(
    ("bound", "words"),
    [("MAX_FOOTER_BYTES", "bytes"), ("MAX_SCHEMA_ELEMENTS", "elements"), ("MAX_ROW_GROUPS", "row groups")],
)
def test_the_footer_itself_is_bounded(bound: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes, the elements of its schema, and its row groups."""
    path = tmp_path / "file.parquet"
    path.write_bytes(repeated(10, 3))
    monkeypatch.setattr(parquet_footer, bound, 1)
    with pytest.raises(DatasetUnreadable, match=f"{words}; at most 1 "):
        read_footer(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_bytes_for_a_footer_end_soon(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Damaged footers are refused, or read as far as they make sense; nothing else is raised."""
    whole = bytearray(parquet(nested("list", 3)))
    length = int.from_bytes(whole[-8:-4], "little")
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, length - 1))
        whole[len(whole) - 8 - length + place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("footer") / "file.parquet"
    path.write_bytes(bytes(whole))
    try:
        found = read_footer(path)
    except DatasetUnreadable:
        return
    assert found.columns >= 0
