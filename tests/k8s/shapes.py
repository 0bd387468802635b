"""The objects of operators, whose schemas are not Kubernetes' own: the members that k8s/ uses, and no others."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from tests.k8s.rendering import Object


class _Shape(Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """A misspelt member is a member too many."""


class Target(_Shape, frozen=True):
    """What is scaled."""

    name: str
    api_version: str
    kind: str


class Relabeling(_Shape, frozen=True):
    """A label set on every series."""

    target_label: str
    replacement: str


class TargetRelabeling(_Shape, frozen=True):
    """A label made of others before a target is asked; without a pattern a copy."""

    source_labels: list[str]
    target_label: str
    regex: str = "(.*)"
    replacement: str = "$1"


class IngressTargets(_Shape, frozen=True):
    """The hosts of the Ingresses that match."""

    selector: dict[str, Any]
    relabeling_configs: list[TargetRelabeling]


class ProbeTargets(_Shape, frozen=True):
    """What is probed."""

    ingress: IngressTargets


class Prober(_Shape, frozen=True):
    """Where blackbox_exporter is."""

    url: str
    path: str


class Probe(_Shape, frozen=True):
    """monitoring.coreos.com/v1."""

    job_name: str
    interval: str
    scrape_timeout: str
    module: str
    prober: Prober
    targets: ProbeTargets


class Endpoint(_Shape, frozen=True):
    """A port that is scraped."""

    port: str
    path: str
    interval: str
    relabelings: list[Relabeling]


class PodMonitor(_Shape, frozen=True):
    """monitoring.coreos.com/v1."""

    selector: dict[str, Any]
    sample_limit: int
    label_limit: int
    pod_metrics_endpoints: list[Endpoint]


class Rule(_Shape, frozen=True):
    """A recording rule or an alert."""

    expr: str
    record: str = ""
    alert: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    pending: str = msgspec.field(default="", name="for")
    kept: str = msgspec.field(default="", name="keep_firing_for")

    def __post_init__(self) -> None:
        """Raises ValueError for both and for neither."""
        if bool(self.record) == bool(self.alert):
            raise ValueError("a rule is either a record or an alert")


class Group(_Shape, frozen=True):
    """Rules that are evaluated together."""

    name: str
    interval: str
    rules: list[Rule]


class PrometheusRule(_Shape, frozen=True):
    """monitoring.coreos.com/v1."""

    groups: list[Group]


class Query(_Shape, frozen=True):
    """What KEDA asks Prometheus; every value is text."""

    server_address: str
    query: str
    threshold: str


class Trigger(_Shape, frozen=True):
    """One metric."""

    type: Literal["prometheus"]
    name: str
    metric_type: Literal["AverageValue", "Value"]
    metadata: Query


class Autoscaler(_Shape, frozen=True):
    """What KEDA tells the autoscaler that it makes."""

    name: str
    behavior: dict[str, Any]


class Advanced(_Shape, frozen=True):
    """How it scales."""

    horizontal_pod_autoscaler_config: Autoscaler


class ScaledObject(_Shape, frozen=True):
    """keda.sh/v1alpha1."""

    scale_target_ref: Target
    polling_interval: int
    min_replica_count: int
    max_replica_count: int
    advanced: Advanced
    triggers: list[Trigger]


class Store(_Shape, frozen=True):
    """Where secrets come from."""

    kind: Literal["ClusterSecretStore", "SecretStore"]
    name: str


class Template(_Shape, frozen=True):
    """A Secret's content, made of several secrets."""

    data: dict[str, str]


class SecretTarget(_Shape, frozen=True):
    """The Secret that is made."""

    name: str
    creation_policy: Literal["Owner"]
    template: Template | None = None


class Remote(_Shape, frozen=True):
    """An entry of the store."""

    key: str


class Entry(_Shape, frozen=True):
    """A key of the Secret."""

    secret_key: str
    remote_ref: Remote


class ExternalSecret(_Shape, frozen=True):
    """external-secrets.io/v1."""

    refresh_interval: str
    secret_store_ref: Store
    target: SecretTarget
    data: list[Entry]


SHAPES: dict[str, tuple[str, type[Struct]]] = {
    "PodMonitor": ("monitoring.coreos.com/v1", PodMonitor),
    "Probe": ("monitoring.coreos.com/v1", Probe),
    "PrometheusRule": ("monitoring.coreos.com/v1", PrometheusRule),
    "ScaledObject": ("keda.sh/v1alpha1", ScaledObject),
    "ExternalSecret": ("external-secrets.io/v1", ExternalSecret),
}
"""By kind, the version of its interface and what it may say."""


def misshapen(one: Object) -> str:
    """What is wrong with an operator's object; empty when nothing is."""
    version, shape = SHAPES[one["kind"]]
    if one["apiVersion"] != version:
        return f"{one['apiVersion']} is not {version}"
    if not {"name", "namespace"} <= one["metadata"].keys() or one.keys() != {"apiVersion", "kind", "metadata", "spec"}:
        return "no name, no namespace, or more than a spec"
    try:
        msgspec.convert(one["spec"], shape)
    except msgspec.ValidationError as error:
        return str(error)
    return ""
