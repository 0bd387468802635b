"""Every panel is alive: all queries of all boards, asked of a real Prometheus over a real service at work.

And the proof that this would be seen otherwise: with any one name of any query changed, it is.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.monitoring import traffic
from tests.monitoring.boards import Asked, boards, filled, metric_panels, queries
from tests.monitoring.checking import Prometheus, faults
from tests.monitoring.mutants import mutants
from tests.monitoring.recorded_metrics import RecordedMetrics
from tests.monitoring.stand import (
    PROMETHEUS,
    ROOT,
    free_port,
    process,
    prometheus,
    said,
    service,
    shipped,
    until,
)
from tests.receiver import Receiver
from tests.redis_process import needs_redis, running_redis
from tools.demo.collector import Collector
from tools.testbed.api_client import Client
from tools.testbed.model_server import ModelServer

SETTLE_SECONDS = 11.0
"""After the last rule: two more scrapes of everything."""

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed"),
    needs_redis,
    pytest.mark.xdist_group("panels"),
    pytest.mark.timeout(1200),
]


@pytest.fixture(scope="module")
def watched(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that watched the service through all of its traffic."""
    folder = tmp_path_factory.mktemp("panels")
    with ExitStack() as stack:
        redis_url = stack.enter_context(running_redis(folder)).url
        model = stack.enter_context(ModelServer())
        collector = stack.enter_context(Collector())
        environment = _environment(new_database(), redis_url, model.url, collector.endpoint, folder)
        ports = {name: free_port() for name in ("feature-agent", "feature-agent-worker", "locust", "prometheus")}
        targets = {name: [f"127.0.0.1:{port}"] for name, port in ports.items()}
        targets["recorded"] = [stack.enter_context(RecordedMetrics()).target]
        (folder / "prometheus").mkdir()
        configuration = shipped(folder / "prometheus", targets, f"127.0.0.1:{free_port()}")
        began = time.time()
        address = stack.enter_context(prometheus(configuration, ports["prometheus"]))
        api = {**environment, "PROMETHEUS_PORT": str(ports["feature-agent"])}
        stack.enter_context(process(service("serve"), folder / "api.log", api))
        of_worker = {**environment, "PROMETHEUS_PORT": str(ports["feature-agent-worker"])}
        worker = stack.enter_context(process(service("worker"), folder / "worker.log", of_worker))
        listening = until(lambda: said(folder / "api.log", "listening"), "the API")
        until(lambda: said(folder / "worker.log", "working"), "the worker")
        with ThreadPoolExecutor() as pool:
            keys = pool.map(lambda name: _key(name, environment, folder), ("load", "crowd"))
        _command(["backup", (folder / "backup").as_uri()], environment, folder)
        load, crowd = (Client(listening["address"], key) for key in keys)
        # Its first requests make what it reads later: they need a model that answers, which the traffic takes away.
        traffic.let_models_answer(model)
        stack.enter_context(process(_locust(load), folder / "locust.log", _of_locust(load, ports["locust"])))
        until(lambda: _holds(address, 'sum(locust_requests_total{outcome="success"}) > 0'), "requests of Locust")
        analyst = Client(listening["address"], (folder / "data/development.key").read_text().strip())
        receiver = stack.enter_context(Receiver())
        seen = functools.partial(until, lambda: _queued(address), "a queue")
        traffic.play(traffic.Scene(analyst, crowd, model, worker, receiver.url(), seen))
        until(lambda: _complete(address, began), "rules on the last scrapes")
        time.sleep(SETTLE_SECONDS)
        with closing(Prometheus(address, time.time(), began)) as found:
            yield found


def _queued(address: str) -> bool:
    with closing(Prometheus(address, time.time(), time.time())) as now:
        waiting = now.instant('max(extraction_queue_jobs{state="queued"}) >= 5')
        return bool(waiting and now.instant("max(extraction_queue_oldest_seconds) > 1"))


def _holds(address: str, query: str) -> bool:
    with closing(Prometheus(address, time.time(), time.time())) as now:
        return bool(now.instant(query))


def _complete(address: str, began: float) -> bool:
    """Whether what comes last is there: a rule on the traffic fires. Everything else is left to the tests."""
    with closing(Prometheus(address, time.time(), began)) as now:
        return bool(now.instant('ALERTS{alertstate="firing",slo="api-availability"}'))


def _environment(database_url: str, redis_url: str, model_url: str, traces_url: str, folder: Path) -> dict[str, str]:
    return {
        "ENVIRONMENT": "test",
        "PORT": "0",
        "LOG_FORMAT": "json",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DATA_DIR": str(folder / "data"),
        "WORKER_IN_API": "false",
        "PRIMARY_MODEL": f"openai-chat:{traffic.PRIMARY}",
        "FALLBACK_MODEL": f"openai-chat:{traffic.FALLBACK}",
        "OPENAI_API_KEY": "no-key",
        "OPENAI_BASE_URL": model_url,
        "MODEL_TIMEOUT_SECONDS": "10",
        "SYNC_WAIT_SECONDS": "90",
        "RATE_LIMIT_PER_MINUTE": str(traffic.RATE_LIMIT),
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "BUDGET_TOKENS_PER_DAY": "1000000",
        "JAEGER_ENABLED": "true",
        "JAEGER_ENDPOINT": traces_url,
    }


