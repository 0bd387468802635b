"""Users of the main job: each brings a dataset, asks for features, and reads what came of it.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8000 --users 5 --run-time 1m --headless

The API key is in FEATURE_AGENT_KEY, or in the file that FEATURE_AGENT_KEY_FILE names. The run's numbers are on
LOCUST_METRICS_PORT (9646; 0: nowhere) for the dashboard "Load test".
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path
from typing import Any

from locust import HttpUser, between, events, task
from locust.env import Environment

from loadtest.exposition import PORT, serve

API = "/api/v1"
ROWS = 400
SENTENCES = (
    "How often does each user come back, and how much do they spend?",
    "Click-through and conversion features for a recommendation engine",
    "Which users stopped being active in the last month?",
    "Typical order value and its spread for every user",
)
ACCEPTED = {200, 202}
_numbers = itertools.count()


@events.init.add_listener
def expose(environment: Environment, **_: Any) -> None:
    """Tell Prometheus of this run."""
    port = int(os.environ.get("LOCUST_METRICS_PORT", str(PORT)))
    if port:
        serve(environment, port)


def key() -> str:
    """The API key; raises KeyError when there is none."""
    file = os.environ.get("FEATURE_AGENT_KEY_FILE")
    return Path(file).read_text(encoding="utf-8").strip() if file else os.environ["FEATURE_AGENT_KEY"]


def table(seed: int) -> bytes:
    """A small event log, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - rows for a test, no secret
    rows = (
        f"u{chance.randrange(40):03d},2026-{chance.randrange(1, 10):02d}-{chance.randrange(1, 29):02d}T10:00:00,"
        f"{chance.choice(('view', 'click', 'order'))},{chance.uniform(1, 99):.2f}\n"
        for _ in range(ROWS)
    )
    return ("user_id,time,event,price\n" + "".join(rows)).encode()


class Analyst(HttpUser):
    """Somebody who wants features, and then looks at them."""

    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        """Bring a dataset of one's own."""
        self._number = next(_numbers)
        self._dataset = f"load-{os.getpid()}-{self._number}"
        self._extractions: list[str] = []
        self.client.headers["Authorization"] = f"Bearer {key()}"
        self.client.post(
            f"{API}/datasets",
            params={"dataset_id": self._dataset},
            data=table(self._number),
            headers={"Content-Type": "text/csv"},
            name="POST /datasets",
        ).raise_for_status()

    @task(1)
    def extract(self) -> None:
        """Ask for features. Answered at once or accepted for later is as it should be; shed load (429, 503) is not."""
        body = {"dataset_id": self._dataset, "feature_description": random.choice(SENTENCES)}  # noqa: S311 - no secret
        with self.client.post(
            f"{API}/extract-features", json=body, name="POST /extract-features", catch_response=True
        ) as answer:
            if answer.status_code not in ACCEPTED:
                answer.failure(f"answered {answer.status_code}")
                return
            self._extractions.append(answer.json()["data"]["extraction_id"])

    @task(3)
    def follow(self) -> None:
        """Ask how the last extraction is doing."""
        if self._extractions:
            path = f"{API}/extraction/{self._extractions[-1]}/status"
            self.client.get(path, name="GET /extraction/{id}/status")

    @task(1)
    def look_back(self) -> None:
        """List what one asked for before."""
        self.client.get(f"{API}/extractions", params={"limit": 10}, name="GET /extractions")
