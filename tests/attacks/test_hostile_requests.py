"""Hostile requests, each alone: answered as the table says, never by a 5xx, and the service serves on."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import string
from collections.abc import Iterator

import httpx2
import pytest

from tests.attacks.hostile_requests import Hostile, hostile_requests
from tests.attacks.stand import Stand, open_stand

pytestmark = [pytest.mark.xdist_group("hostile"), pytest.mark.unmeasured]

REQUESTS = hostile_requests()
TIMEOUT_SECONDS = 30.0
RANDOM_URLS = 10_000
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "EVIL")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A service of its own, as its command line starts it; guesses of keys are no subject here."""
    with open_stand(tmp_path_factory.mktemp("hostile"), {"FAILED_LOGINS_PER_MINUTE": "0"}) as stand:
        yield stand


def test_the_table_is_long_and_without_repetition() -> None:
    """Every row is another request."""
    assert len({hostile.data for hostile in REQUESTS}) == len({hostile.name for hostile in REQUESTS}) == len(REQUESTS)
    assert len(REQUESTS) >= 150


@pytest.mark.parametrize("hostile", REQUESTS, ids=[hostile.name for hostile in REQUESTS])
def test_it_is_refused_as_the_table_says(stand: Stand, hostile: Hostile) -> None:
    """The status is one of the row's; a refusal is a problem document that quotes nothing executable."""
    status, fields, body = _send(stand, hostile.data.replace(b"{key}", stand.attacker.encode()))

    assert status in hostile.statuses, (status, body[:300])
    if status >= 400 and body:
        assert fields["content-type"].startswith("application/problem+json"), body[:300]
        problem = json.loads(body)
        assert problem["status"] == status
        assert problem["error_code"]
        assert stand.attacker.encode() not in body
    if status:
        assert _send(stand, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200


def test_random_urls_make_no_new_series(stand: Stand) -> None:
    """10 000 URLs and methods at random, with and without a key: no 5xx, and no more series than before."""
    chance = random.Random(20261130)  # noqa: S311 -- the same URLs in each run
    with httpx2.Client(base_url=stand.url, timeout=TIMEOUT_SECONDS) as client:
        _visit_each_status(client, stand)
        before = _series(client)
        for number in range(RANDOM_URLS):
            headers = {"Authorization": f"Bearer {stand.attacker}"} if number % 2 else {}
            answer = client.request(chance.choice(METHODS), _path(chance), headers=headers)
            assert answer.status_code < 500, answer.request.url
        after = _series(client)

    assert after - before == set()


def _visit_each_status(client: httpx2.Client, stand: Stand) -> None:
    """Have the answers that random paths can get given once, so that their series exist."""
    key = {"Authorization": f"Bearer {stand.attacker}"}
    roots = ("/", "/health", "/metrics", "/api/docs", "/api/v1/datasets", "/api/v1/extraction/x", "/api/v1/datasets/x")
    for root in roots:
        for method in METHODS:
            for headers in ({}, key):
                client.request(method, root, headers=headers)


def _path(chance: random.Random) -> str:
    alphabet = string.ascii_letters + string.digits + "-._~%25%2e"
    root = chance.choice(("", "", "/api", "/api/v1", "/health", "/metrics"))
    segments = ["".join(chance.choices(alphabet, k=chance.randint(1, 12))) for _ in range(chance.randint(1, 5))]
    return f"{root}/{'/'.join(segments).replace('%', '%25')}"


def _series(client: httpx2.Client) -> set[str]:
    """Names and labels of all series."""
    lines = client.get("/metrics").text.splitlines()
    return {
        line.rpartition(" # ")[0].rpartition(" ")[0] or line.rpartition(" ")[0] for line in lines if line[:1] != "#"
    }


def _send(stand: Stand, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send the bytes and read until the end; status 0 when there was no answer."""
    with socket.create_connection((stand.host, stand.port), timeout=TIMEOUT_SECONDS) as connection:
        with contextlib.suppress(OSError):  # the service has answered and closed before it read everything
            connection.sendall(data)
        return _parsed(_read(connection))


def _read(connection: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            piece = connection.recv(65_536)
        except ConnectionError:
            return received
        if not piece:
            return received
        received += piece


def _parsed(received: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first:
        return 0, {}, b""
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]), fields, body
