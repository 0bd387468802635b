"""A PostgreSQL server of its own that a program or a test may crash and start again."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from service.store.cluster import Cluster
from service.store.embedded import EmbeddedServer, embedded_programs, start_embedded

CRASH_TIMEOUT_SECONDS = 60.0


class PostgresProcess:
    """Run the embedded PostgreSQL so that it can be crashed and started again at its address."""

    def __init__(self, folder: Path) -> None:
        self._server: EmbeddedServer = start_embedded(folder)
        self._cluster = Cluster(folder.resolve(), embedded_programs())
        self.url = self._server.url

    def crash(self) -> None:
        """End it at once (SIGQUIT), without a checkpoint; every connection breaks."""
        self._cluster._signal(signal.SIGQUIT)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- no service crashes it
        deadline = time.monotonic() + CRASH_TIMEOUT_SECONDS
        while self._cluster._accepts() and time.monotonic() < deadline:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- likewise
            time.sleep(0.02)

    def start(self) -> None:
        """Start it again; it recovers from its log."""
        self._cluster.ensure_running()

    def stop(self) -> None:
        """Stop it for good."""
        self._server.stop()


@contextmanager
def running_postgres(folder: Path) -> Generator[PostgresProcess]:
    """Run a PostgreSQL server for the length of the block."""
    server = PostgresProcess(folder)
    try:
        yield server
    finally:
        server.stop()
