"""The first requests to a new service: so that the boards have something to show when they are opened."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from random import Random

SENTENCES = (
    "How often does each user come back, and how much do they spend?",
    "Click-through and conversion features for a recommendation engine",
    "How often does each user come back, and how much do they spend?",
)
"""The last one is the first again: it comes from the plan cache."""
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Service:
    """Where it is, and the key for it."""

    url: str
    key: str

    def call(self, method: str, path: str, body: bytes | None = None, media_type: str = "application/json") -> int:
        """Send one request and give the status of its answer. Raises OSError when there is none."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": media_type}
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310 - 127.0.0.1
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return int(error.code)

    def knows_the_key(self) -> bool:
        """Whether the key is one of this service's; it is not after its database was thrown away."""
        return self.call("GET", "/api/v1/datasets") != 401  # noqa: PLR2004 - unauthorized


def warm_up(service: Service) -> list[int]:
    """The main job a few times, and one request that must be refused; gives the statuses."""
    statuses = [service.call("POST", "/api/v1/datasets?dataset_id=events", _events(), "text/csv")]
    for sentence in SENTENCES:
        body = {"dataset_id": "events", "feature_description": sentence}
        statuses.append(service.call("POST", "/api/v1/extract-features", json.dumps(body).encode()))
    statuses.append(service.call("GET", "/api/v1/extractions"))
    statuses.append(service.call("GET", "/api/v1/datasets/of-nobody"))
    return statuses


def _events() -> bytes:
    """A small event log, the same each time."""
    chance = Random(7)  # noqa: S311 - made-up rows, no secret
    rows = (
        f"u{chance.randrange(60):03d},2026-{chance.randrange(1, 10):02d}-{chance.randrange(1, 29):02d}T10:00:00,"
        f"{chance.choice(('view', 'click', 'order'))},{chance.uniform(1, 99):.2f}\n"
        for _ in range(600)
    )
    return ("user_id,time,event,price\n" + "".join(rows)).encode()
