"""A busy afternoon of one live service: requests of every kind, models that fail, jobs that are tried again."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Metric

from service.agents import retrying
from service.resources.overrides import Overrides
from service.settings import Settings
from service.store.artifacts import open_artifacts
from service.store.backup_record import BackupRecord, record_backup
from service.telemetry import catalog
from service.telemetry.spans import SpanIds
from tests.receiver import Receiver
from tests.redis_process import running_redis
from tests.support import KeptIds, LiveService
from tools.testbed.api_client import Answer, Client
from tools.testbed.model_scenarios import GOOD, SCENARIOS, SECRET, Turn, calling, failing, feature
from tools.testbed.model_server import ModelServer
from tools.testbed.redis import REDIS_SERVER

PRIMARY = "openai-chat:gpt-4o-mini"
"""Its price is known."""
FALLBACK = "openai:reserve"
PATIENCE = 120.0
PLANNED = {
    "grain": "entity",
    "entity": "user_id",
    "features": [feature("rows", {"kind": "count"})],
    "steps": ["Count."],
}
LOOKUPS = (
    Turn(calling({"names": ["price"]}, tool="describe_columns")),
    Turn(calling({"plan": PLANNED}, tool="try_plan")),
)
BUDGET_TOKENS = 3_000
ROWS = "user_id,price,event\n" + "".join(
    f"u{row % 40:03d},{row * 7 % 97}.5,{('click', 'view', 'buy')[row % 3]}\n" for row in range(400)
)


@dataclass(frozen=True)
class Call:
    """One request and what was answered."""

    kind: str
    method: str
    endpoint: str
    answer: Answer
    exemplar: str | None
    """Trace id at the newest observation of its route, read right after the answer."""


@dataclass
class Afternoon:
    """All that was seen."""

    calls: list[Call] = field(default_factory=list[Call])
    highest: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict[Any, float])
    """Of every series, by name and labels."""
    spans: Sequence[ReadableSpan] = ()
    lines: Sequence[dict[str, Any]] = ()
    endpoints: set[str] = field(default_factory=set[str])
    with_redis: bool = REDIS_SERVER is not None
    retried: str = ""
    """Id of the extraction that took two attempts."""


class Lossy(SpanExporter):
    """A second collector, that is away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Fail."""
        return SpanExportResult.FAILURE


class Busy:
    """Drives one service and notes what its registry shows meanwhile."""

    def __init__(self, service: LiveService, provider: ModelServer, receiver: Receiver, seen: Afternoon) -> None:
        self._service = service
        self._provider = provider
        self._receiver = receiver
        self._seen = seen
        self._over = threading.Event()

    def run(self) -> None:
        """The whole afternoon."""
        watching = threading.Thread(target=self._watch, daemon=True)
        watching.start()
        self._read_and_refused()
        self._planned()
        self._deferred()
        self._exhausted()
        self._over.set()
        watching.join()

    @property
    def registry(self) -> CollectorRegistry:
        """What a scrape would show."""
        return self._service.runtime.telemetry.metrics.registry

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self._note()
        self._note()

    def _note(self) -> None:
        for sample in (sample for family in self.registry.collect() for sample in family.samples):
            key = (sample.name, frozenset(sample.labels.items()))
            self._seen.highest[key] = max(self._seen.highest.get(key, 0.0), sample.value)

    def _call(self, kind: str, method: str, endpoint: str, send: Callable[[], Answer]) -> Answer:
        answer = send()
        trace_id = answer.headers["x-trace-id"]
        found = until(lambda: self._newest(method, endpoint), lambda newest: newest == trace_id, seconds=5)
        self._seen.calls.append(Call(kind, method, endpoint, answer, found))
        return answer

    def _newest(self, method: str, endpoint: str) -> str | None:
        family = next(f for f in self.registry.collect() if f.name == "api_request_duration_seconds")
        shown = list(_exemplars(family, method, endpoint))
        return max(shown)[1] if shown else None

    def _read_and_refused(self) -> None:
        client = self._service.client
        stranger, outsider = Client(client.url, None), Client(client.url, "fa_000000000000_" + "x" * 43)

        def get(path: str) -> Callable[[], Answer]:
            return lambda: client.get(path)

        for quiet in ("/metrics", "/health", "/health/live", "/health/ready"):
            client.get(quiet)
        upload = "/api/v1/datasets"
        self._call("upload", "POST", upload, lambda: client.upload("clicks", ROWS.encode()))
        self._call("upload again", "POST", upload, lambda: client.upload("clicks", ROWS.encode()))
        self._call("upload of junk", "POST", upload, lambda: client.upload("junk", b"\x00\x01"))
        self._call("upload of a wrong type", "POST", upload, lambda: client.upload("x", b"a", media_type="image/png"))
        self._call("list", "GET", upload, get(upload))
        self._call("list with a wrong limit", "GET", upload, get(f"{upload}?limit=0"))
        self._call("describe", "GET", f"{upload}/{{dataset_id}}", get(f"{upload}/clicks"))
        self._call("describe what is not there", "GET", f"{upload}/{{dataset_id}}", get(f"{upload}/none"))
        self._call("without a key", "GET", upload, lambda: stranger.get(upload))
        self._call("with a wrong key", "GET", upload, lambda: outsider.get(upload))
        self._call("token", "POST", "/api/v1/auth/token", lambda: client.call("POST", "/api/v1/auth/token", body=b""))
        self._call("no such route", "GET", catalog.UNMATCHED, get("/nowhere"))
        self._call("no such method", "PUT", catalog.UNMATCHED, lambda: client.call("PUT", upload))
        self._call("the schema", "GET", "/api/openapi.json", get("/api/openapi.json"))
        self._call("no such extraction", "GET", "/api/v1/extraction/{extraction_id}", get("/api/v1/extraction/none"))

    def _extract(self, kind: str, sentence: str, turns: Sequence[Turn] = (GOOD,), **fields: Any) -> Answer:
        client, path = self._service.client, "/api/v1/extract-features"
        headers = fields.pop("headers", {})
        body = {"dataset_id": "clicks", "feature_description": sentence, "quality_threshold": "low", **fields}
        self._provider.assign("gpt-4o-mini", turns)
        return self._call(kind, "POST", path, lambda: client.post_json(path, body, **headers))

    def _planned(self) -> None:
        """Synchronous extractions, and what can be asked of one."""
        client, route = self._service.client, "/api/v1/extraction/{extraction_id}"
        self._provider.assign("reserve", [GOOD])
        faulty = SCENARIOS["faulty-then-good"][0]
        callback = {"callback_url": self._receiver.url()}
        answer = self._extract(
            "extract after a retry", "Clicks per user", [failing(500), *LOOKUPS, faulty, GOOD], **callback
        )
        self._extract("the same plan from the cache", "CLICKS per user")
        self._extract("the same result", "CLICKS per user")
        self._extract("of the highest quality", "Prices per user", quality_threshold="high")
        self._extract("from the fallback", "Mean price per user", [failing(401)])
        self._provider.assign("reserve", [failing(400)])
        self._extract("no model can", "Sum of prices per user", [failing(400)])
        self._extract("too short a sentence", "no")
        self._extract("of a dataset that is not there", "Clicks per user", dataset_id="none")
        self._provider.assign("reserve", [GOOD])
        path = answer.data["links"]["self"]
        self._call("read", "GET", route, lambda: client.get(path))
        self._call("status", "GET", f"{route}/status", lambda: client.get(f"{path}/status"))
        self._call("table", "GET", f"{route}/features", lambda: client.get(f"{path}/features?format=csv"))
        self._call("events", "GET", f"{route}/events", lambda: client.get(f"{path}/events"))
        self._call("deliveries", "GET", f"{route}/deliveries", lambda: client.get(f"{path}/deliveries"))
        self._call("extractions", "GET", "/api/v1/extractions", lambda: client.get("/api/v1/extractions"))
        until(lambda: len(self._receiver.had), lambda had: had > 0)

    def _deferred(self) -> None:
        """Jobs: one whose model asks for patience, so that others wait behind it, and one that is tried again."""
        client, deferred = self._service.client, {"headers": {"Prefer": "respond-async"}}
        patience = failing(429, code="rate_limit_exceeded", retry_after="7")
        self._provider.assign("reserve", [*[failing(503)] * 3, GOOD])
        self._extract("deferred", "Views per user", [patience, GOOD, failing(400), GOOD], **deferred)
        until(lambda: self._series("active_extractions"), lambda active: active > 0)
        path = "/api/v1/extract-features"
        again = self._call("tried again", "POST", path, lambda: self._late("Buys per user"))
        self._seen.retried = again.data["extraction_id"]
        self._call("and one more", "POST", path, lambda: self._late("Clicks by user"))
        for call in self._seen.calls[-3:]:
            path = f"/api/v1/extraction/{call.answer.data['extraction_id']}"
            until(lambda path=path: client.get(f"{path}/status").data["status"], lambda status: status == "completed")
        self._call("delete", "DELETE", "/api/v1/extraction/{extraction_id}", lambda: client.call("DELETE", path))

    def _late(self, sentence: str) -> Answer:
        body = {"dataset_id": "clicks", "feature_description": sentence, "quality_threshold": "low"}
        return self._service.client.post_json("/api/v1/extract-features", body, Prefer="respond-async")

    def _exhausted(self) -> None:
        """The primary model fails until it is left alone; the fallback spends the budget."""
        for number in range(40):
            answer = self._extract("until the budget is spent", f"Prices of kind {number} per user", [failing(500)])
            if answer.status == 429:
                return
        raise AssertionError("the budget was never spent")

    def _series(self, name: str) -> float:
        return self.registry.get_sample_value(name) or 0.0


def _exemplars(family: Metric, method: str, endpoint: str) -> Iterator[tuple[float, str]]:
    wanted = {"method": method, "endpoint": endpoint}
    for sample in family.samples:
        if sample.exemplar is not None and wanted.items() <= sample.labels.items():
            yield float(sample.exemplar.timestamp or 0), sample.exemplar.labels["trace_id"]


def until(look: Callable[[], Any], done: Callable[[Any], bool], *, seconds: float = PATIENCE) -> Any:
    """What is seen, once it is as wanted, or when the time is up."""
    deadline = time.monotonic() + seconds
    while not done(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen


@contextlib.contextmanager
def afternoon(make_settings: Callable[..., Settings], folder: Path) -> Generator[Afternoon]:
    """Live through one, and give what was seen once the service has ended."""
    seen, exporter, log = Afternoon(), InMemorySpanExporter(), io.StringIO()
    with contextlib.ExitStack() as stack:
        provider, receiver = stack.enter_context(ModelServer()), stack.enter_context(Receiver(204))
        redis = {"redis_url": stack.enter_context(running_redis(folder)).url} if seen.with_redis else {}
        settings = make_settings(
            primary_model=PRIMARY,
            fallback_model=FALLBACK,
            openai_api_key=SECRET,
            openai_base_url=provider.url,
            model_timeout_seconds=100,
            worker_concurrency=1,
            rate_limit_per_minute=10_000,
            budget_tokens_per_day=BUDGET_TOKENS,
            webhook_allow_private=True,
            **redis,
        )
        asyncio.run(_backed_up(settings))
        waits = retrying.INITIAL_WAIT_SECONDS, retrying.WAIT_JITTER_SECONDS
        stack.callback(lambda: _set_waits(*waits))
        _set_waits(0.01, 0.01)
        # Every trace is one that is kept, so that every request has an exemplar to compare.
        stack.enter_context(patch.object(SpanIds, "generate_trace_id", KeptIds.generate_trace_id))
        with LiveService(settings, Overrides(span_exporters=[exporter, Lossy()], log_stream=log)) as service:
            Busy(service, provider, receiver, seen).run()
            seen.endpoints = set(_endpoints(service))
    seen.spans = exporter.get_finished_spans()
    seen.lines = [json.loads(line) for line in log.getvalue().splitlines()]
    yield seen


def _endpoints(service: LiveService) -> Iterator[str]:
    yield from (route.path_format for route in service.app.routes)
    yield catalog.UNMATCHED


def _set_waits(first: float, jitter: float) -> None:
    retrying.INITIAL_WAIT_SECONDS, retrying.WAIT_JITTER_SECONDS = first, jitter


async def _backed_up(settings: Settings) -> None:
    artifacts = open_artifacts(str(settings.data_dir / "artifacts"))
    await record_backup(artifacts, BackupRecord(datetime.now(UTC), "test"))
