"""A morning of the service in half a minute: people at work, a model's bad day, strangers, and a queue that grows."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tools.testbed.api_client import Answer, Client
from tools.testbed.model_scenarios import SCENARIOS
from tools.testbed.model_server import ModelServer

PRIMARY, FALLBACK = "gpt-4o-mini", "backup"
"""The first has a public price, the second has none."""
DATASET = "clicks"
ROWS = "user_id,price,event\n" + "".join(
    f"u{row % 40:03d},{row * 7 % 97}.5,{('click', 'view')[row % 2]}\n" for row in range(400)
)
RATE_LIMIT = 200
"""Requests a minute; the burst of one caller goes beyond it."""
MOST_BURSTS = 10
"""On a slow machine a burst is spread over more than the minute that the limit counts."""
MOST_TRIES = 8
PAUSE_SECONDS = 0.3
FAILURES = 30
"""Requests that are answered 5xx: enough for the rules, which ignore fewer than five, among all that Locust asks."""
LATER = 12
"""Requests that come in while the worker stands still."""


@dataclass(frozen=True)
class Scene:
    """Who is there."""

    client: Client
    crowd: Client
    """Another principal, who asks too much."""
    model: ModelServer
    worker: subprocess.Popen[bytes]
    callback: str
    """Where a webhook is received."""
    queue_was_seen: Callable[[], object]
    """Returns once Prometheus knows of the jobs that wait."""


def let_models_answer(model: ModelServer) -> None:
    """Have both models plan well."""
    for name in (PRIMARY, FALLBACK):
        model.assign(name, SCENARIOS["good"])


def play(scene: Scene) -> None:
    """Everything, in order; each part leaves what some panel shows."""
    assert scene.client.upload(DATASET, ROWS.encode()).status == 201
    _work(scene)
    _strangers(scene)
    _corrections(scene)
    _bad_model(scene)
    _queue(scene)


def _work(scene: Scene) -> None:
    """People who get what they want, twice from the cache, and read it."""
    scene.model.assign(PRIMARY, SCENARIOS["good"])
    for threshold in ("low", "medium", "high", "medium"):
        _insist(scene, "Mean price of every user", quality_threshold=threshold)
    wanted = {"quality_threshold": "low", "callback_url": scene.callback}
    identity = _insist(scene, "How often does each user come?", **wanted).data["extraction_id"]
    for path in ("", "/status", "/features"):
        assert scene.client.get(f"/api/v1/extraction/{identity}{path}").status == 200
    body = {"dataset_id": DATASET, "feature_description": "Mean price of every user", "quality_threshold": "low"}
    scene.client.post_json("/api/v1/extract-features", body, Cache_Control="no-cache")
    scene.client.post_json("/api/v1/extract-features", {"dataset_id": "none", "feature_description": "Anything at all"})


def _insist(scene: Scene, sentence: str, **fields: object) -> Answer:
    """Ask until it is answered: a slow machine may be too busy at first, which is an answer too."""
    for _ in range(MOST_TRIES):
        answer = scene.client.extract(DATASET, sentence, **fields)
        if answer.status == 202:
            _ended(scene, answer.data["extraction_id"])
        if answer.status in {200, 202}:
            return answer
        assert answer.status == 503, answer.body
        time.sleep(float(answer.headers["retry-after"]))
    raise AssertionError(answer.body)


def _strangers(scene: Scene) -> None:
    """Bad credentials, unknown addresses, and somebody who asks too much."""
    stranger = Client(scene.client.url, None)
    assert stranger.get("/api/v1/extractions").status == 401
    assert Client(scene.client.url, "fa_not_a_key").get("/api/v1/extractions").status == 401
    assert scene.client.get("/wp-login.php").status == 404
    with ThreadPoolExecutor(8) as pool:
        for _ in range(MOST_BURSTS):
            if 429 in pool.map(lambda _: scene.crowd.get("/api/v1/datasets").status, range(RATE_LIMIT)):
                return
    raise AssertionError("nobody was refused for asking too much")


def _corrections(scene: Scene) -> None:
    """A model that has to be told twice, and a provider that is busy for a second."""
    for scenario in ("faulty-then-good", "status-429-short"):
        scene.model.assign(PRIMARY, SCENARIOS[scenario])
        _insist(scene, f"Mean price of every user, {scenario}")


def _bad_model(scene: Scene) -> None:
    """The first model fails and the second takes over; then neither answers, and requests fail for our own fault."""
    scene.model.assign(PRIMARY, SCENARIOS["status-500"])
    scene.model.assign(FALLBACK, SCENARIOS["good"])
    _insist(scene, "Mean price of every user, again")
    scene.model.assign(FALLBACK, SCENARIOS["hang"])
    first = scene.client.extract(DATASET, "Mean price of every user, in vain").status
    scene.model.assign(FALLBACK, SCENARIOS["status-500"])
    sentences = [f"Mean price of every user, in vain {number}" for number in range(FAILURES)]
    statuses = {scene.client.extract(DATASET, sentence).status for sentence in sentences}
    assert {first, *statuses} <= {503, 504}


def _queue(scene: Scene) -> None:
    """The worker stands still while requests come in, and then works them off."""
    let_models_answer(scene.model)
    with _standing_still(scene.worker):
        accepted = [_ask(scene, number) for number in range(LATER)]
        scene.queue_was_seen()
    for identity in accepted:
        _ended(scene, identity)


def _ended(scene: Scene, identity: str) -> None:
    """Wait for the end of an extraction."""
    while scene.client.get(f"/api/v1/extraction/{identity}/status").data["status"] in {"queued", "processing"}:
        time.sleep(PAUSE_SECONDS)


def _ask(scene: Scene, number: int) -> str:
    body = {"dataset_id": DATASET, "feature_description": f"Mean price of every user, later {number}"}
    answer = scene.client.post_json("/api/v1/extract-features", body, Prefer="respond-async")
    assert answer.status == 202, answer.body
    return answer.data["extraction_id"]


@contextmanager
def _standing_still(worker: subprocess.Popen[bytes]) -> Iterator[None]:
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)
