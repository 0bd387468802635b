"""Docker Compose, whichever of its two commands is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Runner = Sequence[str]
BUILDER = {"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1"}
"""The Dockerfiles mount secrets; Compose 1 and engines before 23 have to be asked for the builder that can."""


class NoEngine(RuntimeError):
    """There is no Docker to run containers with; the message says what is missing."""


def compose() -> Runner:
    """The command: `docker compose`, or else `docker-compose`. Raises NoEngine."""
    if shutil.which("docker") is None:
        raise NoEngine("docker is not installed: see https://docs.docker.com/engine/install/")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:  # noqa: S607 - found on PATH
        raise NoEngine("the Docker engine does not answer: is it running, and may you use it? (docker info)")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:  # noqa: S607 - found on PATH
        return ("docker", "compose")
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    raise NoEngine("Docker has no Compose: install its plugin (docker-compose-plugin)")


class Stack:
    """The containers of compose.yaml."""

    def __init__(self, root: Path, command: Runner) -> None:
        self._root = root
        self._command = command

    def run(self, *arguments: str, quiet: bool = False) -> str:
        """One command of Compose; gives its output. Raises CalledProcessError."""
        output = subprocess.PIPE if quiet else None
        done = subprocess.run(  # noqa: S603 - a fixed command
            [*self._command, *arguments],
            cwd=self._root,
            env={**BUILDER, **os.environ},
            stdout=output,
            stdin=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        return done.stdout or ""

    def states(self) -> dict[str, str]:
        """Each container that is kept running, with its health, or its state where it has none."""
        identities = self.run("ps", "--quiet", quiet=True).split()
        if not identities:
            return {}
        listed = subprocess.run(  # noqa: S603 - a fixed command, ids from the engine itself
            ["docker", "inspect", *identities],  # noqa: S607 - found on PATH
            capture_output=True,
            text=True,
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(listed.stdout)
        return {one["Name"].lstrip("/"): _health(one["State"]) for one in found if _stays(one)}

    def wait(self, seconds: float) -> dict[str, str]:
        """Until all are healthy, one has given up, or the time is over; gives those that are not healthy."""
        deadline = time.monotonic() + seconds
        while True:
            sick = {name: state for name, state in self.states().items() if state != "healthy"}
            if not sick or "exited" in sick.values() or time.monotonic() > deadline:
                return sick
            time.sleep(2)


def _stays(container: dict[str, Any]) -> bool:
    """Whether the engine starts it again; a load test ends by itself, and Compose 1 goes on listing it."""
    return container["HostConfig"]["RestartPolicy"]["Name"] not in {"", "no"}


def _health(state: dict[str, Any]) -> str:
    if state["Status"] != "running":
        return str(state["Status"])
    return str(state.get("Health", {}).get("Status", "running"))
