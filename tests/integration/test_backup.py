from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from msgspec.structs import replace

from embedded_postgres.server import embedded_programs, start_embedded
from service import __version__
from service.features.errors import DatasetNotFound, DependencyUnavailable, ExtractionNotFound
from service.features.model import Extraction
from service.features.ports import Artifacts
from service.features.stores import IdempotencyRecord
from service.store.artifacts import FolderArtifacts, open_artifacts
from service.store.backup_record import last_backup_at
from service.store.database import Database
from tests.integration.s3_stub import serve_bucket
from tests.integration.test_migrations import INSERT_OF_0001, go, head, rows
from tests.integration.test_store import NASTY, NOON, api_key, dataset, extraction, open_at, result
from tools.backup import create as creating
from tools.backup import manifest as manifests
from tools.backup import restore as restoring
from tools.backup.create import create_backup
from tools.backup.manifest import BackupFailed, BackupRefused, Manifest
from tools.backup.postgres_programs import ProgramFailed, ProgramsMissing, find_programs, libpq_environment, run
from tools.backup.restore import restore_backup

ROOT = Path(__file__).parents[2]
EVERYTHING = "SELECT row_to_json(t)::text FROM {} AS t ORDER BY 1"
TABLES = (
    "datasets", "extractions", "api_keys", "idempotency_keys", "procrastinate_jobs", "alembic_version",
    "schema_compatibility",
)  # fmt: skip


@dataclass
class Place:
    """A database and its artifact store."""

    url: str
    folder: Path
    database: Database
    artifacts: Artifacts

    def rows(self) -> dict[str, list[str]]:
        """Every row of every table, as text."""
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            return {
                table: [text for (text,) in connection.execute(EVERYTHING.replace("{}", table).encode())]
                for table in TABLES
            }

    def files(self) -> dict[str, bytes]:
        """Every artifact's bytes."""
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*.parquet")}


@pytest.fixture
async def places(new_database: Callable[[], str], tmp_path: Path) -> AsyncIterator[Callable[[], Place]]:
    """Makes places, each empty."""
    made: list[Place] = []

    def make() -> Place:
        url, folder = new_database(), tmp_path / f"artifacts-{len(made)}"
        made.append(Place(url, folder, open_at(url), open_artifacts(str(folder))))
        return made[-1]

    yield make
    for place in made:
        await place.database.close()


