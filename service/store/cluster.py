"""One PostgreSQL cluster in a folder: made, started and stopped with the server's own programs.

Every step holds for a folder whose path is too long for a socket, contains spaces or quotes, or lies below folders
that are closed to the account which runs the server: its programs are started *inside* the data folder and name it
by its relative path.
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
START_SECONDS = 60
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02
ANSWER_SECONDS = 2.0
SSL_REQUEST = struct.pack("!II", 8, 80_877_103)
"""The one message that a server answers before it asks who calls (PostgreSQL protocol 3, "SSLRequest")."""
SOCKET_PATH_BYTES = 103
"""The shortest limit among the systems served (macOS 104, Linux 108, both with a closing zero)."""
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
    """The server's programs did not do what was asked; the message is one plain line."""


class Cluster:
    """The cluster in `folder`. Its methods expect that the caller excludes every other process.

    A running server holds `server.lock`, inherited from whoever started it, so whether it lives is never a guess
    from a process number that may by now be another's.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._data = folder / "data"
        self._lock = folder / "server.lock"
        self._log = folder / "server.log"

    @property
    def socket_folder(self) -> Path:
        """Where the server listens: its data folder, or a private folder of a shorter path."""
        if len(os.fsencode(self._data / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
            return self._data
        name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"feature-agent-{name}"

    def ensure_running(self) -> None:
        """Return with a server that accepts connections; adopt one that runs. Raises ClusterError."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with file_lock(self._lock) as lock:
                if lock.try_own():
                    self._initialise()
                    self._start(lock)
                    return
            if self._accepts():
                return
            time.sleep(POLL_SECONDS)
        raise ClusterError(f"the server runs and does not accept connections; {self._log} may say why")

    def shut_down(self) -> None:
        """Stop the server and wait for its end; its clients lose their connections."""
        for request in (signal.SIGINT, signal.SIGQUIT):  # "fast", then "immediate" shutdown
            self._signal(request)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline:
                with file_lock(self._lock) as lock:
                    if lock.try_own():
                        self._tidy()
                        return
                time.sleep(POLL_SECONDS)

    def _tidy(self) -> None:
        if self.socket_folder != self._data:
            with suppress(OSError):
                self.socket_folder.rmdir()

    def _accepts(self) -> bool:
        """Whether the server answers; a connection alone is no proof, since a dying server's socket still takes it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(ANSWER_SECONDS)
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
        """The running server's process, or None; a number from before a restart may be anybody's by now."""
        try:
            process = int((self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
            if Path("/proc/self").exists():
                program = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0]
                return process if program.endswith(b"/postgres") else None
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return process

    def _initialise(self) -> None:
        """Make the data folder in one step, so that a crash leaves all of it or nothing."""
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
        self._give_away(draft)
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
            self._claim(self.socket_folder)
            where = shlex.quote(str(self.socket_folder))
        arguments = ["start", "--wait", f"--timeout={START_SECONDS}", "--silent"]
        arguments.append(f"--options=-k {where} -c unix_socket_permissions=0700")
        self._run("pg_ctl", arguments, inside=self._data, keep=lock.descriptor)

    def _claim(self, folder: Path) -> None:
        """Make the folder beside other users' files ours alone; a stranger may have been there first."""
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        trusted = {0, os.geteuid(), account_for(self._data).get("user", 0)}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in trusted or found.st_mode & 0o077:
            raise ClusterError(f"{folder} is not a private folder of this user; remove it, or choose a shorter path")
        self._give_away(folder)

    def _give_away(self, folder: Path) -> None:
        account = account_for(self._data)
        if "user" in account and "group" in account:
            os.chown(folder, account["user"], account["group"])

    def _run(self, program: str, arguments: list[str], *, inside: Path, keep: int | None = None) -> None:
        """Run one of the server's programs in a data folder; its output and the server's go to the log."""
        account = account_for(self._data)
        if "user" in account:
            let_search(self._programs, account["user"])
        # Its parents may be closed to the account: only this name of the folder does not lead through them.
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
            raise ClusterError(f"{program} failed: {self._complaint()}")

    def _complaint(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        grave = [line for line in lines if "FATAL" in line or "error:" in line]
        return (grave or lines or ["it gave no reason"])[-1].strip()
