"""What a test may ill-treat beside a Redis: a PostgreSQL, a small disk."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.store.cluster import Cluster
from service.store.embedded import EmbeddedServer, embedded_programs, start_embedded

START_SECONDS = 60.0


class PostgresProcess:
    """A PostgreSQL server that can be crashed and started again at its address."""

    def __init__(self, folder: Path) -> None:
        self._server: EmbeddedServer = start_embedded(folder)
        self._cluster = Cluster(folder.resolve(), embedded_programs())
        self.url = self._server.url

    def crash(self) -> None:
        """End it at once, without a checkpoint; every connection breaks."""
        self._cluster._signal(signal.SIGQUIT)
        limit = time.monotonic() + START_SECONDS
        while self._cluster._accepts() and time.monotonic() < limit:
            time.sleep(0.02)

    def start(self) -> None:
        """Start it again; it recovers from its log."""
        self._cluster.ensure_running()

    def stop(self) -> None:
        """For good."""
        self._server.stop()


@contextmanager
def postgres_process(folder: Path) -> Iterator[PostgresProcess]:
    """A running PostgreSQL."""
    server = PostgresProcess(folder)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Path]:
    """A file system of that size on the folder."""
    folder.mkdir()
    options = [f"size={kibibytes}k,mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", *options], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