async def put(artifacts: Artifacts, key: str, content: bytes) -> None:
    """Store a file."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    await artifacts.put_stream(key, chunks(), limit=len(content))


async def accept_and_complete(place: Place, content: bytes) -> Extraction:
    """Take an extraction in with its job and run it to its end, as the service does; returns once it is committed."""
    mine = extraction("ada", created_at=datetime.now(UTC))
    async with place.database.store.begin() as work:
        await work.extractions.add(mine)
        await work.idempotency.claim("ada", mine.id, IdempotencyRecord(b"d" * 32, mine.id), mine.created_at)
        raw = await work.connection.get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('small', 'extract', %s)", [mine.id]
        )
    async with place.database.store.begin() as work:
        claimed = await work.extractions.claim(mine.id, datetime.now(UTC))
    assert claimed is not None
    key = f"features/{mine.id}/1.parquet"
    await put(place.artifacts, key, content)
    done = replace(
        claimed, status="completed", finished_at=datetime.now(UTC), progress=100,
        result=replace(result(), artifact_key=key), version=2,
    )  # fmt: skip
    async with place.database.store.begin() as work:
        await work.extractions.save(done)
    return done


async def fill(place: Place, count: int = 3) -> list[Extraction]:
    """Rows in every table and their files."""
    await place.database.migrate()
    async with place.database.store.begin() as work:
        await work.datasets.add(replace(dataset("ada"), artifact_key="datasets/d.parquet"))
        await work.extractions.add(extraction("ada", id="waiting"))
        await work.keys.add(api_key(name=NASTY.replace("\0", "")))
    await put(place.artifacts, "datasets/d.parquet", os.urandom(3 * 2**20))
    await put(place.artifacts, "uploads/orphan", b"x")
    return [await accept_and_complete(place, os.urandom(1000 + number)) for number in range(count)]


async def backed_up(place: Place, target: Artifacts) -> Manifest:
    """A backup of the place."""
    return await create_backup(place.database, place.artifacts, target, release=__version__, now=NOON)


async def restored(place: Place, backup: Artifacts, *, replace: bool = False) -> Manifest:
    """The backup brought back."""
    return await restore_backup(place.database, place.artifacts, backup, replace=replace)


async def test_everything_comes_back(places: Callable[[], Place], tmp_path: Path) -> None:
    """Every row and every file that a row refers to comes back as it was; the manifest says what there is."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here)
    manifest = await backed_up(here, backup)
    assert (manifest.release, manifest.revision) == (__version__, await here.database.revision())
    assert (manifest.created_at, manifest.deleted, manifest.missing) == (NOON, (), ())
    counts = {"api_keys": 1, "datasets": 1, "extractions": 4, "idempotency_keys": 3, "storage_usage": 1}
    assert {table: count for table, count in manifest.rows.items() if count} == counts
    assert {copy.key for copy in manifest.artifacts} == set(here.files())
    assert {copy.size_bytes for copy in manifest.artifacts} == {3 * 2**20, 1000, 1001, 1002}
    rows, files = here.rows(), here.files()
    assert await restored(there, backup) == manifest
    assert (there.rows(), there.files()) == (rows, files)
    assert not (there.folder / "uploads").exists()
    async with there.database.store.begin() as work:
        claimed = await work.extractions.claim("waiting", NOON)
    assert claimed is not None


class Eventful(FolderArtifacts):
    """A store in which something happens just as a file is about to be read."""

    def __init__(self, folder: Path, happening: Callable[[str], Any]) -> None:
        super().__init__(folder)
        self._happening = happening

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Read, after it happened."""
        await self._happening(key)
        async for chunk in super().stream(key):
            yield chunk


async def test_drill_under_load(places: Callable[[], Place], tmp_path: Path) -> None:
    """A backup taken while extractions are accepted and datasets come and go has all that was acknowledged before it.

    After the loss of database and folder each of those is back with its table's bytes, and whatever else came along
    is whole too.
    """
    here, backup = places(), open_artifacts(str(tmp_path / "backup"))
    tables: dict[str, bytes] = {row.id: here.files()[f"features/{row.id}/1.parquet"] for row in await fill(here)}
    stop = asyncio.Event()
    chance = random.Random(7)  # noqa: S311 -- the same load each time

    async def extract() -> None:
        while not stop.is_set():
            content = chance.randbytes(20_000)
            done = await accept_and_complete(here, content)
            tables[done.id] = content

    async def upload_and_delete() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            data = replace(dataset("ada", f"d{number}"), artifact_key=f"datasets/{number}.parquet")
            await put(here.artifacts, data.artifact_key, b"d" * 50_000)
            async with here.database.store.begin() as work:
                await work.datasets.add(data)
            async with here.database.store.begin() as work:
                (gone,) = await work.datasets.delete("ada", data.id)
            await here.artifacts.delete(gone.artifact_key)

    load = [asyncio.create_task(work()) for work in (extract, extract, upload_and_delete)]
    while len(tables) < 10:
        assert not any(task.done() for task in load)
        await asyncio.sleep(0.01)
    acknowledged = dict(tables)

    async def more(_: str) -> None:
        while len(tables) == len(acknowledged):  # noqa: ASYNC110 -- the load goes on while the backup copies
            await asyncio.sleep(0.01)

    reading = Eventful(here.folder, more)
    await create_backup(here.database, reading, backup, release=__version__, now=NOON)
    stop.set()
    await asyncio.gather(*load)
    await here.database.close()
    shutil.rmtree(here.folder)
    with psycopg.connect(here.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")

    there = places()
    await restored(there, backup)
    async with there.database.store.begin() as work:
        rows = [await work.extractions.get("ada", done) for done in acknowledged]
        every = (await work.extractions.list("ada", limit=100_000, status="completed")).items
        data = (await work.datasets.list("ada", limit=100_000)).items
    files = there.files()
    assert {row.id: files[row.result.artifact_key] for row in rows if row.result} == acknowledged
    for row in every:
        assert row.result is not None
        assert files[row.result.artifact_key] == tables[row.id]
    assert {one.artifact_key for one in data} <= set(files)
    assert {one.id for one in data} >= {"sales"}


async def test_what_was_deleted_meanwhile_stays_deleted(places: Callable[[], Place], tmp_path: Path) -> None:
    """A dataset and an extraction that are deleted between the dump and their copies are not there after a restore."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    first, second, _ = await fill(here)

    async def delete(key: str) -> None:
        async with here.database.store.begin() as work:
            if key == "datasets/d.parquet":
                await work.datasets.delete("ada", "sales")
            elif first.id in key:
                await work.extractions.remove("ada", first.id)
            else:
                return
        await here.artifacts.delete(key)

    here.artifacts, kept = Eventful(here.folder, delete), here.artifacts
    manifest = await backed_up(here, backup)
    here.artifacts = kept
    assert set(manifest.deleted) == {"datasets/d.parquet", f"features/{first.id}/1.parquet"}
    assert manifest.missing == ()
    await restored(there, backup)
    async with there.database.store.begin() as work:
        with pytest.raises(DatasetNotFound):
            await work.datasets.get("ada", "sales")
        with pytest.raises(ExtractionNotFound):
            await work.extractions.get("ada", first.id)
        assert await work.extractions.get("ada", second.id) == second
        assert (await work.extractions.get("ada", "waiting")).status == "queued"


