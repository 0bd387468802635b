"""What a busy service tells of itself is what the catalog says, all of it, and the signals agree with each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from service.settings import Settings
from service.telemetry import catalog
from service.telemetry.catalog import Label, Metric
from tests.e2e.busy import FALLBACK, PRIMARY, Afternoon, Call, afternoon

pytestmark = [pytest.mark.proof, pytest.mark.xdist_group("truth")]

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",), "info": ("",)}
ALL = {metric.name: metric for metric in (*catalog.METRICS, *catalog.CLIENT_METRICS)}
NOT_MOVED_BY_TRAFFIC = {
    "python_gc_objects_uncollectable_total", "db_pool_connections_limit", "memory_limit_bytes", "extraction_crashes",
    "connections_open", "connections_limit", "connections_refused_total", "requests_over_share_total",
    "authentication_throttled_total", "quota_refusals_total", "stored_bytes", "engine_processes_killed_total",
}  # fmt: skip
"""A leak of a library in C; what is set once; workers' deaths, which are the rescue's tests' and the game day's; what
comes of floods and limits, which tests of their own and the game day move."""


@pytest.fixture(scope="module")
def seen(make_settings: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Afternoon]:
    """One afternoon for all tests."""
    with afternoon(make_settings, tmp_path_factory.mktemp("redis")) as seen:
        yield seen


def series() -> dict[str, Metric]:
    """Every sample's name that the catalog allows."""
    return {f"{name}{suffix}": metric for name, metric in ALL.items() for suffix in SUFFIXES[metric.kind]}


def allowed(label: Label, seen: Afternoon) -> set[str] | None:
    """The values that a label may have; None for any of a constant's own."""
    if label.dynamic is not None:
        return {"endpoints": seen.endpoints, "models": {PRIMARY, FALLBACK}}[label.dynamic] | {label.fallback}
    return {*label.values, label.fallback} if label.values else None


def test_every_series_is_in_the_catalog(seen: Afternoon) -> None:
    """Name, labels and label values of each series that was ever exposed are the catalog's."""
    known, strange = series(), []
    for name, labels in seen.highest:
        metric = known.get(name)
        if metric is None:
            strange.append((name, labels))
            continue
        given = {key: value for key, value in labels if key != "le"}
        expected = [label for label in metric.labels if label.name != "worker"]
        values = {label.name: allowed(label, seen) for label in expected}
        if set(given) != set(values) or any(v is not None and given[k] not in v for k, v in values.items()):
            strange.append((name, labels))
    assert strange == []


def test_every_metric_moves(seen: Afternoon) -> None:
    """There is no metric in the catalog that nothing moves."""
    known = series()
    moved = {known[name].name for (name, _), value in seen.highest.items() if value and name in known}
    assert set(ALL) - moved - NOT_MOVED_BY_TRAFFIC == set()


def specs(span: ReadableSpan) -> list[catalog.Span]:
    """The catalog's spans that this one may be."""
    return [spec for spec in catalog.SPANS if spec.kind == span.kind.name and pattern(spec).fullmatch(span.name)]


def pattern(spec: catalog.Span) -> re.Pattern[str]:
    """The names that a catalog's span may have."""
    pieces = [re.escape(piece) for piece in re.split(r"\{[a-z_]+\}", spec.name)]
    return re.compile("[^ ]+".join(pieces) if "{commands}" not in spec.name else r"[A-Z]+( [A-Z]+)*")


def test_every_span_is_in_the_catalog(seen: Afternoon) -> None:
    """Name, kind and attributes of each exported span are the catalog's, and each span of the catalog was seen."""
    strange, found = set(), set()
    for span in seen.spans:
        fitting = [spec for spec in specs(span) if set(span.attributes or {}) <= set(spec.attributes)]
        found.update(spec.name for spec in fitting)
        if not fitting:
            left = min(
                (set(span.attributes or {}) - set(spec.attributes) for spec in specs(span)), key=len, default="?"
            )
            strange.add((span.name, span.kind.name, str(sorted(left))))
    assert strange == set()
    without = {spec.name for spec in catalog.SPANS if not seen.with_redis and "redis" in spec.library}
    assert {spec.name for spec in catalog.SPANS} - found - without == set()


def test_no_span_is_an_orphan(seen: Afternoon) -> None:
    """Every span hangs on another exported one of its trace, up to the request that it was for."""
    known = {(span.context.trace_id, span.context.span_id) for span in seen.spans if span.context}
    roots = [span for span in seen.spans if span.parent is None]
    assert {span.kind.name for span in roots} == {"SERVER"}
    lost = [
        span.name for span in seen.spans if span.parent and (span.parent.trace_id, span.parent.span_id) not in known
    ]
    assert lost == []


