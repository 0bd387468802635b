"""Several processes of the service on one database and one artifact store: start, kill, stop and audit them.

Every process is `feature-agent serve` or `worker` as production runs it, with a folder of its own, on one database, one
artifact store and, where there is one, one Redis; as pods are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import httpx2
import psycopg
from psycopg.rows import dict_row

from service.features.identity import DEFAULT_SCOPES
from service.resources.storage import open_storage
from service.settings import Settings
from tools.testbed.audit import Audit, audit
from tools.testbed.pod import Pod, Role, health_client
from tools.testbed.polling import TIMEOUT_SECONDS, polling
from tools.testbed.processes import ROOT, SERVICE

RECOVERY_SECONDS = 15.0
"""Within which another worker takes over what a dead one held."""
INHERITED = {"PATH", "HOME", "LANG", "LD_LIBRARY_PATH"}
CLOUD_PREFIX = "AWS_"
SECRET = "only-for-tests-" * 4
PROBE_SECONDS = 0.5
"""Between two readiness checks of the load balancer."""


@dataclass
class Fleet:
    """The processes, and what they share."""

    folder: Path
    database_url: str
    artifacts_url: str = ""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    forked: bool = True
    """Whether processes are forked, or started by the command line."""
    key: str = ""
    pods: list[Pod] = field(default_factory=list[Pod])
    ready: list[str] = field(default_factory=list[str])
    """Addresses of the APIs that were ready at the last check."""

    @asynccontextmanager
    async def balanced(self) -> AsyncGenerator[None]:
        """Check the readiness of the APIs while the block runs, as a load balancer does."""
        over = asyncio.Event()
        checks = asyncio.create_task(self._check_readiness(over))
        try:
            yield
        finally:
            over.set()
            await checks

    async def _check_readiness(self, over: asyncio.Event) -> None:
        async with health_client() as client:
            while not over.is_set():
                apis = [pod for pod in self.pods if pod.role == "serve"]
                found = await asyncio.gather(*(pod.ready_address(client) for pod in apis))
                self.ready = [address for address in found if address is not None]
                await asyncio.sleep(PROBE_SECONDS)

    @property
    def shared(self) -> dict[str, str]:
        """Return the environment of every process."""
        kept = {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith(CLOUD_PREFIX)}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "ENVIRONMENT": "test",
            "DATABASE_URL": self.database_url,
            "ARTIFACTS_URL": self.artifacts_url,
            "JWT_SECRET": SECRET,
            "PORT": "0",
            "PROMETHEUS_PORT": "0",
            "RATE_LIMIT_PER_MINUTE": "0",
            "MAX_WAITING_PER_PRINCIPAL": "0",
            "WORKER_IN_API": "false",
            **self.environment,
        }

    def settings(self) -> Settings:
        """Return settings to open the fleet's stores with."""
        return Settings(
            _env_file=None,  # pyright: ignore[reportCallIssue] -- pydantic-settings' own argument
            environment="test",
            database_url=self.database_url,
            data_dir=self.folder / "driver",
            artifacts_url=self.artifacts_url,
            jwt_secret=SECRET,  # pyright: ignore[reportArgumentType] -- pydantic makes it a secret
        )

    def start(self, role: Role, *arguments: str, module: str = SERVICE, **environment: str) -> Pod:
        """Start a process; `module` replaces the service's command line by one with the same `main`."""
        folder = self.folder / f"{role}-{len(self.pods)}"
        own = {**self.shared, "DATA_DIR": str(folder), **environment}
        # A library to preload takes effect when a program starts, which a fork does not.
        forked = self.forked and "LD_PRELOAD" not in own
        self.pods.append(Pod(folder, role, arguments, own, forked=forked, module=module))
        return self.pods[-1]

    async def prepare(self) -> None:
        """Create the schema, and a key for the clients."""
        storage = open_storage(self.settings())
        try:
            await storage.database.migrate()
            _, self.key = await storage.create_key("clients", DEFAULT_SCOPES)
        finally:
            await storage.close()

    def client(self, **options: Any) -> httpx2.AsyncClient:
        """Make an HTTP client with the key; it keeps its connections."""
        credentials = {"Authorization": f"Bearer {self.key}"}
        return httpx2.AsyncClient(headers=credentials, timeout=TIMEOUT_SECONDS, verify=False, **options)

    async def sql(self, statement: LiteralString, *values: Any) -> list[dict[str, Any]]:
        """Execute a statement on the database and return its rows."""
        url = self.database_url.replace("+psycopg", "")
        connecting = psycopg.AsyncConnection[Any].connect(url, autocommit=True, connect_timeout=5)
        async with await connecting as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def row(self, extraction_id: str) -> dict[str, Any]:
        """Return an extraction's row."""
        [row] = await self.sql("SELECT * FROM extractions WHERE id = %s", extraction_id)
        return row

    async def wait_for_row(self, extraction_id: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until an extraction's row is as wanted, and return it. Raises AssertionError."""
        row: dict[str, Any] = {}
        async for _ in polling():
            row = await self.row(extraction_id)
            if wanted(row):
                return row
        raise AssertionError([row, *(pod.tail() for pod in self.pods)])

    async def wait_until_all_ended(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Wait until no extraction is unfinished and no job is left. Raises AssertionError."""
        async for _ in polling(timeout_seconds, 0.2):
            [left] = await self.sql(
                "SELECT (SELECT count(*) FROM extractions WHERE status IN ('queued', 'processing')) AS rows,"
                " (SELECT count(*) FROM procrastinate_jobs) AS jobs"
            )
            if not any(left.values()):
                return
        stuck = await self.sql("SELECT id, status, attempt, crashes FROM extractions WHERE finished_at IS NULL")
        raise AssertionError([stuck, *(pod.tail() for pod in self.pods)])

    async def audit(self, acknowledged: Sequence[str]) -> Audit:
        """Compare what clients were promised with what there is, before and after the sweep."""
        rows = await self.sql("SELECT * FROM extractions")
        [jobs] = await self.sql("SELECT count(*) AS left FROM procrastinate_jobs")
        return await audit(self.settings(), self.folder / "artifacts", rows, jobs["left"], acknowledged)

    def close(self) -> None:
        """Kill every process that still runs."""
        for pod in self.pods:
            if pod.process.poll() is None:
                pod.kill()


@asynccontextmanager
async def open_fleet(
    folder: Path, database_url: str, artifacts_url: str = "", **environment: str
) -> AsyncGenerator[Fleet]:
    """Open a fleet without any process yet; its processes end with the block."""
    fleet = Fleet(folder, database_url, artifacts_url or f"file://{folder}/artifacts", environment)
    try:
        await fleet.prepare()
        async with fleet.balanced():
            yield fleet
    finally:
        fleet.close()
