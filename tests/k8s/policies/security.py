"""Pods may do what they need, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.k8s.cluster import SERVICE, Cluster, Pods
from tests.k8s.rendering import Object

USER = 10001
"""As in the Dockerfile."""
POD_SECURITY = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
POD = {"automountServiceAccountToken": False, "enableServiceLinks": False}
CONTAINER = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
FORBIDDEN = ("hostNetwork", "hostPID", "hostIPC", "hostUsers")
PINNED = re.compile(r"@sha256:[0-9a-f]{64}$|:(?:local|v?\d+\.\d+[\w.-]*)$")
READABLE_BY_OTHERS = 0o007


def security(cluster: Cluster) -> Iterator[str]:
    """Pod Security is enforced; no pod has a token, a file system to write to, or an image that may change."""
    for one in cluster.of("Namespace"):
        labels = one["metadata"].get("labels", {})
        yield from (f"Namespace lacks {key}={value}" for key, value in POD_SECURITY.items() if labels.get(key) != value)
    for one in cluster.of("ServiceAccount"):
        if one.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{one['metadata']['name']} hands out a token"
    for pods in cluster.pods:
        yield from _pod(pods)
        for container in pods.containers:
            yield from _container(pods, container)


def _pod(pods: Pods) -> Iterator[str]:
    context = pods.spec.get("securityContext", {})
    yield from (f"{pods.title}: {key} is not {value}" for key, value in POD.items() if pods.spec.get(key) is not value)
    yield from (f"{pods.title} has {key}" for key in FORBIDDEN if pods.spec.get(key))
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield f"{pods.title} may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{pods.title} has no seccomp profile"
    if pods.labels.get("app.kubernetes.io/name") == SERVICE and context.get("runAsUser") != USER:
        yield f"{pods.title} runs as another user than its image's"
    for volume in pods.spec.get("volumes", ()):
        if "hostPath" in volume:
            yield f"{pods.title} mounts its node's {volume['hostPath']['path']}"
        if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & READABLE_BY_OTHERS:
            yield f"{pods.title}: everybody may read {volume['name']}"
        if "secret" in volume and not context.get("fsGroup"):
            yield f"{pods.title} cannot read {volume['name']} without fsGroup"


def _container(pods: Pods, container: Object) -> Iterator[str]:
    context = container.get("securityContext", {})
    for key, value in CONTAINER.items():
        if context.get(key) != value:
            yield f"{pods.title}: {container['name']} has {key}={context.get(key)}"
    if context.get("privileged"):
        yield f"{pods.title}: {container['name']} is privileged"
    if not PINNED.search(container["image"]):
        yield f"{pods.title}: the image {container['image']} is not pinned"
    for variable in container.get("env", ()):
        if re.search("PASSWORD$|SECRET$|KEY$|TOKEN$", variable["name"]) and "value" in variable:
            yield f"{pods.title}: {variable['name']} is in the manifest"
