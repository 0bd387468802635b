"""Clients without mercy: what one of them does to a system for as long as a fault lasts."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tools.gameday.monitoring import Monitoring
from tools.gameday.system import CSV, System

SLOW_CONNECTIONS = 5
"""Opened by each slow client at once, from an address of its own."""
HOLD_SECONDS = 4.0
"""Longer than the fault's HEADER_TIMEOUT_SECONDS."""
FLOODING_THREADS = 12
"""Each has one request open at a time: more than the shares that the faults set."""
PAUSE_SECONDS = 0.2
LARGE = CSV * 200
"""Some megabytes, so that uploads overlap."""


@contextmanager
def slow_clients(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Send half a header on some connections, and the other half never; then on others."""

    def connect(number: int) -> None:
        opened: list[socket.socket] = []
        for _ in range(SLOW_CONNECTIONS):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(
                    ("127.0.0.1", system.api.port), timeout=5, source_address=(f"127.0.1.{number + 1}", 0)
                )
                connection.sendall(b"GET /api/v1/datasets HTTP/1.1\r\nHost: local")
                opened.append(connection)
        time.sleep(HOLD_SECONDS)
        for connection in opened:
            connection.close()

    with repeated(connect):
        yield


@contextmanager
def upload_flood(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Upload files of some megabytes, more at once than a principal may."""

    def upload(number: int) -> None:
        name = f"flood-{number}-{time.monotonic_ns()}"
        if system.users.client.upload(name, LARGE).status == http.client.CREATED:
            system.users.client.call("DELETE", f"/api/v1/datasets/{name}")

    with repeated(upload):
        yield


@contextmanager
def stream_flood(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Follow a waiting extraction on more streams than a principal may have open."""
    system.set_model_behaviour("hang")
    body = {"dataset_id": "events", "feature_description": "Highest price for each user", "quality_threshold": "low"}
    made = system.users.client.post_json("/api/v1/extract-features", body, Prefer="respond-async")
    path = f"/api/v1/extraction/{made.data['extraction_id']}/events"

    def follow(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", system.api.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {system.key}"})
            connection.getresponse().read()

    with repeated(follow):
        yield
    system.set_model_behaviour("good")


@contextmanager
def quota_reached(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Upload one more dataset than a principal may keep, again and again."""

    def upload(number: int) -> None:
        system.users.client.upload(f"more-{number}-{time.monotonic_ns()}", CSV)

    with repeated(upload):
        yield


@contextmanager
def repeated(act: Callable[[int], None]) -> Generator[None]:
    """Have several threads act again and again, each by its number, for the length of the block."""
    over = threading.Event()

    def keep_acting(number: int) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                act(number)
            over.wait(PAUSE_SECONDS)

    threads = [threading.Thread(target=keep_acting, args=(number,), daemon=True) for number in range(FLOODING_THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=35)
