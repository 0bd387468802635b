"""An HTTP client of the API over the standard library, so that nothing retries without the caller's knowledge."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_SECONDS = 100


@dataclass
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """Decode the body."""
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """The envelope's `data`."""
        return self.json()["data"]


@dataclass
class Client:
    """Send requests with an API key, or without one."""

    url: str
    key: str | None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def call(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request; header names are written with underscores. Raises OSError."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.key is not None:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=sent)  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - our own server
                return _answer(response)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error)

    def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return self.call("GET", path, body=None, **headers)

    def post_json(self, path: str, value: object, **headers: str) -> Answer:
        """POST a JSON document."""
        headers.setdefault("Content_Type", "application/json")
        return self.call("POST", path, body=json.dumps(value).encode(), **headers)

    def upload(self, dataset_id: str, content: bytes, media_type: str = "text/csv") -> Answer:
        """POST a dataset's bytes."""
        return self.call("POST", f"/api/v1/datasets?dataset_id={dataset_id}", body=content, Content_Type=media_type)

    def extract(self, dataset_id: str, description: str, **fields: object) -> Answer:
        """POST an extraction."""
        body = {"dataset_id": dataset_id, "feature_description": description, **fields}
        return self.post_json("/api/v1/extract-features", body)


def _answer(response: Any) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, response.read())
