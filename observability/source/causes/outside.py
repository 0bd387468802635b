"""The service as its users reach it, and processes that come and go."""

from __future__ import annotations

from observability.source.causes.cause import COUNT, Cause

CAUSES = (
    Cause(
        alert="ProbeFailing",
        group="probe",
        query='avg by (instance) (avg_over_time(probe_success{job="probe"}[5m])) < 0.7',
        pending="1m",
        severity="critical",
        slo="api-availability",
        summary="The service is not reached from outside, or not always.",
        description="{{ $labels.instance }} failed three of ten probes within 5 minutes, or more.",
        dashboard="feature-agent-overview",
    ),
    Cause(
        alert="CrashLoop",
        group="restarts",
        query="max by (job, instance) (changes(process_start_time_seconds[15m])) > 2",
        pending="0s",
        summary="A process starts again and again.",
        description=f"{{{{ $labels.instance }}}} of job {{{{ $labels.job }}}} started {COUNT} times within 15 minutes.",
        dashboard="feature-agent-saturation",
    ),
)
