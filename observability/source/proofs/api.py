"""Proofs of `causes/api.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_TWO_UP = {'up{job="feature-agent",instance="a"}': "1x30", 'up{job="feature-agent",instance="b"}': "1x30"}
_LAG = 'event_loop_lag_seconds_bucket{job="feature-agent",instance="a",le="%s"}'


def _lag(quick: str, late: str) -> dict[str, str]:
    return {_LAG % "0.1": quick, _LAG % "0.25": quick, _LAG % "0.5": late, _LAG % "+Inf": late}


PROOFS = (
    Proof(
        alert="ApiDown",
        what="all targets down",
        fires={
            'up{job="feature-agent",instance="a"}': "1x4 0x5 1x20",
            'up{job="feature-agent",instance="b"}': "0x9 1x20",
            'up{job="feature-agent-worker",instance="c"}': "1x30",
        },
        pending="5m",
        at="7m",
        expect=(
            Expected(
                severity="critical",
                description="Every target of job feature-agent is down, or there is none.",
            ),
        ),
        kept="15m",
        clear="18m",
        below={'up{job="feature-agent",instance="a"}': "1x30", 'up{job="feature-agent",instance="b"}': "0x30"},
    ),
    Proof(
        alert="ApiDown",
        what="no targets",
        fires={'up{job="feature-agent",instance="a"}': "stale _x9 1x20"},
        at="3m",
        expect=(
            Expected(
                severity="critical",
                description="Every target of job feature-agent is down, or there is none.",
            ),
        ),
        clear="18m",
    ),
    Proof(
        alert="ApiTargetsDown",
        fires={
            'up{job="feature-agent",instance="a"}': "1x30",
            'up{job="feature-agent",instance="b"}': "1x4 0x9 1x20",
            'up{job="feature-agent",instance="c"}': "1x4 0x9 1x20",
        },
        pending="6m",
        at="8m",
        expect=(Expected(severity="critical", description="Only 33.33% of the targets of job feature-agent are up."),),
        clear="16m",
        below={
            'up{job="feature-agent",instance="a"}': "1x30",
            'up{job="feature-agent",instance="b"}': "1x4 0x9 1x20",
        },
    ),
    Proof(
        alert="AuthenticationFailureSurge",
        fires={
            'auth_failures_total{job="feature-agent",reason="invalid"}': "0+120x20 2400+0x30",
            'auth_failures_total{job="feature-agent",reason="missing"}': "0+900x50",
        },
        pending="4m",
        at="12m",
        expect=(
            Expected(
                labels={"reason": "invalid"}, description="120 requests a minute are refused: invalid credentials."
            ),
        ),
        clear="30m",
        below={
            'auth_failures_total{job="feature-agent",reason="invalid"}': "0+59x50",
            'auth_failures_total{job="feature-agent",reason="missing"}': "0+900x50",
        },
    ),
    Proof(
        alert="ConnectionsRefused",
        fires={
            'connections_refused_total{job="feature-agent",instance="a",reason="too_many_connections"}': (
                "0+20x20 400+0x30"
            ),
            'connections_refused_total{job="feature-agent",instance="b",reason="too_many_connections"}': "0x50",
            'connections_refused_total{job="feature-agent",instance="a",reason="malformed"}': "0+900x50",
        },
        pending="4m",
        at="12m",
        expect=(
            Expected(
                labels={"reason": "too_many_connections"},
                description="20 connections a minute are refused: too_many_connections.",
            ),
        ),
        clear="30m",
        below={
            'connections_refused_total{job="feature-agent",instance="a",reason="header_timeout"}': "0+9x50",
            'connections_refused_total{job="feature-agent",instance="a",reason="evicted"}': "0+900x50",
        },
    ),
    Proof(
        alert="CredentialGuessing",
        fires={
            'authentication_throttled_total{job="feature-agent",instance="a"}': "0+80x20 1600+0x30",
            'authentication_throttled_total{job="feature-agent",instance="b"}': "0+40x20 800+0x30",
        },
        pending="4m",
        at="12m",
        expect=(
            Expected(
                description="120 requests a minute are refused unread, for the refused credentials of their address."
            ),
        ),
        clear="30m",
        below={
            'authentication_throttled_total{job="feature-agent",instance="a"}': "0+39x50",
            'authentication_throttled_total{job="feature-agent",instance="b"}': "0+20x50",
        },
    ),
    Proof(
        alert="RateLimiterDegraded",
        fires={'rate_limit_decisions_total{job="feature-agent",decision="degraded"}': "0+60x15 900+0x30"},
        pending="4m",
        at="12m",
        expect=(Expected(description="60 requests a minute pass without being counted."),),
        clear="25m",
        below={
            'rate_limit_decisions_total{job="feature-agent",decision="degraded"}': "900x50",
            'rate_limit_decisions_total{job="feature-agent",decision="limited"}': "0+60x50",
        },
    ),
    Proof(
        alert="RequestsOverShare",
        fires={
            'requests_over_share_total{job="feature-agent",instance="a",kind="upload"}': "0+40x60 2400+0x60",
            'requests_over_share_total{job="feature-agent",instance="b",kind="upload"}': "0+20x60 1200+0x60",
            'requests_over_share_total{job="feature-agent",instance="a",kind="stream"}': "0x120",
        },
        pending="9m",
        at="30m",
        expect=(
            Expected(
                labels={"kind": "upload"},
                description="60 requests a minute are refused beyond their principal's share: upload.",
            ),
        ),
        clear="90m",
        below={
            'requests_over_share_total{job="feature-agent",kind="upload"}': "0+29x120",
            'requests_over_share_total{job="feature-agent",kind="wait"}': "0+900x120",
        },
    ),
    Proof(
        alert="QuotaRefusals",
        fires={
            'quota_refusals_total{job="feature-agent",quota="stored_bytes"}': "0+3x60 180+0x60",
            'quota_refusals_total{job="feature-agent",quota="datasets"}': "0x120",
        },
        pending="20m",
        at="50m",
        expect=(
            Expected(
                labels={"quota": "stored_bytes"},
                description="3.0 requests a minute are refused: the quota of stored_bytes is used up.",
            ),
        ),
        clear="80m",
        below={'quota_refusals_total{job="feature-agent",quota="stored_bytes"}': "0+1x120"},
    ),
    Proof(
        alert="EventLoopLag",
        fires=_lag("0+96x15 1440+100x30", "0+100x15 1500+100x30"),
        pending="4m",
        at="12m",
        expect=(
            Expected(
                labels={"job": "feature-agent", "instance": "a"},
                description="a wakes up 437.5ms late at the 99th percentile.",
            ),
        ),
        clear="26m",
        below=_lag("0+99.5x50", "0+100x50"),
    ),
    Proof(
        alert="CertificateExpiring",
        what="in two weeks",
        fires={'probe_ssl_earliest_cert_expiry{instance="https://api"}': "1209660x75 9999999x20"},
        pending="60m",
        at="70m",
        expect=(
            Expected(
                labels={"instance": "https://api"},
                description="The certificate of https://api expires in 13d 22h 51m 0s.",
            ),
        ),
        clear="80m",
        below={'probe_ssl_earliest_cert_expiry{instance="https://api"}': "1214460x100"},
    ),
    Proof(
        alert="CertificateExpiring",
        what="in three days",
        fires={'probe_ssl_earliest_cert_expiry{instance="https://api"}': "259260x75 9999999x20"},
        pending="9m",
        at="15m",
        expect=(
            Expected(
                severity="critical",
                labels={"instance": "https://api"},
                description="The certificate of https://api expires in 2d 23h 46m 0s.",
            ),
        ),
        clear="80m",
    ),
)
