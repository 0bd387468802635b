"""`slo.yaml` as typed objectives."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from observability.source.durations import Scale, seconds_of


class Links(Struct, frozen=True, forbid_unknown_fields=True):
    """Where notifications lead."""

    runbooks: str
    dashboards: str


class BurnAlert(Struct, frozen=True, forbid_unknown_fields=True):
    """One pair of windows: fires when the budget burns `factor` times as fast as it may, in both."""

    severity: str
    long: str
    short: str
    factor: float
    pending: str = msgspec.field(name="for")
    now: str | None = None
    """A still shorter window in which the budget has to burn as well."""

    @property
    def windows(self) -> tuple[str, ...]:
        """All its windows, the longest first."""
        return (self.long, self.short) if self.now is None else (self.long, self.short, self.now)


class Indicator(Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured: two counters, or a histogram and one of its bounds."""

    total: str | None = None
    bad: str | None = None
    histogram: str | None = None
    within: float | None = None
    """Seconds; exactly one of the histogram's bounds."""
    waiting: str | None = None
    """A gauge of how long the oldest event that is still to come has waited, for a histogram that counts events when
    they come at last: minutes are counted then, and one in which something waits for longer is bad."""

    def __post_init__(self) -> None:
        """Refuse anything but one of the two forms."""
        if (self.total is None, self.histogram is None) != (self.bad is None, self.within is None):
            raise ValueError("an indicator is `total` and `bad`, or `histogram` and `within`")
        if (self.total is None) == (self.histogram is None):
            raise ValueError("an indicator has either `total` or `histogram`")
        if self.waiting is not None and self.histogram is None:
            raise ValueError("`waiting` goes with a histogram")


class Slo(Struct, frozen=True, forbid_unknown_fields=True):
    """One objective."""

    name: str
    alert: str
    objective: float
    """Percent of good events."""
    good: str
    sli: Indicator
    dashboard: str
    """Uid of the dashboard to look at first."""

    @property
    def budget(self) -> float:
        """Share of events that may be bad."""
        return round(1 - self.objective / 100, 6)


class Objectives(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file, and the time scale that rules are rendered with."""

    service: str
    window: str
    selector: str
    links: Links
    burn_alerts: tuple[BurnAlert, ...]
    traffic_floor: int
    spend_usd_per_hour: float
    slos: tuple[Slo, ...]
    scale: Scale = Scale()

    def windows(self) -> tuple[str, ...]:
        """Every window that a rule needs, shortest first."""
        named = {window for alert in self.burn_alerts for window in alert.windows}
        return tuple(sorted(named | {self.window}, key=seconds_of))


def load_objectives(path: Path) -> Objectives:
    """Read and check the file. Raises msgspec.ValidationError with the place of the fault."""
    return msgspec.yaml.decode(path.read_bytes(), type=Objectives)
