"""One request to a live service whose model is in trouble, and everything that can be seen of it from outside."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from service.resources.overrides import NO_OVERRIDES, Overrides
from service.settings import Settings
from tests.support import LiveService
from tools.testbed.api_client import Answer
from tools.testbed.model_scenarios import CELL, SECRET
from tools.testbed.model_server import Asked, ModelServer

DATASET = "clicks"
ROWS = "user_id,price,event\n" + "".join(
    f"u{row % 40:03d},{row * 7 % 97}.5,{('click', 'view', CELL)[row % 3]}\n" for row in range(400)
)
PROMPT = "prompt-canary-c40e17"
SENTENCE = f"Clicks and mean price per user, {PROMPT}"
CANARIES = (SECRET, CELL, "provider-canary-5d20c4", PROMPT)
"""The key, a cell, the provider's words, and the client's own: each may be in the model's request and nowhere else."""
OWN = ("body", PROMPT)
"""But that a client's answer repeats the client's sentence."""


@dataclass(frozen=True)
class Evidence:
    """What one extraction left behind."""

    answer: Answer
    asked: Sequence[Asked]
    """Requests that the provider saw."""
    metrics: dict[tuple[str, ...], float]
    """Every counter and gauge that is not 0, by name and label values in the order of the labels' names."""
    spans: Sequence[ReadableSpan]
    """Of the request's trace."""
    lines: Sequence[dict[str, Any]]
    """Log lines of the request."""
    texts: dict[str, str]
    """Everything that the service gave away, whole, by where it did."""

    def moved(self, metric: str, *labels: str) -> dict[str, float]:
        """By how much the metric's series of those first labels moved, by their last label."""
        head = (metric, *labels)
        return {key[-1]: value for key, value in self.metrics.items() if key[:-1] == head}

    def leaks(self) -> list[tuple[str, str]]:
        """Where which canary was found."""
        found = [(place, canary) for place, text in self.texts.items() for canary in CANARIES if canary in text]
        return [leak for leak in found if leak != OWN]

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of that name, in the order of their beginning."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time or 0)

    def ancestors(self, span: ReadableSpan) -> list[str]:
        """Names of the spans around one, the innermost first."""
        by_id = {each.context.span_id: each for each in self.spans if each.context}
        names: list[str] = []
        while span.parent is not None:
            span = by_id[span.parent.span_id]
            names.append(span.name)
        return names


class Stand:
    """Starts one service after the other on one database and one dataset, so that no breaker or cache is shared."""

    def __init__(self, make_settings: Callable[..., Settings], provider: ModelServer, folder: Path) -> None:
        self.provider = provider
        self._make_settings = make_settings
        self._shared: dict[str, object] = {"data_dir": folder, "openai_api_key": SECRET}
        settings = make_settings(data_dir=folder)
        self._shared["database_url"] = settings.database_url
        with LiveService(settings) as service:
            assert service.client.upload(DATASET, ROWS.encode()).status == 201

    def service(
        self, model: str, *, settings: dict[str, object] | None = None, overrides: Overrides = NO_OVERRIDES
    ) -> LiveService:
        """A service with that primary model, to be entered."""
        shared = {**self._shared, "openai_base_url": self.provider.url, "prometheus_enabled": False}
        chosen = self._make_settings(**{**shared, "primary_model": model, **(settings or {})})
        return LiveService(chosen, overrides)

    def ask(self, model: str, **settings: object) -> Evidence:
        """What one extraction of a service with that primary model comes to."""
        exporter, log = InMemorySpanExporter(), io.StringIO()
        before = len(self.provider.asked)
        overrides = Overrides(span_exporters=[exporter], log_stream=log)
        with self.service(model, settings=settings, overrides=overrides) as service:
            answer = service.client.extract(DATASET, SENTENCE)
            registry = service.runtime.telemetry.metrics.registry
        # Read when the service has stopped: then every span has ended and every line is written.
        spans = exporter.get_finished_spans()
        return Evidence(
            answer=answer,
            asked=self.provider.asked[before:],
            metrics=moved(registry),
            spans=_of_trace(spans, answer.headers["x-trace-id"]),
            lines=_of_request(log.getvalue(), answer.headers["x-request-id"]),
            texts={
                "body": answer.body.decode(),
                "headers": json.dumps(answer.headers),
                "log": log.getvalue(),
                "spans": "\n".join(span.to_json() for span in spans),
                "metrics": generate_latest(registry).decode(),
            },
        )


def moved(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Every sample that is not 0, by name and label values in the order of the labels' names."""
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for sample in samples
        if sample.value and not sample.name.endswith(("_bucket", "_created"))
    }


def _of_trace(spans: Sequence[ReadableSpan], trace_id: str) -> list[ReadableSpan]:
    return [span for span in spans if span.context and f"{span.context.trace_id:032x}" == trace_id]


def _of_request(log: str, request_id: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.splitlines()]
    return [line for line in lines if line.get("request_id") == request_id]
