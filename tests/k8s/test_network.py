"""Network policies allow what each part needs, and nothing else."""

from __future__ import annotations

import pytest

from tests.k8s.cluster import Cluster
from tests.k8s.conftest import Rendered
from tests.k8s.policies.network import flows

DNS = {f"kube-system/kube-dns:{port}" for port in ("53",)} | {"169.254.20.10/32:53"}
INTERNET = {"0.0.0.0/0:443", "::/0:443"}
OTLP = {"monitoring:4318"}
METRICS = {"monitoring/prometheus:metrics"}
HTTP = {"ingress-nginx/ingress-nginx:http"}
SERVICE = {"feature-agent:postgresql"}

LOCAL = {
    "api": (HTTP | METRICS, DNS | INTERNET | OTLP | {"postgresql:5432", "redis:6379"}),
    "worker": (METRICS, DNS | INTERNET | OTLP | {"postgresql:5432", "redis:6379"}),
    "migration": (set[str](), DNS | {"postgresql:5432"}),
    "postgresql": (SERVICE, DNS),
    "redis": ({"feature-agent:redis"}, DNS),
}
REDIS = {"10.20.1.0/24:6379"}
PRODUCTION = {
    "api": (HTTP | METRICS, DNS | INTERNET | OTLP | REDIS | {"pgbouncer:5432"}),
    "worker": (METRICS, DNS | INTERNET | OTLP | REDIS | {"pgbouncer:5432"}),
    "migration": (set[str](), DNS | {"pgbouncer:5432"}),
    "backup": (set[str](), DNS | INTERNET | {"pgbouncer:5432"}),
    "pgbouncer": (SERVICE, DNS | {"10.20.0.0/24:5432"}),
}


@pytest.mark.parametrize(
    ("name", "allowed"), [("overlays/local", LOCAL), ("overlays/production", PRODUCTION)], ids=["local", "production"]
)
def test_exactly_these_flows_are_allowed(
    rendered: Rendered, name: str, allowed: dict[str, tuple[set[str], set[str]]]
) -> None:
    """Each part takes from and sends to whom it has to: (in, out)."""
    cluster = Cluster(rendered(name))
    found = {pods.component: flows(cluster, pods) for pods in cluster.pods}
    assert {part: (one["in"], one["out"]) for part, one in found.items()} == allowed


def test_a_large_worker_may_what_a_worker_may(rendered: Rendered) -> None:
    """The component large-lane adds pods, not rights."""
    cluster = Cluster(rendered("components/large-lane"))
    found = {pods.component: flows(cluster, pods) for pods in cluster.pods}
    assert found["worker-large"] == found["worker"]
