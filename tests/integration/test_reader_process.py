"""The reader process as the service uses it: real processes, real files, and every way in which one may end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.concurrency.deadline import deadline
from service.engines.apart import reader as reader_module
from service.engines.apart.messages import Cancel, Done, Ingest, Ping, Setup, packed
from service.engines.apart.process import serve
from service.engines.apart.reader import ReaderBroke, ReaderProcess
from service.engines.duckdb.engine import DuckDBEngine
from service.engines.limits import Limits
from service.features.context import CURRENT, RequestContext
from service.features.errors import ComputeFailed, DatasetUnreadable, DeadlineExceeded, DependencyUnavailable
from service.store.artifacts import FolderArtifacts

LIMITS = Limits(memory_bytes=256 * 2**20, threads=1, scratch_bytes=64 * 2**20, seconds=60.0)
CSV = b"user,clicks,day\n" + b"".join(b"u%d,%d,2026-01-%02d\n" % (n % 9, n % 5, n % 28 + 1) for n in range(300))
PATIENCE = 30.0


class Room:
    """A reader over a folder of its own."""

    def __init__(self, folder: Path, limits: Limits = LIMITS, *, idle_seconds: float = 60.0) -> None:
        self.scratch = folder / "scratch"
        self.artifacts = FolderArtifacts(folder / "artifacts")
        self.folder = folder
        self.reader = ReaderProcess(self.artifacts, limits, self.scratch, idle_seconds=idle_seconds)

    async def put(self, content: bytes, key: str = "upload") -> None:
        """Store an upload."""
        path = self.folder / "content"
        path.write_bytes(content)
        await self.artifacts.put_file(key, path)

    @property
    def left(self) -> list[str]:
        """What lies in the scratch folder and in that of its process."""
        return sorted(path.name for path in self.scratch.rglob("*") if not path.name.startswith((".lock", "process-")))


def children() -> list[int]:
    """The reader processes of this process that live."""
    found = [pid for threads in Path("/proc/self/task").glob("*/children") for pid in threads.read_text().split()]
    return [int(pid) for pid in found if b"engines.apart" in told(pid, "cmdline")]  # empty for one that has ended


def told(pid: int | str, what: str) -> bytes:
    """What the kernel tells of a process; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except FileNotFoundError:
        return b""


async def until(true: Callable[[], object]) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A reader, closed in the end; no process outlives it."""
    room = Room(tmp_path)
    yield room
    await room.reader.close()
    assert not children()
    assert room.left == []


def correlated(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Note the request that a line would be said to be of."""
    context = CURRENT.get()
    return {**event, "request_id": None if context is None else context.request_id}


def large(rows: int = 400_000) -> bytes:
    """What takes a while to read."""
    return b"a,b,c\n" + b"".join(b"%d,x%d,%d.5\n" % (n, n % 1000, n) for n in range(rows))


async def test_reads_as_the_engine_does(room: Room) -> None:
    """The same profile and the same bytes as in one process, and several files at once."""
    await room.put(CSV)
    profiles = await asyncio.gather(*(room.reader.ingest("upload", "text/csv", f"{n}.parquet") for n in range(3)))
    engine = DuckDBEngine(room.artifacts, LIMITS, room.scratch)
    expected = await engine.ingest("upload", "text/csv", "here.parquet")
    assert profiles == [expected] * 3
    there, here = (room.folder / "artifacts" / name for name in ("0.parquet", "here.parquet"))
    assert there.read_bytes() == here.read_bytes()
    assert len(children()) == 1
    await room.reader.ping()


async def test_renders_a_table(room: Room) -> None:
    """A published table as CSV; what has no table is a failure that is told."""
    await room.put(CSV)
    await room.reader.ingest("upload", "text/csv", "typed.parquet")
    path = await room.reader.export("typed.parquet", "text/csv")
    assert path.read_bytes().startswith(b"user,clicks,day")
    path.unlink()
    with pytest.raises(ComputeFailed, match="cannot be exported"):
        await room.reader.export("upload", "text/csv")


async def test_what_is_wrong_with_a_file_is_told(room: Room) -> None:
    """A fault of the file comes through with its row and column, and the process reads on."""
    await room.put(b"a,b\n1,2\n3\n4,5,6\n")
    engine = DuckDBEngine(room.artifacts, LIMITS, room.scratch)
    refused: list[DatasetUnreadable] = []
    for each in (room.reader, engine):
        with pytest.raises(DatasetUnreadable) as caught:
            await each.ingest("upload", "text/csv", "typed.parquet")
        refused.append(caught.value)
    assert refused[0].failure() == refused[1].failure()
    [process] = children()
    await room.put(CSV)
    assert (await room.reader.ingest("upload", "text/csv", "typed.parquet")).row_count == 300
    assert children() == [process]


async def test_what_nobody_expected(room: Room) -> None:
    """An error that is not one of the engine's own is told by its type, with the place where it was raised."""
    await room.put(CSV)
    await room.reader.ping()
    [folder] = room.scratch.glob("process-*")
    shutil.rmtree(folder)
    folder.write_text("no folder")
    with pytest.raises(ComputeFailed, match="FileExistsError") as caught:
        await room.reader.ingest("upload", "text/csv", "typed.parquet")
    assert isinstance(caught.value.__cause__, ReaderBroke)
    assert "_make_folder" in str(caught.value.__cause__)
    folder.unlink()


