"""One fault, from a healthy stand to a healthy stand, and what was sent and seen in between."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from tools.gameday.fault import Expect, Fault, Shows
from tools.gameday.monitoring import ROOT, SCRAPE_SECONDS, Watch
from tools.gameday.panel_colours import colours_of, panel_of, shown
from tools.gameday.receiver import Notice, Receiver, pages
from tools.gameday.system import Stand, stand

ALWAYS = {"Watchdog"}
OVERVIEW = json.loads((ROOT / "observability/grafana/dashboards/feature-agent-overview.json").read_text())
RATE_INTERVAL = f"{4 * SCRAPE_SECONDS}s"
"""What Grafana would put in place of `$__rate_interval`: four scrapes."""


class Seen(Struct, frozen=True):
    """One expected alert, and when it came and went."""

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
        """Whether all of it was as it has to be."""
        return self.detected is not None and self.cleared is not None and self.runbook


class Visible(Struct, frozen=True):
    """What the overview has to show, and when it did."""

    shows: Shows
    before: bool
    """Whether it did so already before the fault: then it says nothing."""
    after: float | None
    """Seconds from when the fault was there."""

    @property
    def right(self) -> bool:
        """Whether it changed in time."""
        return not self.before and self.after is not None


class Outcome(Struct, frozen=True):
    """What became of one fault."""

    fault: str
    does: str
    seen: tuple[Seen, ...]
    wrong_pages: tuple[str, ...]
    also: tuple[str, ...]
    """Other alerts that came along."""
    visible: tuple[Visible, ...] = ()
    pages: int = 0
    """How often a phone rang."""

    @property
    def right(self) -> bool:
        """Whether everything that was expected came and was seen, no other page, and one page at most."""
        shown = all(visible.right for visible in self.visible)
        return shown and all(seen.right for seen in self.seen) and not self.wrong_pages and self.pages <= 1


def play(fault: Fault) -> Outcome:
    """Inflict one fault on a stand of its own."""
    receiver = Receiver()
    with (
        tempfile.TemporaryDirectory(prefix="gameday-") as folder,
        receiver.running(),
        stand(Path(folder), fault.environment) as system,
    ):
        watch = Watch(Path(folder), system.targets, receiver.url)
        system.users.rates.update(fault.rates)
        with watch.running(), system.users.busy():
            return _inflicted(fault, system, watch, receiver)


def _inflicted(fault: Fault, system: Stand, watch: Watch, receiver: Receiver) -> Outcome:
    watch.await_targets(len(system.targets))
    settled = time.monotonic()
    time.sleep(fault.warm_up)
    watch.await_calm()
    before = [_shown(each, watch) for each in fault.shows]
    begun = time.monotonic()
    firing: list[Notice | None] = []
    after: list[float | None] = []
    with fault.do(system, watch):
        after = _seen_at(fault.shows, watch)
        firing = _all(fault.expect, lambda each: _notice(receiver, each, "firing", begun), begun, "within")
        mended = time.monotonic()
        runbooks = [notice and watch.page(notice.annotations["runbook_url"]) for notice in firing]
    mended = max(mended, begun)
    cleared = _all(fault.expect, lambda each: _notice(receiver, each, "resolved", begun), mended, "clears")
    seen = [
        Seen(
            each.alert,
            notice.receiver if notice else each.receiver,
            notice.labels["severity"] if notice else "?",
            round(notice.at - begun, 1) if notice else None,
            each.within,
            round(max(over.at - mended, 0.0), 1) if over else None,
            each.clears,
            bool(page) and str(page).startswith(f"# {each.alert}\n"),
        )
        for each, notice, over, page in zip(fault.expect, firing, cleared, runbooks, strict=True)
    ]
    visible = tuple(Visible(*each) for each in zip(fault.shows, before, after, strict=True))
    others = _others(fault, receiver, settled)
    return Outcome(fault.name, fault.does, tuple(seen), *others, visible, pages(receiver.messages, begun))


def _shown(shows: Shows, watch: Watch) -> bool:
    """Whether the panel shows that colour now, as it would in a browser."""
    found = shown(panel_of(OVERVIEW, shows.panel), watch.asked, rate_interval=RATE_INTERVAL)
    return shows.colour in colours_of(found, shows.of)


def _seen_at(shows: Sequence[Shows], watch: Watch) -> list[float | None]:
    """After how many seconds the overview showed each; ends when it shows all, or their time is up."""
    since = time.monotonic()
    found: list[float | None] = [None] * len(shows)
    while True:
        for at, each in enumerate(shows):
            if found[at] is None and time.monotonic() - since <= each.within and _shown(each, watch):
                found[at] = round(time.monotonic() - since, 1)
        spent = time.monotonic() - since
        if all(when is not None or spent > each.within for when, each in zip(found, shows, strict=True)):
            return found
        time.sleep(0.5)


def _all(
    expected: Sequence[Expect], look: Callable[[Expect], Notice | None], since: float, bound: str
) -> list[Notice | None]:
    """The notice of each, as soon as there are all, or their time is up."""
    while True:
        found = [look(each) for each in expected]
        late = [time.monotonic() - since > float(getattr(each, bound)) for each in expected]
        if all(notice or over for notice, over in zip(found, late, strict=True)):
            return found
        time.sleep(0.2)


def _notice(receiver: Receiver, each: Expect, status: str, since: float) -> Notice | None:
    notice = receiver.first(each.alert, status, since=since if each.alert not in ALWAYS else 0.0, **each.labels)
    return notice if notice is not None and notice.receiver == each.receiver else None


def _others(fault: Fault, receiver: Receiver, settled: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Pages that should not have come since the stand was watched, and whatever else came."""
    expected = {each.alert for each in fault.expect}
    notices = [notice for notice in receiver.notices if notice.at > settled and notice.status == "firing"]
    wrong = {notice.alert for notice in notices if notice.receiver == "pager"} - expected - fault.may_page
    others = {notice.alert for notice in notices} - expected - ALWAYS - wrong
    return tuple(sorted(wrong)), tuple(sorted(others))
