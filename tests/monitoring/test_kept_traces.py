"""Every dot on a graph leads to a trace: the exemplars of a service at work, followed through the shipped sampling."""

from __future__ import annotations

import gc
import http.client
import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest

from service.resources.overrides import Overrides
from service.resources.telemetry import Role, open_telemetry
from service.settings import Settings
from service.telemetry.catalog import EXEMPLAR, KEPT_BY_ID
from service.telemetry.exemplars import IN_TIME_SECONDS, SLOW_SECONDS, is_kept_by_id
from tests.monitoring import traffic
from tests.monitoring.jaeger import JAEGER, NONE_HERE, configuration, running_jaeger
from tests.monitoring.sampling import TailSampler, kept_by_id, rule
from tests.monitoring.stand import until
from tests.support import LiveService
from tools.testbed.api_client import Client

Worked = tuple[LiveService, dict[str, str]]
"""A service, and the traces of its requests by what they are."""
READS = 80
EXEMPLARS = re.compile(r'^(\w+)_bucket\{.*\} \S+ # \{span_id="\w{16}",trace_id="(\w{32})"\}', re.MULTILINE)
EXPORT_SECONDS = 10.0
"""Twice the delay of a batch: what a span takes to the collector at most."""


def exemplars(address: str) -> set[tuple[str, str]]:
    """Metric and trace of each exemplar that a scrape brings."""
    answer = Client(address, None).get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.status == 200
    return set(EXEMPLARS.findall(answer.body.decode()))


def _metrics(service: LiveService) -> str:
    return str(service.runtime.metrics_address).removesuffix("/metrics")


def work(service: LiveService) -> dict[str, str]:
    """Requests that succeed, are slow, are refused and fail; gives the traces of those that matter by what they are."""
    client, traces = service.client, dict[str, str]()
    traces["slow"] = _stalled_upload(service)
    answer = client.extract("clicks", "Mean price of every user", quality_threshold="low")
    assert answer.status == 200, answer.body
    traces["extraction"] = answer.headers["x-trace-id"]
    refused = client.extract("clicks", "The colour of the sky above the office")
    assert refused.status == 422, refused.body
    traces["refused"] = refused.headers["x-trace-id"]
    for number in range(READS):
        assert client.get("/api/v1/datasets").status == 200
        if number % 10 == 0:
            gc.collect()
    identity = answer.data["extraction_id"]
    shutil.rmtree(Path(service.settings.data_dir) / "artifacts/features" / identity)
    broken = client.get(f"/api/v1/extraction/{identity}/features")
    assert broken.status >= 500, broken.body
    traces["broken"] = broken.headers["x-trace-id"]
    return traces


def _stalled_upload(service: LiveService) -> str:
    """A client whose body comes late; gives the request's trace."""
    content = traffic.ROWS.encode()
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
    connection.putrequest("POST", "/api/v1/datasets?dataset_id=clicks")
    for name, value in {"Authorization": f"Bearer {service.key}", "Content-Type": "text/csv"}.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content[:100])
    time.sleep(SLOW_SECONDS)
    connection.send(content[100:])
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    answer.read()
    connection.close()
    return answer.headers["X-Trace-ID"]


@pytest.fixture(scope="module")
def sampler() -> TailSampler:
    """The shipped sampling."""
    return TailSampler(configuration())


@pytest.fixture(scope="module")
def worked(sampler: TailSampler, make_settings: Callable[..., Settings]) -> Iterator[Worked]:
    """A service that has worked, and whose spans have left."""
    with LiveService(make_settings(), Overrides(span_exporters=[sampler], log_stream=io.StringIO())) as service:
        traces = work(service)
        assert service.runtime.telemetry.tracing.force_flush()
        yield service, traces


def test_every_exemplar_leads_to_a_trace(worked: Worked, sampler: TailSampler) -> None:
    """Followed through the shipped policies, each dot leads to a kept trace, though most traces are thrown away."""
    service, traces = worked
    dots = exemplars(_metrics(service))
    assert {trace_id for _, trace_id in dots} <= sampler.kept.keys()
    assert {traces["slow"], traces["extraction"], traces["broken"]} <= sampler.kept.keys()
    assert {traces["slow"], traces["broken"]} <= {trace_id for _, trace_id in dots}
    expected = {"api_request_duration_seconds", "feature_extraction_duration_seconds", "model_request_duration_seconds"}
    assert expected <= {metric for metric, _ in dots}
    assert len(sampler.seen) - len(sampler.kept) > READS / 2


