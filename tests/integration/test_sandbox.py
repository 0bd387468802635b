"""The sandbox against a real DuckDB: what it lets through, what it refuses, and that it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from service.engines.duckdb.sandbox import Sandbox, sandbox
from service.engines.limits import Limits
from service.features.errors import ComputeOutOfMemory, DeadlineExceeded

LIMITS = Limits(memory_bytes=64 * 2**20, threads=1, scratch_bytes=8 * 2**20, seconds=30.0)
ENDLESS = "SELECT COUNT(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3"


def content(path: Path) -> bytes:
    """The file's bytes."""
    return path.read_bytes()


def listed(folder: Path) -> list[Path]:
    """What is in the folder."""
    return list(folder.iterdir())


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A Parquet file that the sandbox may read, with a quote in its name."""
    path = tmp_path / "it's.parquet"
    with duckdb.connect() as connection:
        connection.sql("SELECT 42 AS x").write_parquet(str(path))
    return path


@pytest.fixture
async def box(tmp_path: Path, table: Path) -> AsyncIterator[Sandbox]:
    """A sandbox with that file."""
    async with sandbox(LIMITS, scratch=tmp_path / "scratch", readable=[table]) as opened:
        yield opened


async def test_the_given_file_is_read(box: Sandbox, table: Path) -> None:
    """A readable file is read, its path given as a parameter."""
    assert await box.execute("SELECT x FROM read_parquet(?)", [str(table)]) == [(42,)]


async def test_its_own_folder_is_written(box: Sandbox) -> None:
    """Results are copied into the folder, and read back from there."""
    path = str(box.folder / "out.parquet")
    await box.execute("COPY (SELECT 7 AS y) TO ? (FORMAT PARQUET)", [path])
    assert await box.execute("SELECT y FROM read_parquet(?)", [path]) == [(7,)]


async def test_instants_are_utc(box: Sandbox) -> None:
    """The session's time zone is UTC wherever the service runs."""
    assert await box.execute("SELECT current_setting('TimeZone')") == [("UTC",)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('/etc/*.parquet')",
        "COPY (SELECT 1) TO '/tmp/escaped.csv'",
        "ATTACH '/tmp/escaped.db' AS other",
        "EXPORT DATABASE '/tmp/escaped'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '64GB'",
        "SET threads = 64",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET allowed_directories = ['/']",
        "RESET ALL",
        "PRAGMA enable_profiling",
        "SELECT * FROM read_csv('http://127.0.0.1:1/secret.csv')",
        "SELECT * FROM read_parquet('s3://bucket/secret.parquet')",
        "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
        "SELECT getenv('HOME')",
        "SELECT * FROM box",
    ],
)
async def test_the_outside_is_refused(box: Sandbox, statement: str) -> None:
    """Files, network, extensions, settings, environment and Python's own variables are out of reach."""
    with pytest.raises(duckdb.Error):
        await box.execute(statement)


async def test_paths_out_of_the_folder_are_refused(box: Sandbox, tmp_path: Path) -> None:
    """Neither dots nor a symbolic link lead out of the folder."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    (box.folder / "link.csv").symlink_to(secret)
    (box.folder / "up").symlink_to(tmp_path)
    for path in (box.folder / "../../secret.csv", box.folder / "link.csv", box.folder / "up" / "secret.csv"):
        with pytest.raises(duckdb.Error, match="Permission"):
            await box.execute("SELECT * FROM read_csv(?)", [str(path)])
    with pytest.raises(duckdb.Error, match="Permission"):
        await box.execute("COPY (SELECT 1) TO ?", [str(box.folder / "up" / "written.csv")])
    assert not (tmp_path / "written.csv").exists()


async def test_the_readable_file_is_not_writable(box: Sandbox, table: Path) -> None:
    """Permission to read a file is none to overwrite it."""
    before = content(table)
    with pytest.raises(duckdb.Error, match="Permission"):
        await box.execute("COPY (SELECT 1 AS x) TO ? (FORMAT PARQUET)", [str(table)])
    assert content(table) == before


async def test_cancelling_interrupts_the_statement(box: Sandbox) -> None:
    """A hostile cross join ends when its task is cancelled, and the sandbox goes on working."""
    running = asyncio.create_task(box.execute(ENDLESS))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await box.execute("SELECT 1") == [(1,)]


async def test_cancelling_twice_leaves_nothing_running(tmp_path: Path) -> None:
    """A second cancellation, while the statement is being interrupted, does not leave it behind."""
    async with sandbox(LIMITS, scratch=tmp_path, readable=[]) as box:
        running = asyncio.create_task(box.execute(ENDLESS))
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await box.execute("SELECT 1") == [(1,)]


async def test_time_used_up_is_an_error(tmp_path: Path) -> None:
    """Statements share the sandbox's time; what is over it is interrupted, and nothing more is begun."""
    limits = Limits(LIMITS.memory_bytes, 1, LIMITS.scratch_bytes, seconds=0.2)
    async with sandbox(limits, scratch=tmp_path, readable=[]) as box:
        with pytest.raises(DeadlineExceeded):
            await box.execute(ENDLESS)
        with pytest.raises(DeadlineExceeded):
            await box.execute(ENDLESS)


async def test_memory_used_up_is_an_error(box: Sandbox) -> None:
    """A statement that fits into neither memory nor scratch space fails as such."""
    statement = "SELECT len(list(range)) FROM range(20000000)"
    with pytest.raises(ComputeOutOfMemory):
        await box.execute(statement)


async def test_an_error_of_the_work_is_raised_as_it_is(box: Sandbox) -> None:
    """Work that runs in the sandbox's thread raises its own errors to the caller."""
    with pytest.raises(ZeroDivisionError):
        await box.run(lambda execute: len(execute("SELECT 1")) / 0)


async def test_the_folder_is_gone_afterwards(tmp_path: Path) -> None:
    """Whatever was written is removed, also after an error."""
    async with sandbox(LIMITS, scratch=tmp_path, readable=[]) as box:
        folder = box.folder
        (folder / "left.txt").write_text("over")
    assert not folder.exists()
    with pytest.raises(RuntimeError):
        async with sandbox(LIMITS, scratch=tmp_path, readable=[]) as box:
            raise RuntimeError
    assert listed(tmp_path) == []


async def test_sandboxes_share_nothing(tmp_path: Path) -> None:
    """A table of one sandbox does not exist in another."""
    async with (
        sandbox(LIMITS, scratch=tmp_path, readable=[]) as one,
        sandbox(LIMITS, scratch=tmp_path, readable=[]) as other,
    ):
        await one.execute("CREATE TABLE mine AS SELECT 1")
        with pytest.raises(duckdb.CatalogException):
            await other.execute("SELECT * FROM mine")
