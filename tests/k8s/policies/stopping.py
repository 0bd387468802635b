"""A pod that is to stop has the time that the code takes."""

from __future__ import annotations

from collections.abc import Iterator

from service.commands.serve import SHUTDOWN_SECONDS
from service.commands.serving import SHUTDOWN_TIMEOUT_SECONDS
from tests.k8s.cluster import Cluster, Pods
from tests.k8s.policies.settings import settings_of

CLOSING_SECONDS = 10
"""For an API without jobs to flush its telemetry and close its connections."""


def stopping(cluster: Cluster) -> Iterator[str]:
    """The grace period exceeds preStop and everything that the code waits for, added up from its constants."""
    for pods in cluster.pods:
        if pods.command not in {"serve", "worker"}:
            continue
        needed = _needed(cluster, pods)
        given = pods.spec.get("terminationGracePeriodSeconds", 30)
        if given < needed:
            yield f"{pods.title}: stopping takes up to {needed:g} s, terminationGracePeriodSeconds are {given}"
        if pods.command == "serve" and not _pause(pods):
            yield f"{pods.title}: no preStop sleep, so proxies still send when it stops listening"
        if pods.command == "worker" and _pause(pods):
            yield f"{pods.title}: a preStop sleep delays the signal by which jobs are handed back"


def _needed(cluster: Cluster, pods: Pods) -> float:
    settings = settings_of(cluster, pods)
    if pods.command == "worker":
        return _pause(pods) + settings.worker_grace_seconds + SHUTDOWN_SECONDS
    jobs = settings.worker_grace_seconds if settings.worker_in_api else 0.0
    open_requests = max(SHUTDOWN_TIMEOUT_SECONDS, settings.sync_wait_seconds, jobs)
    return _pause(pods) + settings.seconds_to_drain() + open_requests + CLOSING_SECONDS


def _pause(pods: Pods) -> int:
    hook = pods.spec["containers"][0].get("lifecycle", {}).get("preStop", {})
    return int(hook.get("sleep", {}).get("seconds", 0))
