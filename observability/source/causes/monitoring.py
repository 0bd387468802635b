"""The watchers themselves."""

from __future__ import annotations

from observability.source.causes.cause import COUNT, RATE, Cause

CAUSES = (
    Cause(
        alert="TargetDown",
        group="targets",
        query="up == 0",
        pending="5m",
        summary="Prometheus cannot scrape a target.",
        description="{{ $labels.instance }} of job {{ $labels.job }} does not answer.",
        dashboard="feature-agent-telemetry",
    ),
    Cause(
        alert="SpansDropped",
        group="traces",
        query="60 * sum by (job) (rate(telemetry_spans_dropped_total{@own}[10m])) > 6",
        pending="5m",
        summary="Traces do not reach the collector.",
        description=f"{{{{ $labels.job }}}} loses {RATE} spans a minute.",
        dashboard="feature-agent-telemetry",
    ),
    Cause(
        alert="RuleEvaluationFailures",
        group="monitoring",
        query="sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[5m])) > 0",
        pending="5m",
        summary="Prometheus cannot evaluate a rule: an alert may be blind.",
        description=f"{COUNT} evaluations of {{{{ $labels.rule_group }}}} failed within 5 minutes.",
        dashboard="feature-agent-telemetry",
    ),
    Cause(
        alert="NotificationsFailing",
        group="monitoring",
        query=(
            "60 * sum by (integration) (rate(alertmanager_notifications_failed_total[5m])) > 0"
            " or label_replace(60 * sum(rate(prometheus_notifications_dropped_total[5m])) > 0,"
            ' "integration", "alertmanager", "", "")'
        ),
        pending="5m",
        summary="Alerts fire and their notifications do not arrive.",
        description=f"{RATE} notifications a minute fail ({{{{ $labels.integration }}}}).",
        dashboard="feature-agent-telemetry",
    ),
    Cause(
        alert="Watchdog",
        group="watchdog",
        query="vector(1)",
        pending="0s",
        severity="none",
        summary="Always fires: its absence means that alerting is broken.",
        description="Prometheus evaluates rules, Alertmanager gets them. A receiver that misses it should page.",
        dashboard="feature-agent-telemetry",
    ),
)
