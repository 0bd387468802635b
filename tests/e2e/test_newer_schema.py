"""The commands of an older release on a database that a newer one has migrated."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from service.store.revision import REVISION
from tests.integration.test_migrations import open_at

pytestmark = pytest.mark.proof

NEWER = "9000"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """An environment whose database is at a revision that this release does not know, and that serves its code."""

    async def migrate() -> None:
        database = open_at(database_url)
        await database.migrate()
        await database.close()

    asyncio.run(migrate())
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9000'")
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return {
        **kept,
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": database_url,
        "PORT": "0",
        "PROMETHEUS_PORT": "0",
        "PYTHONPATH": str(Path.cwd()),
        "COLUMNS": "200",
    }


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs one command to its end."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service", *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
        )

    return call


def test_migrate_and_doctor_say_it_and_end_well(run: Run) -> None:
    """`migrate` says that it did nothing and why, `doctor` warns, and both exit with 0."""
    plain, machine, doctor = run("migrate"), run("migrate", "--json"), run("doctor", "--json")

    assert plain.returncode == machine.returncode == doctor.returncode == 0, (plain, machine, doctor)
    assert f"revision {NEWER}, newer than this release's {REVISION}" in plain.stdout
    assert "Nothing was migrated" in plain.stdout
    assert json.loads(machine.stdout) == {"revision": NEWER, "release_revision": REVISION}
    database = next(check for check in json.loads(doctor.stdout) if check["name"] == "database")
    assert database["status"] == "warning"
    assert "of a newer release, which works for this one" in database["detail"]


def test_a_schema_that_does_not_serve_fails_both(run: Run, database_url: str) -> None:
    """Where the database says that it needs newer code, `migrate` and `doctor` exit with 1 and say what to do."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE schema_compatibility SET oldest_revision = '9000'")
    migrate, doctor = run("migrate"), run("doctor", "--json")

    assert migrate.returncode == doctor.returncode == 1
    assert "Run that release, or restore a backup from before." in migrate.stderr
    assert "Traceback" not in migrate.stderr
    database = next(check for check in json.loads(doctor.stdout) if check["name"] == "database")
    assert database["status"] == "failed"
    assert database["fix"].startswith("Run the release that migrated it")


@pytest.fixture
def served(environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A `serve` process and its lines until it listens or ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve"],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    deadline = time.monotonic() + 60
    while not any('"address"' in line for line in lines[-1:]) and time.monotonic() < deadline:
        line = process.stdout.readline()
        if not line:
            break
        lines.append(line)
    yield process, lines
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_serve_starts_and_warns_once(served: tuple[subprocess.Popen[str], list[str]]) -> None:
    """The service of the older release listens, after one warning that names the cause, and ends well."""
    process, lines = served
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert any("address" in line for line in found), lines
    warnings = [line["message"] for line in found if line["level"] == "warning"]
    assert warnings == ["a newer release has migrated the database, and this one still works on it"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
