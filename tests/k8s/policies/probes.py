"""Probes ask what the code answers, and do not take a slow pod for a dead one."""

from __future__ import annotations

from collections.abc import Iterator

from service.api import health_routes
from service.telemetry import exposition
from tests.k8s.cluster import Cluster, Pods
from tests.k8s.policies.settings import settings_of
from tests.k8s.rendering import Object

API_PATHS = {"http": health_routes.get_liveness.paths | health_routes.get_readiness.paths}
WORKER_PATHS = {"metrics": {exposition.LIVE_PATH, exposition.READY_PATH}}
READY = {*health_routes.get_readiness.paths, exposition.READY_PATH}
PATHS = {"serve": API_PATHS, "worker": WORKER_PATHS}
MIN_TIMEOUT_SECONDS = 2
MIN_FAILURES = 3
MIN_LIVENESS_SECONDS = 30
"""A pod without CPU for so long is not killed for it."""


def probes(cluster: Cluster) -> Iterator[str]:
    """Whatever runs for long has a readiness probe; the service has all three, patient ones, of existing routes."""
    for pods in cluster.pods:
        if not pods.lasting:
            continue
        container = pods.spec["containers"][0]
        wanted = {"startupProbe", "readinessProbe", "livenessProbe"} if pods.command else {"readinessProbe"}
        yield from (f"{pods.title} has no {kind}" for kind in sorted(wanted - container.keys()))
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if kind in container:
                yield from _patience(pods, kind, container[kind])
        if pods.command:
            yield from _paths(pods, container)
        if pods.command == "serve":
            yield from _readiness(cluster, pods, container.get("readinessProbe", {}))


def _patience(pods: Pods, kind: str, probe: Object) -> Iterator[str]:
    timeout, period, failures = probe["timeoutSeconds"], probe["periodSeconds"], probe["failureThreshold"]
    if timeout < MIN_TIMEOUT_SECONDS:
        yield f"{pods.title}: {kind} waits less than {MIN_TIMEOUT_SECONDS} s"
    if failures < MIN_FAILURES:
        yield f"{pods.title}: {kind} gives up after fewer than {MIN_FAILURES} failures"
    if timeout > period:
        yield f"{pods.title}: {kind} is asked again before it timed out"
    if kind == "livenessProbe" and period * failures < MIN_LIVENESS_SECONDS:
        yield f"{pods.title}: {kind} kills within {MIN_LIVENESS_SECONDS} s"


def _paths(pods: Pods, container: Object) -> Iterator[str]:
    known = PATHS[pods.command]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container.get(kind, {}).get("httpGet", {"port": "none", "path": "none"})
        path = asked["path"]
        if path not in known.get(asked["port"], set()):
            yield f"{pods.title}: {kind} asks {path} of {asked['port']!r}, which is no route there"
        elif (path in READY) != (kind == "readinessProbe"):
            yield f"{pods.title}: {kind} asks {path}, which is for another probe"


def _readiness(cluster: Cluster, pods: Pods, probe: Object) -> Iterator[str]:
    if probe.get("timeoutSeconds", 0) <= health_routes.PING_SECONDS:
        yield f"{pods.title}: readinessProbe waits less than the service does for its database"
    seen = probe.get("periodSeconds", 0) * probe.get("failureThreshold", 0)
    if seen >= settings_of(cluster, pods).seconds_to_drain():
        yield f"{pods.title}: DRAIN_SECONDS are over before the readinessProbe has failed"
