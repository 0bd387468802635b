"""Requests, limits, and whether what the engine may use fits them."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from service.engines.selection import engine_options
from tests.k8s.cluster import Cluster, Pods, quantity
from tests.k8s.policies.settings import settings_of
from tests.k8s.rendering import Object

MIB = 2**20
PROCESS_MIB = {"serve": 150, "worker": 170}
"""What the service's own process holds after warm-up."""
ENGINE_PROCESS_MIB = 90
"""What each engine process holds beside the engine's `memory_mib`: the interpreter and the libraries."""


def resources(cluster: Cluster) -> Iterator[str]:
    """Each container has requests and limits of CPU and memory, and none asks for more than it may use."""
    for pods in cluster.pods:
        for container in pods.containers:
            yield from _bounds(pods, container)


def _bounds(pods: Pods, container: Object) -> Iterator[str]:
    given = container.get("resources", {})
    for resource in ("cpu", "memory"):
        least, most = (given.get(kind, {}).get(resource) for kind in ("requests", "limits"))
        if least is None or most is None:
            yield f"{pods.title}: {container['name']} has no request or no limit of {resource}"
        elif quantity(least) > quantity(most):
            yield f"{pods.title}: {container['name']} requests more {resource} than its limit"


def engine(cluster: Cluster) -> Iterator[str]:
    """The engine's memory, threads and scratch space, all its computations together, fit what the pod may use."""
    for pods in cluster.pods:
        if pods.command not in PROCESS_MIB:
            continue
        settings = settings_of(cluster, pods)
        options = engine_options(settings.engine_url)
        limits = pods.spec["containers"][0]["resources"].get("limits", {})
        engine = (options["memory_mib"] + ENGINE_PROCESS_MIB) * options["concurrency"]
        memory = engine + PROCESS_MIB[pods.command]
        if memory * MIB > quantity(limits.get("memory", 0)):
            yield f"{pods.title}: engine and process may use {memory} MiB, the limit is {limits.get('memory')}"
        if options["threads"] > ceil(quantity(limits.get("cpu", 0))):
            yield f"{pods.title}: the engine has more threads than the pod has CPUs"
        uploads = settings.max_upload_bytes if pods.command == "serve" else 0
        scratch = options["scratch_mib"] * MIB * options["concurrency"] + 2 * uploads
        data = next(volume for volume in pods.spec["volumes"] if volume["name"] == "data")
        if scratch > quantity(data["emptyDir"].get("sizeLimit", 0)):
            yield f"{pods.title}: scratch space and uploads may take {scratch // MIB} MiB of /data"


def folders(cluster: Cluster) -> Iterator[str]:
    """Every emptyDir has a limit, so that a full one ends a pod and not its node."""
    for pods in cluster.pods:
        for volume in pods.spec.get("volumes", ()):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pods.title}: {volume['name']} has no sizeLimit"
