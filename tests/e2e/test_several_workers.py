"""`serve` with WORKERS above 1: one address, exact numbers, and workers that come back."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.proof, pytest.mark.xdist_group("workers")]

WORKERS = 4
REQUESTS = 10_000
CLIENTS = 16
PATIENCE = 110.0
ROUTE = 'api_requests_total{endpoint="/health/live",method="GET",status="200"}'
DURATIONS = 'api_request_duration_seconds_count{endpoint="/health/live",method="GET"}'


class House:
    """A supervised service, and what it wrote."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with socket.create_server(("127.0.0.1", 0)) as api, socket.create_server(("127.0.0.1", 0)) as metrics:
            self.port, self.metrics_port = api.getsockname()[1], metrics.getsockname()[1]
        ports = {"PORT": str(self.port), "PROMETHEUS_PORT": str(self.metrics_port), "WORKERS": str(WORKERS)}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve", "--json"],
                env={**os.environ, **environment, **ports},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The log lines of that message."""
        found = (json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{"))
        return [line for line in found if line["message"] == message]

    def scrape(self, *, accept: str = "text/plain", port: int | None = None) -> str:
        """What the metrics port, or another one, answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{port or self.metrics_port}/metrics", headers={"Accept": accept}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- our own server
            return str(answer.read().decode())

    def total(self, series: str, text: str | None = None) -> float:
        """The value of one series."""
        lines = (text or self.scrape()).splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def house(new_database: Callable[[], str], tmp_path: Path) -> Iterator[House]:
    """Four workers that serve."""
    environment = {
        "ENVIRONMENT": "test",
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": new_database().replace("+psycopg", ""),
        "DATABASE_POOL_SIZE": "2",
        "RATE_LIMIT_PER_MINUTE": "0",
        "MAX_WAITING_PER_PRINCIPAL": "0",
        "WORKER_IN_API": "false",
    }
    house = House(environment, tmp_path / "log")
    try:
        until(lambda: len(house.lines("worker ready")) == WORKERS or house.process.poll() is not None, "not all ready")
        yield house
    finally:
        house.process.kill()  # a test that ended well has stopped it
        house.process.wait()


async def ask(address: str, count: int) -> tuple[int, int]:
    """Ask so often, over several connections; gives how often it was answered 200, and how often it broke off."""
    answered = broken = 0
    left = iter(range(count))

    async def client() -> None:
        nonlocal answered, broken
        async with httpx.AsyncClient(timeout=60, trust_env=False) as session:
            for _ in left:
                try:
                    answer = await session.get(address)
                except httpx.TransportError:
                    broken += 1
                else:
                    answered += answer.status_code == 200

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answered, broken


@pytest.mark.timeout(400)
async def test_totals_are_exact(house: House) -> None:
    """10 000 requests over four workers, one killed and one stopped meanwhile: every answer is counted, once.

    A request that broke off may have been counted or not: its client cannot know either.
    """
    address = f"http://127.0.0.1:{house.port}/health/live"
    victim, stopped = (line["pid"] for line in house.lines("worker ready")[1:3])
    seen: list[float] = []

    async def watch() -> None:
        while True:
            seen.append(await asyncio.to_thread(house.total, ROUTE))
            await asyncio.sleep(0.2)

    def disturb() -> None:
        until(lambda: bool(seen) and seen[-1] >= REQUESTS / 4, "requests were not served")
        os.kill(victim, signal.SIGKILL)
        until(lambda: seen[-1] >= REQUESTS / 2, "requests were served no longer")
        os.kill(stopped, signal.SIGTERM)

    watching, disturbing = asyncio.create_task(watch()), asyncio.create_task(asyncio.to_thread(disturb))
    answered, broken = await ask(address, REQUESTS)
    await disturbing
    watching.cancel()
    until(lambda: len(house.lines("worker ready")) == WORKERS + 2, "the ended workers did not come back")
    total = house.total(ROUTE)
    assert answered + broken == REQUESTS
    assert broken <= CLIENTS, "more broke off than were under way"
    assert answered <= total <= answered + broken
    assert total - broken <= house.total(DURATIONS) <= total, "timed once the last byte was sent"
    assert [*seen, total] == sorted([*seen, total]), "a total fell"
    assert [(line["exit_code"], line["worker"]) for line in house.lines("worker ended and is started again")] == [
        (-signal.SIGKILL, house.lines("worker ready")[1]["worker"]),
        (0, house.lines("worker ready")[2]["worker"]),
    ]
    tells_the_same_everywhere(house)
    stops_in_order(house)


def tells_the_same_everywhere(house: House) -> None:
    """The API port answers for all workers, too, and every process has its own `process_*` series."""
    api = house.scrape(port=house.port)
    assert house.total(ROUTE, api) == house.total(ROUTE)
    named = re.findall(r'process_start_time_seconds\{worker="(\w+)"\}', house.scrape())
    assert sorted(named) == [*(str(number + 1) for number in range(WORKERS)), "supervisor"]
    assert house.total("python_gc_collections_total") > 0


def stops_in_order(house: House) -> None:
    """SIGTERM ends every worker in order, and the supervisor with 0; nothing is left behind."""
    pids = {line["pid"] for line in house.lines("worker ready")}
    house.process.send_signal(signal.SIGTERM)
    assert house.process.wait(60) == 0
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert len(house.lines("Finished server process")) == 0


def test_a_first_worker_that_cannot_start(tmp_path: Path) -> None:
    """When the first worker refuses its settings, so does the command, with its status and one line."""
    environment = {
        "ENVIRONMENT": "test",
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": "mysql://nowhere",
        "PORT": "0",
        "PROMETHEUS_PORT": "0",
        "WORKERS": "2",
        "RATE_LIMIT_PER_MINUTE": "0",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "service", "serve", "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 2
    assert "DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr
