"""Starting with each dependency missing or wrong: the API, the worker and the migration, as processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from service.store.revision import REVISION
from tests.integration.s3_stub import serve_bucket
from tests.integration.test_migrations import go_to
from tests.redis_process import needs_redis, running_redis
from tools.testbed.postgres import PostgresProcess, running_postgres
from tools.testbed.processes import ForkedProcess

pytestmark = pytest.mark.proof

PATIENCE = 100.0
"""Seconds after which what does not come is taken for missing; nothing is measured by it."""
COMMANDS = ("serve", "worker", "migrate")
LASTING = ("serve", "worker")
STARTED = {"serve": "listening", "worker": "working"}
SECRET = "hunter2"


@dataclass(frozen=True)
class Said:
    """What a process left behind."""

    status: int
    log: list[dict[str, Any]]
    plain: list[str]

    def only_line(self) -> str:
        """The one line for people; nothing else may look like a failure, and no password may be anywhere."""
        [line] = self.plain
        assert line.startswith("feature-agent: ")
        assert [entry for entry in self.log if entry["level"] == "error"] == []
        assert SECRET not in f"{line}{self.log}"
        return line.removeprefix("feature-agent: ")


class Start:
    """A command that starts in a folder of its own."""

    def __init__(self, folder: Path, command: str, settings: dict[str, str]) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        defaults = {"ENVIRONMENT": "test", "DATA_DIR": str(folder / "data"), "PORT": "0", "PROMETHEUS_PORT": "0"}
        self._log = folder / "log"
        self._log.touch()
        self._command = command
        self._process = ForkedProcess(command.split(), {**inherited, **defaults, **settings}, self._log)

    def said(self) -> Said:
        """What it said, once it has ended."""
        status = self._process.wait(PATIENCE)
        lines = self._log.read_text().splitlines()
        return Said(status, self.entries(), [line for line in lines if not line.startswith("{")])

    def entries(self) -> list[dict[str, Any]]:
        """Its log so far."""
        text = self._log.read_text()
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def warnings(self, wanted: str = "") -> list[str]:
        """Its warnings once it has started and one has those words, if any; it is stopped then and has to end well."""
        last = time.monotonic() + PATIENCE
        started = False
        while time.monotonic() < last and self._process.poll() is None:
            found = [entry["message"] for entry in self.entries() if entry["level"] == "warning"]
            started = any(entry["message"] == STARTED[self._command] for entry in self.entries())
            if started and (not wanted or any(wanted in message for message in found)):
                break
            time.sleep(0.05)
        self._process.send_signal(signal.SIGTERM)
        said = self.said()
        assert started, said
        assert (said.status, said.plain) == (0, []), said
        assert SECRET not in str(said.log)
        return [entry["message"] for entry in said.log if entry["level"] == "warning"]

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Start]]:
    """Starts a command with those settings."""
    starts: list[Start] = []

    def begin(command: str, **settings: str) -> Start:
        folder = tmp_path / f"{command}-{len(starts)}"
        folder.mkdir()
        starts.append(Start(folder, command, settings))
        return starts[-1]

    yield begin
    for one in starts:
        one.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """A PostgreSQL with an account that has a password, one without rights, and databases that do not suit."""
    folder = tmp_path_factory.mktemp("guarded")
    with running_postgres(folder) as process:
        address = process.url.replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as connection:
            for statement in (
                "CREATE ROLE guarded LOGIN PASSWORD 'right'",
                "CREATE ROLE powerless LOGIN",
                "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0",
                "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0",
                "CREATE DATABASE closed",
                "ALTER DATABASE closed SET default_transaction_read_only = on",
            ):
                connection.execute(statement.encode())
            [rules] = folder.rglob("pg_hba.conf")
            rules.write_text(f"local all guarded scram-sha-256\n{rules.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
        yield process


DATABASES = {
    "password": ("guarded:hunter2", "postgres", 'password authentication failed for user "guarded"', "Correct the acc"),
    "account": ("stranger:hunter2", "postgres", 'role "stranger" does not exist', "Correct the account, password"),
    "database": ("postgres", "missing", 'database "missing" does not exist', "Correct the account, password"),
    "rights": ("powerless", "postgres", "permission denied for schema public", "GRANT CREATE ON SCHEMA public"),
    "SQL_ASCII": ("postgres", "ascii", "has the encoding SQL_ASCII; the service needs UTF8", "with ENCODING 'UTF8'"),
    "LATIN1": ("postgres", "latin", "has the encoding LATIN1; the service needs UTF8", "with ENCODING 'UTF8'"),
    "read only": ("postgres", "closed", "takes no writes", "Name the primary server in DATABASE_URL."),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wrong", DATABASES)
def test_a_wrong_database_is_one_line(
    start: Callable[..., Start], server: PostgresProcess, command: str, wrong: str
) -> None:
    """A database that refuses, or cannot be worked with, ends the start with 1: where it is, why, what to do."""
    account, name, why, remedy = DATABASES[wrong]
    _, _, query = server.url.partition("?")

    said = start(command, DATABASE_URL=f"postgresql://{account}@/{name}?{query}").said()

    line = said.only_line()
    assert said.status == 1
    assert line.startswith("PostgreSQL at /")
    assert f"database {name}, account {account.partition(':')[0]}" in line
    assert why in line
    assert remedy in line


@pytest.mark.parametrize("command", COMMANDS)
def test_no_database_is_one_line(start: Callable[..., Start], command: str) -> None:
    """A database that is away ends the start with 1: where it should be, and what to do."""
    said = start(command, DATABASE_URL=f"postgresql://ada:{SECRET}@127.0.0.1:1/features").said()

    assert said.status == 1
    assert said.only_line() == (
        "PostgreSQL at 127.0.0.1:1, database features, account ada cannot be used: Connection refused. "
        "Start PostgreSQL, or correct DATABASE_URL."
    )


def test_doctor_says_the_same(start: Callable[..., Start]) -> None:
    """What `doctor` finds and advises are the words of the start's line."""
    settings = {"DATABASE_URL": f"postgresql://ada:{SECRET}@127.0.0.1:1/features"}

    line = start("migrate", **settings).said().only_line()
    examined = start("doctor --json", **settings).said()

    database = next(check for check in json.loads("\n".join(examined.plain)) if check["name"] == "database")
    assert examined.status == 1
    assert f"{database['detail']} {database['fix']}" == line


