from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from service.features.context import RequestContext
from service.features.model import RejectionReason, Stage, Threshold
from service.telemetry import catalog
from service.telemetry.catalog import METRICS, Metric

CONTRACT = {
    "api_requests_total": ("method", "endpoint", "status"),
    "api_request_duration_seconds": ("method", "endpoint"),
    "api_requests_in_flight": (),
    "feature_extractions_total": ("status", "quality_threshold"),
    "feature_extraction_duration_seconds": ("quality_threshold",),
    "extraction_start_delay_seconds": (),
    "active_extractions": (),
    "model_requests_total": ("model", "status"),
    "model_request_duration_seconds": ("model",),
    "model_tokens_total": ("model", "type"),
    "model_cost_usd_total": ("model",),
    "model_unpriced_requests_total": ("model",),
    "model_retries_total": ("model", "reason"),
    "model_fallbacks_total": ("model",),
    "model_breaker_state": ("model",),
    "model_breaker_transitions_total": ("model", "state"),
    "planning_admissions_total": ("decision",),
    "planning_requests": ("state",),
    "cache_requests_total": ("cache", "level", "result"),
    "budget_decisions_total": ("decision",),
    "budget_warnings_total": ("unit", "level"),
    "agent_output_retries_total": ("reason",),
    "extraction_queue_jobs": ("state",),
    "extraction_queue_oldest_seconds": (),
    "job_attempts_total": ("outcome",),
    "webhook_deliveries_total": ("outcome",),
    "webhook_delivery_duration_seconds": (),
    "extraction_workers": (),
    "extraction_crashes": (),
    "extraction_dead_letters_total": ("code",),
    "engine_processes": ("state",),
    "engine_processes_killed_total": ("reason",),
    "engine_turn_wait_seconds": ("lane",),
    "feature_quality_score": (),
    "features_rejected_total": ("reason",),
    "rate_limit_decisions_total": ("decision",),
    "auth_failures_total": ("reason",),
    "connections_open": (),
    "connections_limit": (),
    "connections_refused_total": ("reason",),
    "quota_refusals_total": ("quota",),
    "stored_bytes": (),
    "authentication_throttled_total": (),
    "requests_over_share_total": ("kind",),
    "dependency_up": ("dependency",),
    "db_pool_connections": ("state",),
    "db_pool_connections_limit": (),
    "memory_limit_bytes": (),
    "data_disk_free_bytes": (),
    "data_disk_size_bytes": (),
    "backup_last_success_timestamp_seconds": (),
    "event_loop_lag_seconds": (),
    "gc_pause_seconds": ("generation",),
    "telemetry_spans_dropped_total": (),
    "application_info": ("version", "environment"),
}


def named(name: str) -> Metric:
    """The catalog's metric of that name."""
    return next(metric for metric in METRICS if metric.name == name)


def test_names_and_labels_are_the_contract() -> None:
    """The catalog holds exactly the metrics that dashboards and alerts were promised, with their labels in order."""
    assert {metric.name: tuple(label.name for label in metric.labels) for metric in METRICS} == CONTRACT
    assert len(METRICS) == len(CONTRACT)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_each_metric_follows_the_naming_rules(metric: Metric) -> None:
    """A counter ends in _total and nothing else does, a name ends in its base unit, and each metric is explained."""
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert (metric.kind == "info") == metric.name.endswith("_info")
    assert metric.help.endswith(".")
    if metric.unit == "seconds":
        assert metric.name.endswith("_seconds")


@pytest.mark.parametrize("metric", [m for m in METRICS if m.kind != "info"], ids=lambda metric: metric.name)
def test_each_label_has_a_closed_set_of_values(metric: Metric) -> None:
    """No label is open: its values are listed, or belong to a set that the application names at start."""
    for label in metric.labels:
        assert (len(label.values) > 0) != (label.dynamic is not None)
        assert len(set(label.values)) == len(label.values)
        assert all(isinstance(value, str) and value for value in label.values)


