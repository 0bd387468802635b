"""Load test: what Locust asks and sees, beside what the service sees of the same requests."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.board import Board, Row
from observability.source.dashboards.names import LOAD, SATURATION
from observability.source.dashboards.panels import Look, Query, lines, number
from observability.source.dashboards.process import cpu, event_loop, memory
from observability.source.dashboards.promql import OWN_JOBS, quantile, rate, share, total
from observability.source.dashboards.queue import oldest, waiting

DURATION = "api_request_duration_seconds"
KNOWN = 'endpoint!~"unmatched|/health.*|/metrics"'
NO_RUN = "No load test in this time range: docker compose --profile load up"
RUN = (links.board("Saturation", SATURATION),)


def _locust(name: str, *matchers: str) -> str:
    return f"rate({name}{{{','.join(matchers)}}}[$__rate_interval])"


def board() -> Board:
    """The board."""
    return Board(
        LOAD,
        "Load test",
        "Locust's run and the service's own view of it: offered load, answers and durations on both sides, and what "
        "ran short first.",
        [
            Row("Locust", [stages(), offered(), failed(), seen()]),
            Row("The service", [requests(), errors(), durations(), spent()]),
            Row("Queue", [waiting(12), oldest(12)]),
            Row("Saturation", [cpu(8), memory(8), event_loop(8)]),
        ],
        tags=("load-test",),
    )


def stages() -> model.Panel:
    """Requests by stage."""
    return lines(
        "Stages of the run",
        "Requests a second that ended, by the stage of the run in which their client came.",
        [Query(total(_locust("locust_requests_total"), "stage"), "{{stage}}")],
        Look(units.RequestsPerSecond, 6, stacked=True, links=RUN, empty=NO_RUN),
    )


def offered() -> model.Panel:
    """Requests by name."""
    return lines(
        "Requests of Locust",
        "Requests a second that ended, as Locust counts them, by the template of their route.",
        [Query(total(_locust("locust_requests_total"), "name"), "{{name}}")],
        Look(units.RequestsPerSecond, 6, stacked=True, links=RUN, empty=NO_RUN),
    )


def failed() -> model.Panel:
    """Share that failed the test's expectation."""
    bad = total(_locust("locust_requests_total", 'outcome="failure"'), "name")
    return lines(
        "Failed requests of Locust",
        "Share of the requests that did not get the answer that the test expects.",
        [Query(share(bad, total(_locust("locust_requests_total"), "name")), "{{name}}")],
        Look(units.PercentUnit, 6, thresholds={0.005: "orange", 0.05: "red"}, links=RUN, empty=NO_RUN),
    )


def seen() -> model.Panel:
    """Durations as the caller sees them."""
    buckets = total(_locust("locust_request_duration_seconds_bucket"), "le", "method", "name")
    return lines(
        "Durations that Locust sees, p95",
        "95 of 100 requests were answered faster, from the moment at which they were due: time on the wire, to be "
        "accepted and for the load generator included.",
        [Query(f"histogram_quantile(0.95, {buckets}) >= 0", "{{method}} {{name}}")],
        Look(units.Seconds, 6, thresholds={10: "red"}, links=RUN, empty=NO_RUN),
    )


def requests() -> model.Panel:
    """What the service counts."""
    return lines(
        "Requests of the service",
        "Requests a second as the service counts them. Less than Locust's: they wait to be accepted, or came in by "
        "another door.",
        [Query(total(rate("api_requests_total", KNOWN), "method", "endpoint") + " > 0", "{{method}} {{endpoint}}")],
        Look(units.RequestsPerSecond, 6, stacked=True, links=RUN),
    )


def errors() -> model.Panel:
    """Share answered 5xx."""
    bad = total(rate("api_requests_total", KNOWN, 'status=~"5.."'))
    limited = total(rate("api_requests_total", KNOWN, 'status="429"'))
    whole = total(rate("api_requests_total", KNOWN))
    return lines(
        "Errors and refusals of the service",
        "Share of the requests that were answered 5xx, and 429.",
        [Query(share(bad, whole), "5xx"), Query(share(limited, whole), "429")],
        Look(units.PercentUnit, 6, thresholds={0.005: "orange", 0.05: "red"}, links=links.FAILURES),
    )


def durations() -> model.Panel:
    """Durations as the service sees them."""
    by = ("method", "endpoint")
    return lines(
        "Durations that the service sees, p95",
        "95 of 100 requests were answered faster, from the first byte in the service to the last out of it.",
        [Query(quantile(0.95, DURATION, KNOWN, by=by), "{{method}} {{endpoint}}", exemplars=True)],
        Look(units.Seconds, 6, thresholds={10: "red"}, links=links.SLOW),
    )


def spent() -> model.Panel:
    """CPU time of a request: what capacity is computed from."""
    cores = total(rate("process_cpu_seconds_total", OWN_JOBS))
    return number(
        "CPU time of a request",
        "CPU seconds of all processes for each request answered. The autoscaler's target divided by it is what a pod "
        "can take.",
        [Query(f"{cores} / ({total(rate('api_requests_total', KNOWN))} > 0)", "CPU time")],
        Look(units.Seconds, 6, decimals=4, links=RUN, empty="No requests, or the API does not answer"),
    )
