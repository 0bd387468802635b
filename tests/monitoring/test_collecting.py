"""What collects: Prometheus' own check of its configuration, and logs under the names that links ask for."""

from __future__ import annotations

import re
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest
import yaml

from observability.source.dashboards import links
from tests.monitoring.stand import CONFIGURATION, ROOT, rule_files

ALLOY = (ROOT / "observability/alloy/config.alloy").read_text()


def test_prometheus_takes_the_configuration() -> None:
    """Promtool finds the shipped configuration and every file of rules that it names valid."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    assert rule_files()
    checked = subprocess.run([promtool, "check", "config", CONFIGURATION], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert all(file.name in checked.stdout for file in rule_files())


def test_everything_that_runs_is_scraped() -> None:
    """Each container of compose.yaml that has metrics is a target, under its own name and port."""
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    targets = {
        str(urlsplit(target if "://" in target else f"//{target}").hostname)
        for job in configuration["scrape_configs"]
        for static in job.get("static_configs", ())
        for target in static["targets"]
    }
    targets |= {
        name for job in configuration["scrape_configs"] for sd in job.get("dns_sd_configs", ()) for name in sd["names"]
    }
    services = set(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])
    assert targets - {"localhost"} == services - {"postgres", "redis", "prometheus"}


def test_the_probe_asks_what_tells_whether_traffic_may_come() -> None:
    """The outside probe goes through blackbox_exporter, which has its module, and is named by what it asks for."""
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    probe = next(job for job in configuration["scrape_configs"] if job["job_name"] == "probe")
    [target] = probe["static_configs"][0]["targets"]
    assert urlsplit(str(target)).path == "/health/ready"
    relabelled = {
        rule["target_label"]: rule.get("replacement", rule.get("source_labels")) for rule in probe["relabel_configs"]
    }
    assert relabelled == {
        "__param_target": ["__address__"],
        "instance": ["__param_target"],
        "__address__": "blackbox-exporter:9115",
    }
    modules = yaml.safe_load((ROOT / "observability/blackbox/config.yml").read_text())["modules"]
    assert set(probe["params"]["module"]) == set(modules)


def test_rules_find_their_files_where_compose_mounts_them() -> None:
    """The paths of rules lead to the same files in the repository and in the container."""
    volumes = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["prometheus"]["volumes"]
    assert "./observability/prometheus:/etc/prometheus:ro" in volumes
    assert "./observability/alerts:/etc/alerts:ro" in volumes
    assert yaml.safe_load(CONFIGURATION.read_text())["rule_files"] == ["rules/*.yml", "../alerts/*.rules.yml"]


def test_logs_have_the_labels_that_links_select_by() -> None:
    """Streams are selected by labels that Alloy sets, and ids are found in the metadata that it keeps."""
    selected = set(re.findall(r'(\w+)=~?"', links.STREAM))
    labels = set(re.findall(r"(\w+)\s*=", re.search(r"stage\.labels \{\s*values = \{(.*?)\}", ALLOY, re.DOTALL)[1]))  # type: ignore[index]
    kept = re.search(r"stage\.structured_metadata \{\s*values = \{(.*?)\}", ALLOY, re.DOTALL)
    assert kept
    assert selected <= labels
    assert {"trace_id", "request_id", "extraction_id"} <= set(re.findall(r"(\w+)\s*=", kept[1]))


@pytest.mark.parametrize(
    ("tag", "component"),
    [
        ("feature-agent/feature-agent-api-1", "api"),
        ("feature-agent/work_postgres-exporter_1", "postgres-exporter"),
        ("feature-agent/feature-agent-redis-exporter-1", "redis-exporter"),
        ("feature-agent/a-b-worker-12", "worker"),
        ("feature-agent/feature-agent-node-exporter-1", "node-exporter"),
    ],
)
def test_containers_are_told_apart(tag: str, component: str) -> None:
    """A log line's component is the service's name in compose.yaml, whatever the project is called."""
    found = re.search(r'expression = "(.*?)"\n', ALLOY)
    assert found
    expression = found[1].replace("\\\\", "\\")
    matched = re.fullmatch(expression, tag)
    assert matched
    assert matched.groupdict() == {"service": "feature-agent", "component": component}