@pytest.mark.parametrize("metric", [m for m in METRICS if m.kind == "histogram"], ids=lambda metric: metric.name)
def test_buckets_are_sorted_floats(metric: Metric) -> None:
    """Bounds are written as floats, so that `le` reads the same in both exposition formats."""
    assert all(type(bound) is float for bound in metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_buckets_hold_the_bounds_of_the_objectives() -> None:
    """The latency objectives are exact bucket bounds, and the ranges reach as far as requests and extractions may."""
    assert {0.25, 10.0} <= set(named("api_request_duration_seconds").buckets)
    assert named("api_request_duration_seconds").buckets[-1] == 120.0
    extraction = named("feature_extraction_duration_seconds").buckets
    assert (extraction[0], extraction[-1]) == (0.1, 600.0)
    assert named("feature_quality_score").buckets[-1] == 1.0


def test_exemplars_are_on_every_duration() -> None:
    """Each histogram of seconds has exemplars, except two.

    The loop's lag is measured outside of requests; a wait for the engine lies within a span of its own stage or upload.
    """
    durations = {metric.name for metric in METRICS if metric.kind == "histogram" and metric.unit == "seconds"}
    without = {"event_loop_lag_seconds", "engine_turn_wait_seconds"}
    assert {metric.name for metric in METRICS if metric.exemplars} == durations - without


def test_closed_sets_come_from_the_domain() -> None:
    """A new threshold, rejection reason or stage of the domain is in the catalog by itself."""
    assert named("feature_extractions_total").labels[1].values == get_args(Threshold)
    assert named("features_rejected_total").labels[0].values == get_args(RejectionReason)
    names = {span.name for span in catalog.SPANS}
    assert {f"extraction.{stage}" for stage in get_args(Stage)} < names
    assert "timeout" in named("model_requests_total").labels[1].values
    assert "leakage" in named("agent_output_retries_total").labels[0].values


def test_statuses_cover_http_and_the_client_that_left() -> None:
    """Every status that a server may answer is known, 499 included; initial statuses are among them."""
    assert {"200", "201", "202", "204", "404", "405", "422", "429", "499", "500", "503", "504"} <= set(catalog.STATUSES)
    initial = {status for statuses in catalog.INITIAL_STATUSES.values() for status in statuses}
    assert initial | set(catalog.INITIAL_OTHER_STATUSES) <= set(catalog.STATUSES)
    assert all("500" in statuses for statuses in catalog.INITIAL_STATUSES.values())


def test_log_keys_are_distinct_and_carry_the_ids_of_the_request_context() -> None:
    """Log keys do not collide, and the correlation keys are the fields of the request context and the span's id."""
    keys = (*catalog.LOG_IDENTITY, *catalog.LOG_CORRELATION, *catalog.LOG_ACCESS, catalog.LOG_EXCEPTION)
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z_]+", key) for key in keys)
    assert set(catalog.LOG_CORRELATION) - {"span_id"} == set(RequestContext.__struct_fields__) - {"started", "enqueued"}


SERVICE = Path(catalog.__file__).parents[1]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log", "bind"}


def logged_fields() -> Iterator[tuple[str, str]]:
    """Where code writes a log line, and each field that it names there."""
    for path in SERVICE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
                continue
            if "log" in ast.unparse(node.func.value).lower():
                yield from ((f"{path.name}:{node.lineno}", keyword.arg or "") for keyword in node.keywords)


def test_log_fields_are_the_catalogs() -> None:
    """Every field that code gives a log line is in the catalog, and every field of the catalog is given by code."""
    found = [(where, name) for where, name in logged_fields() if name not in {"", "exc_info"}]
    assert [(where, name) for where, name in found if name not in catalog.LOG_FIELDS] == []
    by_mapping = {"failure_code", "http_status"}
    assert {name for _, name in found} | by_mapping >= set(catalog.LOG_FIELDS)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in catalog.LOG_FIELDS)
