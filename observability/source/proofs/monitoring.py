"""Proofs of `causes/monitoring.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_UP = 'up{job="redis",instance="r"}'
_DROPPED = 'telemetry_spans_dropped_total{job="feature-agent"}'
_FAILED = 'prometheus_rule_evaluation_failures_total{rule_group="g"}'
_UNSENT = 'alertmanager_notifications_failed_total{integration="slack"}'

PROOFS = (
    Proof(
        alert="TargetDown",
        fires={_UP: "1x4 0x9 1x20"},
        pending="9m",
        at="11m",
        expect=(Expected(labels={"job": "redis", "instance": "r"}, description="r of job redis does not answer."),),
        clear="16m",
        below={_UP: "1x4 0x4 1x20"},
    ),
    Proof(
        alert="SpansDropped",
        fires={_DROPPED: "0+60x20 1200+0x40"},
        pending="4m",
        at="15m",
        expect=(Expected(labels={"job": "feature-agent"}, description="feature-agent loses 60 spans a minute."),),
        clear="40m",
        below={_DROPPED: "0+5x60"},
    ),
    Proof(
        alert="RuleEvaluationFailures",
        fires={_FAILED: "0+2x15 30+0x30"},
        pending="4m",
        at="12m",
        expect=(Expected(labels={"rule_group": "g"}, description="10 evaluations of g failed within 5 minutes."),),
        clear="25m",
        below={_FAILED: "30x45"},
    ),
    Proof(
        alert="NotificationsFailing",
        what="at Alertmanager",
        fires={_UNSENT: "0+60x15 900+0x30"},
        pending="4m",
        at="12m",
        expect=(Expected(labels={"integration": "slack"}, description="60 notifications a minute fail (slack)."),),
        clear="25m",
        below={_UNSENT: "900x45"},
    ),
    Proof(
        alert="NotificationsFailing",
        what="before Alertmanager",
        fires={"prometheus_notifications_dropped_total": "0+60x15 900+0x30"},
        pending="4m",
        at="12m",
        expect=(
            Expected(
                labels={"integration": "alertmanager"}, description="60 notifications a minute fail (alertmanager)."
            ),
        ),
        clear="25m",
        below={"prometheus_notifications_dropped_total": "900x45"},
    ),
    Proof(
        alert="Watchdog",
        fires={"up": "0x5"},
        at="1m",
        expect=(
            Expected(
                severity="none",
                description=(
                    "Prometheus evaluates rules, Alertmanager gets them. A receiver that misses it should page."
                ),
            ),
        ),
        clear=None,
    ),
)
