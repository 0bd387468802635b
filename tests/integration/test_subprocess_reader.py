"""Reading files in child processes, with real processes and files, and every way in which a process may end."""

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
from service.engines.duckdb.engine import DuckDBEngine
from service.engines.limits import Limits
from service.engines.subprocess import reader as reader_module
from service.engines.subprocess.messages import Failed, Ingest, Ping, Request, Setup, Succeeded, encode
from service.engines.subprocess.process import serve
from service.engines.subprocess.reader import ReaderBug, SubprocessReader
from service.features.context import CURRENT, RequestContext
from service.features.errors import (
    ComputeFailed,
    DatasetNotFound,
    DatasetUnreadable,
    DeadlineExceeded,
    DependencyUnavailable,
)
from service.features.model import Profile
from service.store.artifacts import FolderArtifacts

LIMITS = Limits(memory_bytes=256 * 2**20, threads=1, scratch_bytes=64 * 2**20, seconds=60.0)
CSV = b"user,clicks,day\n" + b"".join(b"u%d,%d,2026-01-%02d\n" % (n % 9, n % 5, n % 28 + 1) for n in range(300))
TIMEOUT_SECONDS = 30.0


class Room:
    """A reader with a folder of its own."""

    def __init__(self, folder: Path, limits: Limits = LIMITS, *, idle_seconds: float = 60.0) -> None:
        self.scratch = folder / "scratch"
        self.artifacts = FolderArtifacts(folder / "artifacts")
        self.folder = folder
        self.reader = SubprocessReader(self.artifacts, limits, self.scratch, idle_seconds=idle_seconds)

    async def put(self, content: bytes, key: str = "upload") -> None:
        """Store an upload."""
        path = self.folder / "content"
        path.write_bytes(content)
        await self.artifacts.put_file(key, path)

    @property
    def left(self) -> list[str]:
        """The files in the scratch folder and in those of its processes."""
        return sorted(path.name for path in self.scratch.rglob("*") if not path.name.startswith("reader-"))

    @property
    def reading(self) -> list[Path]:
        """The folder of each file that is being read."""
        return list(self.scratch.glob("reader-*/job-*"))

    async def read(self, target: str = "typed.parquet") -> Profile:
        """Read the stored CSV."""
        return await self.reader.ingest("upload", "text/csv", target)


def children() -> list[int]:
    """The living reader processes of this process."""
    found = [pid for threads in Path("/proc/self/task").glob("*/children") for pid in threads.read_text().split()]
    return [
        int(pid) for pid in found if b"engines.subprocess" in proc_file(pid, "cmdline")
    ]  # empty for one that has ended


def proc_file(pid: int | str, name: str) -> bytes:
    """Read a file of `/proc` about a process; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except FileNotFoundError:
        return b""


async def until(true: Callable[[], object]) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + TIMEOUT_SECONDS
    while not true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """Give a reader and close it in the end; neither a process nor a file is left."""
    room = Room(tmp_path)
    yield room
    await room.reader.close()
    assert not children()
    assert list(room.scratch.iterdir()) == []


def correlated(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add the request id that the service's log would add."""
    context = CURRENT.get()
    return {**event, "request_id": None if context is None else context.request_id}


def large(rows: int = 400_000) -> bytes:
    """A CSV that takes a while to read."""
    return b"a,b,c\n" + b"".join(b"%d,x%d,%d.5\n" % (n, n % 1000, n) for n in range(rows))


async def test_reads_as_the_engine_does(room: Room) -> None:
    """The same profile and the same bytes as in this process; files are read at once by several processes."""
    await room.put(CSV)
    profiles = await asyncio.gather(*(room.read(f"{n}.parquet") for n in range(3)))
    engine = DuckDBEngine(room.artifacts, LIMITS, room.scratch)
    expected = await engine.ingest("upload", "text/csv", "here.parquet")
    assert profiles == [expected] * 3
    there, here = (room.folder / "artifacts" / name for name in ("0.parquet", "here.parquet"))
    assert there.read_bytes() == here.read_bytes()
    started = children()
    assert len(started) == 3
    await room.reader.ping()
    assert children() == started


