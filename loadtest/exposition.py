"""A run's own numbers for Prometheus, beside the service's: what was offered, and what the callers saw."""

from __future__ import annotations

from typing import Any

from locust.env import Environment
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, start_http_server

PORT = 9646
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0)
"""Seconds; those of the service's own api_request_duration_seconds, so that both can be laid side by side."""


class RunMetrics:
    """Counts each request as Locust reports it. `name` is the test's own, so its values are few."""

    def __init__(self, environment: Environment, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "locust_requests_total",
            "Requests that ended, by whether they got the answer that the test expects.",
            ("method", "name", "outcome"),
            registry=registry,
        )
        self._durations = Histogram(
            "locust_request_duration_seconds",
            "Time from sending a request to the end of its answer, as the caller sees it.",
            ("method", "name"),
            buckets=BUCKETS,
            registry=registry,
        )
        running = Gauge("locust_users", "Simulated users that run now.", registry=registry)
        running.set_function(lambda: environment.runner.user_count if environment.runner else 0)
        wanted = Gauge("locust_users_wanted", "Simulated users that the test wants by now.", registry=registry)
        wanted.set_function(lambda: environment.runner.target_user_count if environment.runner else 0)
        environment.events.request.add_listener(self.record)

    def record(
        self, request_type: str, name: str, response_time: float, exception: BaseException | None, **_: Any
    ) -> None:
        """One request; `response_time` is in milliseconds."""
        for outcome in ("success", "failure"):
            self._requests.labels(request_type, name, outcome).inc((outcome == "failure") == (exception is not None))
        self._durations.labels(request_type, name).observe(response_time / 1000)


def serve(environment: Environment, port: int) -> None:
    """Answer `GET /metrics` on that port until the process ends."""
    disable_created_metrics()
    registry = CollectorRegistry()
    RunMetrics(environment, registry)
    start_http_server(port, registry=registry)
