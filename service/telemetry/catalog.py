"""DATA only: every metric, label, bucket, span and log key of the service.

Dashboards, rules, alerts and `docs/telemetry.md` are made from this module, so they can only use names defined here.
Closed label sets come from the domain's own `Literal` types: a new status or reason appears here as soon as it exists.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import cast, get_args, get_type_hints

from msgspec import Struct

from service.extractions.own_faults import OWN_FAULTS
from service.features.errors import FeatureAgentError
from service.features.events import (
    AuthenticationFailed,
    BreakerChanged,
    BudgetChecked,
    BudgetWarned,
    CacheLooked,
    ConnectionRefusal,
    EngineProcessKilled,
    EngineTurnTaken,
    JobAttempted,
    ModelCalled,
    ModelRetried,
    OutputRetried,
    PlanningAdmitted,
    QuotaRefused,
    RateLimitDecided,
    RequestOverShare,
    WebhookAttempted,
)
from service.features.model import RejectionReason, Threshold
from service.telemetry.catalog_client import CLIENT_METRICS, GC_METRICS
from service.telemetry.catalog_model import Across, DynamicSet, Label, Metric, MetricKind, Span
from service.telemetry.catalog_signals import (
    EXEMPLAR,
    KEPT_BY_ID,
    LOG_ACCESS,
    LOG_CORRELATION,
    LOG_EXCEPTION,
    LOG_FIELDS,
    LOG_IDENTITY,
    SPANS,
)

__all__ = [
    "CLIENT_METRICS",
    "EXEMPLAR",
    "GC_METRICS",
    "KEPT_BY_ID",
    "LOG_ACCESS",
    "LOG_CORRELATION",
    "LOG_EXCEPTION",
    "LOG_FIELDS",
    "LOG_IDENTITY",
    "METRICS",
    "SPANS",
    "Across",
    "DynamicSet",
    "Label",
    "Metric",
    "MetricKind",
    "Span",
]


def _literal(struct: type[Struct], field: str) -> tuple[str, ...]:
    return cast("tuple[str, ...]", get_args(get_type_hints(struct)[field]))


def error_codes(root: type[FeatureAgentError] = FeatureAgentError, *, own: bool) -> tuple[str, ...]:
    """Return the error codes that are the service's own fault, or the ones that are not."""
    codes = {root.code} if (root.category in OWN_FAULTS) == own else set[str]()
    for child in root.__subclasses__():
        codes.update(error_codes(child, own=own))
    return tuple(sorted(codes))


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
CLIENT_CLOSED_REQUEST = 499
"""The client disconnected before an answer was started. The number is nginx's; no RFC defines one."""
STATUSES = tuple(sorted({str(status.value) for status in HTTPStatus} | {str(CLIENT_CLOSED_REQUEST)}))
_REFUSALS = ("401", "403", "404", "422", "429", "500", "503")
INITIAL_STATUSES: dict[str, tuple[str, ...]] = {
    "GET": ("200", *_REFUSALS),
    "POST": ("200", "201", "202", *_REFUSALS, "507"),
    "PATCH": ("200", *_REFUSALS, "507"),
    "DELETE": ("200", "204", *_REFUSALS),
}
"""Statuses that a known route may answer by contract: these series exist at 0 from the start.

All methods x routes x statuses would be thousands of series that never change. With at least one success and one 5xx
series for each route, an error ratio is 0/0 before traffic and 0 after it, never "No data", and a first failure is an
increase from 0, which `rate` detects. Other methods start with the refusals alone.
"""
INITIAL_OTHER_STATUSES = _REFUSALS
UNMATCHED = "unmatched"
OTHER_METHOD = "_OTHER"

BREAKER_STATES: dict[str, int] = {"closed": 0, "half_open": 1, "open": 2}
"""Values of model_breaker_state."""
EXTRACTION_STATUSES = ("completed", "failed", "rejected", "cancelled")
"""`failed` is the service's own fault and counts against extraction-success. `rejected` is a fault of the request or
its dataset (invalid, impossible, quality too low) that the client can correct."""
QUEUE_STATES = ("queued", "scheduled", "running")
DEPENDENCIES = ("database", "redis", "ai_model", "artifacts")

