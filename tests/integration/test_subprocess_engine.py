"""The engine in child processes, with real processes and files, and every way in which a process may end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from service.concurrency.deadline import deadline
from service.engines.duckdb.engine import DuckDBEngine
from service.engines.limits import Limits
from service.engines.selection import SelectedEngine
from service.engines.subprocess import child as child_module
from service.engines.subprocess.child import EngineBug, EngineProcess
from service.engines.subprocess.engine import SubprocessEngine, SubprocessTable
from service.engines.subprocess.messages import Done, Failed, Ingest, Ping, Request, Setup, encode
from service.engines.subprocess.process import serve
from service.features import operations as op
from service.features.context import CURRENT, RequestContext
from service.features.errors import (
    ComputeFailed,
    DatasetNotFound,
    DatasetUnreadable,
    DeadlineExceeded,
    DependencyUnavailable,
    ExtractionNotFound,
    InvalidRequest,
    QualityTooLow,
)
from service.features.events import EngineProcessesCounted, EngineProcessKilled, EngineTurnTaken, Event
from service.features.model import ColumnOverride, Dataset, FeaturePlan, PlannedFeature, Profile, ReadOptions
from service.features.tables import Tables
from service.store.artifacts import FolderArtifacts

LIMITS = Limits(memory_bytes=256 * 2**20, threads=1, scratch_bytes=64 * 2**20, seconds=60.0)
CSV = b"user,clicks,day\n" + b"".join(b"u%d,%d,2026-01-%02d\n" % (n % 9, n % 5, n % 28 + 1) for n in range(300))
TIMEOUT_SECONDS = 30.0


class Events(list[Event]):
    """An observer that keeps what it is told."""

    def record(self, event: Event) -> None:
        """Keep the event."""
        self.append(event)

    @property
    def killed(self) -> list[str]:
        """Why processes ended."""
        return [event.reason for event in self if isinstance(event, EngineProcessKilled)]

    @property
    def counted(self) -> tuple[int, int, int]:
        """The last count of processes: busy, idle, lost."""
        last = [event for event in self if isinstance(event, EngineProcessesCounted)][-1]
        return last.busy, last.idle, last.lost


class Room:
    """An engine with a folder of its own."""

    def __init__(self, folder: Path, limits: Limits = LIMITS, *, concurrency: int = 4, **options: Any) -> None:
        self.scratch = folder / "scratch"
        self.artifacts = FolderArtifacts(folder / "artifacts")
        self.folder = folder
        self.events = Events()
        self.spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        selected = SelectedEngine("duckdb", limits, concurrency)
        self.engine = SubprocessEngine(
            self.artifacts,
            selected,
            self.scratch,
            observer=self.events,  # type: ignore[arg-type] - the part the engine uses
            tracer_provider=provider,
            **options,
        )

    async def put(self, content: bytes, key: str = "upload") -> None:
        """Store an upload."""
        path = self.folder / "content"
        path.write_bytes(content)
        await self.artifacts.put_file(key, path)

    async def dataset(self, content: bytes = CSV, owner: str = "ada") -> Dataset:
        """Store and read a CSV."""
        await self.put(content)
        profile = await self.read("data.parquet")
        return Dataset("d", owner, "text/csv", len(content), "data.parquet", profile, datetime.now(UTC))

    @property
    def left(self) -> list[str]:
        """The files in the scratch folder and in those of its processes."""
        return sorted(path.name for path in self.scratch.rglob("*") if not path.name.startswith("engine-"))

    @property
    def working(self) -> list[Path]:
        """The folder of each sandbox."""
        return list(self.scratch.glob("engine-*/job-*"))

    async def read(self, target: str = "typed.parquet") -> Profile:
        """Read the stored CSV."""
        return await self.engine.ingest("upload", "text/csv", target)


def plan(*operations: Any, **changes: Any) -> FeaturePlan:
    """A plan of those features, called f0, f1 and so on."""
    features = tuple(PlannedFeature(f"f{place}", "A feature.", one) for place, one in enumerate(operations))
    return FeaturePlan(changes.pop("grain", "row"), features, **changes)


HEAVY = plan(*(op.PercentRank(column, group) for column in ("n", "c") for group in (None, "k")))
"""Takes a while on many rows."""


def children() -> list[int]:
    """The living engine processes of this process."""
    found = [pid for threads in Path("/proc/self/task").glob("*/children") for pid in threads.read_text().split()]
    return [
        int(pid) for pid in found if b"engines.subprocess" in proc_file(pid, "cmdline")
    ]  # empty for one that has ended


def proc_file(pid: int | str, name: str) -> bytes:
    """Read a file of `/proc` about a process; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def until(true: Callable[[], object]) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + TIMEOUT_SECONDS
    while not true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """Give an engine and close it in the end; neither a process nor a file is left."""
    room = Room(tmp_path)
    yield room
    await room.engine.close()
    assert not children()
    assert not room.scratch.exists() or list(room.scratch.iterdir()) == []


