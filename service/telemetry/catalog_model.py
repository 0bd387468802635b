"""Define how the catalog describes a metric and a span."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

MetricKind = Literal["counter", "gauge", "histogram", "info"]
DynamicSet = Literal["endpoints", "models"]
Zeros = Literal["product", "routes", "none"]
Across = Literal["sum", "max", "min", "each"]
SpanKind = Literal["SERVER", "CLIENT", "INTERNAL", "PRODUCER", "CONSUMER"]


class Label(Struct, frozen=True):
    """Describe a label, whose values are listed here or belong to a named set that is given at start."""

    name: str
    values: tuple[str, ...] = ()
    dynamic: DynamicSet | None = None
    fallback: str = "other"
    """Replaces a value outside the set."""


class Metric(Struct, frozen=True):
    """Describe a metric by its full Prometheus name (with `_total`, `_seconds` or `_info`)."""

    name: str
    kind: MetricKind
    unit: str
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram in `unit`, without +Inf. They are floats: `le` is always written as "10.0"."""
    exemplars: bool = False
    """Whether an observation within a sampled trace carries an exemplar: every duration except the loop's lag, which is
    measured outside of requests."""
    zeros: Zeros = "product"
    """Which series exist at 0 from the start: every combination of known values ("product"), the statuses in
    `INITIAL_STATUSES` for each known route ("routes"), or none, for a gauge whose 0 would be a statement."""
    across: Across = "sum"
    """How a gauge of several workers is aggregated: sum, max or min; "each" keeps them separate by a label `worker`.
    Counters and histograms are always added."""

    @property
    def exposed_unit(self) -> str:
        """Return the unit that the exposition names: only one that ends the metric's name."""
        return self.unit if self.unit and self.name.removesuffix("_total").endswith(f"_{self.unit}") else ""


class Span(Struct, frozen=True):
    """Describe a span; braces in its name stand for values of a closed set."""

    name: str
    kind: SpanKind
    help: str
    attributes: tuple[str, ...]
    """Every attribute that it may have, each only where known."""
    library: str = ""
    """The library that creates it; the service itself when empty."""