async def test_a_killed_process_fails_what_it_read(room: Room) -> None:
    """Who waits is told to send it again; the next file gets a new process."""
    await room.put(large())
    CURRENT.set(RequestContext("first", "trace", started=0.0))
    reading = [asyncio.create_task(room.reader.ingest("upload", "text/csv", f"{n}.parquet")) for n in range(2)]
    await until(lambda: [name for name in room.left if name.startswith("job-")])
    with capture_logs(processors=[correlated]) as lines:
        os.kill(children()[0], signal.SIGKILL)
        ended = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(error) for error in ended] == [DependencyUnavailable] * 2
    assert all(isinstance(error, DependencyUnavailable) and error.retry_after for error in ended)
    assert {"event": "reader process ended", "exit_code": -9, "log_level": "error", "request_id": None} in lines
    assert room.left
    await room.put(CSV)
    assert (await room.reader.ingest("upload", "text/csv", "typed.parquet")).row_count == 300
    assert room.left == []


async def test_nobody_waits_any_more(room: Room) -> None:
    """A cancelled upload is cancelled in the process, too, which lives on."""
    await room.put(large())
    reading = asyncio.create_task(room.reader.ingest("upload", "text/csv", "typed.parquet"))
    await until(lambda: [name for name in room.left if name.startswith("job-")])
    process = children()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until(lambda: room.left == [])
    assert children() == process
    assert not (room.folder / "artifacts" / "typed.parquet").exists()


async def test_deadlines_reach_it(room: Room) -> None:
    """The deadline of the request ends the reading there."""
    await room.put(large())
    await room.reader.ping()
    with deadline(0.3), pytest.raises(DeadlineExceeded):
        await room.reader.ingest("upload", "text/csv", "typed.parquet")
    await room.reader.ping()


async def test_a_hanging_process_is_killed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not even answer that its time is over is killed, and another takes its place."""
    monkeypatch.setattr(reader_module, "GRACE_SECONDS", 0.2)
    await room.reader.ping()
    [process] = children()
    os.kill(process, signal.SIGSTOP)
    with capture_logs() as lines, deadline(0.2), pytest.raises(DeadlineExceeded):
        await room.reader.ping()
    assert [line["event"] for line in lines] == ["reader process hangs"]
    await room.reader.ping()
    assert children() != [process]


async def test_ends_when_idle(tmp_path: Path) -> None:
    """With nothing to read for a while the process ends and gives its memory back; the next file starts another."""
    room = Room(tmp_path, idle_seconds=0.2)
    await room.reader.ping()
    [first] = children()
    with capture_logs() as lines:
        await until(lambda: not children())
    assert lines == []
    await room.reader.ping()
    assert children() != [first]
    await room.reader.close()
    await room.reader.close()
    assert not children()


async def test_has_no_secrets(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the service's environment it gets what it needs to run, and it is the first to go when memory ends."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:hunter2@localhost/x")
    await room.reader.ping()
    [process] = children()
    environment = told(process, "environ")
    assert b"PATH=" in environment
    assert b"hunter2" not in environment
    assert told(process, "oom_score_adj") == b"1000\n"


SERVICE = """
import asyncio, os, sys, time
from pathlib import Path
from service.engines.apart.reader import ReaderProcess
from service.engines.limits import Limits
from service.store.artifacts import FolderArtifacts

async def main(folder):
    reader = ReaderProcess(FolderArtifacts(folder), Limits(2**28, 1, 2**26, 60.0), folder / "scratch")
    await reader.ping()
    print(reader._child._process.pid, "duckdb" in sys.modules, flush=True)
    time.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_dies_with_the_service(tmp_path: Path) -> None:
    """However the service ends, its reader ends with it; and what the reader needs is never in the service."""
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    pid, imported = service.stdout.readline().split()
    assert imported == "False"
    service.kill()
    service.communicate()
    ends = time.monotonic() + PATIENCE
    while told(pid, "cmdline"):
        assert time.monotonic() < ends
        time.sleep(0.05)


async def test_orders_one_by_one(tmp_path: Path) -> None:
    """The process's side by itself: orders in, replies out, and what still runs at the end is cancelled."""
    (tmp_path / "upload").write_bytes(CSV)
    (tmp_path / "large").write_bytes(large())
    replies: list[bytes] = []
    orders = asyncio.StreamReader()
    orders.feed_data(packed(Setup(LIMITS, str(tmp_path / "scratch"), 2)))
    serving = asyncio.create_task(serve(orders, replies.append))
    ingest = Ingest(1, 30.0, str(tmp_path / "upload"), "text/csv", str(tmp_path / "typed.parquet"))
    orders.feed_data(packed(ingest) + packed(Ping(2, 30.0)) + packed(Cancel(7)))
    await until(lambda: len(replies) == 2)
    assert packed(Done(2)) in replies
    assert (tmp_path / "typed.parquet").exists()
    orders.feed_data(packed(Ingest(3, 30.0, str(tmp_path / "large"), "text/csv", str(tmp_path / "other.parquet"))))
    await until(lambda: [*(tmp_path / "scratch").glob("*/job-*")])
    orders.feed_eof()
    await serving
    assert len(replies) == 2
    assert not (tmp_path / "other.parquet").exists()
    assert not any((tmp_path / "scratch").iterdir())


async def test_service_ended_before_it_began() -> None:
    """Without a first message there is nothing to do."""
    orders = asyncio.StreamReader()
    orders.feed_eof()
    await serve(orders, lambda _: pytest.fail("nothing was asked"))
