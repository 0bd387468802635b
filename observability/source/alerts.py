"""Alerting rules."""

from __future__ import annotations

from collections.abc import Mapping

from observability.source import burn
from observability.source.rule_files import rule_file
from observability.source.slo import Objectives


def render(objectives: Objectives) -> Mapping[str, str]:
    """Every file of alerting rules."""
    return {"observability/alerts/slo.rules.yml": rule_file(burn.groups(objectives))}
