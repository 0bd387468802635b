"""What a service publishes at `/metrics`, read as Prometheus reads it, and the difference between two readings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text"
ACCEPT = f"{OPENMETRICS};version=1.0.0,text/plain;version=0.0.4;q=0.5"
"""What Prometheus asks for; only OpenMetrics carries exemplars."""

_GROWING = frozenset({"counter", "histogram", "summary"})
"""Families that only ever grow: what moved in them was caused, while a gauge moves by itself."""
_LEFT_OUT = ("_bucket", "_created")
"""A histogram's `_count` and `_sum` say what its buckets say; `_created` is when, not how much."""
_BY_THEMSELVES = ("process_", "python_", "event_loop_lag_")
"""Families that every breath of the process moves, with or without a request."""

_parse_openmetrics = cast("Callable[[str], Iterable[Metric]]", openmetrics.text_string_to_metric_families)

Labels = tuple[tuple[str, str], ...]
"""Sorted by name."""


class Exemplar(Struct, frozen=True):
    """One observation that a histogram bucket or a counter remembers with its trace."""

    name: str
    labels: dict[str, str]
    """The series', `le` included."""
    trace_id: str
    value: float


class Scrape(Struct, frozen=True):
    """One reading of growing series, with the exemplars on them."""

    values: dict[tuple[str, Labels], float]
    exemplars: tuple[Exemplar, ...]

    def value(self, name: str, **labels: str) -> float:
        """The sum over all series of that name that carry the labels; 0 without any."""
        wanted = set(labels.items())
        return sum(value for (series, found), value in self.values.items() if series == name and wanted <= set(found))


class Change(Struct, frozen=True):
    """A series that grew between two scrapes; a series that was not there before grew from 0."""

    name: str
    labels: dict[str, str]
    before: float
    after: float


def parse(text: str, content_type: str) -> Scrape:
    """Read an exposition in the format that its content type names.

    Raises ValueError where it breaks the format.
    """
    read = _parse_openmetrics if content_type.startswith(OPENMETRICS) else text_string_to_metric_families
    values: dict[tuple[str, Labels], float] = {}
    exemplars: list[Exemplar] = []
    for family in read(text):
        if family.type not in _GROWING or family.name.startswith(_BY_THEMSELVES):
            continue
        for sample in family.samples:
            if sample.exemplar is not None and "trace_id" in sample.exemplar.labels:
                found = sample.exemplar
                exemplars.append(Exemplar(sample.name, sample.labels, found.labels["trace_id"], found.value))
            if not sample.name.endswith(_LEFT_OUT):
                values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return Scrape(values, tuple(exemplars))


def difference(before: Scrape, after: Scrape) -> tuple[Change, ...]:
    """The series that differ, in the order of the later scrape."""
    return tuple(
        Change(name, dict(labels), before.values.get((name, labels), 0.0), value)
        for (name, labels), value in after.values.items()
        if value != before.values.get((name, labels), 0.0)
    )
