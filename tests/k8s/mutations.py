"""Ways to break rendered objects, each with the policy that has to notice and a word of what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tests.k8s.cluster import Cluster, plain
from tests.k8s.rendering import Object

Break = Callable[[Cluster], object]
API, WORKER = "feature-agent-api", "feature-agent-worker"


class Mutation(Struct, frozen=True):
    """One way."""

    name: str
    policy: str
    says: str
    change: Break
    of: str = "overlays/production"


def pod(cluster: Cluster, name: str = API, kind: str = "Deployment") -> Object:
    """The pod of a workload."""
    return cluster.get(kind, name)["spec"]["template"]["spec"]


def container(cluster: Cluster, name: str = API, kind: str = "Deployment") -> Object:
    """Its first container."""
    return pod(cluster, name, kind)["containers"][0]


def spec(cluster: Cluster, kind: str, name: str = API) -> Object:
    """What an object asks for."""
    return cluster.get(kind, name)["spec"]


def put(where: Callable[[Cluster], Any], key: Any, value: Any) -> Break:
    """Sets one member."""

    def change(cluster: Cluster) -> None:
        where(cluster)[key] = value

    return change


def drop(where: Callable[[Cluster], Any], key: Any) -> Break:
    """Removes one member."""

    def change(cluster: Cluster) -> None:
        del where(cluster)[key]

    return change


def remove(kind: str, name: str) -> Break:
    """Removes one object."""

    def change(cluster: Cluster) -> None:
        cluster.objects.remove(cluster.get(kind, name))

    return change


def variable(config_map: str, name: str, value: str) -> Break:
    """Sets one setting."""
    return put(lambda cluster: cluster.get("ConfigMap", config_map)["data"], name, value)


def replaced(config_map: str, key: str, old: str, new: str) -> Break:
    """Changes the text of a configuration file."""

    def change(cluster: Cluster) -> None:
        data = cluster.get("ConfigMap", config_map)["data"]
        assert old in data[key]
        data[key] = data[key].replace(old, new)

    return change


def twice(kind: str, name: str) -> Break:
    """Has an object twice."""
    return lambda cluster: cluster.objects.append(cluster.get(kind, name))


def forget_issuer(cluster: Cluster) -> None:
    """Takes cert-manager's annotation away."""
    cluster.get("Ingress", API)["metadata"]["annotations"].clear()


def second_autoscaler(cluster: Cluster) -> None:
    """Points the worker's autoscaler at the API."""
    spec(cluster, "HorizontalPodAutoscaler", WORKER)["scaleTargetRef"]["name"] = API


def unhashed(cluster: Cluster) -> None:
    """Names a ConfigMap as a hand would, without its hash."""
    one = container(cluster)["envFrom"][1]["configMapRef"]
    one["name"] = plain({"metadata": one})