def _key(name: str, environment: dict[str, str], folder: Path) -> str:
    return json.loads(_command(["keys", "create", "--name", name, "--json"], environment, folder))["key"]


def _command(arguments: list[str], environment: dict[str, str], folder: Path) -> str:
    command = [sys.executable, "-m", "service", *arguments]
    around = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=around, stdout=subprocess.PIPE, text=True, check=True).stdout


def _locust(client: Client) -> list[str]:
    file = str(ROOT / "loadtest/locustfile.py")
    load = ("--headless", "--shape", "soak", "--rate", "1", "--only-summary")
    return [sys.executable, "-m", "locust", "-f", file, "--host", client.url, *load]


def _of_locust(client: Client, port: int) -> dict[str, str]:
    assert client.key is not None
    return {"FEATURE_AGENT_KEY": client.key, "LOCUST_METRICS_PORT": str(port)}


HAPPENED = (
    'api_requests_total{status="401"}',
    'api_requests_total{endpoint="unmatched"}',
    'api_requests_total{status=~"503|504"}',
    'auth_failures_total{reason="missing"}',
    'rate_limit_decisions_total{decision="limited"}',
    'cache_requests_total{result="hit"}',
    'model_requests_total{status="success"}',
    'model_requests_total{status="error"}',
    'model_requests_total{status="timeout"}',
    'model_retries_total{reason="rate_limited"}',
    "model_fallbacks_total",
    "model_cost_usd_total",
    "model_unpriced_requests_total",
    "agent_output_retries_total",
    'feature_extractions_total{status="completed"}',
    'feature_extractions_total{status="failed"}',
    'job_attempts_total{outcome="completed"}',
    'webhook_deliveries_total{outcome="delivered"}',
    'locust_requests_total{outcome="success",stage="warm-up"}',
)


@pytest.mark.parametrize("series", HAPPENED)
def test_the_traffic_was_seen(watched: Prometheus, series: str) -> None:
    """The proof stands on what really happened: successes and failures of every kind moved their counters."""
    assert watched.instant(f"sum({series}) > 0")


def test_the_queue_grew(watched: Prometheus) -> None:
    """While the worker stood still, jobs waited, and Prometheus saw them."""
    assert watched.instant('max_over_time(max(extraction_queue_jobs{state="queued"})[15m:1s]) >= 5')
    assert watched.instant("max_over_time(max(extraction_queue_oldest_seconds)[15m:1s]) > 1")


def test_every_query_is_alive(watched: Prometheus) -> None:
    """All targets of all panels, all variables and annotations parse, bring series that they can show, and no NaN."""
    found = [fault for asked in queries() for fault in faults(asked, watched)]
    assert "\n".join(found) == ""


def test_every_changed_query_is_found_out(watched: Prometheus) -> None:
    """With any one metric or label renamed in any one place of any query, the check above fails: no mutant lives."""
    every = [mutant for asked in queries() for mutant in mutants(asked)]
    alive = [mutant for mutant in every if not faults(mutant, watched)]
    assert len(every) > 1000
    assert [mutant.where for mutant in alive] == []


RARELY_TRACED = "gc_pause_seconds"
"""Few of its pauses fall into a traced request within half a minute; tests/integration/test_exemplars.py makes some."""


def _with_exemplars() -> list[tuple[str, str]]:
    return [
        (f"{board['uid']} / {panel['title']}", target["expr"])
        for board in boards()
        for panel in metric_panels(board)
        for target in panel["targets"]
        if target["exemplar"] and RARELY_TRACED not in target["expr"]
    ]


@pytest.mark.parametrize(("where", "expression"), _with_exemplars())
def test_durations_lead_to_traces(watched: Prometheus, where: str, expression: str) -> None:
    """Panels that ask for exemplars get some, each with the id of a trace."""
    span = {"start": f"{watched.since}", "end": f"{watched.moment}"}
    found = watched.ask("query_exemplars", query=filled(expression), **span)
    exemplars = [exemplar for series in found for exemplar in series["exemplars"]]
    assert exemplars, where
    assert all(len(exemplar["labels"]["trace_id"]) == 32 for exemplar in exemplars)


def test_a_query_that_is_no_promql_is_found_out(watched: Prometheus) -> None:
    """A query that cannot be parsed is a fault, not an error of the test."""
    assert faults(Asked("nowhere", "sum("), watched)
