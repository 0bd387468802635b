"""Every object has the form that Kubernetes, or its operator, defines for it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import kubernetes_validate
import pytest

from tests.k8s.cluster import title
from tests.k8s.conftest import Rendered
from tests.k8s.rendering import EVERYTHING, Object
from tests.k8s.shapes import SHAPES, misshapen

VERSIONS = ("1.33.0", "1.34.0", "1.35.0")
MAX_CONFIG_MAP_BYTES = 2**20
MAX_ANNOTATION_BYTES = 262_144
"""What `kubectl apply` without --server-side may write into an object."""


@cache
def checked(text: str, version: str) -> str:
    """The release whose schema the object was held to; one that is in many kustomizations is checked once."""
    return kubernetes_validate.validate(json.loads(text), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EVERYTHING)
def test_kubernetes_knows_every_member(rendered: Rendered, name: str, version: str) -> None:
    """Each built-in object is valid, unknown members forbidden, for each of three releases of Kubernetes."""
    built_in = [one for one in rendered(name) if one["kind"] not in SHAPES]
    assert built_in
    for one in built_in:
        assert checked(json.dumps(one), version) == version.rpartition(".")[0], title(one)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Deployment", {"spec": {"replica": 3}}),
        ("Service", {"spec": {"ports": [{"port": "http"}]}}),
        ("HorizontalPodAutoscaler", {"spec": {"behaviour": {}}}),
    ],
)
def test_an_unknown_member_is_refused(rendered: Rendered, kind: str, change: Object) -> None:
    """A misspelt member and one of the wrong type do not pass as valid."""
    one = next(one for one in rendered("base") if one["kind"] == kind)
    one["spec"] |= change["spec"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", EVERYTHING)
def test_operators_know_every_member(rendered: Rendered, name: str) -> None:
    """Objects of operators have their version, all members that they need, and none that is unknown."""
    assert {title(one): misshapen(one) for one in rendered(name) if one["kind"] in SHAPES and misshapen(one)} == {}


MISSHAPEN: tuple[tuple[str, str, list[str | int], Any], ...] = (
    ("components/prometheus-operator", "PodMonitor", ["spec", "podMetricEndpoints"], []),
    ("components/prometheus-operator", "PodMonitor", ["spec", "sampleLimit"], "20000"),
    ("components/prometheus-operator", "Probe", ["spec", "targets", "staticConfig"], {}),
    ("components/prometheus-operator", "PrometheusRule", ["spec", "groups", 0, "rules", 0, "record"], "and:an:alert"),
    ("components/keda", "ScaledObject", ["spec", "triggers", 0, "metadata", "threshold"], 4),
    ("components/keda", "ScaledObject", ["apiVersion"], "keda.sh/v1"),
    ("components/external-secrets", "ExternalSecret", ["spec", "data", 0, "remoteRef"], {"name": "x"}),
    ("components/external-secrets", "ExternalSecret", ["status"], {}),
)


@pytest.mark.parametrize(("name", "kind", "path", "value"), MISSHAPEN)
def test_a_misshapen_object_is_refused(
    rendered: Rendered, name: str, kind: str, path: list[str | int], value: Any
) -> None:
    """A misspelt, missing or wrong member of an operator's object is reported."""
    one = next(one for one in rendered(name) if one["kind"] == kind)
    place: Any = one
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert misshapen(one)


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_object_is_too_large(rendered: Rendered, name: str) -> None:
    """ConfigMaps fit etcd, and every object its own copy in the annotation of a client-side apply."""
    for one in rendered(name):
        size = len(json.dumps(one).encode())
        assert size < MAX_ANNOTATION_BYTES < MAX_CONFIG_MAP_BYTES, title(one)
