"""The edge: is it there, who knocks, how quick is its loop."""

from __future__ import annotations

from observability.source.causes.cause import OUTLASTS_BURNS, RATE, Cause

CAUSES = (
    Cause(
        alert="ApiDown",
        group="api",
        query='absent(up{job="feature-agent"} == 1)',
        pending="1m",
        keep=OUTLASTS_BURNS,
        severity="critical",
        slo="api-availability",
        summary="No API process answers Prometheus.",
        description="Every target of job feature-agent is down, or there is none.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="ApiTargetsDown",
        group="api-targets",
        query='count(up{job="feature-agent"} == 1) / count(up{job="feature-agent"}) < 0.5',
        pending="2m",
        severity="critical",
        slo="api-availability",
        summary="Most API processes do not answer Prometheus.",
        description="Only {{ $value | humanizePercentage }} of the targets of job feature-agent are up.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="AuthenticationFailureSurge",
        group="authentication",
        query='60 * sum by (reason) (rate(auth_failures_total{@own,reason=~"invalid|expired|revoked"}[5m])) > 60',
        pending="5m",
        summary="Many requests come with credentials that are refused.",
        description=f"{RATE} requests a minute are refused: {{{{ $labels.reason }}}} credentials.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="CredentialGuessing",
        group="authentication",
        query="60 * sum(rate(authentication_throttled_total{@own}[5m])) > 60",
        pending="5m",
        summary="Somebody goes on sending credentials that are refused.",
        description=f"{RATE} requests a minute are refused unread, for the refused credentials of their address.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="RateLimiterDegraded",
        group="rate-limiter",
        query='60 * sum(rate(rate_limit_decisions_total{@own,decision="degraded"}[5m])) > 0',
        pending="5m",
        summary="The rate limiter lets everything pass because its store is away.",
        description=f"{RATE} requests a minute pass without being counted.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="RequestsOverShare",
        group="shares",
        query='60 * sum by (kind) (rate(requests_over_share_total{@own,kind!="wait"}[15m])) > 30',
        pending="10m",
        summary="A principal goes on opening more at once than it may.",
        description=f"{RATE} requests a minute are refused beyond their principal's share: {{{{ $labels.kind }}}}.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="QuotaRefusals",
        group="quotas",
        query="60 * sum by (quota) (rate(quota_refusals_total{@own}[15m])) > 1",
        pending="30m",
        summary="Principals are refused because they keep as much as they may.",
        description=f"{RATE} requests a minute are refused: the quota of {{{{ $labels.quota }}}} is used up.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="EventLoopLag",
        group="event-loop",
        query=(
            "histogram_quantile(0.99, sum by (job, instance, le)"
            " (rate(event_loop_lag_seconds_bucket{@own}[5m]))) > 0.25"
        ),
        pending="5m",
        slo="api-latency-read",
        summary="The event loop of a process is late.",
        description="{{ $labels.instance }} wakes up {{ $value | humanizeDuration }} late at the 99th percentile.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="ConnectionsRefused",
        group="connections",
        query=(
            "60 * sum by (reason) (rate(connections_refused_total{@own,"
            'reason=~"too_many_connections.*|header_timeout|body_timeout|send_timeout"}[5m])) > 10'
        ),
        pending="5m",
        slo="api-availability",
        summary="Many connections are refused: they are too many, or too slow.",
        description=f"{RATE} connections a minute are refused: {{{{ $labels.reason }}}}.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="CertificateExpiring",
        group="certificate",
        query="min by (instance) (probe_ssl_earliest_cert_expiry) - time() < <14d>",
        pending="1h",
        summary="A TLS certificate expires soon and was not renewed.",
        description="The certificate of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="CertificateExpiring",
        group="certificate",
        query="min by (instance) (probe_ssl_earliest_cert_expiry) - time() < <3d>",
        pending="10m",
        severity="critical",
        slo="api-availability",
        summary="A TLS certificate expires within days: clients will refuse the service.",
        description="The certificate of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}.",
        dashboard="feature-agent-overview",
    ),
)
