"""Helpers that tests share: the service on a real socket, composed as in production, and its database."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import uvicorn
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from service.app import create_app
from service.resources.overrides import NO_OVERRIDES, Overrides
from service.resources.runtime import Runtime
from service.settings import Settings
from service.store.database import open_database
from service.store.unit_of_work import SqlUnitOfWork

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


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """The envelope's data."""
        return self.json()["data"]


@dataclass
class Client:
    """A caller with a key; plain HTTP over the standard library, so that nothing retries behind a test's back."""

    url: str
    key: str | None
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request; header names are written with underscores."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.key is not None:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=sent)  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=100) as response:  # noqa: S310 - our own server
                return _answer(response)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error)

    def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return self.call("GET", path, **headers)

    def post_json(self, path: str, value: object, **headers: str) -> Answer:
        """POST a JSON document."""
        return self.call(
            "POST", path, body=json.dumps(value).encode(), **{"Content_Type": "application/json", **headers}
        )

    def upload(self, dataset_id: str, content: bytes, media_type: str = "text/csv") -> Answer:
        """POST a dataset's bytes."""
        return self.call("POST", f"/api/v1/datasets?dataset_id={dataset_id}", body=content, Content_Type=media_type)

    def extract(self, dataset_id: str, description: str, **fields: object) -> Answer:
        """POST an extraction."""
        body = {"dataset_id": dataset_id, "feature_description": description, **fields}
        return self.post_json("/api/v1/extract-features", body)


def _answer(response: Any) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, response.read())


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
