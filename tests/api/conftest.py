"""The service on a real socket and a real database, with doubles for its artifacts, engine, planner and clock."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.features.delivery import Delivery
from service.features.identity import DEFAULT_SCOPES
from service.features.identity import Scope as PrincipalScope
from service.features.model import Extraction
from service.resources.overrides import Overrides
from service.security.keys import generate
from service.settings import Settings
from service.store.tables import extractions
from tests.doubles import (
    NOW,
    CountedNotices,
    FaultyStore,
    FixedClock,
    HeldSender,
    MemoryArtifacts,
    MemoryEngine,
    Recorder,
    ScriptedPlanner,
)
from tests.support import LiveService, unit_of_work

SETTINGS: dict[str, Any] = {
    "max_upload_bytes": 200_000,
    "plan_cache_seconds": 0,
    "prometheus_enabled": False,
    "worker_grace_seconds": 0.0,
}
"""Of every world: no result is repeated, and what runs is handed back at once when the service stops."""


class World(LiveService):
    """The service with everything behind it within reach of the test."""

    def __init__(self, settings: Settings) -> None:
        self.clock = FixedClock()
        self.store = FaultyStore()
        self.notices = CountedNotices()
        self.artifacts = MemoryArtifacts()
        self.engine = MemoryEngine(self.artifacts)
        self.planner = ScriptedPlanner()
        self.sender = HeldSender()
        self.recorder = Recorder()
        self.log = io.StringIO()
        self.overrides = Overrides(
            clock=self.clock,
            wrap_store=self.store.around,
            wrap_notices=self.notices.around,
            artifacts=self.artifacts,
            engine=self.engine,
            planner=self.planner,
            webhook_sender=self.sender,
            observer=self.recorder,
            log_stream=self.log,
        )
        assert settings.database_url is not None
        self.database_url = settings.database_url.get_secret_value()
        super().__init__(settings, self.overrides)

    async def api_key(self, name: str = "ada", *scopes: PrincipalScope) -> str:
        """Create an API key of the principal, with the default scopes unless others are named."""
        key, secret = generate(name, scopes or DEFAULT_SCOPES, now=NOW)
        async with unit_of_work(self.database_url) as work:
            await work.keys.add(key)
        return secret

    async def extractions(self) -> list[Extraction]:
        """Read all extractions, newest first."""
        async with unit_of_work(self.database_url) as work:
            return list(await work.extractions.newest(1000))

    async def extraction(self, extraction_id: str | None = None) -> Extraction:
        """Read one extraction; without an id the only one."""
        (found,) = [row for row in await self.extractions() if extraction_id in {None, row.id}]
        return found

    async def change(self, extraction_id: str, **values: Any) -> Extraction:
        """Change an extraction as another process does, with a notice."""
        async with unit_of_work(self.database_url) as work:
            await work.extractions._change(extractions.c.id == extraction_id, **values)
        return await self.extraction(extraction_id)

    async def add(self, *added: Extraction) -> None:
        """Store extractions."""
        async with unit_of_work(self.database_url) as work:
            for extraction in added:
                await work.extractions.add(extraction)

    async def sql(self, statement: str, **values: str) -> list[dict[str, Any]]:
        """Execute a statement and return its rows."""
        async with unit_of_work(self.database_url) as work:
            found = await work.connection.exec_driver_sql(statement, values or None)
            return [dict(row) for row in found.mappings()] if found.returns_rows else []

    async def deliveries(self) -> list[Delivery]:
        """Read all webhooks, newest first."""
        async with unit_of_work(self.database_url) as work:
            return list(await work.deliveries.newest(1000))


@pytest.fixture(scope="session")
def make_world(
    make_settings: Callable[..., Settings], migrated_databases: Callable[[], AbstractContextManager[str]]
) -> Callable[..., AbstractContextManager[World]]:
    """Serves worlds with the given settings, each on a database of its own unless one is named."""

    @contextmanager
    def serve(**settings: Any) -> Iterator[World]:
        with ExitStack() as stack:
            if "database_url" not in settings:
                settings["database_url"] = stack.enter_context(migrated_databases())
            yield stack.enter_context(World(make_settings(**{**SETTINGS, **settings})))

    return serve


@pytest.fixture
def serve(make_world: Callable[..., AbstractContextManager[World]]) -> Iterator[Callable[..., World]]:
    """Serves worlds with the given settings until the test ends."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(make_world(**settings))


@pytest.fixture(scope="module")
def world(make_world: Callable[..., AbstractContextManager[World]]) -> Iterator[World]:
    """One world for those tests of a module that do not change it."""
    with make_world() as world:
        yield world


@pytest.fixture
async def client(world: World) -> AsyncGenerator[httpx.AsyncClient]:
    """A caller of the module's world, with a key of a principal of its own that holds the default scopes."""
    key = await world.api_key(f"principal-{uuid4().hex[:8]}")
    async with caller(world, key) as client:
        yield client


@pytest.fixture(scope="module")
def live(make_settings: Callable[..., Settings]) -> Iterator[LiveService]:
    """A service as production composes it."""
    with LiveService(make_settings(max_upload_bytes=1_000_000)) as service:
        yield service


def caller(world: World, key: str | None = None, **headers: str) -> httpx.AsyncClient:
    """Open an HTTP client of a world."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent.setdefault("Authorization", f"Bearer {key}")
    return httpx.AsyncClient(base_url=world.url, headers=sent, timeout=30, trust_env=False)


@pytest.fixture
async def dataset(client: httpx.AsyncClient) -> str:
    """A dataset of the caller's."""
    await upload(client)
    return "events"


async def upload(client: httpx.AsyncClient, dataset_id: str = "events") -> None:
    """Upload a dataset."""
    path = f"/api/v1/datasets?dataset_id={dataset_id}"
    answer = await client.post(path, content=b"a\n1\n", headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201, answer.text


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
    """Open a client of the world with a key and a dataset of its own."""
    async with caller(world, await world.api_key(), **headers) as client:
        await upload(client)
        yield client