def test_no_host_of_that_name_is_one_line(start: Callable[..., Start]) -> None:
    """A host that does not resolve is named as such."""
    said = start("serve", DATABASE_URL=f"postgresql://ada:{SECRET}@db.invalid/features").said()

    assert said.status == 1
    assert re.match("PostgreSQL at db.invalid, .*resolve host 'db.invalid'", said.only_line())


def test_several_workers_say_it_once(start: Callable[..., Start]) -> None:
    """With WORKERS above 1 the first one's line is the only one, and its status the supervisor's."""
    said = start("serve", WORKERS="2", RATE_LIMIT_PER_MINUTE="0", DATABASE_URL="postgresql://ada@127.0.0.1:1/x").said()

    assert said.status == 1
    assert said.only_line().startswith("PostgreSQL at 127.0.0.1:1")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_schema_that_is_too_new_is_one_line(
    start: Callable[..., Start], new_database: Callable[[], str], command: str
) -> None:
    """A schema that works for newer code alone ends the start with 1 and names both ways out."""
    url = new_database()
    go_to(url, REVISION)
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9000'")
        connection.execute("UPDATE schema_compatibility SET oldest_revision = '9000'")

    said = start(command, DATABASE_URL=url).said()

    assert said.status == 1
    assert "revision 9000, which this release does not know" in said.only_line()
    assert "Run that release, or restore a backup from before." in said.only_line()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_migration_in_the_way_of_a_table_is_one_line(
    start: Callable[..., Start], new_database: Callable[[], str], command: str
) -> None:
    """A migration that fails ends the start with 1, says at what, and leaves the database as it was."""
    url = new_database()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE api_keys (unexpected integer)")

    said = start(command, DATABASE_URL=url).said()

    assert said.status == 1
    assert f'cannot be brought to revision {REVISION}: relation "api_keys" already exists' in said.only_line()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


@pytest.mark.parametrize("command", LASTING)
def test_an_older_schema_is_migrated(
    start: Callable[..., Start], new_database: Callable[[], str], command: str
) -> None:
    """A schema of an older release is no fault: the start migrates it."""
    url = new_database()
    go_to(url, "0005")

    assert start(command, DATABASE_URL=url, PRIMARY_MODEL="builtin:planner").warnings() == []

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (REVISION,)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_data_folder_that_cannot_be_is_one_line(
    start: Callable[..., Start], database_url: str, tmp_path: Path, command: str
) -> None:
    """A DATA_DIR below a file ends the start with 1: the path, why, and the setting."""
    (tmp_path / "file").touch()

    said = start(command, DATABASE_URL=database_url, DATA_DIR=str(tmp_path / "file" / "data")).said()

    assert said.status == 1
    assert re.fullmatch(rf"{tmp_path}/file.*: Not a directory\. Set DATA_DIR .*", said.only_line())


