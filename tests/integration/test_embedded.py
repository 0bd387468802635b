from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from service.store import cluster, embedded, unprivileged
from service.store.embedded import EmbeddedUnavailable, start_embedded
from service.store.file_lock import file_lock

ROOT = Path(__file__).parents[2]
USER = """
import sys
from pathlib import Path
import os
from service.store.embedded import start_embedded
if len(sys.argv) > 2:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
server = start_embedded(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.readline()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files over to another account")


def open_user(folder: Path, account: int | None = None) -> subprocess.Popen[str]:
    """Start a process that shares the server until a line arrives on its stdin, and then just exits."""
    arguments = [str(folder), *([] if account is None else [str(account)])]
    return subprocess.Popen(
        [sys.executable, "-c", USER, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def url_of(user: subprocess.Popen[str]) -> str:
    """The address that the process printed."""
    assert user.stdout is not None
    return user.stdout.readline().strip()


def leave(*users: subprocess.Popen[str]) -> None:
    """Let processes exit, one after the other."""
    for user in users:
        user.communicate("\n", timeout=60)
        assert user.returncode == 0


def answer(url: str) -> int:
    """Ask the server for 42."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT 42").fetchone()
    assert row is not None
    return row[0]


def runs(folder: Path) -> bool:
    """Whether a server lives."""
    with file_lock(folder / "server.lock") as lock:
        return not lock.try_lock_exclusive()


def postmaster(folder: Path) -> int:
    """The server's process number."""
    return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a server; one that a killed process left running is stopped afterwards."""
    folder = tmp_path / "postgresql"
    yield folder
    if (folder / "server.lock").exists() and runs(folder):
        start_embedded(folder).stop()


def test_serves_postgresql_18_from_private_folder(folder: Path) -> None:
    """The server is PostgreSQL 18 in UTF-8 and UTC, listens on no network, and its folders are the owner's alone."""
    server = start_embedded(folder)
    try:
        with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
            names = ("server_version_num", "listen_addresses", "server_encoding", "TimeZone")
            values = [connection.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]
        assert [row[0] if row else None for row in values][1:] == ["", "UTF8", "UTC"]
        assert values[0] is not None
        assert values[0][0].startswith("18")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "data").stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
    assert not runs(folder)


def test_data_outlives_server(folder: Path) -> None:
    """What was committed is there after a stop and a start, and stopping twice is harmless."""
    server = start_embedded(folder)
    with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    server.stop()
    server.stop()
    server = start_embedded(folder)
    try:
        with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT seven FROM kept").fetchone() == (7,)
    finally:
        server.stop()


def test_four_processes_start_at_once(folder: Path) -> None:
    """Four processes that start on an empty folder share one server, and the last to leave stops it."""
    users = [open_user(folder) for _ in range(4)]
    urls = {url_of(user) for user in users}
    assert len(urls) == 1
    assert answer(urls.pop()) == 42
    leave(*users[:3])
    assert runs(folder)
    leave(users[3])
    assert not runs(folder)


def test_two_shares_in_one_process(folder: Path) -> None:
    """Two shares of one process count as two."""
    first, second = start_embedded(folder), start_embedded(folder)
    first.stop()
    assert answer(second.url) == 42
    second.stop()
    assert not runs(folder)


def test_killed_process_neither_blocks_nor_counts(folder: Path) -> None:
    """After kill -9 of a user the others keep the server, and the last of them stops it."""
    killed, other = open_user(folder), open_user(folder)
    assert url_of(killed) == (url := url_of(other))
    killed.kill()
    killed.communicate()
    assert answer(url) == 42
    leave(other)
    assert not runs(folder)


def test_server_of_killed_process_is_adopted(folder: Path) -> None:
    """The server that the only user left behind by kill -9 is taken over by the next, who stops it."""
    killed = open_user(folder)
    url_of(killed)
    server = postmaster(folder)
    killed.kill()
    killed.communicate()
    adopted = start_embedded(folder)
    assert postmaster(folder) == server
    assert answer(adopted.url) == 42
    adopted.stop()
    assert not runs(folder)


