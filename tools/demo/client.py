"""A client of the service's HTTP API, with the standard library alone."""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from tools.demo.metrics import ACCEPT, Scrape, parse

TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.5
_ACCEPTED = 202
_CONFLICT = 409

T = TypeVar("T")


class DemoFailed(Exception):
    """The demo failed; the message is one line, `tail` the end of the service's log."""

    def __init__(self, message: str, tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.tail = tail


class Answer(Struct, frozen=True):
    """One HTTP response; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Statistics(Struct, frozen=True):
    """The statistics of a feature, as far as the demo shows them."""

    null_ratio: float = 0.0
    distinct_count: int = 0
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    median: float | None = None


class Feature(Struct, frozen=True):
    """An accepted feature."""

    name: str
    description: str
    dtype: str
    quality_score: float
    statistics: Statistics
    source_columns: tuple[str, ...] = ()


class Rejected(Struct, frozen=True):
    """A rejected feature."""

    name: str
    description: str
    reason: str
    detail: str
    quality_score: float


class Quality(Struct, frozen=True):
    """The quality of all accepted features together."""

    threshold: str
    score: float


class Model(Struct, frozen=True):
    """The model that made the plan."""

    name: str
    fallback: bool = False


class Result(Struct, frozen=True):
    """A completed extraction, as far as the demo shows it."""

    extraction_id: str
    status: str
    features: tuple[Feature, ...]
    row_count: int
    grain: str
    model: Model
    quality: Quality
    rejected_features: tuple[Rejected, ...] = ()
    feature_pipeline_steps: tuple[str, ...] = ()


class Extraction(Struct, frozen=True):
    """A completed extraction with the ids of its request."""

    data: Result
    request_id: str
    trace_id: str
    processing_time: float


class _Envelope(Struct, frozen=True):
    data: msgspec.Raw
    processing_time: float = 0.0


class _Status(Struct, frozen=True):
    extraction_id: str
    status: str
    error_message: str | None = None


class _Problem(Struct, frozen=True):
    title: str = ""
    detail: str = ""
    errors: list[dict[str, object]] = field(default_factory=list[dict[str, object]])


class Client:
    """Send requests to a service on 127.0.0.1 with its development key. All methods raise DemoFailed."""

    def __init__(self, port: int, metrics_port: int, key: str) -> None:
        self._port = port
        self._metrics_port = metrics_port
        self._key = key

    def upload(self, dataset_id: str, path: Path) -> None:
        """Upload a CSV file, unless the dataset exists already."""
        with path.open("rb") as file:
            answer = send_request(
                self._port,
                "POST",
                f"/api/v1/datasets?dataset_id={quote(dataset_id)}",
                headers=self._headers(content_type="text/csv") | {"Content-Length": str(path.stat().st_size)},
                body=file,
            )
        if answer.status != _CONFLICT:
            _require_success(answer)

    def extract(self, dataset_id: str, sentence: str, threshold: str, request_id: str) -> Extraction:
        """Request an extraction and wait for its result, also when the service answers 202."""
        body = msgspec.json.encode(
            {"dataset_id": dataset_id, "feature_description": sentence, "quality_threshold": threshold}
        )
        headers = self._headers(content_type="application/json") | {"X-Request-ID": request_id}
        answer = send_request(self._port, "POST", "/api/v1/extract-features", headers=headers, body=body)
        envelope = _decode(answer, _Envelope)
        data = (
            self._wait_for_result(_from_json(envelope.data, _Status).extraction_id)
            if answer.status == _ACCEPTED
            else _from_json(envelope.data, Result)
        )
        ids = answer.headers.get("x-request-id", ""), answer.headers.get("x-trace-id", "")
        return Extraction(data, *ids, envelope.processing_time)

    def table(self, extraction_id: str) -> str:
        """Return the feature table as CSV."""
        path = f"/api/v1/extraction/{quote(extraction_id)}/features?format=csv"
        answer = send_request(self._port, "GET", path, headers=self._headers())
        _require_success(answer)
        return answer.body.decode()

    def scrape(self) -> Scrape:
        """Scrape the metrics."""
        answer = send_request(self._metrics_port, "GET", "/metrics", headers={"Accept": ACCEPT})
        _require_success(answer)
        return parse(answer.body.decode(), answer.headers.get("content-type", ""))

    def _wait_for_result(self, extraction_id: str) -> Result:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        path = f"/api/v1/extraction/{quote(extraction_id)}"
        while time.monotonic() < deadline:
            status = self._data(f"{path}/status", _Status)
            if status.status == "completed":
                return self._data(path, Result)
            if status.status in {"failed", "cancelled"}:
                raise DemoFailed(f"the extraction {status.status}: {status.error_message}")
            time.sleep(POLL_SECONDS)
        raise DemoFailed(f"the extraction did not end within {TIMEOUT_SECONDS:.0f} s")

    def _data(self, path: str, kind: type[T]) -> T:
        answer = send_request(self._port, "GET", path, headers=self._headers())
        return _from_json(_decode(answer, _Envelope).data, kind)

    def _headers(self, *, content_type: str | None = None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._key}"}
        return headers | {"Content-Type": content_type} if content_type else headers


def send_request(
    port: int, method: str, path: str, *, headers: dict[str, str], body: BinaryIO | bytes | None = None
) -> Answer:
    """Send one request on its own connection to 127.0.0.1, without a proxy. Raises OSError and HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        content = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
    finally:
        connection.close()


def _require_success(answer: Answer) -> None:
    if not 200 <= answer.status < 300:  # noqa: PLR2004 -- RFC 9110 §15.3: the class of success
        raise DemoFailed(f"the service answered {answer.status}: {_problem(answer.body)}")


def _problem(body: bytes) -> str:
    """Return a problem document in one line."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        return "without a problem document"
    faults = "; ".join(str(fault.get("message", fault)) for fault in problem.errors)
    summary = problem.detail or problem.title
    return f"{summary} [{faults}]" if faults else summary


def _decode(answer: Answer, kind: type[T]) -> T:
    _require_success(answer)
    return _from_json(answer.body, kind)


def _from_json(body: bytes | msgspec.Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise DemoFailed(f"the service's answer is not what its contract says: {error}") from None