def test_no_folder_for_the_embedded_database_is_one_line(start: Callable[..., Start], tmp_path: Path) -> None:
    """Without DATABASE_URL the embedded database is what misses its folder, and another one is the way out."""
    (tmp_path / "file").touch()

    said = start("migrate", DATA_DIR=str(tmp_path / "file" / "data")).said()

    assert said.status == 1
    assert said.only_line().startswith("The embedded database cannot start: ")
    assert "Set DATABASE_URL to use another PostgreSQL." in said.only_line()


@pytest.mark.parametrize(("command", "setting"), [("serve", "PORT"), *((name, "PROMETHEUS_PORT") for name in LASTING)])
def test_a_taken_port_is_one_line(start: Callable[..., Start], database_url: str, command: str, setting: str) -> None:
    """A port that another process has ends the start with 1 and names its setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = start(command, DATABASE_URL=database_url, **{setting: port}).said()

    assert said.status == 1
    assert port in said.only_line()
    assert f"set {setting} to " in said.only_line()


@pytest.mark.parametrize("command", LASTING)
def test_a_missing_key_of_the_model_is_one_line(start: Callable[..., Start], database_url: str, command: str) -> None:
    """A model without its key ends the start with 2 and the command that sets it; the migration asks no model."""
    said = start(command, DATABASE_URL=database_url, PRIMARY_MODEL="anthropic:claude-sonnet-5-5").said()
    migrated = start("migrate", DATABASE_URL=database_url, PRIMARY_MODEL="anthropic:claude-sonnet-5-5").said()

    assert said.status == 2
    assert "run `export ANTHROPIC_API_KEY=…`" in said.only_line()
    assert (migrated.status, migrated.plain) == (0, [f"The database is at revision {REVISION}."])


@pytest.mark.parametrize("command", LASTING)
def test_it_starts_without_redis_and_says_so(start: Callable[..., Start], database_url: str, command: str) -> None:
    """Redis that is away does not hold a start up: one warning has its address and what to do."""
    settings = {"DATABASE_URL": database_url, "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1/3"}

    warnings = start(command, **settings).warnings("started without a dependency")

    [line] = [warning for warning in warnings if "started without" in warning]
    assert "Redis at 127.0.0.1:1, database 3, cannot be used: " in line
    assert line.endswith("Start Redis, correct REDIS_URL or REDIS_PASSWORD, or leave REDIS_URL out.")


@needs_redis
@pytest.mark.parametrize("command", LASTING)
def test_it_starts_with_a_wrong_password_of_redis_and_says_so(
    start: Callable[..., Start], database_url: str, tmp_path: Path, command: str
) -> None:
    """Redis that refuses the password is likewise one warning, in Redis' own words."""
    with running_redis(tmp_path) as redis:
        with Redis.from_url(redis.url) as client:
            client.config_set("requirepass", "right")
        settings = {"DATABASE_URL": database_url, "REDIS_URL": redis.url, "REDIS_PASSWORD": SECRET}
        warnings = start(command, **settings).warnings("started without a dependency")

    [line] = [warning for warning in warnings if "started without" in warning]
    assert re.search("invalid (username-password pair|password)", line)


@pytest.mark.parametrize("command", LASTING)
@pytest.mark.parametrize("wrong", ["away", "credentials"])
def test_it_starts_without_its_bucket_and_says_so(
    start: Callable[..., Start], database_url: str, command: str, wrong: str
) -> None:
    """A bucket that is away or refuses the credentials is one warning with its address and what to do."""
    with serve_bucket() as bucket:
        bucket.refuses = True
        settings = {
            "DATABASE_URL": database_url,
            "ARTIFACTS_URL": "s3://bucket/prefix",
            "AWS_ENDPOINT_URL": bucket.address if wrong == "credentials" else "http://127.0.0.1:1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "ada",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        warnings = start(command, **settings).warnings("started without a dependency")

    [line] = [warning for warning in warnings if "started without" in warning]
    why = "it refuses the credentials" if wrong == "credentials" else "no answer within 5 s"
    assert f"The artifact store at s3://bucket/prefix cannot be used: {why}" in line
    assert line.endswith("Correct ARTIFACTS_URL, its credentials, or the rights on its bucket or folder.")


@pytest.mark.parametrize("command", LASTING)
def test_it_starts_without_a_collector_of_traces(start: Callable[..., Start], database_url: str, command: str) -> None:
    """A collector that cannot be reached neither holds a start up nor fails it."""
    settings = {"DATABASE_URL": database_url, "JAEGER_ENABLED": "true", "JAEGER_ENDPOINT": "http://127.0.0.1:1"}

    assert [line for line in start(command, **settings).warnings() if "dependency" in line] == []
