"""Service overview, the home board: are users served, and if not, where to look."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.board import Board, Row
from observability.source.dashboards.names import MODEL, OVERVIEW, SATURATION
from observability.source.dashboards.objectives import alerts_firing, budget_left, burning
from observability.source.dashboards.panels import Column, Look, Query, lines, number, percentiles, rows, spread, states
from observability.source.dashboards.process import cpu, event_loop, memory, pool
from observability.source.dashboards.promql import process, quantile, rate, series, share, total
from observability.source.dashboards.queue import oldest, waiting

REQUESTS = "api_requests_total"
DURATION = "api_request_duration_seconds"
KNOWN = 'endpoint!~"unmatched|/health.*|/metrics"'
"""What people ask for: no probes, no scrapes, no addresses that do not exist."""
CLASSES = {"2xx": "green", "3xx": "blue", "4xx": "orange", "5xx": "red"}


def board() -> Board:
    """The board."""
    return Board(
        OVERVIEW,
        "Service overview",
        "Objectives, requests, dependencies, queue and saturation of feature-agent, in reading order.",
        [
            Row("Objectives", [budget_left(12), burning(12), alerts_firing(16), versions()]),
            Row("Requests", [*headline(), by_status(), errors(), durations(), routes(), heatmap(), refusals()]),
            Row("Dependencies", [dependencies(), model_errors()]),
            Row("Queue", [waiting(12), oldest(12)]),
            Row("Saturation", [cpu(6), memory(6), event_loop(6), pool(6)]),
        ],
    )


def versions() -> model.Panel:
    """Which builds run."""
    running = total(series("application_info"), "version", "environment")
    started = f"max by (version, environment) ({process('process_start_time_seconds')} * 1000 * on (job, instance) "
    started += f"group_left (version, environment) {series('application_info')})"
    return rows(
        "Versions",
        "Processes by the version they run, and when the youngest of them started. Two versions for longer than a "
        "rollout takes mean that it is stuck.",
        [
            Column("Version", label="version"),
            Column("Environment", label="environment"),
            Column("Processes", running, unit=units.Short),
            Column("Last start", started, unit="dateTimeFromNow"),
        ],
        Look(width=8, height=6, empty="No process of the service is scraped", least=None),
    )


def headline() -> list[model.Panel]:
    """Rate, errors, duration and load as four numbers."""
    whole = total(rate(REQUESTS, KNOWN))
    failed = total(rate(REQUESTS, KNOWN, 'status=~"5.."'))
    extract = ('method="POST"', 'endpoint="/api/v1/extract-features"')
    return [
        number(
            "Requests",
            "Requests a second to the API's own routes; probes, scrapes and unknown addresses are not counted.",
            [Query(whole)],
            Look(units.RequestsPerSecond, 6, 4, links=[links.logs("Access log", "| json | endpoint != ``")]),
        ),
        number(
            "Answered 5xx",
            "Share of those requests that were answered with a server error. The availability objective allows 0.5 %.",
            [Query(share(failed, whole))],
            Look(units.PercentUnit, 6, 4, thresholds={0.005: "orange", 0.05: "red"}, links=links.FAILURES),
        ),
        number(
            "Duration of an extraction request, p95",
            "95 of 100 calls of POST /extract-features were answered faster. The objective is 10 s.",
            [Query(quantile(0.95, DURATION, *extract))],
            Look(units.Seconds, 6, 4, thresholds={5: "orange", 10: "red"}, links=links.SLOW),
        ),
        number(
            "In flight",
            "Requests being served at this moment, waiting extraction calls and event streams among them.",
            [Query(total(series("api_requests_in_flight")))],
            Look(units.Short, 6, 4, links=[links.board("What limits it", SATURATION)]),
        ),
    ]


def by_status() -> model.Panel:
    """Requests by class of status."""
    grouped = f'label_replace({rate(REQUESTS, KNOWN)}, "class", "${{1}}xx", "status", "(.)..")'
    return lines(
        "Requests by status",
        "Requests a second by the class of their status. A 4xx is the caller's to mend, a 5xx is ours.",
        [Query(f"sum by (class) ({grouped})", "{{class}}")],
        Look(
            units.RequestsPerSecond,
            stacked=True,
            colours=CLASSES,
            links=[links.logs("Access log", "| json | endpoint != ``"), links.traces("Traces")],
        ),
    )


def errors() -> model.Panel:
    """Error ratio by route."""
    failed = total(rate(REQUESTS, KNOWN, 'status=~"5.."'), "method", "endpoint")
    whole = total(rate(REQUESTS, KNOWN), "method", "endpoint")
    return lines(
        "5xx by route",
        "Share of a route's requests that were answered with a server error: 0 for all is how it should be.",
        [Query(share(failed, whole), "{{method}} {{endpoint}}")],
        Look(units.PercentUnit, thresholds={0.005: "orange", 0.05: "red"}, links=links.FAILURES),
    )


def durations() -> model.Panel:
    """Quantiles over all routes, with exemplars."""
    return lines(
        "Duration",
        "Time from a request's first byte to the last of its answer, over all routes. Each dot is a request whose "
        "trace was kept: click it.",
        percentiles(lambda q: quantile(q, DURATION, KNOWN), 0.5, 0.95, 0.99),
        Look(units.Seconds, thresholds={10: "red"}, links=links.SLOW),
    )


def routes() -> model.Panel:
    """Rate, errors and duration of each route."""
    by = ("method", "endpoint")
    whole = total(rate(REQUESTS, KNOWN), *by)
    failed = total(rate(REQUESTS, KNOWN, 'status=~"5.."'), *by)
    found = [
        links.logs("Log lines of this route", "| json | endpoint = `${__data.fields.Route}`"),
        links.traces("Traces of this route", operation="${__data.fields.Method} ${__data.fields.Route}"),
    ]
    return rows(
        "Routes",
        "What each route does now: requests a second, share answered 5xx, and the duration that 95 of 100 stay below "
        "(empty without traffic).",
        [
            Column("Method", label="method"),
            Column("Route", label="endpoint", links=found),
            Column("Requests", whole, unit=units.RequestsPerSecond),
            Column("5xx", share(failed, whole), unit=units.PercentUnit, thresholds={0.005: "orange", 0.05: "red"}),
            Column("p95", quantile(0.95, DURATION, KNOWN, by=by), unit=units.Seconds, thresholds={10: "red"}),
        ],
        Look(width=12, height=9),
        highest="Requests",
    )


def heatmap() -> model.Panel:
    """How durations are spread."""
    return spread(
        "Spread of durations",
        "How many requests a second took how long: two bands are two kinds of requests, which no quantile shows.",
        Query(total(rate(f"{DURATION}_bucket", KNOWN), "le"), "{{le}}", exemplars=True),
        Look(units.Seconds, 12, 9, links=links.SLOW),
    )


def refusals() -> model.Panel:
    """Requests that were turned away on purpose."""
    return lines(
        "Turned away",
        "Requests refused for their credentials, by reason; over their rate limit; or let through unchecked because "
        "the limiter's store was away (degraded).",
        [
            Query(total(rate("auth_failures_total"), "reason"), "credentials: {{reason}}"),
            Query(total(rate("rate_limit_decisions_total", 'decision!="allowed"'), "decision"), "rate: {{decision}}"),
        ],
        Look(
            units.RequestsPerSecond,
            24,
            7,
            links=[links.logs("Log lines of refusals", "| json | status =~ `401|403|429`")],
        ),
    )


def dependencies() -> model.Panel:
    """Which dependencies answer."""
    return states(
        "Dependencies",
        "Whether each dependency answered its last check, as the worst placed process sees it. Without Redis and the "
        "model the service is degraded; without the database it cannot work.",
        [Query(f"min by (dependency) ({series('dependency_up')})", "{{dependency}}")],
        Look(
            "bool_yes_no",
            12,
            7,
            words={"0": ("away", "red"), "1": ("up", "green")},
            empty="No check was made yet",
            links=[links.board("Dependencies", SATURATION)],
        ),
    )


def model_errors() -> model.Panel:
    """Share of failed model calls."""
    whole = total(rate("model_requests_total"), "model")
    failed = total(rate("model_requests_total", 'status!="success"'), "model")
    return lines(
        "Failed calls of models",
        "Share of the calls of each model that failed, timed out or were refused for their rate.",
        [Query(share(failed, whole), "{{model}}")],
        Look(
            units.PercentUnit,
            12,
            7,
            thresholds={0.05: "orange", 0.25: "red"},
            links=[links.board("Models", MODEL), *links.FAILURES],
        ),
    )