async def test_lost_file_does_not_stop_the_backup(places: Callable[[], Place], tmp_path: Path) -> None:
    """A file that was lost before is named in the manifest; its row and all the rest are in the backup."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    first, *_ = await fill(here)
    key = f"features/{first.id}/1.parquet"
    await here.artifacts.delete(key)
    manifest = await backed_up(here, backup)
    assert (manifest.missing, manifest.deleted) == ((key,), ())
    await restored(there, backup)
    assert (there.rows(), there.files()) == (here.rows(), here.files())


async def test_full_database_is_not_replaced_unasked(places: Callable[[], Place], tmp_path: Path) -> None:
    """A database with rows is refused and left alone; asked to, the restore replaces all of them."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here)
    await backed_up(here, backup)
    await fill(there, 1)
    before = there.rows(), there.files()
    with pytest.raises(BackupRefused, match=r"api_keys, datasets, extractions, idempotency_keys.*--yes"):
        await restored(there, backup)
    assert (there.rows(), there.files()) == before
    await restored(there, backup, replace=True)
    assert there.rows() == here.rows()
    assert there.files().items() >= here.files().items()


async def test_migrated_database_without_rows_is_empty(places: Callable[[], Place], tmp_path: Path) -> None:
    """A database that was only migrated takes a backup without further ado."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here, 1)
    await backed_up(here, backup)
    await there.database.migrate()
    await restored(there, backup)
    assert there.rows() == here.rows()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
@pytest.mark.parametrize("what", ["database.dump", "artifacts/datasets/d.parquet"])
async def test_damaged_backup_changes_no_row(
    places: Callable[[], Place], tmp_path: Path, what: str, damage: str
) -> None:
    """A backup of which a file is not what the manifest says is refused, and neither row nor that file is touched."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here, 1)
    await backed_up(here, backup)
    path = tmp_path / "backup" / what
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(content) if damage == "flipped" else bytes(content[:-1]))
    await fill(there, 1)
    rows, mine = there.rows(), there.files()["datasets/d.parquet"]
    with pytest.raises(BackupFailed, match="damaged"):
        await restored(there, backup, replace=True)
    assert (there.rows(), there.files()["datasets/d.parquet"]) == (rows, mine)


