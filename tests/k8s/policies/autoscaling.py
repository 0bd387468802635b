"""Autoscalers have a target, bounds, a written behaviour, and metrics that exist."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from service.telemetry.catalog import METRICS
from tests.k8s.cluster import Cluster, title
from tests.k8s.rendering import Object

KNOWN = {metric.name: {label.name: set(label.values) for label in metric.labels} for metric in METRICS}
_SERIES = re.compile(r"([a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-z_]+)(!?=)"([^"]*)"')
_OUTSIDE = {"namespace", "pod", "job", "instance"}
"""Labels that Prometheus adds to every series."""


def autoscaling(cluster: Cluster) -> Iterator[str]:
    """Each scales something that is there, alone, between bounds, and says how fast."""
    for one, least, most in cluster.autoscalers():
        if not 1 <= least <= most:
            yield f"{title(one)}: from {least} to {most} pods"
        yield from _behaviour(one)
    targets = Counter(one["spec"]["scaleTargetRef"]["name"] for one, _, _ in cluster.autoscalers())
    there = {one["metadata"]["name"] for one in cluster.of("Deployment")}
    yield from (f"no Deployment {name!r} to scale" for name in sorted(targets.keys() - there))
    yield from (f"{name} has {times} autoscalers" for name, times in targets.items() if times > 1)


def _behaviour(one: Object) -> Iterator[str]:
    spec = one["spec"]
    if one["kind"] == "ScaledObject":
        spec = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
    for direction in ("scaleUp", "scaleDown"):
        rules = spec.get("behavior", {}).get(direction, {})
        if not {"stabilizationWindowSeconds", "selectPolicy", "policies"} <= rules.keys():
            yield f"{title(one)}: {direction} is not written out"


def metrics(cluster: Cluster) -> Iterator[str]:
    """Every metric that an autoscaler names is in the telemetry catalog, with its labels and their values."""
    for one in cluster.of("HorizontalPodAutoscaler"):
        for metric in one["spec"]["metrics"]:
            yield from (f"{title(one)}: {fault}" for fault in _metric(metric, cluster, one))
    for one in cluster.of("ScaledObject"):
        for trigger in one["spec"]["triggers"]:
            yield from (f"{title(one)}: {fault}" for fault in series(trigger["metadata"]["query"]))


def _metric(metric: Object, cluster: Cluster, one: Object) -> Iterator[str]:
    kind = metric["type"]
    if kind == "Resource":
        name = metric["resource"]["name"]
        target = cluster.get("Deployment", one["spec"]["scaleTargetRef"]["name"])
        for container in target["spec"]["template"]["spec"]["containers"]:
            if name not in container.get("resources", {}).get("requests", {}):
                yield f"{container['name']} has no request of {name} to measure against"
        return
    named = metric[kind.lower()]["metric"]
    yield from _labels(named["name"], named.get("selector", {}).get("matchLabels", {}))


def series(query: str) -> Iterator[str]:
    """Faults of a PromQL query's series."""
    found = _SERIES.findall(query)
    if not found:
        yield f"{query!r} asks for no series"
    for name, matchers in found:
        chosen = {label: value for label, how, value in _MATCHER.findall(matchers) if how == "="}
        yield from _labels(name, {label: value for label, value in chosen.items() if label not in _OUTSIDE})


def _labels(name: str, chosen: Mapping[str, str]) -> Iterator[str]:
    if name not in KNOWN:
        yield f"the service has no metric {name!r}"
        return
    for label, value in chosen.items():
        if value not in KNOWN[name].get(label, ()):
            yield f"{name} never has {label}={value!r}"
