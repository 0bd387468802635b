"""Create, start and stop a PostgreSQL cluster in a folder with the server's own programs.

The folder's path may be too long for a socket, contain spaces or quotes, or lie below folders that the server's account
cannot search: the programs are started inside the data folder and name it by its relative path.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from service.store.file_lock import FileLock, file_lock
from service.store.unprivileged import account_for, let_search

MAJOR_VERSION = 18
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 0.02
RESPONSE_TIMEOUT_SECONDS = 2.0
SSL_REQUEST = struct.pack("!II", 8, 80_877_103)
"""The one message that a server answers before authentication (PostgreSQL protocol 3, "SSLRequest")."""
MAX_SOCKET_PATH_BYTES = 103
"""The smallest limit of the supported systems (macOS 104, Linux 108, both with a terminating zero)."""
SOCKET_NAME = ".s.PGSQL.5432"
CONFIGURATION = (
    "listen_addresses=",
    "max_connections=200",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_checkpoints=off",
    "log_error_verbosity=terse",  # the details of an error quote the values of a row
    "log_min_error_statement=panic",
)
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


class ClusterError(Exception):
    """One of the server's programs failed; the message is one line."""


class Cluster:
    """Manage the cluster in `folder`. The caller must exclude other processes.

    A running server holds `server.lock`, inherited from the process that started it: a process id alone may belong to
    another process by now.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._data = folder / "data"
        self._lock = folder / "server.lock"
        self._log = folder / "server.log"

    @property
    def socket_folder(self) -> Path:
        """The folder of the server's socket: its data folder, or a private folder with a shorter path."""
        if len(os.fsencode(self._data / SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES:
            return self._data
        name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"feature-agent-{name}"

    def ensure_running(self) -> None:
        """Start the server unless it runs, and wait until it accepts connections. Raises ClusterError."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with file_lock(self._lock) as lock:
                if lock.try_lock_exclusive():
                    self._initialise()
                    self._start(lock)
                    return
            if self._accepts():
                return
            time.sleep(POLL_SECONDS)
        raise ClusterError(f"the server runs and does not accept connections; {self._log} may say why")

    def shut_down(self) -> None:
        """Stop the server and wait for its end, disconnecting its clients."""
        for request in (signal.SIGINT, signal.SIGQUIT):  # "fast", then "immediate" shutdown
            self._signal(request)
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            while time.monotonic() < deadline:
                with file_lock(self._lock) as lock:
                    if lock.try_lock_exclusive():
                        self._tidy()
                        return
                time.sleep(POLL_SECONDS)

    def _tidy(self) -> None:
        if self.socket_folder != self._data:
            with suppress(OSError):
                self.socket_folder.rmdir()

    def _accepts(self) -> bool:
        """Whether the server answers; a connection alone is no proof, since a dying server's socket accepts it too."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(RESPONSE_TIMEOUT_SECONDS)
            try:
                client.connect(os.fsencode(self.socket_folder / SOCKET_NAME))
                client.sendall(SSL_REQUEST)
                return bool(client.recv(1))
            except OSError:
                return False

    def _signal(self, request: signal.Signals) -> None:
        server = self._server()
        if server is not None:
            with suppress(ProcessLookupError):
                os.kill(server, request)

    def _server(self) -> int | None:
        """Return the running server's process id, or None; an id from before a restart may be another program's."""
        try:
            process = int((self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
            if Path("/proc/self").exists():
                program = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0]
                return process if program.endswith(b"/postgres") else None
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return process

    def _initialise(self) -> None:
        """Create the data folder atomically, so that a crash leaves all of it or nothing."""
        if self._data.exists():
            self._require_version()
            return
        for abandoned in self._folder.glob("data.new-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix="data.new-", dir=self._folder))
        options = [
            *("--username=postgres", "--auth=trust", "--no-instructions", "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(f"--set={setting}" for setting in CONFIGURATION),
        ]
        self._change_owner(draft)
        self._run("initdb", options, inside=draft)
        draft.rename(self._data)

    def _require_version(self) -> None:
        version = (self._data / "PG_VERSION").read_text(encoding="utf-8").strip()
        if version != str(MAJOR_VERSION):
            raise ClusterError(f"the database in {self._folder} was made by PostgreSQL {version}, not {MAJOR_VERSION}")

    def _start(self, lock: FileLock) -> None:
        if self._server() is None:
            for stale in (self._data / "postmaster.pid", self.socket_folder / f"{SOCKET_NAME}.lock"):
                stale.unlink(missing_ok=True)
        where = "."
        if self.socket_folder != self._data:
            self._create_private(self.socket_folder)
            where = shlex.quote(str(self.socket_folder))
        arguments = ["start", "--wait", f"--timeout={START_TIMEOUT_SECONDS}", "--silent"]
        arguments.append(f"--options=-k {where} -c unix_socket_permissions=0700")
        self._run("pg_ctl", arguments, inside=self._data, keep=lock.descriptor)

    def _create_private(self, folder: Path) -> None:
        """Create the socket folder, and check that no other user has created or can read it."""
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        trusted = {0, os.geteuid(), account_for(self._data).get("user", 0)}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in trusted or found.st_mode & 0o077:
            raise ClusterError(f"{folder} is not a private folder of this user; remove it, or choose a shorter path")
        self._change_owner(folder)

    def _change_owner(self, folder: Path) -> None:
        account = account_for(self._data)
        if "user" in account and "group" in account:
            os.chown(folder, account["user"], account["group"])

    def _run(self, program: str, arguments: list[str], *, inside: Path, keep: int | None = None) -> None:
        """Run one of the server's programs inside a data folder; its output and the server's go to the log."""
        account = account_for(self._data)
        if "user" in account:
            let_search(self._programs, account["user"])
        # The account may not be able to search the parent folders; this name does not pass through them.
        data = "/proc/self/cwd" if account else "."
        with os.fdopen(os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as log:
            outcome = subprocess.run(  # noqa: S603 - the programs of the installed package
                [str(self._programs / program), "--pgdata", data, *arguments],
                cwd=inside,
                env=_ENVIRONMENT,
                umask=0o077,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=() if keep is None else (keep,),
                check=False,
                **account,
            )
        if outcome.returncode:
            raise ClusterError(f"{program} failed: {self._log_error()}")

    def _log_error(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if "FATAL" in line or "error:" in line]
        return (errors or lines or ["it gave no reason"])[-1].strip()