def test_every_key_of_a_line_is_in_the_catalog(seen: Afternoon) -> None:
    """Lines have the identity first, and no key that the catalog does not have."""
    keys = {*catalog.LOG_IDENTITY, *catalog.LOG_CORRELATION, *catalog.LOG_ACCESS, *catalog.LOG_FIELDS, "exception"}
    for line in seen.lines:
        assert tuple(line)[: len(catalog.LOG_IDENTITY)] == catalog.LOG_IDENTITY
        assert set(line) <= keys, line
    assert [line for line in seen.lines if "outside" in line["message"]] == []


def test_signals_agree(seen: Afternoon) -> None:
    """For each of 30 kinds of request: header, log lines, exemplar and exported trace have one trace id."""
    assert len({call.kind for call in seen.calls}) >= 30
    assert {call.answer.status for call in seen.calls} >= {200, 201, 202, 204, 401, 404, 405, 409, 415, 422, 429, 503}
    for call in seen.calls:
        agree(call, seen)


def agree(call: Call, seen: Afternoon) -> None:
    """One request in all three signals."""
    trace_id, request_id = call.answer.headers["x-trace-id"], call.answer.headers["x-request-id"]
    lines = [line for line in seen.lines if line.get("request_id") == request_id]
    [access] = [line for line in lines if line["logger"] == "service.access"]
    [server] = [span for span in of_trace(seen, trace_id) if span.kind.name == "SERVER"]
    assert {line["trace_id"] for line in lines} == {trace_id}, call.kind
    assert call.exemplar == trace_id, call.kind
    assert (access["method"], access["endpoint"], access["status"]) == (call.method, call.endpoint, call.answer.status)
    assert server.context is not None
    assert access["span_id"] == f"{server.context.span_id:016x}"
    attributes: Any = server.attributes or {}
    assert attributes["http.response.status_code"] == call.answer.status
    assert (server.status.status_code is StatusCode.ERROR) == (call.answer.status >= 500)


def of_trace(seen: Afternoon, trace_id: str) -> list[ReadableSpan]:
    """The exported spans of one trace."""
    return [span for span in seen.spans if span.context and f"{span.context.trace_id:032x}" == trace_id]


EXPECTED = {
    "extract after a retry": {
        "job extract_features": 2, "extraction.profile": 1, "extraction.plan": 1, "extraction.compute": 1,
        "extraction.assess": 1, "invoke_agent planner": 1, "chat gpt-4o-mini": 4, "model.attempt": 5,
        "engine.compute": 1,
        "engine.rehearse": 1,
        "execute_tool try_plan": 1, "job deliver_webhook": 2, "webhook.attempt": 1,
    },
    "the same plan from the cache": {"extraction.plan": 1, "invoke_agent planner": 0, "engine.compute": 1},
    "the same result": {"extraction.plan": 0, "engine.compute": 0, "job extract_features": 0},
    "from the fallback": {"invoke_agent planner": 2, "model.attempt": 2, "extraction.compute": 1},
    "no model can": {"invoke_agent planner": 2, "extraction.compute": 0, "job extract_features": 2},
    "deferred": {"job extract_features": 2, "model.attempt": 2, "extraction.compute": 1},
    "tried again": {"job extract_features": 4, "extraction.profile": 2, "extraction.compute": 1},
    "upload": {"engine.ingest": 1},
    "table": {"engine.export": 1},
    "without a key": {"job extract_features": 0},
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_trace_has_every_span(seen: Afternoon, kind: str) -> None:
    """A trace has what was done, as often as it was done, and nothing that was not."""
    [call] = [call for call in seen.calls if call.kind == kind]
    names = [span.name for span in of_trace(seen, call.answer.headers["x-trace-id"])]
    assert {name: names.count(name) for name in EXPECTED[kind]} == EXPECTED[kind]


def test_attempts_are_linked(seen: Afternoon) -> None:
    """The second attempt at a job, and a repeated request to a model, link to the one before, of the same trace."""
    jobs = sorted(
        (span for span in seen.spans if (span.attributes or {}).get("extraction.id") == seen.retried),
        key=lambda span: span.start_time or 0,
    )
    first, second = [span for span in jobs if span.kind.name == "CONSUMER"]
    assert [link.context.span_id for link in second.links] == [first.context.span_id if first.context else None]
    assert [link.context.trace_id for link in second.links] == [first.context.trace_id if first.context else None]
    repeated = [span for span in seen.spans if span.name == "model.attempt" and span.links]
    assert repeated
    assert {(span.attributes or {})["feature_agent.attempt"] for span in repeated} >= {2}
