"""A redis-server that a test starts for itself, and may kill or suspend."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REDIS = shutil.which("redis-server")
START_TIMEOUT_SECONDS = 60.0
needs_redis = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")


class RedisProcess:
    """A redis-server that stores nothing on disk and restarts at the same address.

    It also listens on the socket file `path`, and asks for a password when there is one.
    """

    def __init__(self, folder: Path, password: str | None = None) -> None:
        self.folder = folder
        self.path = folder / "redis.sock"
        self._password = password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path), "--save", ""]
        if self._password is not None:
            arguments += ["--requirepass", self._password]
        command = [str(REDIS), *arguments, "--dir", str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        limit = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < limit:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def kill(self) -> None:
        """Kill the server."""
        self.process.kill()
        self.process.wait()

    def suspend(self) -> None:
        """Stop the server from answering; its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the server answer again."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_redis(folder: Path, password: str | None = None) -> Iterator[RedisProcess]:
    """Run a redis-server in the block; skip the test where none is installed."""
    if REDIS is None:
        pytest.skip("redis-server is not installed")
    server = RedisProcess(folder, password)
    try:
        yield server
    finally:
        server.kill()
