"""What the Kubernetes manifests promise: requests, limits, settings, and the autoscaler's spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml
from msgspec import Struct

from loadtest.errors import BadInput
from loadtest.hpa.spec import Spec, read_spec

BASE = Path(__file__).parents[2] / "k8s" / "base"
MIB = 2**20
SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


class Resources(Struct, frozen=True):
    """Of one container."""

    request_cpu_m: int
    """Thousandths of a core."""
    limit_cpu_m: int
    request_memory: int
    """Bytes."""
    limit_memory: int


class Deployed(Struct, frozen=True):
    """One Deployment and its autoscaler."""

    name: str
    component: str
    resources: Resources
    pre_stop_seconds: float
    grace_seconds: float
    settings: dict[str, str]
    autoscaler: dict[str, Any]
    """Spec of the HorizontalPodAutoscaler as its manifest has it."""

    def spec(self) -> Spec:
        """Give the autoscaler's spec as the model reads it. Raises BadInput."""
        return read_spec(self.autoscaler, f"{self.name}: ")


def read_deployed(component: str, base: Path = BASE) -> Deployed:
    """Read a component's manifests (`api` or `worker`). Raises BadInput, naming what is missing."""
    name = f"feature-agent-{component}"
    deployment = _object(base / f"{component}.yaml", "Deployment", name)
    autoscaler = _object(base / "autoscaling.yaml", "HorizontalPodAutoscaler", name)
    try:
        pod = deployment["spec"]["template"]["spec"]
        [container] = pod["containers"]
        resources = container["resources"]
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        return Deployed(
            name=name,
            component=component,
            resources=Resources(
                request_cpu_m=cpu_millis(resources["requests"]["cpu"]),
                limit_cpu_m=cpu_millis(resources["limits"]["cpu"]),
                request_memory=memory_bytes(resources["requests"]["memory"]),
                limit_memory=memory_bytes(resources["limits"]["memory"]),
            ),
            pre_stop_seconds=float(sleep),
            grace_seconds=float(pod["terminationGracePeriodSeconds"]),
            settings={**_settings(base / "settings.env"), **_settings(base / f"{component}.env")},
            autoscaler=autoscaler["spec"],
        )
    except KeyError as error:
        raise BadInput(f"{base / component}.yaml: {name} lacks {error}") from None
    except (ValueError, TypeError) as error:
        raise BadInput(f"{base / component}.yaml: {name} cannot be read: {error}") from None


def _object(path: Path, kind: str, name: str) -> dict[str, Any]:
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    for document in (cast("dict[str, Any]", one) for one in documents if isinstance(one, dict)):
        if document.get("kind") == kind and _name_of(document) == name:
            return document
    raise BadInput(f"{path}: there is no {kind} {name}")


def _name_of(document: dict[str, Any]) -> str | None:
    metadata = document.get("metadata")
    return cast("dict[str, Any]", metadata).get("name") if isinstance(metadata, dict) else None


def _settings(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def cpu_millis(quantity: str | float) -> int:
    """Give thousandths of a core. Raises ValueError."""
    text = str(quantity)
    return round(float(text[:-1])) if text.endswith("m") else round(float(text) * 1000)


def memory_bytes(quantity: str | float) -> int:
    """Give bytes. Raises ValueError."""
    text = str(quantity)
    for suffix, factor in SUFFIXES.items():
        if text.endswith(suffix):
            return round(float(text[: -len(suffix)]) * factor)
    return round(float(text))
