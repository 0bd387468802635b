"""Proofs of `causes/outside.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_PROBE = 'probe_success{job="probe",instance="https://feature-agent.example.com/health/ready"}'
_STARTED = 'process_start_time_seconds{job="%s",instance="a"}'

_FAILED = "https://feature-agent.example.com/health/ready failed three of ten probes within 5 minutes, or more."

PROOFS = (
    Proof(
        alert="ProbeFailing",
        fires={_PROBE: "1x10 0x6 1x30"},
        pending="12m",
        at="15m",
        expect=(
            Expected(
                severity="critical",
                labels={"instance": "https://feature-agent.example.com/health/ready"},
                description=_FAILED,
            ),
        ),
        clear="24m",
        below={_PROBE: "1x10 0x0 1x30"},
    ),
    Proof(
        alert="ProbeFailing",
        what="every second time",
        fires={_PROBE: "1x10 0 1 0 1 0 1 0 1 0 1 0 1x30"},
        at="18m",
        expect=(
            Expected(
                severity="critical",
                labels={"instance": "https://feature-agent.example.com/health/ready"},
                description=_FAILED,
            ),
        ),
        clear="35m",
    ),
    Proof(
        alert="CrashLoop",
        what="of the API",
        fires={_STARTED % "feature-agent": "100x5 200 300 400x40"},
        pending="7m",
        at="9m",
        expect=(
            Expected(
                labels={"job": "feature-agent", "instance": "a"},
                description="a of job feature-agent started 3 times within 15 minutes.",
            ),
        ),
        clear="25m",
        below={_STARTED % "feature-agent": "100x5 200 300x40"},
    ),
    Proof(
        alert="CrashLoop",
        what="of an exporter that is away in between",
        fires={_STARTED % "redis": "100x5 _ 200 _ 300 _ 400x40"},
        at="11m",
        expect=(
            Expected(
                labels={"job": "redis", "instance": "a"},
                description="a of job redis started 3 times within 15 minutes.",
            ),
        ),
        clear="30m",
        below={_STARTED % "redis": "100x5 _ 200 _ 300x40"},
    ),
)