async def test_renders_a_table(room: Room) -> None:
    """A published table becomes CSV; a file that is no table is reported as such."""
    await room.put(CSV)
    await room.reader.ingest("upload", "text/csv", "typed.parquet")
    path = await room.reader.export("typed.parquet", "text/csv")
    assert path.read_bytes().startswith(b"user,clicks,day")
    path.unlink()
    await room.put(b"text,n\n=1+1,-1\nb,2\n")
    await room.reader.ingest("upload", "text/csv", "typed.parquet")
    path = await room.reader.export("typed.parquet", "text/csv;safe=spreadsheet")
    assert path.read_bytes().splitlines()[1].startswith(b"'=1+1,-1")
    path.unlink()
    with pytest.raises(ComputeFailed, match="cannot be exported"):
        await room.reader.export("upload", "text/csv")


async def test_reports_the_fault_of_a_file(room: Room) -> None:
    """The error of a bad file names its row and column, and the process reads the next file."""
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


async def test_reports_a_bug_by_type_and_place(room: Room) -> None:
    """An exception that is none of the domain's is reported with its class and where it was raised."""
    await room.put(CSV)
    await room.reader.ping()
    [folder] = room.scratch.glob("reader-*")
    shutil.rmtree(folder)
    folder.write_text("no folder")
    with pytest.raises(ComputeFailed, match="FileExistsError") as caught:
        await room.read()
    assert isinstance(caught.value.__cause__, ReaderBug)
    assert "_make_folder" in str(caught.value.__cause__)
    folder.unlink()


