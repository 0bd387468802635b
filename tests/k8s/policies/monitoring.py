"""Who is scraped, and under which job."""

from __future__ import annotations

from collections.abc import Iterator

from service.telemetry.exposition import PATH
from tests.k8s.cluster import Cluster, matches, title

JOBS = {"serve": "feature-agent", "worker": "feature-agent-worker"}
"""The jobs of rules, alerts and dashboards, as in observability/prometheus/prometheus.yml."""


def monitoring(cluster: Cluster) -> Iterator[str]:
    """With monitors, each API and worker is scraped once, under the job that the rules know."""
    monitors = cluster.of("PodMonitor")
    for pods in cluster.pods:
        if not monitors or pods.command not in JOBS:
            continue
        own = [one for one in monitors if matches(one["spec"]["selector"], pods.labels)]
        if len(own) != 1:
            yield f"{pods.title} is scraped {len(own)} times"
        for one in own:
            for endpoint in one["spec"]["podMetricsEndpoints"]:
                job = {rule["targetLabel"]: rule.get("replacement") for rule in endpoint["relabelings"]}.get("job")
                if job != JOBS[pods.command]:
                    yield f"{title(one)}: {pods.title} has the job {job!r}"
                if endpoint["path"] != PATH:
                    yield f"{title(one)} asks for {endpoint['path']}"


def ingress(cluster: Cluster) -> Iterator[str]:
    """Every host has TLS, and nothing but the API is shown outside."""
    for one in cluster.of("Ingress"):
        covered = {host for tls in one["spec"].get("tls", ()) for host in tls["hosts"]}
        for rule in one["spec"]["rules"]:
            if rule["host"] not in covered:
                yield f"{title(one)}: {rule['host']} has no TLS"
            for path in rule["http"]["paths"]:
                if path["path"] != "/api":
                    yield f"{title(one)} shows {path['path']}"
