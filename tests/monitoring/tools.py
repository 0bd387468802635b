"""Prometheus' and Alertmanager's own tools, and the shipped files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "observability"
ALERTS = OBSERVABILITY / "alerts"
RULES = sorted([*(OBSERVABILITY / "prometheus/rules").glob("*.yml"), *ALERTS.glob("*.rules.yml")])


def tool(name: str) -> str:
    """The path of a program, or a skip that names it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path) -> str:
    """What a tool says; a tool that fails fails the test with its words."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def groups() -> Iterator[dict[str, Any]]:
    """Every shipped group of rules."""
    for path in RULES:
        yield from yaml.safe_load(path.read_text())["groups"]


def alerts() -> list[dict[str, Any]]:
    """Every shipped alerting rule."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]
