"""Renders `docs/telemetry.md` from the telemetry catalog, for people who read dashboards or write queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from observability.source.slo import Objectives
from service.telemetry import catalog
from service.telemetry.catalog import Label, Metric, Span

PATH = "docs/telemetry.md"
_MOST_VALUES = 12
_SETS = {"endpoints": "the routes, or `unmatched`", "models": "the configured models"}
_ACROSS = {"sum": "sum", "max": "largest", "min": "smallest", "each": "by `worker`"}


def render(_: Objectives) -> Mapping[str, str]:
    """The document by its path."""
    return {PATH: "\n".join(_document()) + "\n"}


def _document() -> Iterator[str]:
    yield "# Telemetry"
    yield ""
    yield (
        "Rendered from `service/telemetry/catalog.py` by `make observability`; tests hold a busy service to it. "
        "A label value outside its set is counted as `other` (or the fallback that is named) and logged once."
    )
    yield ""
    yield from _metrics("Metrics", catalog.METRICS)
    yield from _metrics("Metrics of the Prometheus client", catalog.CLIENT_METRICS)
    yield from _spans(catalog.SPANS)
    yield from _logs()


def _metrics(title: str, metrics: Iterable[Metric]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield "| metric | type | unit | labels | with several workers | what it says |"
    yield "|---|---|---|---|---|---|"
    for metric in metrics:
        labels = "<br>".join(_label(label) for label in metric.labels) or "-"
        across = _ACROSS[metric.across] if metric.kind == "gauge" or metric.across == "each" else "sum"
        yield f"| `{metric.name}` | {_kind(metric)} | {metric.unit or '-'} | {labels} | {across} | {metric.help} |"
    yield ""


def _kind(metric: Metric) -> str:
    if metric.kind != "histogram":
        return metric.kind
    bounds = " ".join(f"{bound:g}" for bound in metric.buckets)
    return f"histogram{', exemplars' if metric.exemplars else ''}<br>{bounds}"


def _label(label: Label) -> str:
    if label.dynamic is not None:
        return f"`{label.name}`: {_SETS[label.dynamic]}"
    if not label.values:
        return f"`{label.name}`"
    more = f" … ({len(label.values)} in all)" if len(label.values) > _MOST_VALUES else ""
    values = " ".join(f"`{value}`" for value in label.values[:_MOST_VALUES])
    return f"`{label.name}`: {values}{more}"


def _spans(spans: Iterable[Span]) -> Iterator[str]:
    yield "## Spans"
    yield ""
    yield (
        "Braces stand for values of closed sets. Spans of the database, Redis and HTTP clients exist only within a "
        "trace. Exceptions are recorded by their type alone, and a span has failed only when the service is to blame. "
        f"The collector keeps each trace with a span that has `{catalog.EXEMPLAR}`, and {catalog.KEPT_BY_ID} of 65536 "
        "by their id: exemplars lead to these alone."
    )
    yield ""
    yield "| span | kind | made by | what it is | attributes |"
    yield "|---|---|---|---|---|"
    for span in spans:
        attributes = " ".join(f"`{name}`" for name in span.attributes)
        yield f"| `{span.name}` | {span.kind} | {span.library or 'the service'} | {span.help} | {attributes} |"
    yield ""


def _logs() -> Iterator[str]:
    yield "## Log lines"
    yield ""
    yield "One JSON object a line. A field that is not here is left out, and logged once."
    yield ""
    yield f"- On every line: {_names(catalog.LOG_IDENTITY)}."
    yield f"- In a request or job, where known: {_names(catalog.LOG_CORRELATION)}."
    yield f"- On the access line of a request: {_names(catalog.LOG_ACCESS)}."
    yield f"- Of an exception: `{catalog.LOG_EXCEPTION}`, an object with `type`, `message`, `stack` and `cause`."
    yield ""
    yield "| field | what it tells |"
    yield "|---|---|"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in catalog.LOG_FIELDS.items())


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
