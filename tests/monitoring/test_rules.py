from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from observability.source.links import filled
from observability.source.proofs.render import proofs
from observability.source.slo import load_objectives
from service.telemetry import catalog
from service.telemetry.metrics import Metrics
from tests.monitoring.boards import filled as filled_query
from tests.monitoring.boards import panels
from tests.monitoring.tools import ALERTS, OBSERVABILITY, RULES, alerts, groups, run, tool

OBJECTIVES = load_objectives(OBSERVABILITY / "slo.yaml")
PROOFS = proofs(OBJECTIVES)
TESTS = sorted((ALERTS / "tests").glob("*.test.yml"))
CLIENT = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"}
ELSEWHERE = {
    "up", "scrape_duration_seconds",
    "pg_up", "pg_stat_database_numbackends", "pg_settings_max_connections",
    "redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes", "redis_evicted_keys_total",
    "probe_ssl_earliest_cert_expiry", "probe_success", "probe_http_duration_seconds", "probe_http_status_code",
    "node_filesystem_avail_bytes", "node_filesystem_size_bytes",
    "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes",
    "pg_stat_activity_count", "pg_stat_activity_max_tx_duration", "pg_locks_count",
    "pg_stat_statements_seconds_total", "pg_stat_statements_calls_total", "pg_database_size_bytes",
    "prometheus_tsdb_storage_blocks_bytes",
    "container_memory_working_set_bytes", "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_periods_total", "container_cpu_usage_seconds_total",
    "kube_pod_container_resource_limits", "kube_pod_container_status_restarts_total",
    "kube_pod_container_status_last_terminated_reason", "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_available", "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_horizontalpodautoscaler_status_desired_replicas", "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_horizontalpodautoscaler_spec_min_replicas",
    "prometheus_rule_evaluation_failures_total", "prometheus_notifications_dropped_total",
    "prometheus_notifications_alertmanagers_discovered", "alertmanager_notifications_failed_total", "ALERTS",
}  # fmt: skip
"""Series of Prometheus, Alertmanager and the exporters (postgres_exporter, redis_exporter, blackbox_exporter,
node_exporter, the kubelet, cAdvisor, kube-state-metrics), by their real names."""
_WORDS = {
    "and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool", "time",
    "vector", "le", "inf",
}  # fmt: skip


def names_in(query: str) -> set[str]:
    """Names of metrics in a query: what stands where a selector may, outside braces and grouping lists."""
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", query)
    bare = re.sub(r'"[^"]*"', '""', bare)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    bare = re.sub(r"\[[^\]]*\]", " ", bare)
    return set(re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", bare)) - _WORDS


def known_names() -> set[str]:
    """Every series that the service, its rules and the exporters make."""
    own: set[str] = set()
    for metric in catalog.METRICS:
        suffixes = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        own |= {metric.name + suffix for suffix in suffixes}
    recorded = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}
    return own | recorded | CLIENT | ELSEWHERE


def test_names_are_found_in_queries() -> None:
    """The search for names sees through functions, grouping, matchers and ranges."""
    query = 'sum by (m) (rate(a_total{x="b_total"}[5m])) / on (y) group_left (z) c:d > 0 and max(e) == 2 or time() - f'
    assert names_in(query) == {"a_total", "c:d", "e", "f"}


@pytest.mark.parametrize("group", list(groups()), ids=lambda group: group["name"])
def test_rules_use_names_that_exist(group: dict[str, Any]) -> None:
    """No rule asks for a metric that is not in the catalog, recorded, or an exporter's."""
    known = known_names()
    for rule in group["rules"]:
        found = names_in(rule["expr"])
        assert found <= known, (rule.get("alert") or rule["record"], found - known)
        assert found or rule["expr"].startswith("vector("), rule


