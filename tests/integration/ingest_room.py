"""What tests of reading uploads share: an engine in a folder of its own, and files to upload."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import Struct

from service.engines.duckdb.engine import DuckDBEngine
from service.engines.limits import Limits
from service.features.errors import InvalidRequest
from service.features.model import NO_OVERRIDES, ColumnProfile, MediaType, Profile, ReadOptions
from service.store.artifacts import open_artifacts

LIMITS = Limits(memory_bytes=256 * 2**20, threads=2, scratch_bytes=64 * 2**20, seconds=60.0)
CSV, NDJSON, PARQUET = "text/csv", "application/x-ndjson", "application/vnd.apache.parquet"
ROW_ID = "__row_id"


class Ingested(Struct, frozen=True):
    """What became of an upload."""

    profile: Profile
    table: pa.Table

    def __getitem__(self, name: str) -> tuple[str, list[Any]]:
        """A column's physical type and values."""
        return self.column(name).physical_type, self.table[name].to_pylist()

    def column(self, name: str) -> ColumnProfile:
        """A column's profile."""
        found = self.profile.column(name)
        assert found is not None
        return found

    @property
    def names(self) -> list[str]:
        """The typed file's columns, without the row's position."""
        assert self.table.column_names[-1] == ROW_ID
        return self.table.column_names[:-1]

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The typed file's rows, without their positions."""
        return list(zip(*(self.table[name].to_pylist() for name in self.names), strict=True))


class Room:
    """An engine over a folder of its own."""

    def __init__(self, folder: Path, limits: Limits = LIMITS) -> None:
        self.folder = folder
        self.artifacts = open_artifacts(str(folder / "artifacts"))
        self.engine = DuckDBEngine(self.artifacts, limits, folder / "scratch")

    async def ingest(
        self, content: bytes | str, media_type: MediaType = CSV, overrides: ReadOptions = NO_OVERRIDES
    ) -> Ingested:
        """Upload the content and read what ingest made of it."""
        upload = self.folder / "upload"
        upload.write_bytes(content.encode() if isinstance(content, str) else content)
        await self.artifacts.put_file("upload", upload)
        profile = await self.engine.ingest("upload", media_type, "typed.parquet", overrides=overrides)
        assert list((self.folder / "scratch").iterdir()) == []
        return Ingested(profile, pq.read_table(self.folder / "artifacts" / "typed.parquet"))

    async def refusal(
        self, content: bytes | str, media_type: MediaType = CSV, overrides: ReadOptions = NO_OVERRIDES
    ) -> InvalidRequest:
        """The error that the content is refused with, DatasetUnreadable or its base; nothing is left behind."""
        with pytest.raises(InvalidRequest) as caught:
            await self.ingest(content, media_type, overrides)
        assert not (self.folder / "artifacts" / "typed.parquet").exists()
        assert list((self.folder / "scratch").iterdir()) == []
        return caught.value


def columns_as_csv(columns: dict[str, Sequence[str]], delimiter: str = "|") -> str:
    """A file with these columns, the shorter ones filled up with empty cells."""
    depth = max(len(values) for values in columns.values())
    filled = [[*values, *[""] * (depth - len(values))] for values in columns.values()]
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*filled, strict=True))
    return sink.getvalue()


def lines(*objects: object) -> str:
    """NDJSON of these objects; a text is a line as it is."""
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in objects)


def parquet(**columns: Any) -> bytes:
    """A Parquet file of these columns."""
    return parquet_of(pa.table(columns))


def parquet_of(table: pa.Table) -> bytes:
    """A Parquet file of this table."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def at(*parts: int) -> datetime:
    """An instant in UTC, as typed files hold it."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[arg-type, misc] - the date's own parts


def short(value: object) -> str:
    """The name of a case: the beginning of its content."""
    return repr(value)[:40] if isinstance(value, str | bytes) else type(value).__name__