API_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0)
"""0.25 and 10.0 are the limits of api-latency-read and api-latency-extract; a waiting request may take 120 s."""
EXTRACTION_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
START_DELAY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""30.0 is the limit of extraction-freshness."""
MODEL_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
SCORE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
WEBHOOK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""The lag is a histogram, because a gauge that is read once for each scrape misses every stall in between."""
PAUSE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

_METHOD = Label("method", METHODS, fallback=OTHER_METHOD)
_ENDPOINT = Label("endpoint", dynamic="endpoints", fallback=UNMATCHED)
_MODEL = Label("model", dynamic="models")
_THRESHOLD = Label("quality_threshold", get_args(Threshold))

METRICS: tuple[Metric, ...] = (
    Metric(
        "api_requests_total",
        "counter",
        "requests",
        "HTTP requests by method, route template and the status that the client got.",
        (_METHOD, _ENDPOINT, Label("status", STATUSES)),
        zeros="routes",
    ),
    Metric(
        "api_request_duration_seconds",
        "histogram",
        "seconds",
        "Time from a request's first byte in the service to the last byte of its answer.",
        (_METHOD, _ENDPOINT),
        API_BUCKETS,
        exemplars=True,
        zeros="routes",
    ),
    Metric("api_requests_in_flight", "gauge", "requests", "HTTP requests being served now."),
    Metric(
        "connections_open",
        "gauge",
        "connections",
        "Connections of clients to the API's port, busy or idle.",
    ),
    Metric(
        "connections_limit",
        "gauge",
        "connections",
        "Connections that the API's port may have (MAX_CONNECTIONS, or less when there are too few file descriptors).",
    ),
    Metric(
        "connections_refused_total",
        "counter",
        "connections",
        "Connections that were refused or closed before or beside a request, by reason; evicted ones were idle.",
        (Label("reason", get_args(ConnectionRefusal)),),
    ),
    Metric(
        "feature_extractions_total",
        "counter",
        "extractions",
        "Extractions that ended: completed, failed (the service's fault), rejected (the request's), cancelled.",
        (Label("status", EXTRACTION_STATUSES), _THRESHOLD),
    ),
    Metric(
        "feature_extraction_duration_seconds",
        "histogram",
        "seconds",
        "Time from the start of an extraction's run to its end, whatever the end.",
        (_THRESHOLD,),
        EXTRACTION_BUCKETS,
        exemplars=True,
    ),
    Metric(
        "extraction_start_delay_seconds",
        "histogram",
        "seconds",
        "Time from an extraction's acceptance to the start of its first attempt.",
        buckets=START_DELAY_BUCKETS,
        exemplars=True,
    ),
    Metric("active_extractions", "gauge", "extractions", "Extractions being run by this process now."),
    Metric(
        "model_requests_total",
        "counter",
        "requests",
        "Requests to a model by outcome.",
        (_MODEL, Label("status", _literal(ModelCalled, "status"))),
    ),
    Metric(
        "model_request_duration_seconds",
        "histogram",
        "seconds",
        "Time that a model took to answer or fail.",
        (_MODEL,),
        MODEL_BUCKETS,
        exemplars=True,
    ),
    Metric(
        "model_tokens_total",
        "counter",
        "tokens",
        "Tokens sent to (input) and received from (output) a model.",
        (_MODEL, Label("type", ("input", "output"))),
    ),
    Metric(
        "model_cost_usd_total", "counter", "usd", "Cost of requests to a model, where its price is known.", (_MODEL,)
    ),
    Metric(
        "model_unpriced_requests_total",
        "counter",
        "requests",
        "Answered requests to a model whose price is not known: model_cost_usd_total lacks them.",
        (_MODEL,),
    ),
    Metric(
        "model_retries_total",
        "counter",
        "retries",
        "Failed requests to a model that were repeated, by reason.",
        (_MODEL, Label("reason", _literal(ModelRetried, "reason"))),
    ),
    Metric(
        "model_fallbacks_total",
        "counter",
        "requests",
        "Requests that this model could not plan and the next one took over.",
        (_MODEL,),
    ),
    Metric(
        "model_breaker_state",
        "gauge",
        "state",
        "State of a model's circuit breaker as this process last saw it: 0 closed, 1 half-open, 2 open.",
        (_MODEL,),
        across="max",
    ),
    Metric(
        "model_breaker_transitions_total",
        "counter",
        "transitions",
        "Changes of a model's circuit breaker that this process saw, by the new state.",
        (_MODEL, Label("state", _literal(BreakerChanged, "state"))),
    ),
    Metric(
        "planning_admissions_total",
        "counter",
        "requests",
        "Requests for a place for planning: admitted, queued first, refused at once, or expired in the queue.",
        (Label("decision", _literal(PlanningAdmitted, "decision")),),
    ),
    Metric(
        "planning_requests",
        "gauge",
        "requests",
        "Requests of this process that are being planned, or wait for a place, now.",
        (Label("state", ("running", "waiting")),),
    ),
    Metric(
        "cache_requests_total",
        "counter",
        "requests",
        "Look-ups in a cache by level; joined ones shared the answer of an equal request under way.",
        (
            Label("cache", _literal(CacheLooked, "cache")),
            Label("level", _literal(CacheLooked, "level")),
            Label("result", _literal(CacheLooked, "result")),
        ),
    ),
    Metric(
        "budget_decisions_total",
        "counter",
        "requests",
        "Checks of a principal's budget before planning; unchecked means that the database was unreachable.",
        (Label("decision", _literal(BudgetChecked, "decision")),),
    ),
    Metric(
        "budget_warnings_total",
        "counter",
        "warnings",
        "Times that a principal's spending crossed this percentage of its day's budget.",
        (Label("unit", _literal(BudgetWarned, "unit")), Label("level", _literal(BudgetWarned, "level"))),
    ),
    Metric(
        "agent_output_retries_total",
        "counter",
        "retries",
        "Proposed plans that were sent back to the model, by fault.",
        (Label("reason", _literal(OutputRetried, "reason")),),
    ),
    Metric(
        "extraction_queue_jobs",
        "gauge",
        "jobs",
        "Jobs of the whole queue, the same from each process: queued (could run now), scheduled for later, running.",
        (Label("state", QUEUE_STATES),),
        across="max",
    ),
    Metric(
        "extraction_queue_oldest_seconds",
        "gauge",
        "seconds",
        "How long the oldest job that could run has waited, the same from each process; 0 when none waits.",
        across="max",
    ),
    Metric(
        "job_attempts_total",
        "counter",
        "attempts",
        "Attempts at extractions by what became of them, as this process saw it; crashed: with worker or database.",
        (Label("outcome", _literal(JobAttempted, "outcome")),),
    ),
    Metric(
        "webhook_deliveries_total",
        "counter",
        "deliveries",
        "Tries to deliver a webhook by what became of it: delivered, retried later, failed for good.",
        (Label("outcome", _literal(WebhookAttempted, "outcome")),),
    ),
    Metric(
        "webhook_delivery_duration_seconds",
        "histogram",
        "seconds",
        "Time that one try to deliver a webhook took, whatever became of it.",
        buckets=WEBHOOK_BUCKETS,
        exemplars=True,
    ),
    Metric(
        "extraction_workers",
        "gauge",
        "workers",
        "Lanes of the queue that live workers serve, some for each working process; the same from each process.",
        across="max",
    ),
    Metric(
        "extraction_crashes",
        "gauge",
        "attempts",
        "Attempts that ended with their worker since the database was made, counted there; the same from each process.",
        across="max",
    ),
    Metric(
        "extraction_dead_letters_total",
        "counter",
        "extractions",
        "Extractions given up for the service's own fault, by error code; worker_lost ended every worker that ran it.",
        (Label("code", error_codes(own=True)),),
    ),
    Metric(
        "engine_processes",
        "gauge",
        "processes",
        "Engine processes of this process: at work, kept for the next request, or killed without ending (lost).",
        (Label("state", ("busy", "idle", "lost")),),
    ),
    Metric(
        "engine_processes_killed_total",
        "counter",
        "processes",
        "Engine processes that were killed over a request (deadline, cancelled) or ended by themselves (crashed).",
        (Label("reason", _literal(EngineProcessKilled, "reason")),),
    ),
    Metric(
        "engine_turn_wait_seconds",
        "histogram",
        "seconds",
        "Time that a request waited for a place of the engine, by the size of its work.",
        (Label("lane", _literal(EngineTurnTaken, "lane")),),
        START_DELAY_BUCKETS,
    ),
    Metric(
        "feature_quality_score",
        "histogram",
        "ratio",
        "Quality scores of computed features, 0 to 1.",
        buckets=SCORE_BUCKETS,
    ),
    Metric(
        "features_rejected_total",
        "counter",
        "features",
        "Computed features that were not accepted, by reason.",
        (Label("reason", get_args(RejectionReason)),),
    ),
    Metric(
        "rate_limit_decisions_total",
        "counter",
        "requests",
        "Answers of the rate limiter; degraded means that its store was unreachable and the request passed.",
        (Label("decision", _literal(RateLimitDecided, "decision")),),
    ),
    Metric(
        "auth_failures_total",
        "counter",
        "requests",
        "Requests refused for their credentials, by reason.",
        (Label("reason", _literal(AuthenticationFailed, "reason")),),
    ),
    Metric(
        "quota_refusals_total",
        "counter",
        "requests",
        "Uploads and extractions that were refused because their principal keeps as much as it may, by quota.",
        (Label("quota", _literal(QuotaRefused, "quota")),),
    ),
    Metric(
        "stored_bytes",
        "gauge",
        "bytes",
        "Bytes that the datasets and feature tables of all principals take, the same from each process.",
        zeros="none",
        across="max",
    ),
    Metric(
        "authentication_throttled_total",
        "counter",
        "requests",
        "Requests refused before authentication, because too many credentials of their address were refused.",
    ),
    Metric(
        "requests_over_share_total",
        "counter",
        "requests",
        "Requests beyond what one principal may have open at once, by kind: refused, or for wait answered 202 at once.",
        (Label("kind", _literal(RequestOverShare, "kind")),),
    ),
    Metric(
        "dependency_up",
        "gauge",
        "boolean",
        "1 when the dependency answered its last check, else 0; no series before the first check.",
        (Label("dependency", DEPENDENCIES),),
        zeros="none",
        across="min",
    ),
    Metric(
        "db_pool_connections",
        "gauge",
        "connections",
        "Connections of the database pool by state.",
        (Label("state", ("in_use", "idle")),),
    ),
    Metric(
        "db_pool_connections_limit",
        "gauge",
        "connections",
        "Connections that the database pool may open.",
    ),
    Metric(
        "memory_limit_bytes",
        "gauge",
        "bytes",
        "Memory that the process may use: the least of its control groups' limits and the machine's.",
        across="max",
    ),
    Metric(
        "data_disk_free_bytes",
        "gauge",
        "bytes",
        "Bytes that the process may still write to the file system of DATA_DIR: artifacts, embedded database, scratch.",
        zeros="none",
        across="min",
    ),
    Metric(
        "data_disk_size_bytes",
        "gauge",
        "bytes",
        "Size of the file system of DATA_DIR.",
        zeros="none",
        across="max",
    ),
    Metric(
        "backup_last_success_timestamp_seconds",
        "gauge",
        "seconds",
        "When the last complete backup was made; 0 when there never was one. The same from each process.",
        zeros="none",
        across="max",
    ),
    Metric(
        "event_loop_lag_seconds",
        "histogram",
        "seconds",
        "How much later than asked the event loop woke a sleeping task.",
        buckets=LAG_BUCKETS,
    ),
    Metric(
        "gc_pause_seconds",
        "histogram",
        "seconds",
        "Time for which the garbage collector stopped everything, by generation.",
        (Label("generation", ("0", "1", "2")),),
        PAUSE_BUCKETS,
        exemplars=True,
    ),
    Metric(
        "telemetry_spans_dropped_total",
        "counter",
        "spans",
        "Finished spans that never reached the collector: the queue was full, an export failed, or the process ended.",
    ),
    Metric(
        "application_info",
        "info",
        "",
        "The running build: always 1.",
        (Label("version"), Label("environment")),
        zeros="none",
    ),
)