def test_rules_are_valid() -> None:
    """Promtool accepts every rule file, and finds nothing to complain of."""
    run(tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.skipif(not (OBSERVABILITY / "prometheus/prometheus.yml").exists(), reason="no prometheus.yml")
def test_prometheus_configuration_is_valid() -> None:
    """Promtool accepts the configuration, and the rule files that it names are there."""
    told = run(tool("promtool"), "check", "config", OBSERVABILITY / "prometheus/prometheus.yml")
    assert f"{len(RULES)} rule files found" in told


def _slow_as_proof(path: Path) -> Any:
    """Objectives are proven over days of samples, which takes promtool some 15 s each."""
    name = path.name.removesuffix(".test.yml")
    return pytest.param(path, id=name, marks=[pytest.mark.proof] if name.startswith("slo-") else [])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", [_slow_as_proof(path) for path in TESTS])
def test_every_alert_is_proven(path: Path) -> None:
    """Each alert fires when it has to, is silent just below, and clears: promtool evaluates the rules over samples."""
    assert "SUCCESS" in run(tool("promtool"), "test", "rules", path)


def test_every_alert_has_its_proofs() -> None:
    """For each alerting rule there are samples that fire it and clear it, and for each alert some just below."""
    shown: dict[str, list[Any]] = defaultdict(list)
    for found in PROOFS.values():
        for proof in found:
            shown[proof.alert].append(proof)
    for rule in alerts():
        cases = shown[rule["alert"]]
        severities = {expected.severity for proof in cases for expected in proof.expect}
        assert rule["labels"]["severity"] in severities, rule["alert"]
        if rule["alert"] != "Watchdog":
            assert any(proof.below for proof in cases), rule["alert"]
            assert all(proof.clear for proof in cases), rule["alert"]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_alerts_say_what_they_have_to(rule: dict[str, Any]) -> None:
    """Labels to route by; a constant summary, a description; links to a runbook that exists and over a time."""
    labels, annotations = rule["labels"], rule["annotations"]
    assert labels["severity"] in {"critical", "warning", "none"}
    assert labels["service"] == OBJECTIVES.service
    assert labels["alertgroup"]
    assert labels.get("slo", OBJECTIVES.slos[0].name) in {slo.name for slo in OBJECTIVES.slos}
    assert all("{{" not in value for value in labels.values())
    assert annotations.keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "{{" not in annotations["summary"]
    assert (ALERTS / "runbooks" / annotations["runbook_url"].rpartition("/")[2]).exists()
    assert annotations["runbook_url"].endswith(f"/runbooks/{rule['alert']}.md")
    assert re.search(r"[?&]from=-?\d+&to=\d+$", filled(annotations["dashboard_url"], "http://prom", 0))


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_numbers_are_written_for_people(rule: dict[str, Any]) -> None:
    """No number as it comes, and none with a prefix: `humanize` makes 916.4m of almost one span a second."""
    described = rule["annotations"]["description"]
    assert not re.search(r"\$value\s*(\|\s*humanize1?0?2?4?\s*)?\}\}", described), described


def test_bad_numbers_are_found_out() -> None:
    """The search finds what was wrong once, and lets formatted numbers pass."""
    for described in ("{{ $value | humanize }} spans", "{{ $value }} replicas"):
        with pytest.raises(AssertionError):
            test_numbers_are_written_for_people({"annotations": {"description": described}})
    test_numbers_are_written_for_people({"annotations": {"description": '{{ $value | printf "%.0f" }} replicas'}})


def _measured(query: str, slo: str | None) -> set[str]:
    """Names of the metrics that a query rests on, through the recorded series of that objective."""
    recording = [rule for group in groups() for rule in group["rules"] if "record" in rule]
    recorded = {rule["record"]: rule["expr"] for rule in recording if rule["labels"]["slo"] == slo}
    found: set[str] = set()
    waiting = [query]
    while waiting:
        for name in names_in(waiting.pop()) - found:
            found.add(name)
            waiting += [recorded[name]] if name in recorded else []
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in found if name not in recorded}


@pytest.mark.parametrize(
    "rule",
    [rule for rule in alerts() if "viewPanel=" in rule["annotations"]["dashboard_url"]],
    ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}",
)
def test_alerts_lead_to_what_they_are_about(rule: dict[str, Any]) -> None:
    """The panel behind an alert's link asks for a metric that the alert rests on."""
    found = re.search(r"/d/([\w-]+)\?viewPanel=panel-(\d+)&", rule["annotations"]["dashboard_url"])
    assert found is not None
    board = json.loads((OBSERVABILITY / f"grafana/dashboards/{found[1]}.json").read_text())
    [panel] = [panel for panel in panels(board) if panel["id"] == int(found[2])]
    slo = rule["labels"].get("slo")
    shown = {name for target in panel["targets"] for name in _measured(filled_query(target["expr"]), slo)}
    assert _measured(rule["expr"], slo) & shown, (panel["title"], shown)


@pytest.mark.skipif(not (OBSERVABILITY / "grafana/dashboards").exists(), reason="no dashboards")
def test_alerts_lead_to_dashboards_that_exist() -> None:
    """The dashboard of each alert is one of those shipped."""
    boards = {path.stem for path in (OBSERVABILITY / "grafana/dashboards").glob("*.json")}
    led = {re.search(r"/d/([\w-]+)\?", rule["annotations"]["dashboard_url"]) for rule in alerts()}
    assert {found[1] for found in led if found} <= boards


def test_indicators_are_zero_before_traffic(tmp_path: Path) -> None:
    """With nothing but what a process exports when it starts, each ratio is 0 in each window, not empty."""
    metrics = Metrics(CollectorRegistry(), version="1", environment="test")
    metrics.expect_routes([("GET", "/api/v1/datasets"), ("POST", "/api/v1/extract-features")])
    started = [
        {"series": _series(sample.name, sample.labels), "values": f"{sample.value:g}x15"}
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
        if sample.name.startswith(("api_request", "feature_extractions", "extraction_start", "extraction_queue"))
    ]
    ratios = {rule["record"] for group in groups() for rule in group["rules"] if "ratio_rate" in rule.get("record", "")}
    assert len(ratios) == 8
    expected = [{"labels": f'{{service="feature-agent",slo="{slo.name}"}}', "value": 0} for slo in OBJECTIVES.slos]
    test = {
        "rule_files": [str(path) for path in RULES if path.parent.name == "rules"],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": started,
                "promql_expr_test": [
                    {"expr": f"{ratio} + 0", "eval_time": "5m", "exp_samples": expected} for ratio in sorted(ratios)
                ],
            }
        ],
    }
    (tmp_path / "zero.yml").write_text(yaml.safe_dump(test))
    assert "SUCCESS" in run(tool("promtool"), "test", "rules", tmp_path / "zero.yml")


def _series(name: str, labels: dict[str, str]) -> str:
    matchers = ",".join(f'{label}="{value}"' for label, value in {"job": "feature-agent", **labels}.items())
    return f"{name}{{{matchers}}}"


def test_nothing_newer_than_the_oldest_prometheus_is_used() -> None:
    """Rule files keep to what Prometheus 2.42 knows, which newer ones know too."""
    for group in groups():
        assert group.keys() <= {"name", "interval", "rules"}
        for rule in group["rules"]:
            assert rule.keys() <= {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
