"""`make kind-up`: what it runs, in which order, and what it says when a program is missing."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from k8s import kind
from service.settings import Settings
from tests.k8s.cluster import Cluster
from tests.k8s.conftest import Rendered
from tests.k8s.rendering import K8S, ROOT

SCRIPT = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docker, kind and kubectl that write down how they were called; gives that file."""
    log, folder = tmp_path / "log", tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "kind", "kubectl"):
        (folder / name).write_text(SCRIPT.format(log=log))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(kind, "SECRETS", tmp_path / "secrets")
    return log


def test_everything_is_made_in_order(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The image is built and loaded before the objects are applied, and pods are waited for."""
    assert kind.main(["up"]) == 0
    called = [
        line.replace("kubectl --context kind-feature-agent --namespace feature-agent ", "kubectl ")
        for line in programs.read_text().splitlines()
    ]
    assert [" ".join(line.split()[:3]) for line in called] == [
        "docker build --tag",
        "kind get clusters",
        "kind create cluster",
        "kind load docker-image",
        "kubectl delete job",
        "kubectl apply --server-side",
        "kubectl rollout restart",
        "kubectl rollout status",
        "kubectl rollout status",
    ]
    assert stat.S_IMODE(kind.SECRETS.stat().st_mode) == 0o700
    assert "port-forward" in capsys.readouterr().out


def test_a_missing_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Docker nothing is made, and one line says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kind, "SECRETS", tmp_path / "secrets")
    assert kind.main(["up"]) == 1
    assert capsys.readouterr().err == "docker is not installed\n"
    assert not kind.SECRETS.exists()


def test_a_program_that_fails_ends_it(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is applied when the image could not be built."""
    (programs.parent / "bin/docker").write_text("#!/bin/sh\nexit 3\n")
    assert kind.main(["up"]) == 1
    assert "exit status 3" in capsys.readouterr().err
    assert not programs.exists()


def test_secrets_are_not_in_the_repository(tmp_path: Path) -> None:
    """They are below a folder that Git ignores, and nothing that is committed has any."""
    ignored = subprocess.run(["git", "check-ignore", "-q", str(kind.SECRETS / "x")], cwd=ROOT, check=False)
    if (ROOT / ".git").exists():
        assert ignored.returncode == 0
    assert kind.SECRETS.parent == K8S / "overlays/local"
    for path in K8S.rglob("*.yaml"):
        assert "kind: Secret\n" not in path.read_text(), path


def test_the_local_service_starts_with_its_secrets(rendered: Rendered) -> None:
    """The generated Secret is of settings alone, and the hosts that its addresses name are Services."""
    cluster = Cluster(rendered("overlays/local"))
    secret = cluster.get("Secret", "feature-agent")
    assert secret["data"].keys() <= Settings.model_fields.keys()
    assert {"postgres", "redis"} <= {one["metadata"]["name"] for one in cluster.of("Service")}
