"""What tests share: a real service on a real socket, started the way production starts it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Self

import uvicorn
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from service.app import build_app
from service.resources.runtime import open_runtime
from service.settings import Settings
from tools.testbed.api_client import Client

START_SECONDS = 60.0


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


class LiveService:
    """The service in a thread of this process, on a free port."""

    def __init__(self, settings: Settings, **overrides: Any) -> None:
        self.settings = settings
        self.runtime = open_runtime(settings, **overrides)
        self.app = build_app(self.runtime)
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    @property
    def key(self) -> str:
        """The development key that it made."""
        return (Path(self.settings.data_dir) / "development.key").read_text().strip()

    @property
    def client(self) -> Client:
        """A caller with the development key."""
        return Client(self.url, self.key)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the service did not start")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self.runtime.telemetry.logs.close()
