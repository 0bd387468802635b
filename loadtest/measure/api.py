"""The service's API as the test itself uses it, before and after the clients."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import msgspec

from loadtest.errors import BadInput

TIMEOUT_SECONDS = 30.0
MAX_TRIES = 4
PAUSE_SECONDS = 0.5
API = "/api/v1"
HTTP = frozenset({"http", "https"})


class Api:
    """A client with the key of the test."""

    def __init__(self, host: str, key: str) -> None:
        self._host = require_address(host)
        self._key = require_key(key)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, method: str, path: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Give status, JSON body (empty when it is none) and headers in lower case. Raises OSError."""
        try:
            return self._exchange(method, path)
        except http.client.HTTPException as error:
            raise OSError(f"it speaks no HTTP ({type(error).__name__})") from None

    def _exchange(self, method: str, path: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked
            self._host + path, method=method, headers={"Authorization": f"Bearer {self._key}"}
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return answer.status, _json(answer.read()), {k.lower(): v for k, v in answer.headers.items()}
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read()), {k.lower(): v for k, v in error.headers.items()}

    def require_ready(self, requests_a_minute: float) -> None:
        """Raise BadInput when the service is not there, refuses the key, or would refuse so many requests of it."""
        try:
            status, body, headers = self.ask("GET", f"{API}/extractions?limit=1")
        except OSError as error:
            raise BadInput(f"--host {self._host}: cannot be reached: {_words(error)}") from None
        if status in {401, 403}:
            raise BadInput(
                f"--key: {self._host} refuses it ({status} {body.get('error_code', '')}): give a valid API key"
            )
        if status != 200:  # noqa: PLR2004 - the route's only success
            raise BadInput(f"--host {self._host}: answered {status} where feature-agent lists extractions")
        limit = headers.get("ratelimit-limit", "")
        if limit.isdecimal() and int(limit) < requests_a_minute:
            raise BadInput(
                f"--key: the service takes {limit} requests a minute of it and this run makes up to "
                f"{requests_a_minute:.0f}: raise RATE_LIMIT_PER_MINUTE, or lower --rate"
            )

    def _insist(self, path: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        """GET, again after an answer that says nothing of what is there. Raises OSError."""
        for _ in range(MAX_TRIES - 1):
            answer = self.ask("GET", path)
            if answer[0] < 500 and answer[0] != 429:  # noqa: PLR2004 - a server's fault, or too many requests
                return answer
            time.sleep(PAUSE_SECONDS)
        return self.ask("GET", path)

    def extractions(self, dataset_id: str) -> dict[str, str]:
        """Give every extraction of a dataset -> its status. Raises OSError."""
        found: dict[str, str] = {}
        cursor = ""
        while True:
            query = urllib.parse.urlencode(
                {"dataset_id": dataset_id, "limit": 100, **({"cursor": cursor} if cursor else {})}
            )
            status, body, _ = self._insist(f"{API}/extractions?{query}")
            if status != 200:  # noqa: PLR2004 - the route's only success
                raise OSError(f"listing extractions was answered {status}")
            data = body["data"]
            found.update({item["extraction_id"]: item["status"] for item in data["items"]})
            cursor = data["next_cursor"]
            if not cursor:
                return found

    def has_table(self, extraction_id: str) -> bool:
        """Whether a completed extraction's table can be downloaded. Raises OSError."""
        return self._insist(f"{API}/extraction/{extraction_id}/features?format=ndjson")[0] == 200  # noqa: PLR2004

    def remove_dataset(self, dataset_id: str) -> None:
        """Delete a dataset of the run. Raises OSError."""
        self.ask("DELETE", f"{API}/datasets/{dataset_id}")


def require_address(host: str) -> str:
    """Give the address without a trailing slash. Raises BadInput for anything but http:// or https:// and a host."""
    try:
        parts = urllib.parse.urlsplit(host)
        sound = parts.scheme in HTTP and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, or brackets around no address
        sound, parts = False, urllib.parse.urlsplit("")
    if not sound or parts.path.strip("/") or parts.query or parts.fragment or not host.isprintable() or " " in host:
        raise BadInput(f"--host {host}: write it as http://name:port or https://name:port")
    return host.rstrip("/")


def require_key(key: str) -> str:
    """Give the key. Raises BadInput, without showing it, for what no header can carry."""
    if not key or not key.isascii() or not key.isprintable():
        raise BadInput("--key: an API key is one word of printable ASCII characters")
    return key


def _json(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _words(error: OSError) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason).strip().splitlines()[0]
