"""Webhooks from the service as production composes it: over HTTP, across processes, and for its operator."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import psycopg
import pytest

from service.__main__ import main
from service.features.delivery import Delivery
from service.features.model import ExtractionRequest
from service.settings import Settings
from service.worker import create_worker
from tests.e2e.test_worker import CSV, OWNER, House, patiently
from tests.e2e.test_worker import _open as open_house
from tests.receiver import Receiver
from tests.support import LiveService

pytestmark = pytest.mark.proof

PATIENCE = 90.0
SENTENCE = "Average clicks for each user"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread or process does."""
    last = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < last, "it never came"
        time.sleep(0.05)


def test_a_client_is_called_back(make_settings: Callable[..., Settings]) -> None:
    """The whole way over sockets: told with a signature that the client's own secret verifies."""
    settings = make_settings(webhook_allow_private=True)
    with Receiver(204) as receiver, LiveService(settings) as service:
        client = service.client
        client.upload("events", CSV)
        answer = client.extract("events", SENTENCE, quality_threshold="low", callback_url=receiver.url()).data
        until(lambda: bool(receiver.had))
        deliveries = answer["links"]["deliveries"]
        until(lambda: client.get(deliveries).data["deliveries"][0]["state"] == "delivered")
        (delivery,) = client.get(deliveries).data["deliveries"]
        (secret,) = client.get("/api/v1/webhooks/secrets").data["secrets"]
        metrics = client.get("/metrics").body.decode()
        status = client.get(answer["links"]["status"]).data

    (had,) = receiver.had
    assert had.signed_with(secret)
    assert had.headers["webhook-id"] == delivery["webhook_id"]
    assert abs(time.time() - int(had.headers["webhook-timestamp"])) < PATIENCE
    assert had.json()["type"] == "extraction.completed"
    assert {name: had.json()["data"][name] for name in status} == status
    assert [(tried["outcome"], tried["status_code"]) for tried in delivery["attempts"]] == [("delivered", 204)]
    assert 'webhook_deliveries_total{outcome="delivered"} 1.0' in metrics
    assert "webhook_delivery_duration_seconds_count 1.0" in metrics
    assert (settings.data_dir / "webhook.secret").stat().st_mode & 0o077 == 0


def test_by_default_no_private_address_is_called(make_settings: Callable[..., Settings]) -> None:
    """Refused as an address; as a name that leads inside, it is taken in and never called."""
    with Receiver() as receiver, LiveService(make_settings()) as service:
        client = service.client
        client.upload("events", CSV)
        refused = client.extract("events", SENTENCE, callback_url=receiver.url())
        assert service.runtime.webhooks.sender is not None
        service.runtime.webhooks.sender._resolve = inside
        url = receiver.url("inside.example.org")
        answer = client.extract("events", SENTENCE, quality_threshold="low", callback_url=url).data
        deliveries = answer["links"]["deliveries"]
        until(lambda: client.get(deliveries).data["deliveries"][0]["state"] == "failed")
        (delivery,) = client.get(deliveries).data["deliveries"]

    assert refused.status == 422
    assert [tried["outcome"] for tried in delivery["attempts"]] == ["refused"]
    assert receiver.had == []


async def inside(host: str, port: int) -> list[str]:
    """A name server of an attacker's."""
    return ["127.0.0.1"]


@pytest.fixture
async def house(make_settings: Callable[..., Settings]) -> AsyncIterator[House]:
    """An API that runs nothing itself."""
    async with open_house(make_settings(worker_in_api=False)) as house:
        yield house


