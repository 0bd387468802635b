"""The telemetry of one request: a log line, an observation, a count, and the rate limit's decision."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from service.resources.overrides import Overrides
from service.settings import Settings
from tests.support import LiveService

REQUESTS = 20
APART = ("process_", "python_", "event_loop_", "gc_", "telemetry_", "dependency_", "db_", "extraction_", "memory_")
"""Series that change without requests."""


def counts(registry: CollectorRegistry) -> Counter[str]:
    """Counters and numbers of observations by name, over all labels."""
    found: Counter[str] = Counter()
    for family in registry.collect():
        for sample in family.samples:
            if sample.name.endswith(("_total", "_count")) and not sample.name.startswith(APART):
                found[sample.name] += int(sample.value)
    return found


def test_a_request_costs_a_line_an_observation_and_its_counts(make_settings: Callable[..., Settings]) -> None:
    """A read changes only its count, its duration, and the count of the rate limit's decisions."""
    log = io.StringIO()
    with LiveService(make_settings(), Overrides(log_stream=log)) as service:
        client, registry = service.client, service.runtime.telemetry.metrics.registry
        client.get("/api/v1/datasets")
        while not (before := counts(registry))["api_requests_total"]:
            pass
        for _ in range(REQUESTS):
            assert client.get("/api/v1/datasets").status == 200
    moved = counts(registry) - before  # once it has stopped, since a request is counted after it is answered
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert len([line for line in lines if line.get("logger") == "service.access"]) == REQUESTS + 1
    assert moved == {
        "api_requests_total": REQUESTS,
        "api_request_duration_seconds_count": REQUESTS,
        "rate_limit_decisions_total": REQUESTS,
    }
