"""Proofs of burn-rate alerts of an objective that counts minutes in which something waits too long."""

from __future__ import annotations

from collections.abc import Iterator

from observability.source.proofs.proof import Expected, Proof, Samples
from observability.source.slo import Slo

INTERVAL = "30s"
HEALTHY = 240
"""Minutes of history before an outage."""
_STARTED = 'extraction_start_delay_seconds%s{job="feature-agent-worker"%s}'

Phases = list[tuple[int, int]]
"""So many minutes, in which one of that many measurements finds something waiting too long; 0: none does."""


def proofs(slo: Slo) -> Iterator[Proof]:
    """A page and a ticket for what comes and goes; an outage, and the backlog that starts after it.

    What is computed of minutes is computed as of events, and proven there.
    """
    for long, severity, every, pending, at, clear in (
        ("6h", "critical", 10, 58, 64, 85),
        ("1d", "warning", 25, 165, 180, 230),
    ):
        yield Proof(
            alert=slo.alert,
            what=f"{long}, every {every}th minute",
            interval=INTERVAL,
            fires=_waiting(slo, [(at, every), (clear - at, 0)]),
            pending=f"{pending}m",
            at=f"{at}m",
            expect=(_burns(severity, long),),
            clear=f"{clear}m",
            below=_waiting(slo, [(at, 3 * every), (clear - at, 0)]),
        )
    yield from (_started(slo), _outage(slo), _cured(slo))


def _started(slo: Slo) -> Proof:
    """From the first minute on: a page needs as many bad minutes as the floor."""
    return Proof(
        alert=slo.alert,
        what="from the first minute",
        interval=INTERVAL,
        fires=_waiting(slo, [(8, 1), (20, 0)]),
        pending="6m",
        at="8m",
        expect=(_burns("critical", "1h"),),
        clear="14m",
        below=_waiting(slo, [(4, 1), (20, 0)]),
    )


def _outage(slo: Slo) -> Proof:
    """After hours of health; what has waited exactly as long as it may is in time."""
    return Proof(
        alert=slo.alert,
        what="outage after health",
        interval=INTERVAL,
        fires=_waiting(slo, [(HEALTHY, 0), (15, 1), (20, 0)]),
        pending=f"{HEALTHY + 8}m",
        at=f"{HEALTHY + 15}m",
        expect=(_burns("critical", "1h"),),
        clear=f"{HEALTHY + 22}m",
        below={_gauge(slo): f"{slo.sli.within:g}x{2 * HEALTHY}"},
    )


def _cured(slo: Slo) -> Proof:
    """Workers come back after 24 minutes, and what waited starts late: the page is over, and no other comes."""
    over = HEALTHY + 24
    late = f"0x{2 * over - 1} 400x400"
    return Proof(
        alert=slo.alert,
        what="an outage that is cured",
        interval=INTERVAL,
        fires={
            **_waiting(slo, [(HEALTHY, 0), (24, 1), (180, 0)]),
            _STARTED % ("_count", ""): late,
            _STARTED % ("_bucket", ',le="30.0"'): "0x1000",
        },
        at=f"{over}m",
        expect=(_burns("critical", "1h"),),
        clear=f"{over + 6}m",
        quiet=f"{over + 120}m",
    )


def _burns(severity: str, long: str) -> Expected:
    return Expected(severity=severity, labels={"long": long}, description=None)


def _gauge(slo: Slo) -> str:
    return f'{slo.sli.waiting}{{job="feature-agent"}}'


def _waiting(slo: Slo, phases: Phases) -> Samples:
    """Ages of the oldest that waits: twice what it may, or nothing."""
    late = f"{2 * (slo.sli.within or 0):g}"
    return {_gauge(slo): " ".join(_phase(2 * minutes, every, late) for minutes, every in phases)}


def _phase(samples: int, every: int, late: str) -> str:
    if every <= 1:
        return f"{late if every else 0}x{samples - 1}"
    ages = [late if at % every == 0 else "0" for at in range(samples)]
    return " ".join(ages)