def test_only_our_faults_are_errors(worked: Worked, sampler: TailSampler) -> None:
    """A request that the client has to mend has no failed span, one that the service failed has."""
    _, traces = worked
    failed = {trace_id for trace_id, spans in sampler.seen.items() if any(not one.status.is_unset for one in spans)}
    assert failed == {traces["broken"]}
    refused = {span.name: span for span in sampler.seen[traces["refused"]]}
    assert dict(refused["extraction.plan"].attributes or {})["error.type"] == "RequestImpossible"


def test_waiting_makes_no_spans(worked: Worked, sampler: TailSampler) -> None:
    """The trace of an extraction that was waited for has no statement for each look at its row."""
    _, traces = worked
    spans = sampler.seen[traces["extraction"]]
    statements = [span for span in spans if "db.query.text" in (span.attributes or {})]
    assert len(statements) <= 25, sorted(str((span.attributes or {})["db.query.text"])[:80] for span in statements)
    operations = {str((span.attributes or {})["db.operation.name"]) for span in statements}
    assert operations <= {"SELECT", "INSERT", "UPDATE", "WITH"}


def test_api_and_worker_are_services_of_one_namespace(make_settings: Callable[..., Settings]) -> None:
    """Traces know each of the two by a name of its own."""
    found: set[tuple[object, object]] = set()
    for role in get_args(Role):
        telemetry = open_telemetry(
            make_settings(), role=role, overrides=Overrides(span_exporters=[], log_stream=io.StringIO())
        )
        of = telemetry.tracing.provider.resource.attributes
        found.add((of["service.namespace"], of["service.name"]))
        telemetry.close()
    assert found == {("feature-agent", "feature-agent-api"), ("feature-agent", "feature-agent-worker")}


@pytest.mark.proof
@pytest.mark.skipif(JAEGER is None, reason=NONE_HERE)
@pytest.mark.timeout(300)
def test_jaeger_has_every_dot(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """A real Jaeger with the shipped configuration has each trace that an exemplar leads to, seconds later."""
    with (
        running_jaeger(tmp_path) as jaeger,
        LiveService(make_settings(jaeger_enabled=True, jaeger_endpoint=jaeger.otlp)) as service,
    ):
        work(service)
        assert service.runtime.telemetry.tracing.force_flush()
        dots = exemplars(_metrics(service))
        assert dots
        began = time.monotonic()
        for _, trace_id in dots:
            until(lambda trace_id=trace_id: jaeger.spans(trace_id), f"trace {trace_id}")
        wait = float(configuration()["processors"]["tail_sampling"]["decision_wait"].removesuffix("s"))
        assert time.monotonic() - began < wait / 2


def test_the_service_and_the_collector_choose_the_same_ids() -> None:
    """The share of traces that is kept by its id is the same number on both sides, to the last id."""
    [condition] = next(one for one in policies() if one["type"] == "ottl_condition")["ottl_condition"]["span"]
    collector = kept_by_id(condition)
    for chance in (0, KEPT_BY_ID - 1, KEPT_BY_ID, 0xFFFF):
        trace_id = 1 << 127 | chance << 48 | 0xFFFF
        assert is_kept_by_id(trace_id) is collector(trace_id), chance
    assert KEPT_BY_ID in {6553, 6554}


def test_marks_come_in_time() -> None:
    """What the service marks as slow is kept as slow too, and a mark is set only where the collector still waits."""
    sampling = configuration()["processors"]["tail_sampling"]
    by_type = {policy["type"]: policy for policy in policies()}
    assert by_type["boolean_attribute"]["boolean_attribute"] == {"key": EXEMPLAR, "value": True}
    assert by_type["latency"]["latency"]["threshold_ms"] <= SLOW_SECONDS * 1000
    assert float(sampling["decision_wait"].removesuffix("s")) > IN_TIME_SECONDS + EXPORT_SECONDS
    assert all(rule(policy) for policy in policies())


def policies() -> list[dict[str, Any]]:
    """The shipped ones."""
    return configuration()["processors"]["tail_sampling"]["policies"]
