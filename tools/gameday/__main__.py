"""`python -m tools.gameday [FAULT …]`: inflict faults, and write a table of the alerts and panels that showed them."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from threading import Lock

from tools.gameday.fault import Fault
from tools.gameday.faults import FAULTS
from tools.gameday.memory import can_limit_memory
from tools.gameday.monitoring import FAST, ROOT, missing_programs
from tools.gameday.play import Outcome, PanelOutcome, play

LOG = logging.getLogger(__name__)
WRITING = Lock()
TABLE = ROOT / "docs/measurements/gameday.md"
SHORT = ("api-stopped", "redis-killed", "bad-tokens")
_INTRODUCTION = """# Game day

Faults inflicted on real processes (API, worker, PostgreSQL, Redis, a model provider) under real traffic, watched by a
real Prometheus with the shipped rules and a real Alertmanager with the shipped routes and inhibitions, whose receivers
are webhooks. `make gameday` plays it and writes this page.

Time is divided by {divisor:g} in the rules (30 days are three hours; a window is at least {range:g} s long, a
condition holds for at least {pending:g} s), not in the service: heartbeats, health checks every 10 s and
measurements of the queue every 5 s keep their pace. *Detected* counts from the fault to the notification, *cleared*
from its end (a process that was stopped has started again) to the notification that it is over; bounds are in
brackets. *On the overview* is what it showed, computed from its panels' own queries, value mappings and thresholds, and
how long after the fault was there; it did not show it before. *Pages* counts how often a phone rang: a group of alerts
that fires rings once until it is resolved. "Right" means that every alert named came and went within its bounds at the
receiver named, that its runbook link led to its runbook, that the overview showed the fault within a minute, that an
outage made one page at most, and that no page came but those which users' pain justifies too.

| fault | what is done | alert → receiver | detected | cleared | on the overview | pages | also | verdict | played |
|---|---|---|---|---|---|---|---|---|---|
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the chosen faults; exit status 0 when all went as expected, 1 when not, 2 without the programs."""
    parser = argparse.ArgumentParser(prog="python -m tools.gameday", description=__doc__)
    parser.add_argument("faults", nargs="*", help="names; none for all", metavar="FAULT")
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}")
    parser.add_argument("--at-once", type=int, default=1, help="faults at the same time, each on a system of its own")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    if missing := missing_programs():
        sys.stderr.write(f"a game day needs {', '.join(missing)}: not installed, nothing was played\n")
        return 0 if options.short else 2
    chosen = _chosen(SHORT if options.short else tuple(options.faults))
    with ThreadPoolExecutor(options.at_once) as pool:
        outcomes = list(pool.map(partial(_played, write=options.write), chosen))
    wrong = [outcome.fault for outcome in outcomes if not outcome.right]
    sys.stdout.write(
        f"{len(outcomes)} faults, {len(wrong)} not as they have to be{': ' if wrong else ''}{', '.join(wrong)}\n"
    )
    return 1 if wrong else 0


def _chosen(names: Sequence[str]) -> list[Fault]:
    unknown = set(names) - {fault.name for fault in FAULTS}
    if unknown:
        raise SystemExit(f"no such fault: {', '.join(sorted(unknown))}")
    playable = [fault for fault in FAULTS if not fault.needs_root or can_limit_memory()]
    return [fault for fault in playable if not names or fault.name in names]


def _played(fault: Fault, *, write: bool) -> Outcome:
    started = time.monotonic()
    try:
        outcome = play(fault)
    except Exception as error:
        LOG.exception("%s could not be played", fault.name)
        outcome = Outcome(fault.name, fault.description, (), (f"not played: {error!r}",), ())
    sys.stdout.write(f"{time.monotonic() - started:5.0f} s {_row(outcome)}")
    sys.stdout.flush()
    if write:
        with WRITING:
            _write(outcome)
    return outcome


def _write(outcome: Outcome) -> None:
    """Replace the fault's row in the table, and keep all others."""
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    rows = {line.split("`")[1]: line + "\n" for line in lines if line.startswith("| `")}
    rows[outcome.fault] = _row(outcome)
    introduction = _INTRODUCTION.format(divisor=FAST.divisor, range=FAST.shortest_range, pending=FAST.shortest_pending)
    TABLE.write_text(introduction + "".join(rows[fault.name] for fault in FAULTS if fault.name in rows))


def _row(outcome: Outcome) -> str:
    cells = (
        f"`{outcome.fault}`",
        outcome.description,
        "<br>".join(f"{alert.alert} → {alert.receiver}" for alert in outcome.alerts),
        "<br>".join(_time(alert.detected, alert.within) for alert in outcome.alerts),
        "<br>".join(_time(alert.cleared, alert.clears) for alert in outcome.alerts),
        "<br>".join(_panel(each) for each in outcome.panels),
        str(outcome.pages),
        ", ".join(outcome.also) or "nothing",
        _verdict(outcome),
        datetime.now(UTC).date().isoformat(),
    )
    return f"| {' | '.join(cells)} |\n"


def _verdict(outcome: Outcome) -> str:
    if outcome.right:
        return "right"
    reasons = [f"page {name}" for name in outcome.wrong_pages]
    reasons += [f"{alert.alert} not as it has to be" for alert in outcome.alerts if not alert.right]
    reasons += [f"{each.expected.panel} does not show it" for each in outcome.panels if not each.right]
    reasons += [f"{outcome.pages} pages for one outage"] if outcome.pages > 1 else []
    return f"**wrong**: {', '.join(reasons)}"


def _panel(panel: PanelOutcome) -> str:
    when = "before the fault" if panel.before else "never" if panel.after is None else f"{panel.after:.0f} s"
    return f"{panel.expected.panel}: {panel.expected.of} {panel.expected.colour}, {when}"


def _time(seconds: float | None, bound: float) -> str:
    return f"{'never' if seconds is None else f'{seconds:.0f} s'} ({bound:.0f})"


if __name__ == "__main__":
    sys.exit(main())
