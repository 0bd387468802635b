"""What ConfigMaps tell the service is what it understands, and enough for production."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from opentelemetry import environment_variables as of_the_api
from opentelemetry.sdk import environment_variables as of_the_sdk
from pydantic import ValidationError

from service.settings import Settings
from tests.k8s.cluster import SERVICE, Cluster, Pods, plain, title

FIELDS = frozenset(Settings.model_fields)
VARIABLES = {
    "SECRETS_DIR",
    *(name.upper() for name in FIELDS),
    *(name for module in (of_the_api, of_the_sdk) for name in vars(module) if name.startswith("OTEL_")),
}
"""What the service reads: its settings, the folder of those that are files, and OpenTelemetry's standard ones."""
GIVEN = {
    "jwt_secret": "a" * 64,
    "database_url": "postgresql+psycopg://feature_agent:password@pgbouncer:5432/feature_agent",
    "redis_password": "password",
    "webhook_secret": "b" * 64,
}
"""Stands for what the Secret holds."""


def settings_of(cluster: Cluster, pods: Pods) -> Settings:
    """The settings of those pods' process, read as the container reads them, with made-up secrets."""
    with _environment(cluster.environment(pods)), tempfile.TemporaryDirectory() as folder:
        for name, value in GIVEN.items():
            (Path(folder) / name).write_text(value)
        return Settings(_env_file=None, _secrets_dir=folder)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.lower() in FIELDS]:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def settings(cluster: Cluster) -> Iterator[str]:
    """Each variable is a setting or one of OpenTelemetry's, and together with the secrets they start in production."""
    for one in cluster.of("ConfigMap"):
        if not plain(one).startswith(SERVICE) or any("." in key for key in one["data"]):
            continue
        for name in one["data"]:
            if name not in VARIABLES:
                yield f"{title(one)}: {name} is no setting"
    for pods in cluster.pods:
        if pods.labels.get("app.kubernetes.io/name") == SERVICE:
            yield from _starts(cluster, pods)
            yield from _once(cluster, pods)
    yield from _secret_files(cluster)


def _starts(cluster: Cluster, pods: Pods) -> Iterator[str]:
    try:
        read = settings_of(cluster, pods)
    except ValidationError as error:
        yield f"{pods.title} does not start: {'; '.join(fault['msg'] for fault in error.errors())}"
        return
    if read.environment != "production":
        yield f"{pods.title} runs as {read.environment}"
    mounted = {mount["mountPath"] for one in pods.containers for mount in one["volumeMounts"]}
    for place in (cluster.environment(pods).get("SECRETS_DIR"), str(read.data_dir)):
        if place not in mounted:
            yield f"{pods.title} has nothing mounted at {place}"
    if pods.command == "serve" and read.worker_in_api:
        yield f"{pods.title} would run jobs"
    for ingress in cluster.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            if pods.command == "serve" and rule["host"] not in read.allowed_hosts:
                yield f"{pods.title}: ALLOWED_HOSTS lacks {rule['host']} of {title(ingress)}"


def _once(cluster: Cluster, pods: Pods) -> Iterator[str]:
    """No setting is in two of its ConfigMaps, and each variable of its own is a setting or an argument."""
    container = pods.spec["containers"][0]
    sources = [cluster.get("ConfigMap", one["configMapRef"]["name"])["data"] for one in container.get("envFrom", ())]
    times = Counter(name for source in sources for name in source)
    yield from (f"{pods.title} gets {name} twice" for name, times in times.items() if times > 1)
    for variable in container.get("env", ()):
        argument = f"$({variable['name']})" in " ".join(container.get("args", ()))
        if variable["name"] not in VARIABLES and not argument:
            yield f"{pods.title}: {variable['name']} is read by nothing"


def _secret_files(cluster: Cluster) -> Iterator[str]:
    for one in cluster.of("Secret", "ExternalSecret"):
        keys = {entry["secretKey"] for entry in one["spec"]["data"]} if "spec" in one else set(one["data"])
        if plain(one) != SERVICE:
            continue
        yield from (f"{title(one)}: {key} is no setting" for key in sorted(keys - FIELDS))
        yield from (f"{title(one)} lacks {key}" for key in sorted({"jwt_secret", "database_url"} - keys))
