"""Service overview, the home board: are users served, and if not, where to look."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.board import Board, Row, variable
from observability.source.dashboards.is_it_up import UNKNOWN_UP, is_it_up, versions
from observability.source.dashboards.logs_and_traces import of_route
from observability.source.dashboards.names import MODEL, OVERVIEW, SATURATION
from observability.source.dashboards.objectives import alerts_firing, budget_left, burning
from observability.source.dashboards.outside import outside
from observability.source.dashboards.panels import (
    NO_DATA_FOR,
    Column,
    Look,
    Query,
    lines,
    number,
    percentiles,
    rows,
    spread,
    states,
)
from observability.source.dashboards.process import cpu, event_loop, memory, pool
from observability.source.dashboards.promql import (
    counted,
    per_minute,
    quantile,
    rate,
    series,
    share,
    total,
    unseen,
    while_answering,
)
from observability.source.dashboards.queue import oldest, waiting

REQUESTS = "api_requests_total"
DURATION = "api_request_duration_seconds"
KNOWN = 'endpoint!~"unmatched|/health.*|/metrics"'
"""What people ask for: no probes, no scrapes, no addresses that do not exist."""
EXTRACT = "/api/v1/extract-features"
FAILED = 'status=~"5..",status!="507"'
"""Failures of the service: a 507 says that the caller keeps as much as it may."""
CLASSES = {"2xx": "green", "3xx": "blue", "4xx": "orange", "5xx": "red"}


def board() -> Board:
    """The board."""
    return Board(
        OVERVIEW,
        "Service overview",
        "Objectives, requests, dependencies, queue and saturation of feature-agent, in reading order.",
        [
            Row("Is it up", [*is_it_up(), alerts_firing(16), versions()]),
            Row("Objectives", [budget_left(12), burning(12)]),
            Row("Requests", [*headline(), by_status(), errors(), durations(), routes(), heatmap(), refusals()]),
            Row("Dependencies", [dependencies(), model_errors()]),
            Row("Queue", [waiting(12), oldest(12)]),
            Row("Saturation", [cpu(6), memory(6), event_loop(6), pool(6)]),
            Row("Seen from outside", outside()),
            of_route(),
        ],
        [variable("route", "Route", 'label_values(api_requests_total{job=~"$job"}, endpoint)', first=EXTRACT)],
    )


def _now(expression: str, name: str) -> list[Query]:
    """A number while the API answers, and after that the age of what there was."""
    return [Query(while_answering(expression), name), Query(unseen("feature-agent"), NO_DATA_FOR)]


def headline() -> list[model.Panel]:
    """Rate, errors, duration and load as four numbers."""
    whole = total(rate(REQUESTS, KNOWN))
    failed = total(rate(REQUESTS, KNOWN, FAILED))
    extract = ('method="POST"', 'endpoint="/api/v1/extract-features"')
    return [
        number(
            "Requests",
            "Requests a minute to the API's own routes; probes, scrapes and unknown addresses are not counted.",
            _now(total(per_minute(REQUESTS, KNOWN)), "requests"),
            Look(
                units.RequestsPerMinute,
                6,
                4,
                links=[links.logs("Access log", "| json | endpoint != ``")],
                empty="Not known: nothing was counted yet",
            ),
        ),
        number(
            "Answered 5xx",
            "Share of those requests that were answered with a server error, without 507 (a quota). The availability "
            "objective allows 0.5 %.",
            _now(share(failed, whole), "5xx"),
            Look(
                units.PercentUnit,
                6,
                4,
                thresholds={0.005: "orange", 0.05: "red"},
                links=links.FAILURES,
                empty="No requests",
            ),
        ),
        number(
            "Duration of an extraction request, p95",
            "95 of 100 calls of POST /extract-features were answered faster. The objective is 10 s.",
            _now(quantile(0.95, DURATION, *extract), "p95"),
            Look(
                units.Seconds,
                6,
                4,
                thresholds={5: "orange", 10: "red"},
                links=links.SLOW,
                empty="No extraction requests",
            ),
        ),
        number(
            "In flight",
            "Requests being served at this moment, waiting extraction calls and event streams among them.",
            _now(total(series("api_requests_in_flight")), "in flight"),
            Look(units.Short, 6, 4, links=[links.board("What limits it", SATURATION)], empty=UNKNOWN_UP),
        ),
    ]


def by_status() -> model.Panel:
    """Requests by class of status."""
    grouped = f'label_replace({per_minute(REQUESTS, KNOWN)}, "class", "${{1}}xx", "status", "(.)..")'
    return lines(
        "Requests by status",
        "Requests a minute by the class of their status. A 4xx is the caller's to correct, a 5xx is ours.",
        [Query(f"sum by (class) ({grouped})", "{{class}}")],
        Look(
            units.RequestsPerMinute,
            stacked=True,
            colours=CLASSES,
            links=[links.logs("Access log", "| json | endpoint != ``"), links.traces("Traces")],
        ),
    )


def errors() -> model.Panel:
    """Error ratio by route."""
    by = ("method", "endpoint")
    failed = total(rate(REQUESTS, KNOWN, FAILED), *by)
    whole = total(rate(REQUESTS, KNOWN), *by)
    any_failed = counted(REQUESTS, KNOWN, FAILED, by=by)
    return lines(
        "5xx by route",
        "Share of a route's requests that were answered with a server error, for the routes that had one in the time "
        "range. None is how it should be.",
        [Query(f"{share(failed, whole)} and {any_failed}", "{{method}} {{endpoint}}")],
        Look(
            units.PercentUnit,
            thresholds={0.005: "orange", 0.05: "red"},
            links=links.FAILURES,
            empty="No 5xx was counted in this time range",
        ),
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
    failed = total(rate(REQUESTS, KNOWN, FAILED), *by)
    found = [
        links.logs("Log lines of this route", "| json | endpoint = `${__data.fields.Route}`"),
        links.traces("Traces of this route", operation="${__data.fields.Method} ${__data.fields.Route}"),
    ]
    failing = {0.005: "orange", 0.05: "red"}
    return rows(
        "Routes",
        "What each route that is in use does now: requests a minute, share answered 5xx, and the duration that 95 of "
        "100 stay below.",
        [
            Column("Method", label="method", width=80),
            Column("Route", label="endpoint", links=found),
            Column("A minute", f"60 * ({whole} > 0)", unit=units.Short, width=90),
            Column("5xx", share(failed, whole), unit=units.PercentUnit, thresholds=failing, width=70),
            Column("p95", quantile(0.95, DURATION, KNOWN, by=by), unit=units.Seconds, thresholds={10: "red"}, width=90),
        ],
        Look(width=12, height=10, empty="No route was asked for, or the API does not answer"),
        highest="A minute",
    )


def heatmap() -> model.Panel:
    """How durations are spread."""
    return spread(
        "Spread of durations",
        "How many requests a minute took how long: two bands are two kinds of requests, which no quantile shows.",
        Query(total(per_minute(f"{DURATION}_bucket", KNOWN), "le"), "{{le}}", exemplars=True),
        Look(units.Seconds, 12, 10, links=links.SLOW),
        counted=units.RequestsPerMinute,
    )


def refusals() -> model.Panel:
    """Requests that were turned away on purpose."""
    return lines(
        "Turned away",
        "Requests a minute refused for their credentials, by reason, or unread for those of their address; over their "
        "rate limit, or let through because its store was away (degraded); beyond a principal's share, by kind; or "
        "because the principal keeps as many datasets or bytes as it may.",
        [
            Query(counted("auth_failures_total", by=("reason",)), "credentials: {{reason}}"),
            Query(counted("authentication_throttled_total", by=()), "credentials: unread"),
            Query(counted("rate_limit_decisions_total", 'decision!="allowed"', by=("decision",)), "rate: {{decision}}"),
            Query(counted("quota_refusals_total", by=("quota",)), "quota: {{quota}}"),
            Query(counted("requests_over_share_total", by=("kind",)), "share: {{kind}}"),
        ],
        Look(
            units.RequestsPerMinute,
            24,
            8,
            empty="No request was turned away in this time range",
            links=[links.logs("Log lines of refusals", "| json | status =~ `401|403|429|507`")],
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
            units.Short,
            12,
            8,
            words={"1": ("up", "green"), "0": ("away", "red")},
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
            8,
            thresholds={0.05: "orange", 0.25: "red"},
            links=[links.board("Models", MODEL), *links.FAILURES],
        ),
    )
