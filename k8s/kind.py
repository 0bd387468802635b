"""`python -m k8s.kind up | down | secrets`: the service in a cluster on this machine, made by kind."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from observability.stack import secret_files

ROOT = Path(__file__).parents[1]
OVERLAY = ROOT / "k8s/overlays/local"
SECRETS = OVERLAY / ".secrets"
"""Below the overlay, because kustomize reads no file above it."""
CLUSTER = "feature-agent"
CONTEXT = f"kind-{CLUSTER}"
IMAGE = "feature-agent:local"
READY = "10m"
"""For images to be pulled and everything to become ready."""


class Missing(RuntimeError):
    """A program is not on this machine; the message says which."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 with a line when it did not work."""
    parser = argparse.ArgumentParser(prog="python -m k8s.kind", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "secrets"))
    command = parser.parse_args(arguments).command
    try:
        if command == "secrets":
            secret_files.make(SECRETS)
        elif command == "down":
            _run("kind", "delete", "cluster", "--name", CLUSTER)
        else:
            up()
    except (Missing, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def up() -> None:
    """Make what is missing (cluster, image, secrets), apply the overlay, wait, and say how to reach the API."""
    for program in ("docker", "kind", "kubectl"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed")
    secret_files.make(SECRETS)
    _run("docker", "build", "--tag", IMAGE, str(ROOT))
    if CLUSTER not in _said("kind", "get", "clusters").split():
        _run("kind", "create", "cluster", "--config", str(ROOT / "k8s/kind.yaml"), "--wait", "2m")
    _run("kind", "load", "docker-image", IMAGE, "--name", CLUSTER)
    # A Job cannot be changed; a new image or setting needs a new one.
    _kubectl("delete", "job", "feature-agent-migrate", "--ignore-not-found")
    _kubectl("apply", "--server-side", "--kustomize", str(OVERLAY))
    # The image's tag is always the same: pods of an earlier build would stay.
    _kubectl("rollout", "restart", "deployment/feature-agent-api", "deployment/feature-agent-worker")
    _kubectl("rollout", "status", "deployment/feature-agent-api", f"--timeout={READY}")
    _kubectl("rollout", "status", "deployment/feature-agent-worker", f"--timeout={READY}")
    at = f"kubectl --context {CONTEXT} --namespace feature-agent"
    sys.stdout.write(
        f"\nA key:   {at} exec deployment/feature-agent-api -- feature-agent keys create --name local\n"
        f"The API: {at} port-forward service/feature-agent-api 8000, then http://localhost:8000/api/docs\n"
    )


def _kubectl(*arguments: str) -> None:
    _run("kubectl", "--context", CONTEXT, "--namespace", "feature-agent", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603 -- the commands above


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout  # noqa: S603 -- likewise


if __name__ == "__main__":
    sys.exit(main())
