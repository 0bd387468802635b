"""Helpers that tests share: the service on a real socket, composed as in production, and its database."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import uvicorn
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from service.app import create_app
from service.resources.overrides import NO_OVERRIDES, Overrides
from service.resources.runtime import Runtime
from service.settings import Settings
from service.store.database import open_database
from service.store.unit_of_work import SqlUnitOfWork
from tools.testbed.api_client import Client

START_TIMEOUT_SECONDS = 60.0


class KeptIds(RandomIdGenerator):
    """Random ids, of traces that are all kept by their id."""

    def generate_trace_id(self) -> int:
        """The next trace's id."""
        return RandomIdGenerator.generate_trace_id(self) & ~(0xFFFF << 48)


class DroppedIds(RandomIdGenerator):
    """Random ids, of traces none of which is kept by its id."""

    def generate_trace_id(self) -> int:
        """The next trace's id."""
        return RandomIdGenerator.generate_trace_id(self) | 0xFFFF << 48


@asynccontextmanager
async def unit_of_work(database_url: str) -> AsyncGenerator[SqlUnitOfWork]:
    """Open a transaction on a service's database over a connection of the test's own, as another process does."""
    database = open_database(database_url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    try:
        async with database.store.begin() as work:
            yield work
    finally:
        await database.close()


class LiveService:
    """The service in a thread of this process, on a free port."""

    def __init__(self, settings: Settings, overrides: Overrides = NO_OVERRIDES) -> None:
        self.settings = settings
        self.app = create_app(settings, overrides=overrides)
        self.runtime: Runtime = self.app.state.runtime
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def url(self) -> str:
        """The service's address."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    @property
    def key(self) -> str:
        """The development key, which the service has created."""
        return (Path(self.settings.data_dir) / "development.key").read_text().strip()

    @property
    def client(self) -> Client:
        """A caller with the development key."""
        return Client(self.url, self.key)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the service did not start")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop the server as SIGTERM does, without waiting for it."""
        self._server.should_exit = True

    def has_ended(self) -> bool:
        """Wait for the end of a server that was stopped; False when it takes too long."""
        self._thread.join(timeout=30)
        return not self._thread.is_alive()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.has_ended()
        self.runtime.telemetry.logs.close()
