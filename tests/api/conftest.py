"""The HTTP edge on a real socket, with the real use cases, credentials and limits over ports in memory."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

import httpx
import pytest
import uvicorn
from litestar import Litestar
from litestar.types import Receive, Scope, Send

from service.api.application import create_api
from service.api.services import ApiConfig, ApiServices, HealthCheck
from service.extractions.repeat import RepeatExtraction
from service.extractions.run import RunExtraction
from service.features.context import CURRENT, RequestContext
from service.features.datasets import UploadDataset
from service.features.extract import AcceptExtraction, Pipeline
from service.features.identity import DEFAULT_SCOPES
from service.features.identity import Scope as PrincipalScope
from service.security.authenticator import Authenticator
from service.security.keys import generate
from service.security.limits import open_limiter
from service.security.tokens import TokenIssuer
from service.settings import Settings
from service.webhooks.callbacks import CallbackPolicy
from service.webhooks.signing import WebhookSecrets
from tests.api.doubles import (
    NOW,
    FixedClock,
    Life,
    MemoryArtifacts,
    MemoryEngine,
    Recorder,
    ScriptedPlanner,
)
from tests.api.memory import MemoryQueue, MemoryStore
from tests.support import LiveService

CONFIG = ApiConfig(version="1.2.3", max_upload_bytes=200_000)


class Correlation:
    """Sets the correlation context, as the HTTP observer does."""

    def __init__(self, app: Litestar) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        context = RequestContext(uuid4().hex, trace_id=uuid4().hex, started=time.perf_counter())
        token = CURRENT.set(context)
        try:
            await self._app(scope, receive, send)
        finally:
            CURRENT.reset(token)


@dataclass
class World:
    """One API with everything behind it in reach of the test."""

    config: ApiConfig = CONFIG
    per_minute: int = 0
    metrics: Any = None
    run_seconds: float = 900.0
    repeat_seconds: float = 0.0
    """How long results are remembered."""
    store: MemoryStore = field(default_factory=MemoryStore)
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    planner: ScriptedPlanner = field(default_factory=ScriptedPlanner)
    recorder: Recorder = field(default_factory=Recorder)
    life: Life = field(default_factory=Life)
    clock: FixedClock = field(default_factory=FixedClock)
    away: set[str] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    stop: Callable[[], None] = lambda: None
    """Asks the server to stop, as SIGTERM does; there once it is served."""

    def __post_init__(self) -> None:
        self.artifacts = MemoryArtifacts()
        self.engine = MemoryEngine(self.artifacts)
        self.tokens = TokenIssuer("a secret of at least thirty-two bytes", "HS256")
        self._ids = itertools.count(1)

    def services(self) -> ApiServices:
        """What the API is handed."""
        clock, new_id = self.clock, lambda: f"id-{next(self._ids):04}"
        parts: dict[str, Any] = {"store": self.store, "clock": clock}
        pipeline = Pipeline(
            store=self.store, planner=self.planner, compute=self.engine, measure=self.engine, observer=self.recorder
        )
        self.queue.run = RunExtraction(
            pipeline,
            queue=self.queue,
            artifacts=self.artifacts,
            observer=self.recorder,
            seconds=self.run_seconds,
            **parts,
        )
        return ApiServices(
            store=self.store,
            artifacts=self.artifacts,
            reader=self.engine,
            upload=UploadDataset(
                artifacts=self.artifacts,
                reader=self.engine,
                max_bytes=self.config.max_upload_bytes,
                new_id=new_id,
                **parts,
            ),
            queue=self.queue,
            callbacks=CallbackPolicy(),
            webhook_secrets=WebhookSecrets(["a deployment's secret of thirty-two bytes"]).of,
            accept=AcceptExtraction(queue=self.queue, new_id=new_id, capacity=self.planner, **parts),
            repeat=RepeatExtraction(
                artifacts=self.artifacts,
                observer=self.recorder,
                new_id=new_id,
                entries=100,
                seconds=self.repeat_seconds,
                **parts,
            ),
            notices=self.store.notices,
            authenticator=Authenticator(self.store, self.tokens, clock),
            limiter=open_limiter(self.per_minute, None),
            observer=self.recorder,
            clock=clock,
            lifecycle=self.life,
            health_checks=(
                HealthCheck("database", self.store.ping, critical=True),
                HealthCheck("ai_model", self._ping_model, critical=False),
            ),
            metrics=self.metrics,
            lifespan=(self._lifespan,),
        )

    async def key(self, name: str = "ada", *scopes: PrincipalScope) -> str:
        """A fresh API key."""
        key, secret = generate(name, scopes or DEFAULT_SCOPES, now=NOW)
        await self.store.keys.add(key)
        return secret

    @asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncGenerator[None]:
        yield
        await self.queue.stop()
        self.closed.set()

    async def _ping_model(self) -> None:
        if "ai_model" in self.away:
            raise OSError("no model")


class Served:
    """A world on a free port, in a thread of this process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.app = create_api(world.services(), world.config)
        settings = uvicorn.Config(
            Correlation(self.app), host="127.0.0.1", port=0, log_config=None, lifespan="on", access_log=False
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the service did not start"
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.world.url = f"http://127.0.0.1:{port}"
        return self

    def stop(self) -> None:
        """Ask the server to stop, as SIGTERM does."""
        self._server.should_exit = True

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join(timeout=30)


@pytest.fixture
def serve() -> Iterator[Callable[..., World]]:
    """Serves a world of the given parts until the test ends."""
    served: list[Served] = []

    def start(**parts: Any) -> World:
        world = World(**parts)
        served.append(Served(world).__enter__())
        world.stop = served[-1].stop
        return world

    yield start
    for one in served:
        one.__exit__()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One world for a module's tests that do not change it."""
    with Served(World()) as served:
        yield served.world


@pytest.fixture
async def client(world: World) -> AsyncGenerator[httpx.AsyncClient]:
    """A caller of the module's world, with a key of a principal of its own that holds the default scopes."""
    key = await world.key(f"principal-{uuid4().hex[:8]}")
    async with caller(world, key) as client:
        yield client


@pytest.fixture(scope="module")
def live(make_settings: Callable[..., Settings]) -> Iterator[LiveService]:
    """A service as production composes it."""
    with LiveService(make_settings(max_upload_bytes=1_000_000)) as service:
        yield service


def caller(world: World, key: str | None = None, **headers: str) -> httpx.AsyncClient:
    """An HTTP client of a world."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent.setdefault("Authorization", f"Bearer {key}")
    return httpx.AsyncClient(base_url=world.url, headers=sent, timeout=30, trust_env=False)


@pytest.fixture
async def dataset(client: httpx.AsyncClient) -> str:
    """A dataset of the caller's."""
    await client.post("/api/v1/datasets?dataset_id=events", content=b"a\n1\n", headers={"Content-Type": "text/csv"})
    return "events"


async def extract(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: object) -> httpx.Response:
    """Ask for features."""
    body = {"dataset_id": "events", "feature_description": "Click rate of each user", **fields}
    return await client.post("/api/v1/extract-features", json=body, headers=headers)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in the service's thread."""
    while not condition():
        await asyncio.to_thread(time.sleep, 0.005)


@asynccontextmanager
async def calling(world: World, **headers: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A caller of the world with a key and a dataset of its own."""
    async with caller(world, await world.key(), **headers) as client:
        await client.post("/api/v1/datasets?dataset_id=events", content=b"a\n1\n", headers={"Content-Type": "text/csv"})
        yield client
