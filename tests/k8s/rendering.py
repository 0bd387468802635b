"""What `kubectl kustomize` makes of k8s/: the base, every overlay, and every component on the base."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.stack import secret_files

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = tuple(f"overlays/{path.name}" for path in sorted((K8S / "overlays").iterdir()) if path.is_dir())
COMPONENTS = tuple(f"components/{path.name}" for path in sorted((K8S / "components").iterdir()) if path.is_dir())
EVERYTHING = ("base", *OVERLAYS, *COMPONENTS)

Object = dict[str, Any]
_ON_BASE = "resources: [../base]\ncomponents: [../{component}]\n"


def kubectl() -> str:
    """The program: KUBECTL_BIN, or the one on PATH. Without either the test is skipped."""
    found = shutil.which(os.environ.get("KUBECTL_BIN", "kubectl"))
    if found is None:
        pytest.skip("kubectl is not installed (PATH or KUBECTL_BIN)")
    return found


def copied(folder: Path) -> Path:
    """k8s/ in a folder of its own, with secrets of its own and with a kustomization for each component on the base."""
    tree = folder / "k8s"
    shutil.copytree(K8S, tree, ignore=shutil.ignore_patterns(".secrets", "__pycache__"))
    secret_files.make(tree / "overlays/local/.secrets")
    for component in COMPONENTS:
        alone = tree / _folder_of(component)
        alone.mkdir()
        (alone / "kustomization.yaml").write_text(_ON_BASE.format(component=component))
    return tree


def render(tree: Path, name: str) -> list[Object]:
    """The objects of one of EVERYTHING; a kustomization that cannot be built fails the test with kustomize's words."""
    built = subprocess.run(
        [kubectl(), "kustomize", str(tree / _folder_of(name))], capture_output=True, text=True, check=False, timeout=60
    )
    assert built.returncode == 0, built.stderr
    assert not built.stderr, built.stderr
    return [document for document in yaml.safe_load_all(built.stdout) if document]


def _folder_of(name: str) -> str:
    return name.replace("components/", "on-base-") if name in COMPONENTS else name