async def test_an_unknown_error_code_is_a_bug(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code that no reader raises is not passed off as another error."""

    async def ask(_process: object, _request: Request) -> Failed:
        return Failed(DatasetNotFound("no such dataset").failure())

    monkeypatch.setattr("service.engines.subprocess.reader._ReaderProcess.ask", ask)
    with pytest.raises(ReaderBug, match="dataset_not_found"):
        await room.reader.ping()


async def test_a_killed_process_fails_what_it_read(room: Room) -> None:
    """The client whose file it read is asked to send it again; other processes read on."""
    await room.put(large())
    CURRENT.set(RequestContext("first", "trace", started=0.0))
    reading = [asyncio.create_task(room.read(f"{n}.parquet")) for n in range(2)]
    await until(lambda: len(room.reading) == 2)
    with capture_logs(processors=[correlated]) as lines:
        os.kill(children()[0], signal.SIGKILL)
        ended = await asyncio.gather(*reading, return_exceptions=True)
    [error] = [outcome for outcome in ended if isinstance(outcome, BaseException)]
    assert isinstance(error, DependencyUnavailable)
    assert error.retry_after
    assert lines == [
        {"event": "reader process ended", "exit_code": -9, "log_level": "error", "request_id": "first"},
    ]
    assert room.left == []
    await room.put(CSV)
    assert (await room.read()).row_count == 300


async def test_a_process_that_ended_while_idle_is_replaced(room: Room) -> None:
    """No client notices that an idle process was killed; the log does."""
    await room.put(CSV)
    await room.reader.ping()
    [process] = children()
    os.kill(process, signal.SIGKILL)
    await until(lambda: not children())
    await asyncio.sleep(0.1)  # until the loop knows
    with capture_logs() as lines:
        assert (await room.read()).row_count == 300
    assert lines == [{"event": "reader process ended", "exit_code": -9, "log_level": "error"}]


async def test_cancellation_kills_the_process(room: Room) -> None:
    """A cancelled upload leaves neither a process, nor scratch files, nor an artifact."""
    await room.put(large())
    reading = asyncio.create_task(room.read())
    await until(lambda: room.reading)
    reading.cancel()
    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await reading
    await until(lambda: list(room.scratch.iterdir()) == [])
    assert not children()
    assert lines == []
    assert not (room.folder / "artifacts" / "typed.parquet").exists()


async def test_close_ends_what_is_being_read(room: Room) -> None:
    """A file that is being read when the service closes fails as if its process had ended, without an alarm."""
    await room.put(large())
    reading = asyncio.create_task(room.read())
    await until(lambda: room.reading)
    with capture_logs() as lines:
        await room.reader.close()
        with pytest.raises(DependencyUnavailable):
            await reading
    assert lines == []


async def test_deadlines_reach_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request's deadline ends the reading in the process, which reads the next file."""
    monkeypatch.setattr(reader_module, "GRACE_SECONDS", 60.0)  # a busy machine: it is not killed, it ends by itself
    await room.put(large())
    await room.reader.ping()
    with deadline(0.3), pytest.raises(DeadlineExceeded):
        await room.read()
    [process] = children()
    await room.reader.ping()
    assert children() == [process]


async def test_a_hanging_process_is_killed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not reply shortly after its deadline is killed, and another takes its place."""
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
    """A process without a request for a while ends and gives its memory back; the next file starts another."""
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
    """A process gets little of the service's environment, and is the first to be killed when memory runs out."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:hunter2@localhost/x")
    await room.reader.ping()
    [process] = children()
    environment = proc_file(process, "environ")
    assert b"PATH=" in environment
    assert b"hunter2" not in environment
    assert proc_file(process, "oom_score_adj") == b"1000\n"


SERVICE = """
import asyncio, os, sys, time
from pathlib import Path
from service.engines.limits import Limits
from service.engines.subprocess.reader import SubprocessReader
from service.store.artifacts import FolderArtifacts

async def main(folder):
    reader = SubprocessReader(FolderArtifacts(folder), Limits(2**28, 1, 2**26, 60.0), folder / "scratch")
    await reader.ping()
    [process] = reader._idle
    print(process._process.pid, "duckdb" in sys.modules, flush=True)
    time.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_dies_with_the_service(tmp_path: Path) -> None:
    """However the service ends, its reader processes end with it; and the service never imports DuckDB."""
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    pid, imported = service.stdout.readline().split()
    assert imported == "False"
    service.kill()
    service.communicate()
    ends = time.monotonic() + TIMEOUT_SECONDS
    while proc_file(pid, "cmdline"):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_dies_in_the_middle_of_a_request(tmp_path: Path) -> None:
    """A process whose input closes exits at once, with its request unanswered."""
    (tmp_path / "large").write_bytes(large())
    command = [sys.executable, *reader_module.COMMAND]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    ingest = Ingest(60.0, str(tmp_path / "large"), "text/csv", str(tmp_path / "typed.parquet"))
    process.stdin.write(encode(Setup(LIMITS, str(tmp_path))) + encode(ingest))
    process.stdin.flush()
    ends = time.monotonic() + TIMEOUT_SECONDS
    while not [*tmp_path.glob("job-*")]:
        assert time.monotonic() < ends
        time.sleep(0.02)
    replies, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert replies == b""
    assert process.returncode == 0
    assert not (tmp_path / "typed.parquet").exists()


async def test_serves_requests_one_by_one(tmp_path: Path) -> None:
    """The process's side by itself: each request is answered in its turn."""
    (tmp_path / "upload").write_bytes(CSV)
    replies: list[bytes] = []
    requests = asyncio.StreamReader()
    ingest = Ingest(30.0, str(tmp_path / "upload"), "text/csv", str(tmp_path / "typed.parquet"))
    for message in (Setup(LIMITS, str(tmp_path / "scratch")), ingest, Ping(30.0)):
        requests.feed_data(encode(message))
    requests.feed_eof()
    await serve(requests, replies.append)
    assert len(replies) == 2
    assert replies[1] == encode(Succeeded())
    assert (tmp_path / "typed.parquet").exists()
    assert not any((tmp_path / "scratch").iterdir())


async def test_ends_without_a_first_message() -> None:
    """When the service ends before it has sent anything, the process ends, too."""
    requests = asyncio.StreamReader()
    requests.feed_eof()
    await serve(requests, lambda _: pytest.fail("nothing was requested"))
