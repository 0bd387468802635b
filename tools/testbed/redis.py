"""A redis-server of its own that a program or a test may kill, suspend and start again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

REDIS_SERVER = shutil.which("redis-server")
"""The installed program; None where there is none."""
START_TIMEOUT_SECONDS = 60.0


class RedisProcess:
    """Run a redis-server that stores nothing on disk and restarts at the same address.

    It also listens on the socket file `socket_path`, and asks for the password if there is one.
    """

    def __init__(self, folder: Path, password: str | None = None) -> None:
        self.folder = folder
        self.socket_path = folder / "redis.sock"
        self._password = password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError."""
        address = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket_path)]
        password = [] if self._password is None else ["--requirepass", self._password]
        command = [str(REDIS_SERVER), *address, *password, "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self._answers():
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self.process.kill()
        self.process.wait()

    def suspend(self) -> None:
        """Stop it with SIGSTOP: it keeps its connections and does not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_redis(folder: Path, password: str | None = None) -> Generator[RedisProcess]:
    """Run a redis-server for the length of the block. Raises RuntimeError where none is installed."""
    if REDIS_SERVER is None:
        raise RuntimeError("redis-server is not installed")
    server = RedisProcess(folder, password)
    try:
        yield server
    finally:
        server.kill()
