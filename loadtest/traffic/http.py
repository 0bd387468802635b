"""One HTTP request of a simulated client, timed from the moment at which it was due."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError

from loadtest.results import NO_ANSWER

MAX_CONNECTIONS = 2000
CONNECT_TIMEOUT_SECONDS = 10.0
ANSWER_TIMEOUT_SECONDS = 60.0
"""Longer than the service lets a caller wait for features (25 s)."""
MAX_SENTENCE = 200


class _Envelope(msgspec.Struct):
    data: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    """0 when nothing did."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names in lower case."""
    body: bytes = b""

    def data(self) -> dict[str, Any]:
        """Give the member `data` of a JSON answer, or an empty object."""
        try:
            return msgspec.json.decode(self.body, type=_Envelope).data
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}

    def retry_after(self, default: float) -> float:
        """Give the seconds after which the service wants to be asked again."""
        try:
            return float(self.headers.get("retry-after", default))
        except ValueError:
            return default


@dataclass(frozen=True)
class Finished:
    """One request that ended, for whom it is reported to."""

    stage: int
    method: str
    endpoint: str
    status: str
    """`599` without an answer."""
    milliseconds: float
    size: int
    failure: str | None
    """Why the answer is not what the test expects."""


class Connection:
    """Sends requests of the clients of one process to the service."""

    def __init__(self, host: str, key: str, report: Callable[[Finished], object]) -> None:
        self._client = HTTPClient.from_url(
            host,
            concurrency=MAX_CONNECTIONS,
            connection_timeout=CONNECT_TIMEOUT_SECONDS,
            network_timeout=ANSWER_TIMEOUT_SECONDS,
            headers={"User-Agent": "feature-agent-loadtest"},
        )
        # Otherwise it would send a GET again, once for each connection that it may have, and say nothing of it.
        self._client._connection_pool.size = -1  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._authorization = f"Bearer {key}"
        self._report = report

    def send(  # noqa: PLR0913 - what a request is made of
        self,
        stage: int,
        method: str,
        endpoint: str,
        path: str,
        *,
        due: float,
        expected: frozenset[int],
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        authorized: bool = True,
        lines: Callable[[Iterator[bytes]], object] | None = None,
    ) -> Answer:
        """Send a request that was due at that moment of time.monotonic(), and report it.

        With `lines` the answer's lines are passed on as they come, and the request ends with the last one.
        """
        sent = {**({"Authorization": self._authorization} if authorized else {}), **(headers or {})}
        failure = None
        try:
            answer = self._exchange(method, path, body, sent, lines)
        except (OSError, HTTPParseError) as error:
            answer, failure = Answer(0), f"no answer: {type(error).__name__}"
        if answer.status and answer.status not in expected:
            failure = f"answered {answer.status}{_code(answer)}"
        status = str(answer.status) if answer.status else NO_ANSWER
        milliseconds = (time.monotonic() - due) * 1000
        self._report(Finished(stage, method, endpoint, status, milliseconds, len(answer.body), failure))
        return answer

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        lines: Callable[[Iterator[bytes]], object] | None,
    ) -> Answer:
        response = self._client.request(method, path, body=body, headers=dict(headers))
        try:
            named = {str(name).lower(): str(value) for name, value in response.items()}
            if lines is None or response.status_code != 200:  # noqa: PLR2004 - a stream is a success
                return Answer(int(response.status_code), named, bytes(response.read()))
            lines(_lines(response))
            return Answer(int(response.status_code), named)
        finally:
            response.release()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    while block := response.read(1):
        rest += bytes(block)
        if rest.endswith(b"\n"):
            yield rest.rstrip(b"\r\n")
            rest = b""


def _code(answer: Answer) -> str:
    """Give the error code of a problem document, cut to what a report can show."""
    try:
        code = json.loads(answer.body)["error_code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" {str(code)[:MAX_SENTENCE]}"