def test_killed_server_is_started_again(folder: Path) -> None:
    """After kill -9 of the server itself the next start recovers the data."""
    server = start_embedded(folder)
    with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    os.kill(postmaster(folder), signal.SIGKILL)
    again = start_embedded(folder)
    try:
        with psycopg.connect(again.url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT seven FROM kept").fetchone() == (7,)
    finally:
        server.stop()
        again.stop()
    assert not runs(folder)


def test_stale_process_number_does_not_block(folder: Path) -> None:
    """A postmaster.pid whose number is another process's by now, as after a container's restart, does not block."""
    start_embedded(folder).stop()
    for content in (f"{os.getpid()}\n{folder}\n", "", "not a number\n"):
        (folder / "data" / "postmaster.pid").write_text(content)
        server = start_embedded(folder)
        assert answer(server.url) == 42
        server.stop()


def test_interrupted_first_start_is_repeated(folder: Path) -> None:
    """The rest of an interrupted first start is removed, and the database is created again."""
    (folder / "data.new-interrupted" / "base").mkdir(parents=True)
    server = start_embedded(folder)
    assert answer(server.url) == 42
    server.stop()
    assert not list(folder.glob("data.new-*"))


def test_fork_has_no_share(folder: Path) -> None:
    """A forked child that ends does not take its parent's share with it."""
    server = start_embedded(folder)
    lease = server._process
    server._process = lease + 1  # what a child sees
    server.stop()
    assert runs(folder)
    server._process = lease
    server.stop()
    assert not runs(folder)


def test_path_too_long_for_socket_and_hostile_to_shells(tmp_path: Path) -> None:
    """A folder whose path is over the socket limit, with quotes and spaces in it, works; strangers cannot reach it."""
    folder = tmp_path / ("a b'\"$(exit 1)" + "c" * 80) / "postgresql"
    server = start_embedded(folder)
    sockets = Path(psycopg.conninfo.conninfo_to_dict(server.url.replace("+psycopg", ""))["host"])  # type: ignore[arg-type]
    try:
        assert answer(server.url) == 42
        assert folder not in sockets.parents
        assert sockets.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
    assert not sockets.exists()


def test_foreign_socket_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that others may enter is never used for the socket."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cluster, "SOCKET_PATH_BYTES", 10)
    folder = tmp_path / "postgresql"
    foreign = cluster.Cluster(folder.resolve(), Path()).socket_folder
    foreign.mkdir()
    foreign.chmod(0o777)
    with pytest.raises(EmbeddedUnavailable, match="is not a private folder of this user"):
        start_embedded(folder)
    assert not runs(folder)


def test_missing_package_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the message says what to install."""
    monkeypatch.setitem(sys.modules, embedded.PACKAGE, None)
    with pytest.raises(EmbeddedUnavailable, match=r"pip install 'feature-agent\[embedded\]'"):
        start_embedded(folder)


def test_package_without_version_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that brings another PostgreSQL is named as the reason."""
    monkeypatch.setattr(embedded, "MAJOR_VERSION", 99)
    with pytest.raises(EmbeddedUnavailable, match="has no PostgreSQL 99"):
        start_embedded(folder)


def test_data_of_other_version_is_refused(folder: Path) -> None:
    """Data of another PostgreSQL version is left alone, with both versions in the message."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedUnavailable, match="PostgreSQL 16, not 18"):
        start_embedded(folder)
    shutil.rmtree(folder)


def test_server_that_cannot_start_says_why(folder: Path) -> None:
    """When the server refuses its configuration, its own complaint is in the message and nothing is left running."""
    start_embedded(folder).stop()
    with (folder / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("shared_buffers = 'nonsense'\n")
    with pytest.raises(EmbeddedUnavailable, match=r"pg_ctl failed: .*(shared_buffers|configuration file)"):
        start_embedded(folder)
    assert not runs(folder)


def test_server_that_never_accepts_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that holds its lock and takes no connection ends the wait with a plain error."""
    folder.mkdir()
    monkeypatch.setattr(cluster, "START_SECONDS", 0.1)
    with file_lock(folder / "server.lock") as held:
        held.lock_exclusive()
        with pytest.raises(EmbeddedUnavailable, match="does not accept connections"):
            start_embedded(folder)


def test_unusable_folder_is_named(tmp_path: Path) -> None:
    """A folder that cannot be made is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedUnavailable, match="file"):
        start_embedded(tmp_path / "file" / "postgresql")


def test_hanging_server_is_stopped_at_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not follow a fast shutdown is shut down at once, and its data recovers."""
    server = start_embedded(folder)
    monkeypatch.setattr(cluster, "STOP_SECONDS", 2.0)
    send = os.kill
    monkeypatch.setattr(os, "kill", lambda process, sent: None if sent == signal.SIGINT else send(process, sent))
    server.stop()
    assert not runs(folder)


def test_server_that_ends_by_itself_is_waited_for(folder: Path) -> None:
    """Stopping a server that is already on its way down is no error."""
    server = start_embedded(folder)
    os.kill(postmaster(folder), signal.SIGQUIT)
    server.stop()
    assert not runs(folder)


@needs_root
def test_ordinary_user_runs_the_server_itself() -> None:
    """Without root the server runs as the user who started it, and its data is that user's."""
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="embedded-") as home:
        os.chown(home, user.pw_uid, user.pw_gid)
        folder = Path(home) / "postgresql"
        process = open_user(folder, user.pw_uid)
        assert answer(url_of(process)) == 42
        assert (folder / "data").stat().st_uid == user.pw_uid
        leave(process)
        server = start_embedded(folder)
        assert (folder / "data").stat().st_uid == user.pw_uid
        assert answer(server.url) == 42
        server.stop()


@needs_root
def test_root_needs_an_account(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root without another account, or on a system where it cannot switch, gets an error that says so."""
    monkeypatch.setattr(unprivileged, "ACCOUNTS", ("no-such-account",))
    with pytest.raises(EmbeddedUnavailable, match="no account no-such-account"):
        start_embedded(folder)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EmbeddedUnavailable, match="does not run as root"):
        start_embedded(folder)


@needs_root
def test_search_is_granted_to_one_account_alone(tmp_path: Path) -> None:
    """Granting search opens closed folders to one account: others stay out, and none can list them."""
    nobody, other = pwd.getpwnam("nobody").pw_uid, 12_345
    programs = tmp_path / "closed" / "programs"
    programs.mkdir(parents=True)
    (programs / "program").write_text("runs")
    for folder in (programs, programs.parent):
        folder.chmod(0o700)

    def outcome(command: str, path: Path, user: int) -> int:
        return subprocess.run(
            [command, path], user=user, group=user, extra_groups=[], capture_output=True, check=False
        ).returncode

    assert outcome("cat", programs / "program", nobody) != 0
    for _ in range(2):
        unprivileged.let_search(programs, nobody)
    assert outcome("cat", programs / "program", nobody) == 0
    assert outcome("ls", programs, nobody) != 0
    assert outcome("cat", programs / "program", other) != 0
    unprivileged.let_search(programs, other)
    assert [outcome("cat", programs / "program", user) for user in (nobody, other)] == [0, 0]
