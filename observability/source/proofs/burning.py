"""Proofs of the burn-rate alerts, computed from the objectives: 5 % above each pair's rate, and 5 % below."""

from __future__ import annotations

import math
from collections.abc import Iterator

from observability.source.durations import seconds_of
from observability.source.promql import suffixed
from observability.source.proofs import waiting
from observability.source.proofs.proof import Expected, Proof, Samples
from observability.source.slo import BurnAlert, Objectives, Slo

A_MINUTE = 1000
"""Events."""
MINUTES = {"1h": (6, 12), "6h": (20, 30), "1d": (70, 80), "3d": (190, 220)}
"""By the long window: how long the budget burns, and when the alert has cleared. Each is over before the next pair's
alert has been pending long enough, so that exactly one alert fires."""
PENDING = {"1h": "2m", "6h": "15m", "1d": "60m", "3d": "180m"}
HEALTHY = 240
"""Minutes of history before an outage."""
_LABELS = {
    "api-availability": (
        'api_requests_total{job="feature-agent",method="GET",endpoint="/api/v1/datasets",status="200"}',
        'api_requests_total{job="feature-agent",method="GET",endpoint="/api/v1/datasets",status="503"}',
    ),
    "api-latency-read": ('api_request_duration_seconds{job="feature-agent",method="GET",endpoint="/api/v1/datasets"}',),
    "api-latency-extract": (
        'api_request_duration_seconds{job="feature-agent",method="POST",endpoint="/api/v1/extract-features"}',
    ),
    "extraction-success": (
        'feature_extractions_total{job="feature-agent-worker",status="completed",quality_threshold="medium"}',
        'feature_extractions_total{job="feature-agent-worker",status="failed",quality_threshold="medium"}',
    ),
}
"""The series of each indicator: of good and bad events, or of a histogram."""


def proofs(slo: Slo, objectives: Objectives) -> Iterator[Proof]:
    """Each pair of windows; a sudden outage after good hours, short or long; hardly any traffic; a spent budget."""
    if slo.sli.waiting is not None:
        yield from waiting.proofs(slo)
        return
    for pair in objectives.burn_alerts:
        yield _steady(slo, pair)
    yield _outage(slo, objectives)
    yield _cured(slo, objectives)
    yield _few(slo, objectives)
    yield _spent(slo)


def _steady(slo: Slo, pair: BurnAlert) -> Proof:
    burning, clear = MINUTES[pair.long]
    limit = pair.factor * slo.budget
    return Proof(
        alert=slo.alert,
        what=f"{pair.long}/{pair.short}",
        fires=_samples(slo, [(burning, 1.05 * limit), (clear, 0)]),
        pending=PENDING[pair.long],
        at=f"{burning}m",
        expect=(_burns(slo, pair, 1.05 * limit),),
        clear=f"{clear}m",
        below=_samples(slo, [(burning, 0.95 * limit), (clear, 0)]),
    )


def _outage(slo: Slo, objectives: Objectives) -> Proof:
    """Everything is bad, after hours of health: the page comes once the long window holds enough of it."""
    page = objectives.burn_alerts[0]
    bad_events = page.factor * slo.budget * 60
    long, short = round(1.3 * bad_events + 4), int(0.9 * bad_events)
    return Proof(
        alert=slo.alert,
        what="outage after health",
        fires=_samples(slo, [(HEALTHY, 0), (long, 1), (20, 0)]),
        pending=f"{HEALTHY + short}m",
        at=f"{HEALTHY + long}m",
        expect=(_burns(slo, page),),
        clear=f"{HEALTHY + long + 8}m",
        below=_samples(slo, [(HEALTHY, 0), (short, 1), (long + 20 - short, 0)]),
    )


def _cured(slo: Slo, objectives: Objectives) -> Proof:
    """An outage that spends enough for the slower page is cured before that is due: one page, gone with the outage."""
    page, slower = (pair for pair in objectives.burn_alerts if pair.severity == "critical")
    outage = math.ceil(slower.factor * slo.budget * seconds_of(slower.long) / 60) + 3
    over = HEALTHY + outage
    return Proof(
        alert=slo.alert,
        what="an outage that is cured",
        fires=_samples(slo, [(HEALTHY, 0), (outage, 1), (180, 0)]),
        at=f"{over}m",
        expect=(_burns(slo, page),),
        clear=f"{over + 6}m",
        quiet=f"{over + 120}m",
    )


def _few(slo: Slo, objectives: Objectives) -> Proof:
    """All of hardly any events are bad: a page needs as many as the floor."""
    page = objectives.burn_alerts[0]
    floor = objectives.traffic_floor
    return Proof(
        alert=slo.alert,
        what="hardly any traffic",
        fires=_samples(slo, [(2, 0), (floor + 4, 1), (20, 0)], a_minute=1),
        at=f"{floor + 6}m",
        expect=(_burns(slo, page),),
        clear=f"{floor + 13}m",
        below=_samples(slo, [(2, 0), (floor - 2, 1), (20, 0)], a_minute=1),
    )


def _spent(slo: Slo) -> Proof:
    return Proof(
        alert="ErrorBudgetSpent",
        what=slo.name,
        fires=_samples(slo, [(20, 2 * slo.budget), (40, 0)]),
        pending="10m",
        at="20m",
        expect=(
            Expected(
                description=f"{slo.name} has spent 200% of its budget.",
            ),
        ),
        clear="50m",
        below=_samples(slo, [(20, 0.95 * slo.budget), (40, 0)]),
    )


def _burns(slo: Slo, pair: BurnAlert, ratio: float | None = None) -> Expected:
    described = None
    if ratio is not None:
        described = (
            f"{ratio * 100:.4g}% of events were bad over {pair.long}, and as many over the last {pair.short}; "
            f"{slo.objective:g} % have to be good. Good: {slo.good}"
        )
    return Expected(severity=pair.severity, labels={"long": pair.long}, description=described)


def _samples(slo: Slo, phases: list[tuple[int, float]], a_minute: int = A_MINUTE) -> Samples:
    """Counters over phases of so many minutes with that share of bad events."""
    good = _counter([(minutes, a_minute * (1 - share)) for minutes, share in phases])
    bad = _counter([(minutes, a_minute * share) for minutes, share in phases])
    both = _counter([(minutes, a_minute) for minutes, _ in phases])
    names = _LABELS[slo.name]
    if len(names) > 1:
        return {names[0]: good, names[1]: bad}
    bucket = suffixed(names[0], "_bucket").replace("{", f'{{le="{float(slo.sli.within or 0)}",', 1)
    return {suffixed(names[0], "_count"): both, bucket: good}


def _counter(phases: list[tuple[int, float]]) -> str:
    """Values of a counter that grows by so much a minute, phase by phase."""
    value, parts = 0.0, list[str]()
    for minutes, step in phases:
        parts.append(f"{value:.12g}+{step:.12g}x{minutes - 1}")
        value += step * minutes
    return " ".join(parts)
