"""Rules and boards as objects of Kubernetes, for components/prometheus-operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

from observability.source import alerts, recording
from observability.source.dashboards.all_boards import boards
from observability.source.dashboards.board import rendered
from observability.source.rule_files import HEADER
from observability.source.slo import Objectives

FOLDER = "k8s/components/prometheus-operator"
RULES = f"{FOLDER}/rules.yaml"
NAMESPACE = "feature-agent"
LABELS = {"app.kubernetes.io/name": "feature-agent", "app.kubernetes.io/part-of": "feature-agent"}


def render(objectives: Objectives) -> Mapping[str, str]:
    """The rules as PrometheusRules, a board in each of the ConfigMaps."""
    files = {**recording.render(objectives), **alerts.render(objectives)}
    dashboards = {
        f"{FOLDER}/dashboards/{board.uid}.yaml": HEADER + _written(_dashboard(board.uid, rendered(board)))
        for board in boards(objectives)
    }
    return {RULES: HEADER + "---\n".join(_written(_rule(path, text)) for path, text in files.items()), **dashboards}


def _rule(path: str, text: str) -> dict[str, Any]:
    """One rule file; Prometheus reads the same groups there."""
    kind = "alerts" if path.endswith(".rules.yml") else "recording"
    name = PurePath(path).name.partition(".")[0]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": f"feature-agent-{kind}-{name}", "namespace": NAMESPACE, "labels": dict(LABELS)},
        "spec": yaml.safe_load(text),
    }


def _dashboard(uid: str, text: str) -> dict[str, Any]:
    """One board, on one line: a ConfigMap may hold 1 MiB, and `kubectl apply` without --server-side keeps 256 KiB."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": uid, "namespace": NAMESPACE, "labels": {**LABELS, "grafana_dashboard": "1"}},
        "data": {f"{uid}.json": json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)},
    }


def _written(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=2**20, allow_unicode=True)
