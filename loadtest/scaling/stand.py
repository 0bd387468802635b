"""What the pods of a proof share: a database, artifacts, a key, and one worker that is not scaled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from embedded_postgres.server import start_embedded
from loadtest.errors import BadInput
from loadtest.limits import UNLIMITED
from loadtest.local import ROOT
from loadtest.scaling.manifest import Deployed

STOP_TIMEOUT_SECONDS = 60.0
COMMAND_TIMEOUT_SECONDS = 120.0
MANAGED = frozenset(
    {"SECRETS_DIR", "DATA_DIR", "ARTIFACTS_URL", "REDIS_URL", "ENVIRONMENT", "ALLOWED_HOSTS", "JAEGER_ENABLED"}
)
"""Settings of the manifests in whose place a proof on one machine has its own."""


class Stand(Struct, frozen=True):
    """Where everything is."""

    folder: Path
    key: str
    environment: dict[str, str]

    def settings(self, deployed: Deployed, name: str, address: str) -> dict[str, str]:
        """Give the environment of a pod: the manifests' settings, with what this machine has in place of a cluster."""
        kept = {setting: value for setting, value in deployed.settings.items() if setting not in MANAGED}
        own = {"DATA_DIR": str(self.folder / name), "HOST": address, "PORT": "8000", "PROMETHEUS_PORT": "8090"}
        return {**kept, **self.environment, **own, "ALLOWED_HOSTS": f"localhost,127.0.0.1,{address}"}


@contextmanager
def open_stand(worker_settings: Mapping[str, str] | None = None) -> Generator[Stand]:
    """Start the shared parts. Raises BadInput with what a command said when one fails."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="hpa-proof-")))
        database = start_embedded(folder / "postgresql")
        cleanup.callback(database.stop)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "ENVIRONMENT": "test",
            "DATABASE_URL": database.url,
            "ARTIFACTS_URL": f"file://{folder}/artifacts",
            "JWT_SECRET": os.urandom(32).hex(),
            **UNLIMITED,
            "LOG_LEVEL": "WARNING",
        }
        command(["migrate"], {**environment, "DATA_DIR": str(folder / "commands")}, folder)
        made = command(
            ["keys", "create", "--name", "load", "--json"],
            {**environment, "DATA_DIR": str(folder / "commands")},
            folder,
        )
        if worker_settings is not None:
            cleanup.enter_context(_worker(folder, {**environment, **worker_settings}))
        yield Stand(folder, str(json.loads(made)["key"]), environment)


def command(arguments: list[str], environment: Mapping[str, str], folder: Path) -> str:
    """Run a command of the service; gives what it printed. Raises BadInput."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise BadInput(f"feature-agent {arguments[0]} failed: {' '.join((done.stderr or done.stdout)[-300:].split())}")
    return done.stdout


@contextmanager
def _worker(folder: Path, environment: Mapping[str, str]) -> Generator[None]:
    own = {**environment, "DATA_DIR": str(folder / "worker"), "PROMETHEUS_PORT": "0"}
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "worker"], cwd=folder, env=own, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