async def test_rows_that_do_not_fit_change_nothing(places: Callable[[], Place], tmp_path: Path) -> None:
    """When the rows cannot be loaded, because something stands in their way, the database is as it was."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here, 1)
    with psycopg.connect(here.url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE zzz_other (a integer)")
    await backed_up(here, backup)
    await fill(there, 1)
    with psycopg.connect(there.url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE zzz_other (b integer)")
    before = there.rows()
    with pytest.raises(BackupFailed, match=r"as it was: psql failed: .*zzz_other.* already exists"):
        await restored(there, backup, replace=True)
    assert there.rows() == before


async def test_older_schema_is_brought_up(places: Callable[[], Place], tmp_path: Path) -> None:
    """A backup of an older release's database is taken without migrating it, and is migrated where it is restored."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    go(here.url, command.upgrade, "0001")
    rows(here.url, INSERT_OF_0001, "old", "failed")
    manifest = await backed_up(here, backup)
    assert (manifest.revision, manifest.rows) == ("0001", {"api_keys": 0, "datasets": 0, "extractions": 1})
    assert await here.database.revision() == "0001"
    await fill(there, 1)
    await restored(there, backup, replace=True)
    assert await there.database.revision() == head()
    async with there.database.store.begin() as work:
        assert (await work.extractions.get("ada", "old")).status == "failed"


async def test_backup_is_not_overwritten_nor_made_of_nothing(places: Callable[[], Place], tmp_path: Path) -> None:
    """A place that has a backup is refused; so are a database without tables and a place without a manifest."""
    here, backup = places(), open_artifacts(str(tmp_path / "backup"))
    with pytest.raises(BackupRefused, match="nothing to back up"):
        await backed_up(here, backup)
    with pytest.raises(BackupRefused, match="no complete backup"):
        await restored(here, backup)
    await fill(here, 1)
    await backed_up(here, backup)
    with pytest.raises(BackupRefused, match="already"):
        await backed_up(here, backup)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"format":1', b'"format":2', "format 2"),
        (b'revision":"', b'revision":"9', "does not know"),
        (b'"format":1', b'"format":', "cannot be read"),
    ],
)
async def test_backup_of_a_newer_release_is_refused(
    places: Callable[[], Place], tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    """A manifest or a schema that this release does not know is refused before anything is touched."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here, 1)
    await backed_up(here, backup)
    manifest = tmp_path / "backup/manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(old, new))
    with pytest.raises(BackupRefused, match=message):
        await restored(there, backup)
    assert await there.database.revision() is None


async def test_one_at_a_time(places: Callable[[], Place], tmp_path: Path) -> None:
    """While housekeeping, another backup or a restore is under way, both are refused."""
    here, there, backup = places(), places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here, 1)
    async with here.database.upkeep.alone() as alone:
        assert alone
        with pytest.raises(BackupFailed, match="under way"):
            await backed_up(here, backup)
    await backed_up(here, backup)
    async with there.database.upkeep.alone():
        with pytest.raises(BackupFailed, match="under way"):
            await restored(there, backup)


async def test_broken_backup_has_no_manifest(
    places: Callable[[], Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump that fails, or a store that goes away, leaves no manifest, and the next backup may use the place."""
    here, backup = places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here, 1)
    with monkeypatch.context() as patch:
        patch.setattr(creating, "DUMP_OPTIONS", ("--table=no_such_table",))
        with pytest.raises(BackupFailed, match="pg_dump failed: pg_dump: error: no matching tables"):
            await backed_up(here, backup)

    async def away(_: str) -> None:
        raise DependencyUnavailable("The artifact store does not answer.")

    with pytest.raises(DependencyUnavailable):
        await create_backup(here.database, Eventful(here.folder, away), backup, release="1", now=NOON)
    assert not (tmp_path / "backup/manifest.json").exists()
    assert not (tmp_path / "backup/artifacts").exists() or not list((tmp_path / "backup/artifacts").rglob("*.parquet"))
    await backed_up(here, backup)


