"""Proofs of `causes/postgres.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_AGE = 'pg_stat_activity_max_tx_duration{datname="feature_agent",state="%s",backend_type="%s"}'
_WAITING = 'pg_stat_activity_count{datname="feature_agent",backend_type="client backend",wait_event_type="%s"}'

PROOFS = (
    Proof(
        alert="LongTransaction",
        fires={_AGE % ("idle in transaction", "client backend"): "60+60x20 0x20"},
        pending="15m",
        at="16m",
        expect=(
            Expected(
                labels={"datname": "feature_agent", "state": "idle in transaction"},
                description="A session of feature_agent (idle in transaction) began its transaction 17m 0s ago.",
            ),
        ),
        clear="25m",
        below={
            _AGE % ("active", "client backend"): "900x40",
            _AGE % ("active", "autovacuum worker"): "60+60x40",
        },
    ),
    Proof(
        alert="SessionsWaitForLocks",
        fires={_WAITING % "Lock": "_x4 3x8 stale"},
        pending="8m",
        at="10m",
        expect=(
            Expected(labels={"datname": "feature_agent"}, description="3 sessions of feature_agent wait for a lock."),
        ),
        clear="20m",
        below={_WAITING % "Lock": "_x4 3x3 stale", _WAITING % "Client": "20x40"},
    ),
)
