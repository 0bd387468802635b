"""What is asked of each server: the requests as bytes, made once it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from itertools import count, cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt

from loadtest.benchmarks.api.variants import SECRET, Variant
from tools.demo.sample import write_event_log

ROWS = 2_000
CALL_SECONDS = 60.0
EXTRACTIONS = 20
"""Status reads go over so many, in turn."""
SENTENCE = "Count each user's events and average the price they saw"


@dataclass(frozen=True)
class Workload:
    """One kind of request."""

    name: str
    title: str
    request: Callable[[], bytes]
    status: int
    connections: int


@dataclass
class Caller:
    """A client of one server that has signed in and uploaded the dataset."""

    port: int
    token: str
    upload: bytes
    extractions: list[str]

    def call(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> Any:
        """The JSON answer. Raises RuntimeError for any that is no success."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return json.loads(content)

    def raw(self, method: str, path: str, body: bytes = b"", kind: str = "application/json", **more: str) -> bytes:
        """A request as it goes over the wire."""
        headers = {
            "host": f"127.0.0.1:{self.port}",
            "authorization": f"Bearer {self.token}",
            "accept": "*/*",
            "user-agent": "benchmark/1",
            **({"content-type": kind, "content-length": str(len(body))} if body else {}),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def sign_in(variant: Variant, port: int, folder: Path, data: Path) -> Caller:
    """A caller with an access token, its dataset uploaded and its first extractions done."""
    log = folder / "events.csv"
    if not log.exists():
        write_event_log(log, rows=ROWS)
    caller = Caller(port, "", log.read_bytes(), [])
    if variant.family == "plain":
        return caller
    if variant.family == "ours":
        caller.token = (data / "development.key").read_text().strip()
        caller.token = caller.call("POST", "/api/v1/auth/token")["data"]["access_token"]
    else:
        caller.token = _seed_token()
    if variant.family == "plugins":
        caller.extractions = ["benchmark"]
        return caller
    if variant.family == "ours":
        caller.call("POST", "/api/v1/datasets?dataset_id=events", caller.upload, "text/csv")
    for _ in range(EXTRACTIONS):
        answer = caller.call("POST", "/api/v1/extract-features", _extraction(SENTENCE))
        caller.extractions.append(answer["data"]["extraction_id"])
    return caller


def _seed_token() -> str:
    now = int(time.time())
    claims = {"sub": "development", "aud": "seed", "iss": "seed", "iat": now, "exp": now + 3600, "jti": uuid4().hex}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def _extraction(sentence: str) -> bytes:
    return json.dumps({"dataset_id": "events", "feature_description": sentence}).encode()


def workloads_of(caller: Caller) -> dict[str, Workload]:
    """All workloads by name."""
    numbers = count()
    paths = [f"/api/v1/extraction/{extraction}/status" for extraction in caller.extractions or ["x"]]
    status = cycle([caller.raw("GET", path) for path in paths])
    again = caller.raw("POST", "/api/v1/extract-features", _extraction(SENTENCE))

    def anew() -> bytes:
        sentence = f"{SENTENCE}, variation {next(numbers)} {uuid4().hex}"
        return caller.raw("POST", "/api/v1/extract-features", _extraction(sentence))

    def upload() -> bytes:
        return caller.raw("POST", f"/api/v1/datasets?dataset_id={uuid4().hex}", caller.upload, "text/csv")

    kinds = (
        Workload("status", "status read", lambda: next(status), HTTPStatus.OK, 16),
        Workload("cached", "repeated extraction", lambda: again, HTTPStatus.OK, 8),
        Workload("uncached", "new extraction", anew, HTTPStatus.OK, 2),
        Workload("upload", "upload", upload, HTTPStatus.CREATED, 2),
    )
    return {kind.name: kind for kind in kinds}
