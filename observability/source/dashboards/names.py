"""Uids and names that boards, provisioning and alerts share."""

from __future__ import annotations

SERVICE = "feature-agent"

PROMETHEUS = "prometheus"
JAEGER = "jaeger"
LOKI = "loki"
ALERTMANAGER = "alertmanager"

OVERVIEW = "feature-agent-overview"
EXTRACTIONS = "feature-agent-extractions"
MODEL = "feature-agent-model"
SATURATION = "feature-agent-saturation"
SLO = "feature-agent-slo"
LOAD = "feature-agent-load"
TELEMETRY = "feature-agent-telemetry"
