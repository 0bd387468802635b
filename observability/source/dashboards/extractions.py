"""Extractions: what becomes of what users ask for, how good it is, how long it takes, and what waits."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.board import Board, Row, textbox
from observability.source.dashboards.logs_and_traces import of_extraction
from observability.source.dashboards.names import EXTRACTIONS, MODEL
from observability.source.dashboards.panels import Look, Query, bars, lines, number, percentiles, spread
from observability.source.dashboards.promql import counted, over_range, per_minute, quantile, rate, series, share, total
from observability.source.dashboards.queue import oldest, waiting

ENDED = "feature_extractions_total"
DURATION = "feature_extraction_duration_seconds"
SCORE = "feature_quality_score"
CALL = ('method="POST"', 'endpoint="/api/v1/extract-features"')
OUTCOMES = {"completed": "green", "rejected": "orange", "failed": "red", "cancelled": "blue"}
FAILED = (
    links.logs("Log lines of failed extractions", "| json | message = `extraction finished` | status = `failed`"),
    links.traces("Traces with errors", service=links.WORKER, tags="error=true"),
)
ONE_TRACE = (links.traces("Traces of extractions", operation="job extract_features"),)
WEBHOOKS = (links.logs("Log lines of webhooks", "|~ `(?i)webhook`"), *ONE_TRACE)


def board() -> Board:
    """The board."""
    return Board(
        EXTRACTIONS,
        "Extractions",
        "From the request to the features: how many get through, how good they are, how long it takes, what waits.",
        [
            Row("Funnel", [funnel(), features(), success(), outcomes(), by_threshold()]),
            Row("Duration", [durations(), delays(), by_quality()]),
            Row("Quality", [scores(), quality(), rejections()]),
            Row("Queue", [waiting(8), oldest(8), running()]),
            Row("Jobs and planning", [workers(), attempts(), given_up(), planning(), admissions()]),
            Row("Webhooks", [deliveries(), delivery_time()]),
            of_extraction(),
        ],
        [textbox("extraction", "Extraction (id)")],
    )


def funnel() -> model.Panel:
    """How many requests get how far."""
    done = over_range(ENDED, 'status="completed"')
    return bars(
        "Funnel of requests",
        "How far requests got in the time range: asked for, accepted (200 or 202), planned, completed. Equal requests "
        "answered from the plan cache, and repeated ones, make the steps differ.",
        [
            Query(total(over_range("api_requests_total", *CALL)), "Asked"),
            Query(total(over_range("api_requests_total", *CALL, 'status=~"20[02]"')), "Accepted"),
            Query(total(over_range("planning_admissions_total", 'decision="admitted"')), "Planned"),
            Query(total(done), "Completed"),
        ],
        Look(units.Short, 6, 9, decimals=0, links=ONE_TRACE),
    )


def features() -> model.Panel:
    """How many features get how far."""
    scored = total(over_range(f"{SCORE}_count"))
    return bars(
        "Features",
        "Features of the completed requests in the time range: computed, and delivered, which leaves out those that "
        "were rejected.",
        [
            Query(scored, "Computed"),
            Query(f"{scored} - {total(over_range('features_rejected_total'))}", "Delivered"),
        ],
        Look(units.Short, 4, 9, decimals=0, links=ONE_TRACE),
    )


def success() -> model.Panel:
    """Share that did not fail for our fault."""
    bad = total(rate(ENDED, 'status="failed"'))
    return number(
        "Not failed by us",
        "Share of ended extractions that did not fail for the service's own fault. The objective is 99 %. What the "
        "request or its data made impossible (rejected) is not ours.",
        [Query(f"1 - {share(bad, total(rate(ENDED)))}", "not failed")],
        Look(
            units.PercentUnit,
            4,
            9,
            thresholds={0.95: "orange", 0.99: "green"},
            base="red",
            maximum=1,
            links=FAILED,
            empty="No extraction ended just now",
        ),
    )


def outcomes() -> model.Panel:
    """Ends a second, by outcome."""
    return lines(
        "Outcomes",
        "Extractions that ended, a minute: completed; failed by our fault; rejected for the request or its data; "
        "cancelled by the caller.",
        [Query(counted(ENDED, by=("status",)), "{{status}}")],
        Look(units.OpsPerMinute, 5, 9, stacked=True, colours=OUTCOMES, links=FAILED),
    )


def by_threshold() -> model.Panel:
    """Share completed, by the quality asked for."""
    done = total(rate(ENDED, 'status="completed"'), "quality_threshold")
    return lines(
        "Completed by quality",
        "Share of ended extractions that completed, by the threshold that the request set. A high one that fails more "
        "often is doing its work.",
        [Query(share(done, total(rate(ENDED), "quality_threshold")), "{{quality_threshold}}")],
        Look(units.PercentUnit, 5, 9, maximum=1, links=FAILED),
    )


def durations() -> model.Panel:
    """Time of a run."""
    return lines(
        "Duration of a run",
        "Time from the start of an extraction's run to its end, waiting in the queue not included. Each dot is an "
        "extraction whose trace was kept.",
        percentiles(lambda q: quantile(q, DURATION), 0.5, 0.95, 0.99),
        Look(units.Seconds, thresholds={60: "orange"}, links=ONE_TRACE),
    )


def delays() -> model.Panel:
    """Time before the start."""
    return lines(
        "Wait for the start",
        "Time from an extraction's acceptance to the start of its first attempt. The freshness objective allows 30 s.",
        percentiles(lambda q: quantile(q, "extraction_start_delay_seconds"), 0.5, 0.95, 0.99),
        Look(units.Seconds, thresholds={30: "red"}, links=ONE_TRACE),
    )


def by_quality() -> model.Panel:
    """Time of a run, by the quality asked for."""
    return lines(
        "Duration by quality asked for, p95",
        "95 of 100 runs ended faster, by the threshold that the request set.",
        [Query(quantile(0.95, DURATION, by=("quality_threshold",)), "{{quality_threshold}}", exemplars=True)],
        Look(units.Seconds, links=ONE_TRACE),
    )


def scores() -> model.Panel:
    """How quality scores are spread."""
    return spread(
        "Spread of quality scores",
        "How many features a minute got which score (1 is best), before those below the threshold were left out.",
        Query(total(per_minute(f"{SCORE}_bucket"), "le"), "{{le}}"),
        Look(units.PercentUnit, links=ONE_TRACE),
        counted=units.CountsPerMinute,
    )


def quality() -> model.Panel:
    """Median score and share delivered."""
    rejected = share(total(rate("features_rejected_total")), total(rate(f"{SCORE}_count")))
    return lines(
        "Quality",
        "Median score of the computed features, the score that nine of ten reach, and the share of them that was "
        "delivered.",
        [
            Query(quantile(0.5, SCORE), "median score"),
            Query(quantile(0.1, SCORE), "nine of ten reach"),
            Query(f"1 - {rejected}", "share delivered"),
        ],
        Look(units.PercentUnit, maximum=1, links=ONE_TRACE),
    )


def rejections() -> model.Panel:
    """Why features were left out."""
    return lines(
        "Features left out",
        "Computed features that were not delivered, a minute, by reason.",
        [Query(counted("features_rejected_total", by=("reason",)), "{{reason}}")],
        Look(units.CountsPerMinute, stacked=True, links=ONE_TRACE, empty="No feature was left out in this time range"),
    )


def running() -> model.Panel:
    """What runs now."""
    return lines(
        "Running extractions",
        "Extractions that each process runs. WORKER_CONCURRENCY is the most that one takes.",
        [Query(total(series("active_extractions"), "job", "instance"), "{{instance}} {{job}}")],
        Look(units.Short, links=ONE_TRACE),
    )


def workers() -> model.Panel:
    """Workers that live."""
    return lines(
        "Workers",
        "Lanes of the whole queue that live workers serve, some for each working process: without one nothing is "
        "computed.",
        [Query(f"max({series('extraction_workers')})", "lanes")],
        Look(
            units.Short,
            thresholds={1: "green"},
            base="red",
            links=[links.logs("Log lines of workers", "| json | logger = `service.worker`")],
        ),
    )


def given_up() -> model.Panel:
    """Extractions given up."""
    return lines(
        "Given up",
        "Extractions a minute that were given up for the service's own fault, by error code. Each can be tried again "
        "with `feature-agent jobs retry ID`.",
        [Query(counted("extraction_dead_letters_total", by=("code",)), "{{code}}")],
        Look(units.OpsPerMinute, stacked=True, links=FAILED, empty="No extraction was given up in this time range"),
    )


def attempts() -> model.Panel:
    """What became of attempts."""
    return lines(
        "Attempts",
        "Attempts at extractions a minute by what became of them. Retried and handed back ones come again; crashed "
        "ones were taken over from a worker that died; the database counts them too, as who finds one may die next.",
        [
            Query(counted("job_attempts_total", by=("outcome",)), "{{outcome}}"),
            Query(f"60 * max(rate({series('extraction_crashes')}[$__rate_interval]))", "crashed, by the database"),
        ],
        Look(
            units.OpsPerMinute,
            stacked=True,
            colours={"completed": "green", "failed|crashed": "red"},
            links=[links.logs("Log lines of jobs", "| json | logger =~ `service.jobs.*`"), *ONE_TRACE],
        ),
    )


def planning() -> model.Panel:
    """What is being planned."""
    return lines(
        "Planning now",
        "Requests that are being planned, or wait for a place, over all processes. MODEL_CONCURRENCY and MODEL_QUEUE "
        "bound them for each process.",
        [Query(total(series("planning_requests"), "state"), "{{state}}")],
        Look(units.Short, 12, stacked=True, links=[links.board("Models", MODEL)]),
    )


def admissions() -> model.Panel:
    """Who got a place for planning."""
    return lines(
        "Places for planning",
        "Requests a minute that were admitted at once, queued first, refused because the queue was full (503), or "
        "expired in it.",
        [Query(counted("planning_admissions_total", by=("decision",)), "{{decision}}")],
        Look(
            units.RequestsPerMinute,
            12,
            stacked=True,
            colours={"admitted": "green", "refused|expired": "red"},
            links=[links.board("Models", MODEL), *links.FAILURES],
        ),
    )


def deliveries() -> model.Panel:
    """What became of webhooks."""
    return lines(
        "Webhooks",
        "Tries to deliver a webhook a minute: delivered, to be tried again later, failed for good.",
        [Query(counted("webhook_deliveries_total", by=("outcome",)), "{{outcome}}")],
        Look(
            units.OpsPerMinute,
            12,
            stacked=True,
            colours={"delivered": "green", "retried": "orange", "failed": "red"},
            links=WEBHOOKS,
        ),
    )


def delivery_time() -> model.Panel:
    """How long receivers take."""
    return lines(
        "Time to deliver a webhook",
        "How long one try took, whatever became of it: the receiver's time, for the most part.",
        percentiles(lambda q: quantile(q, "webhook_delivery_duration_seconds"), 0.5, 0.95),
        Look(units.Seconds, 12, thresholds={15: "red"}, links=WEBHOOKS),
    )
