"""What is written in two places is the same in both."""

from __future__ import annotations

import re

import pytest
import yaml

from observability.source.dashboards.all_boards import boards
from observability.source.dashboards.board import rendered as board_text
from observability.source.slo import load_objectives
from service.api.problems import PROBLEM_PATH
from service.store import database as connections
from tests.k8s.cluster import Cluster, quantity
from tests.k8s.conftest import Rendered
from tests.k8s.policies.autoscaling import series
from tests.k8s.policies.monitoring import JOBS
from tests.k8s.rendering import K8S, ROOT, Object


def adapter(rendered: Rendered) -> Object:
    """prometheus-adapter's configuration."""
    found = Cluster(rendered("components/prometheus-adapter")).get("ConfigMap", "feature-agent-prometheus-adapter")
    return yaml.safe_load(found["data"]["config.yaml"])


def metric_targets(autoscaler: Object) -> dict[str, str]:
    """The figure of each metric of the worker's autoscaler."""
    external = [metric["external"] for metric in autoscaler["spec"]["metrics"]]
    return {one["metric"]["name"]: one["target"].get("averageValue") or one["target"]["value"] for one in external}


def test_the_adapter_serves_what_autoscalers_ask_for(rendered: Rendered) -> None:
    """Each metric beside CPU and memory is in the adapter's rules, custom or external as the autoscaler asks."""
    rules = adapter(rendered)
    asked: dict[str, set[str]] = {"Pods": set(), "External": set()}
    for one in Cluster(rendered("base")).of("HorizontalPodAutoscaler"):
        for metric in one["spec"]["metrics"]:
            if metric["type"] in asked:
                asked[metric["type"]].add(metric[metric["type"].lower()]["metric"]["name"])
    assert {rule["name"]["as"] for rule in rules["rules"]} == asked["Pods"]
    assert {rule["name"]["as"] for rule in rules["externalRules"]} == asked["External"]


def test_the_adapter_reads_the_services_series(rendered: Rendered) -> None:
    """Its queries choose series of the catalog, and jobs that are scraped."""
    rules = adapter(rendered)
    for rule in (*rules["rules"], *rules["externalRules"]):
        assert list(series(rule["seriesQuery"])) == []
        assert set(re.findall(r'job="([^"]+)"', rule["seriesQuery"])) <= set(JOBS.values())


def test_keda_scales_as_the_autoscaler_does(rendered: Rendered) -> None:
    """Its bounds, behaviour and thresholds are those of the autoscaler in whose place it comes."""
    autoscaler = Cluster(rendered("base")).get("HorizontalPodAutoscaler", "feature-agent-worker")
    cluster = Cluster(rendered("components/keda"))
    scaled = cluster.get("ScaledObject", "feature-agent-worker")["spec"]
    config = scaled["advanced"]["horizontalPodAutoscalerConfig"]
    assert config == {"name": "feature-agent-worker", "behavior": autoscaler["spec"]["behavior"]}
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (
        autoscaler["spec"]["minReplicas"],
        autoscaler["spec"]["maxReplicas"],
    )
    asked = {
        metric: trigger["metadata"]["threshold"]
        for trigger in scaled["triggers"]
        for metric in re.findall(r"extraction_queue_\w+", trigger["metadata"]["query"])
    }
    assert asked == metric_targets(autoscaler)
    assert [one["metadata"]["name"] for one in cluster.of("HorizontalPodAutoscaler")] == ["feature-agent-api"]


def test_jobs_are_those_of_prometheus_yml() -> None:
    """The names of the jobs that monitors give are those that Prometheus has in compose.yaml."""
    known = yaml.safe_load((ROOT / "observability/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert set(JOBS.values()) <= {one["job_name"] for one in known}


def test_the_probe_is_that_of_prometheus_yml(rendered: Rendered) -> None:
    """It has the job and the module of the probe in compose.yaml, and asks the API's Ingress for what that shows."""
    known = yaml.safe_load((ROOT / "observability/prometheus/prometheus.yml").read_text())["scrape_configs"]
    [compose] = [one for one in known if one["job_name"] == "probe"]
    [probe] = Cluster(rendered("components/prometheus-operator")).of("Probe")
    assert (probe["spec"]["jobName"], [probe["spec"]["module"]]) == ("probe", compose["params"]["module"])
    [ingress] = Cluster(rendered("base")).of("Ingress")
    found = probe["spec"]["targets"]["ingress"]
    assert found["selector"]["matchLabels"].items() <= ingress["metadata"]["labels"].items()
    [address, instance] = found["relabelingConfigs"]
    asked = re.sub(address["regex"], address["replacement"].replace("$1", r"\1"), "https://host.example/api")
    [shown] = [path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert asked == f"https://host.example{PROBLEM_PATH}"
    assert PROBLEM_PATH.startswith(f"{shown}/")
    assert instance == {"sourceLabels": ["__param_target"], "targetLabel": "instance"}


def test_every_rule_and_board_is_there(rendered: Rendered) -> None:
    """The component has each group of rules once, and each board as Grafana gets it from a file."""
    objects = Cluster(rendered("components/prometheus-operator"))
    shipped = [
        *(ROOT / "observability/prometheus/rules").glob("*.yml"),
        *(ROOT / "observability/alerts").glob("*.rules.yml"),
    ]
    groups = [group for path in shipped for group in yaml.safe_load(path.read_text())["groups"]]
    found = [group for one in objects.of("PrometheusRule") for group in one["spec"]["groups"]]
    assert sorted(found, key=lambda group: group["name"]) == sorted(groups, key=lambda group: group["name"])
    dashboards = {
        key: yaml.safe_load(text)
        for one in objects.of("ConfigMap")
        for key, text in one["data"].items()
        if ".json" in key
    }
    objectives = load_objectives(ROOT / "observability/slo.yaml")
    assert dashboards == {f"{board.uid}.json": yaml.safe_load(board_text(board)) for board in boards(objectives)}


def test_the_role_gets_what_pgbouncer_ignores() -> None:
    """What the service sets for its sessions, and PgBouncer leaves out, README.md sets for the role."""
    text = (K8S / "README.md").read_text()
    for name, value in re.findall(r"-c (\w+)=(\S+)", connections._SESSION):
        unit = "" if not value.isdecimal() else "ms"
        assert f"ALTER ROLE feature_agent SET {name} = '{value}{unit}';" in text


@pytest.mark.parametrize("name", ["feature-agent-api", "feature-agent-worker"])
def test_production_takes_the_figures_of_the_base(rendered: Rendered, name: str) -> None:
    """Requests, limits and the autoscalers' targets stand in the base alone: production changes none of them."""
    base, production = Cluster(rendered("base")), Cluster(rendered("overlays/production"))
    containers = [
        one.get("Deployment", name)["spec"]["template"]["spec"]["containers"][0] for one in (base, production)
    ]
    assert containers[0]["resources"] == containers[1]["resources"]
    assert quantity(containers[0]["resources"]["requests"]["cpu"]) > 0
    autoscalers = [one.get("HorizontalPodAutoscaler", name)["spec"] for one in (base, production)]
    assert autoscalers[0] == autoscalers[1]
