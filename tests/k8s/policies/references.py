"""What is named exists, and what exists is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.k8s.cluster import Cluster, Pods, title
from tests.k8s.rendering import Object

Reference = tuple[str, str]


def references(cluster: Cluster) -> Iterator[str]:
    """Secrets, ConfigMaps, claims and service accounts are there exactly when somebody names them."""
    named = {reference for pods in cluster.pods for reference in _named_by(pods)}
    named |= {("Secret", tls["secretName"]) for one in cluster.of("Ingress") for tls in one["spec"].get("tls", ())}
    there = _defined(cluster)
    yield from (f"{kind} {name!r} is named and nowhere defined" for kind, name in sorted(named - there))
    unused = {("ConfigMap", one["metadata"]["name"]) for one in cluster.of("ConfigMap") if _read_elsewhere(one)}
    yield from (f"{kind} {name!r} is defined and never used" for kind, name in sorted(there - named - unused))


def _read_elsewhere(one: Object) -> bool:
    """Boards are found by Grafana's sidecar, by their label; prometheus-adapter runs in a namespace of its own."""
    labels = one["metadata"].get("labels", {})
    return "grafana_dashboard" in labels or one["metadata"].get("namespace") == "monitoring"


def _named_by(pods: Pods) -> Iterator[Reference]:
    yield "ServiceAccount", pods.spec.get("serviceAccountName", "default")
    for volume in pods.spec.get("volumes", ()):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in pods.containers:
        for source in container.get("envFrom", ()):
            for kind in ("ConfigMap", "Secret"):
                found = source.get(f"{kind[0].lower()}{kind[1:]}Ref")
                if found:
                    yield kind, found["name"]


def _defined(cluster: Cluster) -> set[Reference]:
    kinds = ("Secret", "ConfigMap", "PersistentVolumeClaim", "ServiceAccount")
    there = {(one["kind"], one["metadata"]["name"]) for one in cluster.of(*kinds)}
    there |= {("Secret", one["spec"]["target"]["name"]) for one in cluster.of("ExternalSecret")}
    for one in cluster.of("Ingress"):
        if "cert-manager.io/cluster-issuer" in one["metadata"].get("annotations", {}):
            there |= {("Secret", tls["secretName"]) for tls in one["spec"].get("tls", ())}
    return there


def volumes(cluster: Cluster) -> Iterator[str]:
    """Every mount has its volume, every volume its mount, and no two mounts share a path."""
    for pods in cluster.pods:
        there = {volume["name"] for volume in pods.spec.get("volumes", ())}
        there |= {claim["metadata"]["name"] for claim in pods.owner["spec"].get("volumeClaimTemplates", ())}
        mounts = [mount for one in pods.containers for mount in one.get("volumeMounts", ())]
        mounted = {mount["name"] for mount in mounts}
        yield from (f"{pods.title} mounts {name!r}, which is no volume" for name in sorted(mounted - there))
        yield from (f"{pods.title} never mounts {name!r}" for name in sorted(there - mounted))
        paths = Counter((id(one), mount["mountPath"]) for one in pods.containers for mount in one["volumeMounts"])
        yield from (f"{pods.title} mounts twice at {path}" for (_, path), times in paths.items() if times > 1)


def names(cluster: Cluster) -> Iterator[str]:
    """No object is there twice, each has a namespace that exists, and says that it belongs to the service."""
    spaces = {one["metadata"]["name"] for one in cluster.of("Namespace")} | {"monitoring"}
    for one, times in Counter((one["kind"], one["metadata"]["name"]) for one in cluster.objects).items():
        if times > 1:
            yield f"{'/'.join(one)} is there {times} times"
    for one in cluster.objects:
        if one["kind"] == "Namespace":
            continue
        if one["metadata"].get("namespace") not in spaces:
            yield f"{title(one)} is in no namespace of these objects"
        generated = one["kind"] in {"ConfigMap", "Secret"}
        if not generated and one["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") != "feature-agent":
            yield f"{title(one)} does not say what it is part of"
