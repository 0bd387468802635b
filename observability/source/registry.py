"""Which renderers there are: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from observability.source import alertmanager, alerts, kubernetes, recording, telemetry_document
from observability.source.dashboards.all_boards import render as dashboards
from observability.source.proofs import render as proofs
from observability.source.slo import Objectives

Render = Callable[[Objectives], Mapping[str, str]]
"""Gives the text of each generated file by its path from the repository's root."""


class Renderer(Struct, frozen=True):
    """One kind of generated files."""

    name: str
    render: Render
    owns: tuple[str, ...]
    """Globs from the repository's root; a file there that is not rendered any more is drift too."""


RENDERERS: tuple[Renderer, ...] = (
    Renderer("dashboards", dashboards, ("observability/grafana/dashboards/*.json",)),
    Renderer("recording rules", recording.render, ("observability/prometheus/rules/*.yml",)),
    Renderer("telemetry document", telemetry_document.render, ("docs/telemetry.md",)),
    Renderer("alerts", alerts.render, ("observability/alerts/*.rules.yml",)),
    Renderer("local routes", alertmanager.render, ("observability/alerts/alertmanager.local.yml",)),
    Renderer("proofs of alerts", proofs.render, ("observability/alerts/tests/*.test.yml",)),
    Renderer("objects of Kubernetes", kubernetes.render, (kubernetes.RULES, f"{kubernetes.FOLDER}/dashboards/*.yaml")),
)
