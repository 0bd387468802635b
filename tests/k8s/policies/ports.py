"""Every port is named, and the name is one that the pods have."""

from __future__ import annotations

from collections.abc import Iterator

from tests.k8s.cluster import Cluster, title
from tests.k8s.rendering import Object


def ports(cluster: Cluster) -> Iterator[str]:
    """Ports of Services, Ingresses, monitors, network policies and probes exist where they lead."""
    for one in cluster.of("Service"):
        wanted = [port["targetPort"] for port in one["spec"]["ports"]]
        yield from _missing(one, cluster, {"matchLabels": one["spec"]["selector"]}, wanted)
    for one in cluster.of("PodMonitor"):
        wanted = [endpoint["port"] for endpoint in one["spec"]["podMetricsEndpoints"]]
        yield from _missing(one, cluster, one["spec"]["selector"], wanted)
    for one in cluster.of("NetworkPolicy"):
        wanted = [port["port"] for rule in one["spec"].get("ingress", ()) for port in rule["ports"]]
        yield from _missing(one, cluster, one["spec"]["podSelector"], wanted)
    yield from _ingresses(cluster)
    yield from _probes(cluster)


def _missing(one: Object, cluster: Cluster, selector: Object, wanted: list[str]) -> Iterator[str]:
    for pods in cluster.chosen(selector):
        for port in wanted:
            if port not in pods.ports():
                yield f"{title(one)}: {pods.title} has no port {port!r}"


def _ingresses(cluster: Cluster) -> Iterator[str]:
    services = {
        one["metadata"]["name"]: {port["name"] for port in one["spec"]["ports"]} for one in cluster.of("Service")
    }
    for one in cluster.of("Ingress"):
        for rule in one["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if backend["port"].get("name") not in services.get(backend["name"], ()):
                    yield f"{title(one)}: no Service {backend['name']} with the port {backend['port']}"


def _probes(cluster: Cluster) -> Iterator[str]:
    for pods in cluster.pods:
        for container in pods.containers:
            own = {port["name"] for port in container.get("ports", ())}
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                probe = container.get(kind, {})
                asked = probe.get("httpGet") or probe.get("tcpSocket")
                if asked and asked["port"] not in own:
                    yield f"{pods.title}: {kind} asks the port {asked['port']!r}, which {container['name']} has not"
