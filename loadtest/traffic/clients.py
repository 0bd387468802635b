"""What each kind of client does, from its arrival to its end. The kinds are the members of a scenario's `mix`."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import gevent

from loadtest.traffic.http import Answer, Connection
from loadtest.traffic.pool import Pool, Wish

API = "/api/v1"
DATASETS = f"{API}/datasets"
DATASET = f"{API}/datasets/{{dataset_id}}"
EXTRACT = f"{API}/extract-features"
EXTRACTION = f"{API}/extraction/{{extraction_id}}"
EXTRACTIONS = f"{API}/extractions"
UNMATCHED = "unmatched"

OK = frozenset({200})
CREATED = frozenset({201})
TAKEN = frozenset({200, 202})
GONE = frozenset({200, 204})
REFUSED = frozenset({429, 503})
"""Answers that ask the client to come later, with Retry-After."""
UNCERTAIN = frozenset({500, 502, 504})
"""Answers after which a client cannot know whether its request was accepted."""

MAX_KNOWN = 200
MAX_SENDS = 4
"""How often a client sends a request for features again that got no answer, under the same Idempotency-Key."""
POLL_SECONDS = 0.5
END_TIMEOUT_SECONDS = 60.0
"""After which a client stops waiting for an extraction."""
RESEND_SHARE = 0.2
"""Of the clients that poll, those that send their request twice, as a client does that lost the first answer."""
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass
class Ledger:
    """What the clients of one process were promised: the input of the audit."""

    accepted: dict[str, str] = field(default_factory=dict[str, str])
    """Idempotency-Key -> extraction."""
    unknown: list[str] = field(default_factory=list[str])
    """Keys of requests that got no answer, or one that does not say whether they were accepted."""
    doubled: list[str] = field(default_factory=list[str])
    """Keys under which two different extractions were answered."""

    def note(self, key: str, extraction_id: str) -> None:
        """Remember what was accepted under a key."""
        if self.accepted.setdefault(key, extraction_id) != extraction_id:
            self.doubled.append(key)

    def clear(self) -> None:
        """Forget everything."""
        self.accepted.clear()
        self.unknown.clear()
        self.doubled.clear()


@dataclass
class World:
    """What the clients of one process share."""

    connection: Connection
    pool: Pool
    run_id: str
    upload: bytes
    """A table as CSV."""
    chance: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    running: deque[str] = field(default_factory=lambda: deque[str](maxlen=MAX_KNOWN))
    ended: deque[str] = field(default_factory=lambda: deque[str](maxlen=MAX_KNOWN))
    numbers: Iterator[int] = field(default_factory=itertools.count)


class Failed(Exception):
    """A client did not get what it came for; the sentence says what."""


@dataclass
class Visit:
    """One client, from its arrival to its end."""

    world: World
    number: int
    stage: int
    due: float
    """When it arrives, by time.monotonic()."""

    # -- reading -------------------------------------------------------------------------------------------------

    def poll_status(self) -> None:
        """Ask how an extraction is doing."""
        found = self.world.running or self.world.ended
        if found:
            self._get(f"{EXTRACTION}/status", self._path(self.world.chance.choice(found), "/status"))
        else:
            self.list_extractions()

    def read_result(self) -> None:
        """Read the result of an extraction that has ended."""
        if self.world.ended:
            self._get(EXTRACTION, self._path(self.world.chance.choice(self.world.ended)))
        else:
            self.list_extractions()

    def download_table(self) -> None:
        """Download the table of an extraction."""
        if self.world.ended:
            self._get(f"{EXTRACTION}/features", self._path(self.world.chance.choice(self.world.ended), "/features"))
        else:
            self.list_extractions()

    def list_extractions(self) -> None:
        """List the newest extractions."""
        self._get(EXTRACTIONS, f"{EXTRACTIONS}?limit=10")

    # -- asking for features -------------------------------------------------------------------------------------

    def extract_and_wait(self) -> None:
        """Ask for features and wait for the answer, as simple clients do, without an Idempotency-Key."""
        answer = self._ask(self.world.pool.draw(), "", {})
        if answer.status == 202:  # noqa: PLR2004 - accepted for later
            self._until_ended(answer)

    def extract_and_poll(self) -> None:
        """Ask for features without waiting, then ask for the status until they are there, and read them."""
        wish, key = self.world.pool.draw(), self._key()
        answer = self._ask(wish, key, {"Prefer": "respond-async"})
        if self.world.chance.random() < RESEND_SHARE:
            self._ask(wish, key, {"Prefer": "respond-async"})
        extraction_id = self._until_ended(answer)
        self._get(EXTRACTION, self._path(extraction_id))

    def follow_events(self) -> None:
        """Ask for features and follow their progress as server-sent events to the end."""
        answer = self._ask(self.world.pool.draw(), self._key(), {"Prefer": "respond-async"})
        extraction_id = _extraction_of(answer)
        seen: list[bytes] = []
        self._send("GET", f"{EXTRACTION}/events", self._path(extraction_id, "/events"), OK, lines=seen.extend)
        if b"event: end" not in seen:
            raise Failed("an event stream ended before its extraction")
        self._note_end(extraction_id, "completed")

    def _ask(self, wish: Wish, key: str, headers: dict[str, str]) -> Answer:
        body = {"dataset_id": wish.dataset_id, "feature_description": wish.sentence, "quality_threshold": "low"}
        sent = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {}), **headers}
        certain, answer = True, Answer(0)
        try:
            for _ in range(MAX_SENDS):
                answer = self._send("POST", EXTRACT, EXTRACT, TAKEN, body=json.dumps(body).encode(), headers=sent)
                if answer.status in TAKEN:
                    return self._taken(key, answer)
                certain &= bool(answer.status) and answer.status not in UNCERTAIN
                if (not answer.status and not key) or (answer.status and answer.status not in REFUSED):
                    break
                self._pause(answer.retry_after(1.0))
        except gevent.GreenletExit:
            certain = False  # the run is over before the answer
            raise
        finally:
            if not certain and answer.status not in TAKEN:
                self.world.ledger.unknown.append(key)
        raise Failed(f"a request for features was not taken: answered {answer.status or 'nothing'}")

    def _taken(self, key: str, answer: Answer) -> Answer:
        extraction_id = _extraction_of(answer)
        self.world.ledger.note(key or extraction_id, extraction_id)
        self._note_status(extraction_id, str(answer.data().get("status")))
        return answer

    def _until_ended(self, answer: Answer) -> str:
        """Ask for the status, as often as the service wants to be asked, until the extraction has ended."""
        extraction_id = _extraction_of(answer)
        status = str(answer.data().get("status"))
        last = time.monotonic() + END_TIMEOUT_SECONDS
        while status not in ENDED:
            if time.monotonic() > last:
                raise Failed(f"an extraction had not ended after {END_TIMEOUT_SECONDS:.0f} s")
            self._pause(min(answer.retry_after(POLL_SECONDS), POLL_SECONDS))
            answer = self._get(f"{EXTRACTION}/status", self._path(extraction_id, "/status"))
            status = str(answer.data().get("status"))
        self._note_end(extraction_id, status)
        return extraction_id

    def _note_status(self, extraction_id: str, status: str) -> None:
        if status in ENDED or not status or status == "None":
            self._note_end(extraction_id, status)
        else:
            self.world.running.append(extraction_id)

    def _note_end(self, extraction_id: str, status: str) -> None:
        if extraction_id in self.world.running:
            self.world.running.remove(extraction_id)
        if status == "completed":
            self.world.ended.append(extraction_id)
        else:
            raise Failed(f"an extraction ended as {status}")

    # -- datasets and bad clients --------------------------------------------------------------------------------

    def upload(self) -> None:
        """Upload a dataset, read its profile, delete it."""
        dataset_id = f"{self.world.run_id}-u{self.number}"
        headers = {"Content-Type": "text/csv"}
        path = f"{DATASETS}?dataset_id={dataset_id}"
        answer = self._send("POST", DATASETS, path, CREATED, body=self.world.upload, headers=headers)
        if answer.status not in CREATED:
            raise Failed(f"an upload was answered {answer.status}")
        self._get(DATASET, f"{DATASETS}/{dataset_id}")
        answer = self._send("DELETE", DATASET, f"{DATASETS}/{dataset_id}", GONE)
        if answer.status not in GONE:
            raise Failed(f"DELETE {DATASET} was answered {answer.status}")

    def bad_client(self) -> None:
        """Send what the service has to refuse with a certain status, and nothing else."""
        fault = FAULTS[self.number % len(FAULTS)]
        answer = self._send(
            fault.method,
            fault.endpoint,
            fault.path,
            frozenset({fault.status}),
            body=fault.body,
            headers=fault.headers,
            authorized=fault.authorized,
        )
        if answer.status != fault.status:
            raise Failed(f"{fault.method} {fault.endpoint} was answered {answer.status}, not {fault.status}")

    # -- one request ---------------------------------------------------------------------------------------------

    def _get(self, endpoint: str, path: str) -> Answer:
        answer = self._send("GET", endpoint, path, OK)
        if answer.status not in OK:
            raise Failed(f"GET {endpoint} was answered {answer.status}")
        return answer

    def _send(
        self,
        method: str,
        endpoint: str,
        path: str,
        expected: frozenset[int],
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        authorized: bool = True,
        lines: Callable[[Iterator[bytes]], object] | None = None,
    ) -> Answer:
        answer = self.world.connection.send(
            self.stage,
            method,
            endpoint,
            path,
            due=self.due,
            expected=expected,
            body=body,
            headers=headers,
            authorized=authorized,
            lines=lines,
        )
        self.due = time.monotonic()
        return answer

    def _pause(self, seconds: float) -> None:
        """Wait; the next request is due when the pause should end, not when this process gets to it."""
        self.due = time.monotonic() + seconds
        gevent.sleep(seconds)

    def _key(self) -> str:
        return f"{self.world.run_id}-{self.number}"

    @staticmethod
    def _path(extraction_id: str, rest: str = "") -> str:
        return f"{API}/extraction/{extraction_id}{rest}"


def _extraction_of(answer: Answer) -> str:
    found = answer.data().get("extraction_id")
    if not found:
        raise Failed("an answer names no extraction")
    return str(found)


@dataclass(frozen=True)
class Fault:
    """A request that the service has to refuse."""

    status: int
    method: str
    endpoint: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    authorized: bool = True


_JSON = {"Content-Type": "application/json"}
FAULTS = (
    Fault(401, "GET", EXTRACTIONS, EXTRACTIONS, authorized=False),
    Fault(404, "GET", f"{EXTRACTION}/status", f"{API}/extraction/{'0' * 32}/status"),
    Fault(400, "POST", EXTRACT, EXTRACT, b"{", _JSON),
    Fault(422, "POST", EXTRACT, EXTRACT, b'{"dataset_id": "none", "feature_description": "abc"}', _JSON),
    Fault(404, "POST", EXTRACT, EXTRACT, b'{"dataset_id": "no-such", "feature_description": "Mean price"}', _JSON),
    Fault(415, "POST", DATASETS, f"{DATASETS}?dataset_id=never", b"<a/>", {"Content-Type": "application/xml"}),
    Fault(404, "GET", UNMATCHED, "/wp-login.php", authorized=False),
    Fault(405, "PATCH", UNMATCHED, EXTRACTIONS),
)
"""Every status is part of the contract; a service that answers another one under load has a fault."""

KINDS = {
    kind: getattr(Visit, kind)
    for kind in (
        "poll_status",
        "read_result",
        "download_table",
        "list_extractions",
        "extract_and_wait",
        "extract_and_poll",
        "follow_events",
        "upload",
        "bad_client",
    )
}
"""By the names of a scenario's mix."""