async def test_backup_in_a_bucket(places: Callable[[], Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket holds a backup as a folder does."""
    here, there = places(), places()
    await fill(here, 2)
    with serve_bucket() as bucket:
        for name, value in (
            ("ENDPOINT_URL", bucket.address), ("ALLOW_HTTP", "true"), ("REGION", "x"), ("ACCESS_KEY_ID", "ada"),
            ("SECRET_ACCESS_KEY", "hunter2"),
        ):  # fmt: skip
            monkeypatch.setenv(f"AWS_{name}", value)
        backup = open_artifacts("s3://bucket/backups/today")
        await backed_up(here, backup)
        assert {key.split("/")[4] for key in bucket.objects} == {"artifacts", "database.dump", "manifest.json"}
        await restored(there, backup)
    assert (there.rows(), there.files()) == (here.rows(), here.files())


# The command line


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that asks for a password over the network; the address of its database."""
    folder = tmp_path_factory.mktemp("guarded") / "postgresql"
    server = start_embedded(folder)
    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE ROLE ada SUPERUSER LOGIN PASSWORD 'hunter2'")
        connection.execute("CREATE DATABASE other")
        hba = folder / "data/pg_hba.conf"
        hba.write_text("local all ada scram-sha-256\n" + hba.read_text())
        connection.execute("SELECT pg_reload_conf()")
    yield server.url.replace("postgres@/", "ada:hunter2@/")
    server.stop()


def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **variables}
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip


def test_command_line(guarded: str, tmp_path: Path) -> None:
    """`backup` and `restore` work from the settings, and no process list shows the password; bad input is reported."""
    spy, seen = tmp_path / "bin", tmp_path / "seen"
    spy.mkdir()
    for name in ("pg_dump", "pg_restore", "psql"):
        (spy / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {seen}\nexec {embedded_programs()}/{name} "$@"\n')
        (spy / name).chmod(0o755)
    here = {"DATABASE_URL": guarded, "DATA_DIR": str(tmp_path / "here"), "PATH": f"{spy}:{os.environ['PATH']}"}
    there = here | {"DATABASE_URL": guarded.replace("/postgres?", "/other?"), "DATA_DIR": str(tmp_path / "there")}
    (tmp_path / "sales.csv").write_text("customer,price\na,1\nb,2\n")
    assert call("datasets", "add", str(tmp_path / "sales.csv"), **here).returncode == 0
    assert asyncio.run(last_backup_at(open_artifacts(str(tmp_path / "here" / "artifacts")))) == 0.0
    target = (tmp_path / "backup").as_uri()
    made = call("backup", target, "--json", **here)
    assert (made.returncode, made.stderr) == (0, "")
    facts = json.loads(made.stdout)
    assert (facts["rows"]["datasets"], facts["artifacts"]) == (1, 2)
    made_at = datetime.fromisoformat(facts["created_at"]).timestamp()
    assert asyncio.run(last_backup_at(open_artifacts(str(tmp_path / "here" / "artifacts")))) == made_at
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700
    again = call("backup", target, **here)
    assert (again.returncode, again.stdout) == (2, "")
    back = call("restore", target, **there)
    assert (back.returncode, back.stderr) == (0, "")
    assert back.stdout.startswith("Restored ")
    assert "1 datasets" in back.stdout
    assert json.loads(call("datasets", "show", "sales", "--json", **there).stdout)["id"] == "sales"
    full = call("restore", target, **there)
    assert full.returncode == 2
    assert "--yes" in full.stderr
    assert call("restore", target, "--yes", **there).returncode == 0
    commands = seen.read_text()
    assert [line.split()[0] for line in commands.splitlines() if "--version" not in line] == [
        "pg_dump", "pg_restore", "psql", "pg_restore", "psql"
    ]  # fmt: skip
    assert "hunter2" not in commands
    for line in (again.stderr, full.stderr):
        assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("backup", "http://ada:hunter2@host/x"), 2), (("backup", "memory:///"), 2), (("backup",), 2),
        (("restore", "{empty}"), 2), (("backup", "{empty}"), 1),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments: tuple[str, ...], status: int, tmp_path: Path) -> None:
    """A place that cannot be used, one without a backup and a database that is away each end with one plain line."""
    filled = [argument.replace("{empty}", str(tmp_path / "empty")) for argument in arguments]
    done = call(*filled, DATABASE_URL="postgresql://ada:hunter2@127.0.0.1:1/x", DATA_DIR=str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


# The programs


def test_programs_are_found_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those on the PATH come first if new enough, then the embedded server's; else it is told what is there."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.4 (Debian)'\n")
    (old / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", f"{old}:/bin:/usr/bin")
    assert find_programs(["pg_dump"], major=14) == old
    assert find_programs(["pg_dump"], major=15) == old
    assert find_programs(["pg_dump"], major=16) == embedded_programs()
    assert find_programs(["pg_dump", "psql"], major=15) == embedded_programs()
    with pytest.raises(ProgramsMissing, match=r"pg_dump of PostgreSQL 99 or newer are needed, and only those of .* 18"):
        find_programs(["pg_dump"], major=99)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramsMissing, match="not on the PATH"):
        find_programs(["pg_nothing"], major=1)


async def test_missing_programs_are_refused(
    places: Callable[[], Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without programs that fit, both commands end before they begin."""
    here, backup = places(), open_artifacts(str(tmp_path / "backup"))
    await fill(here, 1)
    await backed_up(here, backup)

    def none(*_: object, **__: object) -> Path:
        raise ProgramsMissing("install them")

    for where in (creating, restoring):
        monkeypatch.setattr(where, "find_programs", none)
    with pytest.raises(BackupRefused, match="install them"):
        await backed_up(here, open_artifacts(str(tmp_path / "second")))
    with pytest.raises(BackupRefused, match="install them"):
        await restored(here, backup, replace=True)


def test_connection_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the address says reaches the programs under libpq's names, over what the environment says, and no other."""
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("PGSSLROOTCERT", "/ca")
    monkeypatch.setenv("OPENAI_API_KEY", "hunter3")
    database = open_at("postgresql://ada:hunter2@host:7/x?sslmode=verify-full&options=-csearch_path%3Dmine")
    found = libpq_environment(database.driver_arguments(session=""))
    assert found.items() >= {
        "PGHOST": "host", "PGPORT": "7", "PGUSER": "ada", "PGPASSWORD": "hunter2", "PGDATABASE": "x",
        "PGSSLMODE": "verify-full", "PGOPTIONS": "-csearch_path=mine", "PGSSLROOTCERT": "/ca", "LC_ALL": "C",
        "PGAPPNAME": "feature-agent",
    }.items()  # fmt: skip
    assert "hunter3" not in found.values()


async def test_program_that_is_cancelled_is_gone(tmp_path: Path) -> None:
    """A program whose caller is cancelled is killed and waited for; one that cannot say why it failed says so."""
    program, started = tmp_path / "program", tmp_path / "started"
    program.write_text(f"#!/bin/sh\necho $$ > {started}.new; mv {started}.new {started}; exec sleep 1000\n")
    program.chmod(0o755)
    running = asyncio.create_task(run(program, [], {"PATH": os.environ["PATH"]}))
    while not await asyncio.to_thread(started.exists):  # noqa: ASYNC110 -- another process's state
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ProgramFailed, match="program failed: it gave no reason"):
        await run(program, [], {"PATH": os.environ["PATH"]})


async def test_all_copies_end_before_a_failure_is_raised() -> None:
    """When one of a batch fails the others are not left running, and no further batch begins."""
    ended: list[int] = []

    async def work(number: int) -> int:
        if number == 1:
            raise KeyError
        await asyncio.sleep(timedelta(milliseconds=1).total_seconds())
        ended.append(number)
        return number

    with pytest.raises(KeyError):
        await manifests.map_in_batches(range(20), work)
    assert ended == [0, *range(2, manifests.PARALLEL_COPIES)]
    assert await manifests.map_in_batches(range(2, 20), work) == list(range(2, 20))