async def test_a_webhook_whose_worker_is_killed_is_told_by_another(house: House) -> None:
    """Killed while the receiver has the message and has not answered: it comes again, under the same id."""
    gate = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if len(receiver.had) == 1:
            gate.wait(PATIENCE)
        handler.send_response(200)
        handler.end_headers()

    async def told() -> tuple[Delivery, ...]:
        async with house.runtime.storage.store.begin() as unit:
            return await unit.deliveries.of_extraction(asked.extraction.id)

    with Receiver(answer) as receiver:
        killed = await house.worker(WEBHOOK_ALLOW_PRIVATE="true", WEBHOOK_TIMEOUT_SECONDS="60").ready()
        request = ExtractionRequest("plain", SENTENCE, quality_threshold="low", callback_url=receiver.url())
        asked = await house.runtime.accept(OWNER, request)
        assert await asyncio.to_thread(receiver.arrived.wait, PATIENCE)
        killed.process.send_signal(signal.SIGKILL)
        started = time.monotonic()
        other = create_worker(house.settings.model_copy(update={"webhook_allow_private": True}))
        async with other.running():
            async for _ in patiently():
                if [delivery.state for delivery in await told()] == ["delivered"]:
                    break
            print(f"told {time.monotonic() - started:.1f} s after kill -9")  # noqa: T201 - the measurement
        gate.set()
    other.telemetry.close()

    (delivery,) = await told()
    assert [(tried.number, tried.outcome) for tried in delivery.log.attempts] == [(1, "interrupted"), (2, "delivered")]
    assert [had.headers["webhook-id"] for had in receiver.had] == [delivery.id] * 2
    assert receiver.had[0].body == receiver.had[1].body
    assert all(had.signed_with(house.runtime.webhooks.secrets.of(OWNER)[0]) for had in receiver.had)
    assert house.sql("SELECT id FROM procrastinate_jobs") == []


def test_an_operator_sees_webhooks_and_has_them_tried_again(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`webhooks list | show | retry` and `jobs show`, for people and machines; secrets of addresses are not shown."""
    settings = make_settings(worker_in_api=False)
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    for name, value in {"DATABASE_URL": url, "DATA_DIR": str(settings.data_dir), "ENVIRONMENT": "test"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.chdir(settings.data_dir)

    async def prepare() -> str:
        async with open_house(settings) as house:
            callback = "https://example.org/T0K3N?key=s3cret"
            request = ExtractionRequest("plain", SENTENCE, callback_url=callback)
            return (await house.runtime.accept(OWNER, request)).extraction.id

    def run(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        status = main([*arguments])
        said = capsys.readouterr()
        assert "T0K3N" not in said.out + said.err
        return status, json.loads(said.out) if "--json" in arguments and status == 0 else said.out + said.err

    extraction_id = asyncio.run(prepare())
    assert run("webhooks", "list", "--json") == (0, [])
    assert run("jobs", "cancel", extraction_id)[0] == 0
    status, [listed] = run("webhooks", "list", "--json")
    webhook_id = listed["webhook_id"]
    assert (status, listed["owner"], listed["state"], listed["type"]) == (0, OWNER, "pending", "extraction.cancelled")
    assert listed["address"] == "https://example.org"
    assert run("jobs", "show", extraction_id, "--json")[1]["webhooks"] == {webhook_id: "pending"}
    assert run("webhooks", "show", webhook_id, "--json") == (0, listed)
    assert run("webhooks", "list", "--state", "failed", "--json") == (0, [])
    assert webhook_id in run("webhooks", "list")[1]
    assert run("webhooks", "retry", webhook_id)[0] == 2
    assert run("webhooks", "show", "nothing")[0] == 2

    log = '{"attempts": [{"number": 1, "outcome": "gone", "at": "2026-11-23T12:00:00Z", "status_code": 410}]}'
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("UPDATE webhook_deliveries SET state = 'failed', attempt = 1, log = %s", [log])
        connection.execute("DELETE FROM procrastinate_jobs")
        assert "2026-11-23 12:00 gone 410" in run("webhooks", "show", webhook_id)[1]
        status, revived = run("webhooks", "retry", webhook_id, "--json")
        jobs = connection.execute("SELECT task_name, lock FROM procrastinate_jobs").fetchall()
    assert (status, revived["state"], revived["attempts"]) == (0, "pending", [])
    assert jobs == [("deliver_webhook", webhook_id)]
