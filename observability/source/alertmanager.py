"""`alertmanager.local.yml`: the routes of `alertmanager.yml` to receivers that send nothing, for one's own machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from observability.source.slo import Objectives

SHIPPED = Path(__file__).parents[1] / "alerts/alertmanager.yml"
_HEADER = (
    "# Generated from alertmanager.yml by `make observability`: the same routes and inhibitions, and nothing is sent.\n"
)


def shipped() -> dict[str, Any]:
    """The configuration for production."""
    return yaml.safe_load(SHIPPED.read_text())


def render(_objectives: Objectives) -> Mapping[str, str]:
    """Only names are left of the receivers, so that no secret is needed and nothing leaves the machine."""
    written = shipped()
    local = {
        "route": written["route"],
        "inhibit_rules": written["inhibit_rules"],
        "receivers": [{"name": receiver["name"]} for receiver in written["receivers"]],
    }
    text = yaml.safe_dump(local, sort_keys=False, width=1000)
    return {"observability/alerts/alertmanager.local.yml": _HEADER + text}
