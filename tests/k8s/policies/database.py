"""All connections that all pods may open fit the database, or what stands before it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from service.jobs.connection import POOL_SIZE
from tests.k8s.cluster import SERVICE, Cluster, Pods, title
from tests.k8s.policies.settings import settings_of

LASTING = 3
"""Beside its pool a process keeps one connection for notices, one to read states, one to repeat extractions."""
SURGE = 1
RESERVED = 3
"""PostgreSQL's superuser_reserved_connections."""


def database(cluster: Cluster) -> Iterator[str]:
    """The pools of the most pods there may be, during a rollout, are within max_connections or max_db_connections."""
    bounds = _bounds(cluster)
    needed = sum(_needed(cluster, pods) for pods in cluster.pods if pods.labels["app.kubernetes.io/name"] == SERVICE)
    for name, most in bounds.items():
        if needed > most:
            yield f"{name} takes {most} connections, the service may open {needed}"


def _needed(cluster: Cluster, pods: Pods) -> int:
    settings = settings_of(cluster, pods)
    pool = settings.database_pool_size + settings.database_max_overflow
    if pods.command == "worker":
        return (pool + LASTING + POOL_SIZE) * (cluster.max_pods(pods) + SURGE)
    if pods.command == "serve":
        return (pool + LASTING) * (cluster.max_pods(pods) + SURGE)
    return 2  # migration and backup: one connection of theirs, one of Alembic's or pg_dump's


def _bounds(cluster: Cluster) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in cluster.of("ConfigMap"):
        text = one.get("data", {}).get("pgbouncer.ini", "")
        most = [
            int(number)
            for number in re.findall(r"^(?:max_db_connections|default_pool_size) = (\d+)$", text, re.MULTILINE)
        ]
        found |= {title(one): min(most)} if most else {}
    for pods in cluster.pods:
        arguments = " ".join(pods.spec["containers"][0].get("args", ()))
        if given := re.search(r"max_connections=(\d+)", arguments):
            found[pods.title] = int(given[1]) - RESERVED
    return found
