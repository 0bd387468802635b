"""What goes wrong inside of PostgreSQL while it answers: transactions that last, and sessions that wait for them."""

from __future__ import annotations

from observability.source.causes.cause import COUNT, Cause

_SESSIONS = 'datname!~"template.*|postgres",backend_type="client backend"'

CAUSES = (
    Cause(
        alert="LongTransaction",
        group="sessions",
        query=f"max by (datname, state) (pg_stat_activity_max_tx_duration{{{_SESSIONS}}}) > <15m>",
        pending="1m",
        summary="A transaction has been open for very long.",
        description=(
            "A session of {{ $labels.datname }} ({{ $labels.state }}) began its transaction"
            " {{ $value | humanizeDuration }} ago."
        ),
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="SessionsWaitForLocks",
        group="sessions",
        query=f'sum by (datname) (pg_stat_activity_count{{{_SESSIONS},wait_event_type="Lock"}}) > 0',
        pending="5m",
        slo="api-latency-read",
        summary="Sessions of the database wait for a lock that another holds.",
        description=f"{COUNT} sessions of {{{{ $labels.datname }}}} wait for a lock.",
        dashboard="feature-agent-saturation",
    ),
)
