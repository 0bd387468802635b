"""Parse `/metrics` as Prometheus does, and compare two scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text"
ACCEPT = f"{OPENMETRICS};version=1.0.0,text/plain;version=0.0.4;q=0.5"
"""The header that Prometheus sends; only OpenMetrics carries exemplars."""

_CUMULATIVE_TYPES = frozenset({"counter", "histogram", "summary"})
"""Types whose values only grow, so that a change has a cause; a gauge changes by itself."""
_SKIPPED_SUFFIXES = ("_bucket", "_created")
"""`_count` and `_sum` summarise the buckets; `_created` is a time."""
_BACKGROUND_FAMILIES = ("process_", "python_", "event_loop_lag_")
"""Prefixes of families that change without any request."""

_parse_openmetrics = cast("Callable[[str], Iterable[Metric]]", openmetrics.text_string_to_metric_families)

Labels = tuple[tuple[str, str], ...]
"""Sorted by name."""


class Exemplar(Struct, frozen=True):
    """One observation of a histogram bucket or a counter, with its trace."""

    name: str
    labels: dict[str, str]
    """Labels of the series, `le` included."""
    trace_id: str
    value: float


class Scrape(Struct, frozen=True):
    """The cumulative series of one scrape, with their exemplars."""

    values: dict[tuple[str, Labels], float]
    exemplars: tuple[Exemplar, ...]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum over all series of that name with these labels; 0 without any."""
        wanted = set(labels.items())
        return sum(value for (series, found), value in self.values.items() if series == name and wanted <= set(found))


class Change(Struct, frozen=True):
    """A series that grew between two scrapes; a series that was not there before grew from 0."""

    name: str
    labels: dict[str, str]
    before: float
    after: float


def parse(text: str, content_type: str) -> Scrape:
    """Parse an exposition in the format that its content type names.

    Raises ValueError where it breaks the format.
    """
    read = _parse_openmetrics if content_type.startswith(OPENMETRICS) else text_string_to_metric_families
    values: dict[tuple[str, Labels], float] = {}
    exemplars: list[Exemplar] = []
    for family in read(text):
        if family.type not in _CUMULATIVE_TYPES or family.name.startswith(_BACKGROUND_FAMILIES):
            continue
        for sample in family.samples:
            if sample.exemplar is not None and "trace_id" in sample.exemplar.labels:
                found = sample.exemplar
                exemplars.append(Exemplar(sample.name, sample.labels, found.labels["trace_id"], found.value))
            if not sample.name.endswith(_SKIPPED_SUFFIXES):
                values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return Scrape(values, tuple(exemplars))


def changes_between(before: Scrape, after: Scrape) -> tuple[Change, ...]:
    """Return the series that differ, in the order of the later scrape."""
    return tuple(
        Change(name, dict(labels), before.values.get((name, labels), 0.0), value)
        for (name, labels), value in after.values.items()
        if value != before.values.get((name, labels), 0.0)
    )
