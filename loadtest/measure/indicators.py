"""The objectives of observability/slo.yaml, counted over a run: by the service's metrics and by what clients saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from loadtest.errors import BadInput
from loadtest.measure.selector import Selector, Series, Values, parse_selector
from loadtest.results import Indicator, Requests, Run, Stage

SLO_FILE = Path(__file__).parents[2] / "observability" / "slo.yaml"
CLIENT_SEEN = frozenset({"api_requests_total", "api_request_duration_seconds"})
"""Metrics of which the clients can count their own."""


class Sli(Struct, frozen=True):
    """Two counters, or a histogram and one of its bounds."""

    total: str | None = None
    bad: str | None = None
    histogram: str | None = None
    within: Annotated[float, Meta(gt=0)] | None = None


class Slo(Struct, frozen=True):
    """One objective; what alerts need beside it is left alone."""

    name: str
    objective: Annotated[float, Meta(gt=0, lt=100)]
    """Percent of good events."""
    good: str
    sli: Sli

    @property
    def min_total(self) -> float:
        """Events below which a single bad one would decide."""
        return 1 / (1 - self.objective / 100)


class _File(Struct, frozen=True):
    slos: tuple[Slo, ...]


def load_slos(path: Path = SLO_FILE) -> tuple[Slo, ...]:
    """Read the objectives. Raises BadInput, naming the file and the field."""
    try:
        slos = msgspec.yaml.decode(path.read_bytes(), type=_File).slos
    except OSError as error:
        raise BadInput(f"--slo {path}: cannot be read: {error.strerror}") from None
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"--slo {path}: {' '.join(str(error).split())}") from None
    if not slos:
        raise BadInput(f"--slo {path}: slos: there is no objective, so nothing could be judged")
    for slo in slos:
        _require_sli(path, slo)
    return slos


def _require_sli(path: Path, slo: Slo) -> None:
    sli = slo.sli
    given = tuple(value is not None for value in (sli.total, sli.bad, sli.histogram, sli.within))
    if given not in {(True, True, False, False), (False, False, True, True)}:
        raise BadInput(f"--slo {path}: {slo.name}: sli takes `total` and `bad`, or `histogram` and `within`")
    for text in (sli.total, sli.bad, sli.histogram):
        try:
            _ = None if text is None else parse_selector(text)
        except BadInput as error:
            raise BadInput(f"--slo {path}: {slo.name}: {error}") from None


def metrics_of(slos: Sequence[Slo]) -> list[str]:
    """Give the names of the metrics that the objectives read, histograms by their base name."""
    texts = [text for slo in slos for text in (slo.sli.total, slo.sli.bad, slo.sli.histogram) if text]
    return sorted({parse_selector(text).name for text in texts})


def of_service(slos: Sequence[Slo], counted: Values) -> list[Indicator]:
    """Count every objective's events by the service's own metrics."""
    return [_indicator(slo, "", "service", counted) for slo in slos]


def of_clients(slos: Sequence[Slo], stages: Sequence[Stage]) -> list[Indicator]:
    """Count the events that clients see, for each stage and for all of them together."""
    seen = [slo for slo in slos if parse_selector(slo.sli.total or slo.sli.histogram or "").name in CLIENT_SEEN]
    whole = [requests for stage in stages for requests in stage.requests]
    return [
        _indicator(slo, name, "client", _as_metrics(requests, slo.sli.within))
        for name, requests in [*((stage.name, stage.requests) for stage in stages), ("", whole)]
        for slo in seen
    ]


def routes_of(slo: Slo, runs: Sequence[Run]) -> tuple[str, ...]:
    """Give the routes of these runs, as `METHOD endpoint`, whose durations the objective bounds."""
    if slo.sli.histogram is None:
        return ()
    selector = parse_selector(slo.sli.histogram)
    sent = {(one.method, one.endpoint) for run in runs for stage in run.stages for one in stage.requests}
    picked = [
        f"{method} {endpoint}"
        for method, endpoint in sorted(sent)
        if selector.picks(Series(selector.name, (("endpoint", endpoint), ("method", method))))
    ]
    return tuple(picked)


def _indicator(slo: Slo, stage: str, side: str, values: Values) -> Indicator:
    if slo.sli.histogram is not None:
        selector = parse_selector(slo.sli.histogram)
        total = selector.total(values, "_count")
        good = _bucket(selector, values, slo.sli.within or 0.0)
    else:
        total = parse_selector(slo.sli.total or "").total(values)
        good = total - parse_selector(slo.sli.bad or "").total(values)
    return Indicator(slo.name, stage, side, good, total)


def _bucket(selector: Selector, values: Values, within: float) -> float:
    """Add up the bucket of that bound; exporters write bounds as 10, 10.0 or 1e+01.

    Raises BadInput when the histogram has other bounds: every event would count as a bad one.
    """
    buckets = [
        (float(dict(series.labels).get("le", "nan")), value)
        for series, value in values.items()
        if selector.picks(series, "_bucket")
    ]
    if buckets and within not in {bound for bound, _ in buckets}:
        there = ", ".join(f"{bound:g}" for bound in sorted({bound for bound, _ in buckets}))
        raise BadInput(f"--slo: {selector.name} has no bucket of {within:g} s: `within` is one of {there}")
    return sum(value for bound, value in buckets if bound == within)


def _as_metrics(requests: Sequence[Requests], within: float | None) -> Values:
    """Write what clients saw as the series that the service has of the same requests."""
    found: Values = {}
    for one in requests:
        route = (("endpoint", one.endpoint), ("method", one.method))
        _add(found, Series("api_requests_total", (*route, ("status", one.status))), one.count)
        _add(found, Series("api_request_duration_seconds_count", route), one.count)
        if within is not None:
            quick = sum(count for duration, count in one.durations.items() if float(duration) <= within * 1000)
            bound = (("endpoint", one.endpoint), ("le", str(within)), ("method", one.method))
            _add(found, Series("api_request_duration_seconds_bucket", bound), quick)
    return found


def _add(values: Values, series: Series, count: float) -> None:
    values[series] = values.get(series, 0.0) + count
