"""The generator's own numbers for Prometheus, beside the service's: what was offered, and what the clients saw."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, start_http_server

PORT = 9646
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0)
"""Seconds; those of the service's own api_request_duration_seconds, so that both can be laid side by side."""


class RunMetrics:
    """Counts each request as Locust reports it, by route template and by the stage of the run: both are few."""

    def __init__(self, environment: Any, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "locust_requests_total",
            "Requests that ended, by whether they got the answer that the test expects.",
            ("method", "name", "stage", "outcome"),
            registry=registry,
        )
        self._durations = Histogram(
            "locust_request_duration_seconds",
            "Time from the moment at which a request was due to the end of its answer, as the client sees it.",
            ("method", "name", "stage"),
            buckets=BUCKETS,
            registry=registry,
        )
        environment.events.request.add_listener(self.record)

    def record(
        self,
        request_type: str,
        name: str,
        response_time: float,
        exception: BaseException | None,
        context: dict[str, Any],
        **_: Any,
    ) -> None:
        """Count one request; `response_time` is in milliseconds."""
        route, stage = context.get("endpoint", name), context.get("stage", "")
        for outcome in ("success", "failure"):
            failed = exception is not None
            self._requests.labels(request_type, route, stage, outcome).inc((outcome == "failure") == failed)
        self._durations.labels(request_type, route, stage).observe(response_time / 1000)


def serve(environment: Any, port: int) -> None:
    """Answer `GET /metrics` on that port until the process ends."""
    disable_created_metrics()
    registry = CollectorRegistry()
    RunMetrics(environment, registry)
    start_http_server(port, registry=registry)
