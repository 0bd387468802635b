"""How the catalog describes a metric and a span."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

MetricKind = Literal["counter", "gauge", "histogram", "info"]
DynamicSet = Literal["endpoints", "models"]
Zeros = Literal["product", "routes", "none"]
Across = Literal["sum", "max", "min", "each"]
SpanKind = Literal["SERVER", "CLIENT", "INTERNAL", "PRODUCER", "CONSUMER"]


class Label(Struct, frozen=True):
    """One label: its values are listed here, or belong to a set that is named here and given at start."""

    name: str
    values: tuple[str, ...] = ()
    dynamic: DynamicSet | None = None
    fallback: str = "other"
    """What a value outside the set becomes."""


class Metric(Struct, frozen=True):
    """One metric under its full Prometheus name (`_total`, `_seconds` and `_info` included)."""

    name: str
    kind: MetricKind
    unit: str
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram in `unit`, without +Inf; always floats, so that `le` is written "10.0" everywhere."""
    exemplars: bool = False
    """Whether an observation made within a sampled trace carries it: every duration, but for the loop's lag, which is
    measured outside of all requests."""
    zeros: Zeros = "product"
    """Which series exist at 0 from the start: every combination of known values ("product"), the statuses that
    `INITIAL_STATUSES` names for each known route ("routes"), or none, for a gauge whose 0 would be a statement."""
    across: Across = "sum"
    """What a gauge of several workers shows as one: their sum, or the largest or smallest; "each" keeps them apart by
    a label `worker`. Counters and histograms are always added."""

    @property
    def exposed_unit(self) -> str:
        """The unit that the exposition names: only one that the metric's name ends with."""
        return self.unit if self.unit and self.name.removesuffix("_total").endswith(f"_{self.unit}") else ""


class Span(Struct, frozen=True):
    """One span; braces in its name stand for values of a closed set."""

    name: str
    kind: SpanKind
    help: str
    attributes: tuple[str, ...]
    """All that it may have, each where it is known."""
    library: str = ""
    """Who makes it; the service itself when empty."""
