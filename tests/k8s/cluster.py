"""Rendered objects as a policy looks at them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from tests.k8s.rendering import Object

SERVICE = "feature-agent"
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
_SUFFIXES = {"": 1, "m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_HASH = re.compile(r"-[a-z0-9]{10}$")


def quantity(text: object) -> Fraction:
    """A quantity of Kubernetes as a number: cores or bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", str(text))
    if found is None or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity")
    return Fraction(found[1]) * _SUFFIXES[found[2]]


def title(one: Object) -> str:
    """How a fault names an object."""
    return f"{one['kind']}/{one['metadata']['name']}"


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector chooses something with those labels; an empty one chooses everything."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions", ()))


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", ())
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[expression["operator"]]


@dataclass(frozen=True)
class Pods:
    """The pods of one workload."""

    owner: Object
    template: Object

    @property
    def title(self) -> str:
        """Its workload's."""
        return title(self.owner)

    @property
    def labels(self) -> Mapping[str, str]:
        """Those of each pod."""
        return self.template["metadata"]["labels"]

    @property
    def component(self) -> str:
        """The part of this service, or the name of a program that is not the service."""
        ours = self.labels.get(NAME) == SERVICE
        return self.labels.get(COMPONENT, "") if ours else self.labels.get(NAME, "")

    @property
    def spec(self) -> Object:
        """The pod's."""
        return self.template["spec"]

    @property
    def containers(self) -> list[Object]:
        """All of them."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def command(self) -> str:
        """The command of feature-agent that they run; empty for another program."""
        first = self.spec["containers"][0]
        return first.get("args", [""])[0] if self.labels.get(NAME) == SERVICE else ""

    @property
    def lasting(self) -> bool:
        """Whether they are to run for ever."""
        return self.owner["kind"] in {"Deployment", "StatefulSet"}

    def ports(self) -> set[str]:
        """The names of their ports."""
        return {port["name"] for one in self.containers for port in one.get("ports", ())}


class Cluster:
    """All objects of one kustomization."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def of(self, *kinds: str) -> list[Object]:
        """The objects of those kinds."""
        return [one for one in self.objects if one["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object:
        """An object that has to be there; a generated name is given without its hash."""
        return next(one for one in self.of(kind) if name in {one["metadata"]["name"], plain(one)})

    @cached_property
    def pods(self) -> list[Pods]:
        """The pods of every workload."""
        found = [Pods(one, one["spec"]["template"]) for one in self.of("Deployment", "StatefulSet", "Job")]
        jobs = [Pods(one, one["spec"]["jobTemplate"]["spec"]["template"]) for one in self.of("CronJob")]
        return found + jobs

    def chosen(self, selector: Mapping[str, Any] | None) -> list[Pods]:
        """The pods that a label selector chooses."""
        return [pods for pods in self.pods if matches(selector, pods.labels)]

    def environment(self, pods: Pods) -> dict[str, str]:
        """What the pods' first container has as environment, from ConfigMaps and literally."""
        container = pods.spec["containers"][0]
        values: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            values |= self.get("ConfigMap", source["configMapRef"]["name"])["data"]
        return values | {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}

    def autoscalers(self) -> Iterator[tuple[Object, int, int]]:
        """Whatever sets a number of pods, with its bounds."""
        for one in self.of("HorizontalPodAutoscaler"):
            yield one, one["spec"]["minReplicas"], one["spec"]["maxReplicas"]
        for one in self.of("ScaledObject"):
            yield one, one["spec"]["minReplicaCount"], one["spec"]["maxReplicaCount"]

    def max_pods(self, pods: Pods) -> int:
        """How many there may be, but for those that a rollout adds."""
        for one, _, most in self.autoscalers():
            if one["spec"]["scaleTargetRef"]["name"] == pods.owner["metadata"]["name"]:
                return most
        return int(pods.owner["spec"].get("replicas", 1))


def plain(one: Object) -> str:
    """An object's name without the hash of its content."""
    return _HASH.sub("", one["metadata"]["name"])
