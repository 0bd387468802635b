"""One process of the service, and those that replace it in the same folder."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import httpx2

from tools.testbed.polling import TIMEOUT_SECONDS, polling
from tools.testbed.processes import SERVICE, ForkedProcess, Process, spawn

BROKEN = (httpx2.TransportError,)
"""What a client sees of a process that dies under its request."""
HEALTH_TIMEOUT_SECONDS = 5.0
Role = Literal["serve", "worker", "migrate", "backup", "restore"]


class Pod:
    """Start a command of the service, signal it, start it again, and read its log."""

    def __init__(
        self,
        folder: Path,
        role: Role,
        arguments: Sequence[str],
        environment: dict[str, str],
        *,
        forked: bool,
        module: str = SERVICE,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._arguments = [role, *arguments]
        self.folder = folder
        self.role: Role = role
        self._forked = forked
        self._module = module
        self._environment = environment
        self.logs: list[Path] = []
        self.start()

    @property
    def name(self) -> str:
        """Return its name within the fleet."""
        return self.folder.name

    def start(self) -> None:
        """Start it, or start it again."""
        self.logs.append(self.folder / f"{len(self.logs)}.log")
        self.logs[-1].touch()
        begin = ForkedProcess if self._forked else spawn
        self.process: Process = begin(self._arguments, self._environment, self.logs[-1], self._module)

    def lines(self) -> list[dict[str, Any]]:
        """Return what it and the processes before it logged."""
        return [line for log in self.logs for line in _lines(log)]

    def last_lines(self) -> list[dict[str, Any]]:
        """Return what its last process logged."""
        return _lines(self.logs[-1])

    @property
    def address(self) -> str | None:
        """Return the base address of its API, or of a worker's health and metrics; None before it is logged."""
        for line in self.last_lines():
            if line["message"] in {"listening", "working"}:
                found = cast("str", line.get("address") or line["metrics"])
                return found.removesuffix("/metrics")
        return None

    async def ready(self) -> Self:
        """Wait until it is ready. Raises AssertionError when it ends before, or is late."""
        async with health_client() as client:
            async for _ in polling():
                assert self.process.poll() is None, self.tail()
                if await self.ready_address(client):
                    return self
        raise AssertionError(self.tail())

    async def ready_address(self, client: httpx2.AsyncClient) -> str | None:
        """Return its address if it is ready for requests, or for jobs."""
        address = self.address
        if address is None or self.process.poll() is not None:
            return None
        try:
            return address if (await client.get(f"{address}/health/ready")).status_code == 200 else None
        except BROKEN:
            return None

    def kill(self) -> None:
        """Kill it with SIGKILL, as the kernel does when memory is short."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it SIGTERM, SIGSTOP or SIGCONT."""
        self.process.send_signal(number)

    async def exit_status(self) -> int:
        """Wait for its end and return its exit status."""
        return await asyncio.to_thread(self.process.wait, TIMEOUT_SECONDS)

    def tail(self) -> str:
        """Return the end of its log, for the message of a failure."""
        return f"{self.name}: {self.logs[-1].read_text()[-3000:]}"


def health_client() -> httpx2.AsyncClient:
    """Make a client for health checks of processes on this machine."""
    return httpx2.AsyncClient(verify=False, timeout=HEALTH_TIMEOUT_SECONDS)


def _lines(log: Path) -> list[dict[str, Any]]:
    """Decode whole lines of JSON alone: a kill may cut the last one short, and early errors are plain text."""
    written = log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in written if line.startswith("{") and line.endswith("}\n")]
