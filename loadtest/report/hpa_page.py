"""The page of a scaling proof: that the autoscaler follows the load, by data of a run under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.report.document import (
    Band,
    Block,
    Bound,
    Bullets,
    Column,
    Document,
    LineChart,
    Point,
    Section,
    Series,
    Table,
)
from loadtest.report.formats import clock, moment, number, span
from loadtest.report.gates import gates
from loadtest.verdict import Check, Outcome


@dataclass(frozen=True, slots=True)
class Scaled:
    """The number of replicas of one deployment over time; x counts seconds since the proof began."""

    name: str
    desired: tuple[Point, ...]
    ready: tuple[Point, ...]
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Signal:
    """The metric that the autoscaler follows, and the value at which it adds a replica."""

    name: str
    unit: str
    values: tuple[Point, ...]
    target: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a scaling decision, a pod that became ready, a fault."""

    at: float
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Everything that the page of a scaling proof shows."""

    title: str
    outcome: Outcome
    headline: str
    began: float
    """Seconds since the epoch."""
    ended: float
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    asked: tuple[Point, ...]
    """Arrivals a second."""
    achieved: tuple[Point, ...]
    deployments: tuple[Scaled, ...]
    signals: tuple[Signal, ...]
    phases: tuple[Band, ...]
    events: tuple[Event, ...]


def render_proof(proof: Proof) -> Document:
    """Build the page of a scaling proof, for `to_html` and `to_markdown`."""
    sections = [Section("Reasons", (Bullets(proof.reasons),))] if proof.reasons else []
    sections.append(Section("Checks", (gates(proof.checks),)))
    sections.append(Section("Load and replicas", _charts(proof)))
    sections.append(Section("Events", (_events(proof.events),)))
    facts = (("Began", moment(proof.began)), ("Length", span(proof.ended - proof.began)))
    return Document(proof.title, proof.outcome, tuple(sections), proof.headline, facts)


def _charts(proof: Proof) -> tuple[Block, ...]:
    """Draw the load, the replicas of each deployment, and the signals that decided on them."""
    load = (Series("achieved", proof.achieved), Series("asked", proof.asked, dashed=True))
    rates = LineChart(title="Arrival rate", series=load, y_unit="clients/s", bands=proof.phases)
    return (
        rates,
        *(_replicas(scaled, proof.phases, proof.ended - proof.began) for scaled in proof.deployments),
        *(_signal(signal, proof.phases) for signal in proof.signals),
    )


def _replicas(scaled: Scaled, phases: tuple[Band, ...], length: float) -> LineChart:
    """Draw desired and ready replicas as steps within the range that the autoscaler may choose from."""
    desired, ready = _held(scaled.desired, length), _held(scaled.ready, length)
    return LineChart(
        title=f"Replicas of {scaled.name}",
        series=(Series("ready", ready), Series("desired", desired, dashed=True)),
        y_unit="replicas",
        bands=phases,
        range_name=f"allowed: {number(scaled.minimum)} to {number(scaled.maximum)}",
        low=tuple((x, float(scaled.minimum)) for x in (0.0, length)),
        high=tuple((x, float(scaled.maximum)) for x in (0.0, length)),
        step=True,
    )


def _held(points: tuple[Point, ...], length: float) -> tuple[Point, ...]:
    """Let the last value hold to the end: replicas are noted when they change."""
    return (*points, (length, points[-1][1])) if points and points[-1][0] < length else points


def _signal(signal: Signal, phases: tuple[Band, ...]) -> LineChart:
    """Draw a metric with the value at which the autoscaler adds a replica."""
    bounds = (Bound(signal.target, f"target {number(signal.target)} {signal.unit}".rstrip()),)
    series = (Series(signal.name, signal.values),)
    return LineChart(title=signal.name, series=series, y_unit=signal.unit, bands=phases, bounds=bounds)


def _events(events: Sequence[Event]) -> Table:
    """List what happened in its order."""
    rows = tuple((clock(event.at), event.what) for event in sorted(events, key=lambda event: event.at))
    return Table("What happened", (Column("After"), Column("What", wide=True)), rows, "nothing was recorded.")