def correlated(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add the request id that the service's log would add."""
    context = CURRENT.get()
    return {**event, "request_id": None if context is None else context.request_id}


def large(rows: int = 400_000) -> bytes:
    """A CSV that takes a while to read."""
    return b"n,k,c\n" + b"".join(b"%d,x%d,%d.5\n" % (n, n % 1000, n) for n in range(rows))


# What it does


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
    await room.engine.ping()
    assert children() == started


async def test_overrides_reach_the_engine(room: Room) -> None:
    """What the caller says of a column holds, and what cannot be done of it is the engine's own refusal."""
    await room.put(CSV)
    text = ReadOptions(columns={"clicks": ColumnOverride(type="text")})
    profile = await room.engine.ingest("upload", "text/csv", "text.parquet", overrides=text)
    assert [one.logical_type for one in profile.columns if one.name == "clicks"] == ["text"]
    unknown = ReadOptions(columns={"nothing": ColumnOverride(type="text")})
    with pytest.raises(InvalidRequest, match="is no column of the file") as caught:
        await room.engine.ingest("upload", "text/csv", "kept.parquet", overrides=unknown)
    assert [error.field for error in caught.value.errors] == ["columns.nothing"]
    assert not (room.folder / "artifacts" / "kept.parquet").exists()
    await room.engine.ping()


async def test_computes_as_the_engine_does(room: Room) -> None:
    """One process computes, measures and publishes a plan: rows, SQL, evidence and bytes are those of this process."""
    dataset = await room.dataset()
    wanted = plan(op.Aggregate("clicks", "sum"), op.Count(), grain="entity", entity="user")
    engine = DuckDBEngine(room.artifacts, LIMITS, room.scratch)
    came: list[Any] = []
    for each, key in ((room.engine, "there.parquet"), (engine, "here.parquet")):
        shares: list[float] = []
        async with each.compute(Tables(dataset), wanted, progress=shares.append) as table:
            evidence = await each.measure(table, target="clicks", progress=shares.append)
            await table.publish(["f1"], key)
        came.append((table.row_count, table.sql.replace(str(room.folder), ""), evidence, shares[-1]))
        assert shares
    assert came[0] == came[1]
    there, here = (room.folder / "artifacts" / name for name in ("there.parquet", "here.parquet"))
    assert there.read_bytes() == here.read_bytes()
    assert room.left == []
    assert await room.engine.rehearse(Tables(dataset), wanted) == await engine.rehearse(Tables(dataset), wanted)
    assert len(children()) == 1
    assert room.events.killed == []


async def test_its_spans_tell_sizes_and_nothing_of_the_data(room: Room) -> None:
    """One span for each operation, with its sizes, made by this process; neither statement nor cell is in them."""
    dataset = await room.dataset(b"c\nsecret\nb\n")
    wanted = plan(op.Value("c"))
    await room.engine.rehearse(Tables(dataset), wanted)
    async with room.engine.compute(Tables(dataset), wanted) as table:
        await room.engine.measure(table, target=None)
        await table.publish(["f0"], "out.parquet")
    (await room.engine.export("out.parquet", "text/csv")).unlink()
    (room.folder / "artifacts" / "data.parquet").chmod(0o600)
    (room.folder / "artifacts" / "data.parquet").write_bytes(b"PAR1 secret PAR1")
    with pytest.raises(ComputeFailed):
        async with room.engine.compute(Tables(dataset), wanted):
            pass
    spans = room.spans.get_finished_spans()
    assert [span.name.removeprefix("engine.") for span in spans] == [
        "ingest", "rehearse", "compute", "measure", "export", "compute",
    ]  # fmt: skip
    facts = [dict(span.attributes or {}) for span in spans]
    assert {fact.pop("db.system.name") for fact in facts} == {"duckdb"}
    assert [fact.pop("db.operation.name") for fact in facts] == [span.name.removeprefix("engine.") for span in spans]
    features = {"feature_agent.features": 1}
    assert facts == [
        {}, features, {**features, "feature_agent.rows": 2}, features, {}, {**features, "error.type": "ComputeFailed"},
    ]  # fmt: skip
    assert [span.status.is_ok for span in spans] == [True] * 5 + [False]
    assert "secret" not in "".join(span.to_json() for span in spans)


async def test_renders_a_table(room: Room) -> None:
    """A published table becomes CSV; a file that is no table is reported as such."""
    await room.put(CSV)
    await room.engine.ingest("upload", "text/csv", "typed.parquet")
    path = await room.engine.export("typed.parquet", "text/csv")
    assert path.read_bytes().startswith(b"user,clicks,day")
    path.unlink()
    await room.put(b"text,n\n=1+1,-1\nb,2\n")
    await room.read()
    path = await room.engine.export("typed.parquet", "text/csv;safe=spreadsheet")
    assert path.read_bytes().splitlines()[1].startswith(b"'=1+1,-1")
    path.unlink()
    with pytest.raises(ComputeFailed, match="cannot be exported"):
        await room.engine.export("upload", "text/csv")


async def test_reports_the_fault_of_a_file(room: Room) -> None:
    """The error of a bad file names its row and column, and the process reads the next file."""
    await room.put(b"a,b\n1,2\n3\n4,5,6\n")
    engine = DuckDBEngine(room.artifacts, LIMITS, room.scratch)
    refused: list[DatasetUnreadable] = []
    for each in (room.engine, engine):
        with pytest.raises(DatasetUnreadable) as caught:
            await each.ingest("upload", "text/csv", "typed.parquet")
        refused.append(caught.value)
    assert refused[0].failure() == refused[1].failure()
    [process] = children()
    await room.put(CSV)
    assert (await room.read()).row_count == 300
    assert children() == [process]


async def test_a_dataset_that_was_deleted_is_not_found(room: Room) -> None:
    """Before its file is opened, and while the process reads it."""
    dataset = await room.dataset(large())
    computing = asyncio.create_task(computed(room, dataset, HEAVY))
    await until(lambda: room.working)
    (room.folder / "artifacts" / "data.parquet").unlink()
    with pytest.raises(DatasetNotFound):
        await computed(room, dataset, HEAVY)
    await asyncio.wait({computing})
    assert computing.exception() is None or isinstance(computing.exception(), DatasetNotFound)


async def computed(room: Room, dataset: Dataset, wanted: FeaturePlan) -> SubprocessTable:
    """Compute and leave."""
    async with room.engine.compute(Tables(dataset), wanted) as table:
        return table


async def rejected(room: Room, dataset: Dataset) -> None:
    """Compute, and find no feature good enough."""
    async with room.engine.compute(Tables(dataset), plan(op.Value("clicks"))):
        raise QualityTooLow("no feature passed")


async def test_an_error_of_the_extraction_leaves_the_process_warm(room: Room) -> None:
    """Features that are rejected after they were computed free the table, and the same process computes the next."""
    dataset = await room.dataset()
    [process] = children()
    with pytest.raises(QualityTooLow):
        await rejected(room, dataset)
    assert room.left == []
    await computed(room, dataset, plan(op.Value("clicks")))
    assert children() == [process]


async def test_reports_a_bug_by_type_and_place(room: Room) -> None:
    """An exception that is none of the domain's is reported with its class and where it was raised."""
    await room.put(CSV)
    await room.engine.ping()
    [folder] = room.scratch.glob("engine-*")
    shutil.rmtree(folder)
    folder.write_text("no folder")
    with pytest.raises(ComputeFailed, match="FileExistsError") as caught:
        await room.read()
    assert isinstance(caught.value.__cause__, EngineBug)
    assert "_make_folder" in str(caught.value.__cause__)
    folder.unlink()


async def test_an_unknown_error_code_is_a_bug(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code that no engine raises is not passed off as another error."""

    async def exchange(*_: object) -> Failed:
        return Failed(ExtractionNotFound("no such extraction").failure())

    monkeypatch.setattr(EngineProcess, "_exchange", exchange)
    with pytest.raises(EngineBug, match="extraction_not_found"):
        await room.engine.ping()


async def test_what_is_no_reply_is_a_bug(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that sends something else is killed: it may have been taken over by the file that it read."""
    monkeypatch.setattr(child_module, "MAX_REPLY_BYTES", 1)
    with pytest.raises(EngineBug, match="no reply"):
        await room.engine.ping()
    assert not children()
    assert room.events.killed == ["crashed"]


# How a process ends


async def test_a_killed_process_fails_what_it_read(room: Room) -> None:
    """The client whose file it read is asked to send it again; other processes read on."""
    await room.put(large())
    CURRENT.set(RequestContext("first", "trace", started=0.0))
    reading = [asyncio.create_task(room.read(f"{n}.parquet")) for n in range(2)]
    await until(lambda: len(room.working) == 2)
    with capture_logs(processors=[correlated]) as lines:
        os.kill(children()[0], signal.SIGKILL)
        ended = await asyncio.gather(*reading, return_exceptions=True)
    [error] = [outcome for outcome in ended if isinstance(outcome, BaseException)]
    assert isinstance(error, DependencyUnavailable)
    assert error.retry_after
    assert lines == [
        {"event": "engine process ended", "exit_code": -9, "log_level": "error", "request_id": "first"},
    ]
    assert room.left == []
    assert room.events.killed == ["crashed"]
    await room.put(CSV)
    assert (await room.read()).row_count == 300


async def test_a_process_that_ended_while_idle_is_replaced(room: Room) -> None:
    """No client notices that an idle process was killed; the log does."""
    await room.put(CSV)
    await room.engine.ping()
    [process] = children()
    os.kill(process, signal.SIGKILL)
    await until(lambda: not children())
    await asyncio.sleep(0.1)  # until the loop knows
    with capture_logs() as lines:
        assert (await room.read()).row_count == 300
    assert lines == [{"event": "engine process ended", "exit_code": -9, "log_level": "error"}]
    assert room.events.killed == ["crashed"]


async def test_cancellation_kills_the_process(room: Room) -> None:
    """A cancelled upload leaves neither a process, nor scratch files, nor an artifact, and its process ends first."""
    await room.put(large())
    reading = asyncio.create_task(room.read())
    await until(lambda: room.working)
    reading.cancel()
    began = time.monotonic()
    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await reading
    assert not children()
    assert time.monotonic() - began < 1
    assert list(room.scratch.iterdir()) == []
    assert lines == []
    assert room.events.killed == ["cancelled"]
    assert not (room.folder / "artifacts" / "typed.parquet").exists()


async def test_a_cancelled_computation_has_ended_when_its_run_has(room: Room) -> None:
    """A retry of the same extraction never runs beside the process of the old attempt, even a stopped one."""
    dataset = await room.dataset(large(50_000))
    [process] = children()
    running = asyncio.create_task(computed(room, dataset, HEAVY))
    await until(lambda: room.working)
    os.kill(process, signal.SIGSTOP)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not proc_file(process, "cmdline")
    assert room.events.counted == (0, 0, 0)


async def test_close_ends_what_is_being_read(room: Room) -> None:
    """A file that is being read when the service closes fails as if its process had ended, without an alarm."""
    await room.put(large())
    reading = asyncio.create_task(room.read())
    await until(lambda: room.working)
    with capture_logs() as lines:
        await room.engine.close()
        with pytest.raises(DependencyUnavailable):
            await reading
    assert lines == []
    assert room.events.killed == []


async def test_deadlines_reach_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request's deadline ends the computation in the process, which does the next work."""
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 60.0)  # a busy machine: it is not killed, it ends by itself
    dataset = await room.dataset(large())
    [process] = children()
    with deadline(0.3), pytest.raises(DeadlineExceeded):
        await computed(room, dataset, HEAVY)
    await room.engine.ping()
    assert children() == [process]


async def test_a_hanging_process_is_killed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not reply shortly after its deadline is killed, and another takes its place."""
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.2)
    await room.engine.ping()
    [process] = children()
    os.kill(process, signal.SIGSTOP)
    with capture_logs() as lines, deadline(0.2), pytest.raises(DeadlineExceeded):
        await room.engine.ping()
    assert [line["event"] for line in lines] == ["engine process hangs"]
    assert room.events.killed == ["deadline"]
    await room.engine.ping()
    assert children() != [process]


async def test_a_process_that_does_not_end_takes_its_place_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the kernel keeps a killed process, there is one place fewer; with the last one the engine is not alive."""
    room = Room(tmp_path, concurrency=1)
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(child_module, "END_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(EngineProcess, "_kill", lambda _: None)  # as SIGKILL to a process in uninterruptible sleep
    await room.engine.ping()
    [process] = children()
    os.kill(process, signal.SIGSTOP)
    with capture_logs() as lines, deadline(0.1), pytest.raises(DeadlineExceeded):
        await room.engine.ping()
    assert [line["event"] for line in lines] == ["engine process hangs", "engine process does not end"]
    assert room.events.counted == (0, 0, 1)
    assert not room.engine.alive
    with pytest.raises(DependencyUnavailable):
        await room.engine.ping()
    os.kill(process, signal.SIGKILL)
    await until(lambda: room.engine.alive)
    assert room.events.counted == (0, 0, 0)
    monkeypatch.undo()
    await room.engine.ping()
    await room.engine.close()


async def test_no_more_work_at_once_than_places(tmp_path: Path) -> None:
    """The others wait for their turn, no longer than their deadline, and a turn is given back whatever happens."""
    room = Room(tmp_path, concurrency=1)
    dataset = await room.dataset()
    copied = plan(op.Value("clicks"))
    async with room.engine.compute(Tables(dataset), copied):
        with deadline(0.05), pytest.raises(DeadlineExceeded, match="no turn in time"):
            await computed(room, dataset, copied)
        waiting = [asyncio.create_task(computed(room, dataset, copied)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        assert len(children()) == 1
        waiting[0].cancel()
    assert [table.row_count for table in await asyncio.gather(*waiting[1:])] == [300, 300]
    assert (await computed(room, dataset, copied)).row_count == 300
    waited = [event.seconds for event in room.events if isinstance(event, EngineTurnTaken)]
    assert max(waited) >= 0.1
    await room.engine.close()


# When processes are kept


async def test_ends_when_idle(tmp_path: Path) -> None:
    """A process without a request for a while ends and gives its memory back; the next file starts another."""
    room = Room(tmp_path, idle_seconds=0.2)
    await room.engine.ping()
    [first] = children()
    with capture_logs() as lines:
        await until(lambda: not children())
    assert lines == []
    await room.engine.ping()
    assert children() != [first]
    await room.engine.close()
    await room.engine.close()
    assert not children()


async def test_one_process_is_kept_warm(tmp_path: Path) -> None:
    """Started in advance, it serves the first request; after a quiet time a fresh one stands in for it."""
    room = Room(tmp_path, idle_seconds=1.0, keep_warm=True)
    room.engine.start()
    await until(lambda: room.events and room.events.counted == (0, 1, 0))
    [first] = children()
    await asyncio.sleep(1.5)  # an unused one stays
    assert children() == [first]
    await room.engine.ping()
    await until(lambda: children() not in ([], [first]) and room.events.counted == (0, 1, 0))
    assert len(children()) == 1
    await room.engine.close()
    assert not children()


async def test_has_no_secrets_and_a_low_priority(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process gets little of the environment, yields the processor, and is killed first when memory runs out."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:hunter2@localhost/x")
    await room.engine.ping()
    [process] = children()
    environment = proc_file(process, "environ")
    assert b"PATH=" in environment
    assert b"hunter2" not in environment
    assert proc_file(process, "oom_score_adj") == b"1000\n"
    assert os.getpriority(os.PRIO_PROCESS, process) > os.getpriority(os.PRIO_PROCESS, 0)
    assert os.sched_getscheduler(process) == os.SCHED_BATCH


SERVICE = """
import asyncio, sys, time
from pathlib import Path
from service.engines.limits import Limits
from service.engines.selection import SelectedEngine
from service.engines.subprocess.engine import SubprocessEngine
from service.store.artifacts import FolderArtifacts

class Silent:
    def record(self, event): pass

async def main(folder):
    selected = SelectedEngine("duckdb", Limits(2**28, 1, 2**26, 60.0), 1)
    engine = SubprocessEngine(FolderArtifacts(folder), selected, folder / "scratch", observer=Silent())
    await engine.ping()
    [process] = engine._pool._idle
    print(process.pid, "duckdb" in sys.modules, flush=True)
    time.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_dies_with_the_service(tmp_path: Path) -> None:
    """However the service ends, its engine processes end with it; and the service never imports DuckDB."""
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
    command = [sys.executable, *child_module.COMMAND]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    ingest = Ingest(60.0, str(tmp_path / "large"), "text/csv", str(tmp_path / "typed.parquet"))
    process.stdin.write(encode(Setup("duckdb", LIMITS, str(tmp_path))) + encode(ingest))
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
    messages: tuple[Setup | Request, ...] = (Setup("duckdb", LIMITS, str(tmp_path / "scratch")), ingest, Ping(30.0))
    for message in messages:
        requests.feed_data(encode(message))
    requests.feed_eof()
    await serve(requests, replies.append)
    assert len(replies) == 2
    assert replies[1] == encode(Done())
    assert (tmp_path / "typed.parquet").exists()
    assert not any((tmp_path / "scratch").iterdir())


async def test_ends_without_a_first_message() -> None:
    """When the service ends before it has sent anything, the process ends, too."""
    requests = asyncio.StreamReader()
    requests.feed_eof()
    await serve(requests, lambda _: pytest.fail("nothing was requested"))
