"""The secrets of compose.yaml, as files: made once, never shown, never replaced."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

READABLE = 0o444
"""Containers run under users of their own, and the engine mounts a file as it is; the folder above keeps others out."""


def make(folder: Path) -> None:
    """Make what is missing below `folder`, which only its owner may enter.

    The passwords of PostgreSQL and Redis are each in several files, so these are made together or not at all.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ("service", "alertmanager"):
        (folder / name).mkdir(mode=0o755, exist_ok=True)
    _keep(folder / "grafana_password", _password)
    _keep(folder / "service/jwt_secret", _password)
    postgres = _keep(folder / "postgres_password", _password)
    redis = _keep(folder / "service/redis_password", _password)
    for name, content in _derived(postgres, redis).items():
        _keep(folder / name, lambda content=content: content)
    _keep(folder / "api_key", lambda: "not made yet")


def _derived(postgres: str, redis: str) -> Mapping[str, str]:
    return {
        "service/database_url": f"postgresql+psycopg://feature_agent:{postgres}@postgres:5432/feature_agent",
        "redis_conf": f"requirepass {redis}",
        "redis_exporter": json.dumps({"redis://redis:6379": redis}),
    }


def replace(file: Path, content: str) -> None:
    """Write a secret in place, so that a container that has the file mounted sees it."""
    file.chmod(0o600)
    file.write_text(content + "\n", encoding="utf-8")
    file.chmod(READABLE)


def _keep(file: Path, content: Callable[[], str]) -> str:
    if not file.exists():
        file.touch(mode=0o600)
        replace(file, content())
    return file.read_text(encoding="utf-8").strip()


def _password() -> str:
    """Letters and digits alone, so that it stands in an address and in a configuration file as it is."""
    return secrets.token_hex(32)
