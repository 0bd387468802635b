from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
from moto.server import ThreadedMotoServer

from tests.redis_process import running_redis
from tools.demo.collector import Collector
from tools.demo.trace_tree import Span
from tools.testbed.fleet import Fleet, open_fleet
from tools.testbed.pod import Pod
from tools.testbed.retrying_client import RESPOND_ASYNC, RetryingClient, extraction_of

BUCKET = "features"
ENDED = {"completed", "failed", "cancelled"}
pytestmark = [pytest.mark.proof, pytest.mark.timeout(300), pytest.mark.xdist_group("fleet")]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket on a server that speaks S3, which the environment names; a client of Amazon's to look into it."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "ada",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()
    server.stop()


def keys(s3: Any) -> list[str]:
    """What is in the bucket."""
    return sorted(item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()))


async def follow(client: httpx2.AsyncClient, url: str, last: int | None = None) -> list[tuple[int, str, str]]:
    """The events of an extraction, to the stream's end: id, name, status."""
    events: list[tuple[int, str, str]] = []
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        number, name = -1, ""
        async for line in answer.aiter_lines():
            word, _, value = line.partition(": ")
            if word == "id":
                number = int(value)
            elif word == "event":
                name = value
            elif word == "data":
                events.append((number, name, json.loads(value)["status"]))
    return events


def holds_engine(pod: Pod) -> bool:
    """Whether its process has loaded the engine."""
    return "duckdb" in Path(f"/proc/{pod.process.pid}/maps").read_text()


def of_kind(spans: tuple[Span, ...], name: str, kind: str) -> Span:
    """The one span of that name and kind."""
    [span] = [span for span in spans if (span.name, span.kind) == (name, kind)]
    return span


def root_of(span: Span, spans: tuple[Span, ...]) -> Span:
    """The span from which everything came."""
    by_id = {each.span_id: each for each in spans}
    while span.parent_id:
        span = by_id[span.parent_id]
    return span


async def test_several_pods_are_one_service(s3: Any, new_database: Callable[[], str], tmp_path: Path) -> None:
    """Two APIs and two workers on one database, one Redis and one bucket: what one takes in, another runs and tells.

    The request, its job and its run are one trace, though three processes wrote it.
    """
    with running_redis(tmp_path) as redis, Collector() as collector:
        told = {"REDIS_URL": redis.url, "JAEGER_ENABLED": "true", "JAEGER_ENDPOINT": collector.endpoint}
        async with open_fleet(tmp_path, new_database(), f"s3://{BUCKET}/pods", **told) as fleet:
            one, other = fleet.start("serve"), fleet.start("serve")
            workers = [fleet.start("worker", WORKER_CONCURRENCY="1") for _ in range(2)]
            await asyncio.gather(*(pod.ready() for pod in fleet.pods))
            async with fleet.client() as client:
                caller = RetryingClient(fleet, client)
                await caller.upload("clicks")
                for api in (one, other):
                    assert not await asyncio.to_thread(holds_engine, api), "an API read the upload itself"
                await _accepted_here_told_there(caller, one.address or "", other.address or "", collector)
                accepted = await caller.submit("clicks", 6)
                for extraction_id in accepted:
                    assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
                started = [
                    {line["extraction_id"] for line in worker.lines() if line["message"] == "extraction started"}
                    for worker in workers
                ]
                assert all(started), "one worker did everything"
                await _deleted_there(fleet, client, accepted, s3)


async def _accepted_here_told_there(caller: RetryingClient, here: str, there: str, collector: Collector) -> None:
    """Accept on one API, follow and download from the other, and find one trace of it all."""
    client = caller.client
    headers = {"Idempotency-Key": "once", **RESPOND_ASYNC}
    body = {"dataset_id": "clicks", "feature_description": "Average clicks for each user", "quality_threshold": "low"}
    accepted = await client.post(f"{here}/api/v1/extract-features", json=body, headers=headers)
    extraction_id = extraction_of(accepted)
    path = f"/api/v1/extraction/{extraction_id}"
    events = await follow(client, f"{there}{path}/events")
    assert [number for number, _, _ in events] == sorted({number for number, _, _ in events})
    assert events[-1][1:] == ("end", "completed")
    assert await follow(client, f"{there}{path}/events", last=events[0][0]) == events[-1:]
    again = await client.post(f"{there}/api/v1/extract-features", json=body, headers=headers)
    assert (extraction_of(again), again.headers["Idempotency-Replayed"]) == (extraction_id, "true")
    from_there, from_here = [await client.get(f"{address}{path}/features") for address in (there, here)]
    assert from_there.content[:4] == b"PAR1"
    assert from_there.content == from_here.content
    trace_id = accepted.headers["X-Trace-ID"]
    job_ended = ("job extract_features", "consumer")
    spans = await asyncio.to_thread(collector.wait_for_trace, trace_id, seconds=60.0, awaited=[job_ended])
    request = of_kind(spans, "POST /api/v1/extract-features", "server")
    producer, consumer = of_kind(spans, "job extract_features", "producer"), of_kind(
        spans, "job extract_features", "consumer"
    )  # fmt: skip
    assert consumer.parent_id == producer.span_id
    computed = [span for span in spans if span.name == "extraction.compute"]
    assert [root_of(span, spans) for span in (producer, consumer, *computed)] == [request] * 3


async def _deleted_there(fleet: Fleet, client: httpx2.AsyncClient, accepted: list[str], s3: Any) -> None:
    """Deleting through any API empties the bucket of it."""
    addresses = [pod.address for pod in fleet.pods if pod.role == "serve"]
    before = keys(s3)
    assert all(f"pods/features/{extraction_id}/1.parquet" in before for extraction_id in accepted)
    for number, extraction_id in enumerate(accepted):
        gone = await client.delete(f"{addresses[number % 2]}/api/v1/extraction/{extraction_id}")
        assert gone.status_code == 204
    assert not [key for key in keys(s3) if any(extraction_id in key for extraction_id in accepted)]
    (await fleet.audit([])).require_nothing_lost()
