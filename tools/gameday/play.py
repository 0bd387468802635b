"""Inflict one fault on a healthy system, and record which alerts fire and clear and what the overview shows."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from tools.gameday.fault import ExpectedAlert, ExpectedPanel, Fault
from tools.gameday.monitoring import ROOT, SCRAPE_SECONDS, Monitoring
from tools.gameday.panel_colours import colours_of, panel_of, shown
from tools.gameday.receiver import Notice, Receiver, count_pages
from tools.gameday.system import System, running_system

ALWAYS = {"Watchdog"}
OVERVIEW = json.loads((ROOT / "observability/grafana/dashboards/feature-agent-overview.json").read_text())
RATE_INTERVAL = f"{4 * SCRAPE_SECONDS}s"
"""What Grafana would put in place of `$__rate_interval`: four scrapes."""


class AlertOutcome(Struct, frozen=True):
    """When one expected alert fired and cleared."""

    alert: str
    receiver: str
    severity: str
    detected: float | None
    within: float
    cleared: float | None
    clears: float
    runbook: bool
    """Whether its link leads to its runbook."""

    @property
    def right(self) -> bool:
        """Tell whether it fired and cleared in time, with its runbook."""
        return self.detected is not None and self.cleared is not None and self.runbook


class PanelOutcome(Struct, frozen=True):
    """When the overview showed one expected panel."""

    expected: ExpectedPanel
    before: bool
    """Whether it was shown before the fault already, which proves nothing."""
    after: float | None
    """Seconds from the fault; None when it was not shown in time."""

    @property
    def right(self) -> bool:
        """Tell whether it changed in time."""
        return not self.before and self.after is not None


class Outcome(Struct, frozen=True):
    """The result of one fault."""

    fault: str
    description: str
    alerts: tuple[AlertOutcome, ...]
    wrong_pages: tuple[str, ...]
    also: tuple[str, ...]
    """Other alerts that fired."""
    panels: tuple[PanelOutcome, ...] = ()
    pages: int = 0
    """How many pages were sent."""

    @property
    def right(self) -> bool:
        """Tell whether every expected alert and panel came in time, with no other page and one page at most."""
        shown = all(panel.right for panel in self.panels)
        return shown and all(alert.right for alert in self.alerts) and not self.wrong_pages and self.pages <= 1


def play(fault: Fault) -> Outcome:
    """Inflict one fault on a system of its own."""
    receiver = Receiver()
    with (
        tempfile.TemporaryDirectory(prefix="gameday-") as folder,
        receiver.running(),
        running_system(Path(folder), fault.environment) as system,
    ):
        monitoring = Monitoring(Path(folder), system.targets, receiver.url)
        system.users.rates.update(fault.rates)
        with monitoring.running(), system.users.busy():
            return _inflict(fault, system, monitoring, receiver)


def _inflict(fault: Fault, system: System, monitoring: Monitoring, receiver: Receiver) -> Outcome:
    monitoring.wait_for_targets(len(system.targets))
    settled = time.monotonic()
    time.sleep(fault.warm_up)
    monitoring.wait_until_calm()
    before = [_is_shown(each, monitoring) for each in fault.panels]
    begun = time.monotonic()
    firing: list[Notice | None] = []
    after: list[float | None] = []
    with fault.inflict(system, monitoring):
        after = _wait_for_panels(fault.panels, monitoring)
        firing = _wait_for_notices(
            fault.alerts, lambda each: _find_notice(receiver, each, "firing", begun), begun, "within"
        )
        ended = time.monotonic()
        runbooks = [notice and monitoring.page(notice.annotations["runbook_url"]) for notice in firing]
    ended = max(ended, begun)
    cleared = _wait_for_notices(
        fault.alerts, lambda each: _find_notice(receiver, each, "resolved", begun), ended, "clears"
    )
    alerts = [
        AlertOutcome(
            each.alert,
            notice.receiver if notice else each.receiver,
            notice.labels["severity"] if notice else "?",
            round(notice.at - begun, 1) if notice else None,
            each.within,
            round(max(over.at - ended, 0.0), 1) if over else None,
            each.clears,
            bool(page) and str(page).startswith(f"# {each.alert}\n"),
        )
        for each, notice, over, page in zip(fault.alerts, firing, cleared, runbooks, strict=True)
    ]
    panels = tuple(PanelOutcome(*each) for each in zip(fault.panels, before, after, strict=True))
    others = _unexpected(fault, receiver, settled)
    return Outcome(fault.name, fault.description, tuple(alerts), *others, panels, count_pages(receiver.messages, begun))


def _is_shown(expected: ExpectedPanel, monitoring: Monitoring) -> bool:
    """Tell whether the panel shows that colour now, as it would in a browser."""
    found = shown(panel_of(OVERVIEW, expected.panel), monitoring.values, rate_interval=RATE_INTERVAL)
    return expected.colour in colours_of(found, expected.of)


def _wait_for_panels(expected: Sequence[ExpectedPanel], monitoring: Monitoring) -> list[float | None]:
    """Wait until the overview has shown all, or their time is up; return after how many seconds it showed each."""
    since = time.monotonic()
    found: list[float | None] = [None] * len(expected)
    while True:
        for at, each in enumerate(expected):
            if found[at] is None and time.monotonic() - since <= each.within and _is_shown(each, monitoring):
                found[at] = round(time.monotonic() - since, 1)
        spent = time.monotonic() - since
        if all(when is not None or spent > each.within for when, each in zip(found, expected, strict=True)):
            return found
        time.sleep(0.5)


def _wait_for_notices(
    expected: Sequence[ExpectedAlert], find: Callable[[ExpectedAlert], Notice | None], since: float, bound: str
) -> list[Notice | None]:
    """Wait for the notice of each alert, or until the time is up; `bound` names the field with its seconds."""
    while True:
        found = [find(each) for each in expected]
        late = [time.monotonic() - since > float(getattr(each, bound)) for each in expected]
        if all(notice or over for notice, over in zip(found, late, strict=True)):
            return found
        time.sleep(0.2)


def _find_notice(receiver: Receiver, each: ExpectedAlert, status: str, since: float) -> Notice | None:
    notice = receiver.first(each.alert, status, since=since if each.alert not in ALWAYS else 0.0, **each.labels)
    return notice if notice is not None and notice.receiver == each.receiver else None


def _unexpected(fault: Fault, receiver: Receiver, settled: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the pages that nobody expected, and all other alerts that fired."""
    expected = {each.alert for each in fault.alerts}
    notices = [notice for notice in receiver.notices if notice.at > settled and notice.status == "firing"]
    wrong = {notice.alert for notice in notices if notice.receiver == "pager"} - expected - fault.may_page
    others = {notice.alert for notice in notices} - expected - ALWAYS - wrong
    return tuple(sorted(wrong)), tuple(sorted(others))
