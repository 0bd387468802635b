"""Over HTTP, what keeps planning calm when nothing is broken: cache, budgets, admission, and the one deadline."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.resources.overrides import Overrides
from service.settings import Settings
from tests.doubles import FixedClock
from tests.e2e.model_evidence import DATASET, Stand, moved
from tests.redis_process import needs_redis
from tests.support import LiveService
from tools.testbed.api_client import Answer
from tools.testbed.model_scenarios import SCENARIOS
from tools.testbed.model_server import ModelServer
from tools.testbed.redis import RedisProcess

SENTENCE = "Mean price of every user"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
MIDNIGHT = NOON + timedelta(hours=12)
EVENING = timedelta(seconds=4)
"""Before midnight: what is left of a completion date that is today."""
GPT = "gpt-4o-mini"
PRICE = 100 * 0.15e-6 + 20 * 0.60e-6
"""OpenAI's list price of one answer of the scripted model, in US dollars."""


@pytest.fixture(scope="module")
def stand(make_settings: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A provider, a database and a dataset for services that come and go."""
    with ModelServer() as provider:
        provider.assign(GPT, SCENARIOS["good"])
        yield Stand(make_settings, provider, tmp_path_factory.mktemp("calm"))


def extract(service: LiveService, sentence: str = SENTENCE, **headers: str) -> Answer:
    """One request for features."""
    body = {"dataset_id": DATASET, "feature_description": sentence}
    return service.client.post_json("/api/v1/extract-features", body, **headers)


def metrics(service: LiveService) -> dict[tuple[str, ...], float]:
    """What the service counted so far."""
    return moved(service.runtime.telemetry.metrics.registry)


def looked(service: LiveService) -> dict[tuple[str, str], float]:
    """Look-ups in the plan cache, by level and result."""
    return {
        (key[2], key[3]): value
        for key, value in metrics(service).items()
        if key[:2] == ("cache_requests_total", "plan")
    }


@needs_redis
def test_plans_are_served_from_two_levels(stand: Stand, redis_process: RedisProcess) -> None:
    """An equal request is served from memory, in another process from Redis; while that is away, from memory still."""
    settings: dict[str, Any] = {"redis_url": f"redis://127.0.0.1:{redis_process.port}/0"}
    with stand.service("openai-chat:good.cache", settings=settings) as first:
        answers = [
            extract(first),
            extract(first, "  MEAN price of every user. "),
            extract(first, Cache_Control="no-cache"),
        ]
        assert [answer.data["model"]["cached"] for answer in answers] == [False, True, False]
        assert looked(first) == {
            ("memory", "miss"): 1, ("redis", "miss"): 1, ("memory", "hit"): 1, ("memory", "bypassed"): 1,
        }  # fmt: skip
    exporter = InMemorySpanExporter()
    with stand.service("openai-chat:good.cache", settings=settings, span_exporters=[exporter]) as second:
        shared = extract(second)
        redis_process.kill()
        alone = extract(second, "MEAN price of every user")  # the result of the very same words would be repeated
        other = extract(second, "Mean price of every user, and how many clicks")
        assert looked(second) == {
            ("memory", "miss"): 2, ("redis", "hit"): 1, ("memory", "hit"): 1, ("redis", "miss"): 1,
        }  # fmt: skip
        assert metrics(second).get(("model_requests_total", "openai-chat:good.cache", "success")) == 1
    assert [answer.status for answer in (shared, alone, other)] == [200, 200, 200]
    assert [answer.data["model"]["cached"] for answer in (shared, alone, other)] == [True, True, False]
    assert shared.data["model"] == {**answers[0].data["model"], "cached": True} | {
        "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0,
    }  # fmt: skip
    assert len(stand.provider.requests("good.cache")) == 3
    of_agent = [
        f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans() if "invoke_agent" in span.name
    ]
    assert of_agent == [other.headers["x-trace-id"]], "a hit entered the agent"


def test_equal_requests_at_once_plan_once(stand: Stand) -> None:
    """Of eight equal requests one asks the model, and all have its plan, or the result that another came to with it."""
    with stand.service("openai-chat:good.flight", settings={"model_queue": 0}) as service:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: extract(service), range(8)))
        served = sum(looked(service).get(("memory", result), 0) for result in ("joined", "hit"))
        repeated = metrics(service).get(("cache_requests_total", "result", "memory", "hit"), 0)
    assert {answer.status for answer in answers} == {200}
    assert all(answer.data["features"] == answers[0].data["features"] for answer in answers)
    assert len(stand.provider.requests("good.flight")) == 1
    assert served + repeated == 7


@pytest.mark.parametrize(
    ("unit", "settings", "spent"),
    [
        ("tokens", {"budget_tokens_per_day": 240}, "240 tokens"),
        ("usd", {"budget_usd_per_day": 2 * PRICE}, "0.0001 US dollars"),
    ],
    ids=["tokens", "usd"],
)
def test_a_spent_budget_refuses_until_midnight(
    stand: Stand,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    unit: str,
    settings: dict[str, Any],
    spent: str,
) -> None:
    """At 100 % of the day's budget it is a 429 that names sum and midnight, warned of before; kept plans serve on."""
    own = Stand(make_settings, stand.provider, tmp_path)
    with own.service(f"openai-chat:{GPT}", settings=settings, overrides=Overrides(clock=FixedClock(NOON))) as service:
        allowed = [extract(service, f"{SENTENCE}, number {number}") for number in range(2)]
        refused, kept = extract(service, f"{SENTENCE}, number 2"), extract(service, f"{SENTENCE}, number 0")
        counted = metrics(service)
    assert [answer.status for answer in (*allowed, refused, kept)] == [200, 200, 429, 200]
    problem = refused.json()
    assert (problem["error_code"], problem["error_category"]) == ("budget_exceeded", "budget")
    assert spent in problem["detail"]
    assert f"free again at {MIDNIGHT:%Y-%m-%d}T00:00:00Z" in problem["detail"]
    assert problem["retry_after"] == int(refused.headers["retry-after"])
    assert int(refused.headers["retry-after"]) == 12 * 3600
    assert {key[-1]: value for key, value in counted.items() if key[0] == "budget_decisions_total"} == {
        "allowed": 2, "refused": 1,
    }  # fmt: skip
    warned = {key[1:]: value for key, value in counted.items() if key[0] == "budget_warnings_total"}
    assert {level: value for key, value in warned.items() for level in key if level.isdigit()} == {
        "80": 1, "95": 1, "100": 1,
    }  # fmt: skip
    assert all(unit in key for key in warned)
    assert counted["feature_extractions_total", "medium", "rejected"] == 1


def test_calls_without_a_known_price_are_counted_and_flagged(
    stand: Stand, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """A budget in dollars cannot see them: their cost is unknown and not 0, they are counted, and the log says so."""
    log = io.StringIO()
    own = Stand(make_settings, stand.provider, tmp_path)
    with own.service("openai-chat:good.free", settings={"budget_usd_per_day": 1.0}, log_stream=log) as service:
        answers = [extract(service, f"{SENTENCE}, number {number}") for number in range(2)]
        counted = metrics(service)
    assert [answer.data["model"]["cost_usd"] for answer in answers] == [None, None]
    assert counted["model_unpriced_requests_total", "openai-chat:good.free"] == 2
    assert ("model_cost_usd_total", "openai-chat:good.free") not in counted
    assert log.getvalue().count("calls without a known price") == 1


def test_what_cannot_wait_is_refused_at_once(stand: Stand) -> None:
    """One plans, one waits, and the next gets a 503 with Retry-After while both are there; nothing is stored for it."""
    settings = {"model_concurrency": 1, "model_queue": 1, "model_timeout_seconds": 90.0, "sync_wait_seconds": 90.0}
    with stand.service("openai-chat:hang.busy", settings=settings) as service, ThreadPoolExecutor(2) as pool:
        held = [pool.submit(extract, service, f"{SENTENCE}, number {number}") for number in range(2)]
        _await(lambda: metrics(service).get(("planning_requests", "waiting")) == 1)
        refused = extract(service, f"{SENTENCE}, number 2")
        assert not any(future.done() for future in held)
        for item in service.client.get("/api/v1/extractions").data["items"]:
            service.client.call("DELETE", f"/api/v1/extraction/{item['extraction_id']}")
        ends = [future.result() for future in held]
        counted = metrics(service)
    assert (refused.status, refused.json()["error_code"]) == (503, "planning_busy")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "extraction_id" not in refused.json()
    assert [end.json()["error_code"] for end in ends] == ["extraction_cancelled"] * 2
    assert counted["planning_admissions_total", "refused"] == 1
    assert ("model_requests_total", "openai-chat:hang.busy", "timeout") not in counted, "who leaves blames no model"
    assert len(stand.provider.requests("hang.busy")) <= 2


def test_the_request_s_deadline_reaches_the_model(stand: Stand) -> None:
    """A completion date that is nearly over cuts the model off then, long before any limit of the service's own."""
    clock = FixedClock(MIDNIGHT - EVENING)
    settings: dict[str, Any] = {"model_timeout_seconds": 90.0, "sync_wait_seconds": 90.0}
    with stand.service("openai-chat:hang.deadline", settings=settings, overrides=Overrides(clock=clock)) as service:
        started = time.monotonic()
        answer = service.client.extract(DATASET, SENTENCE, completion_date=f"{NOON:%Y-%m-%d}")
        seconds = time.monotonic() - started
        counted = metrics(service)
    assert (answer.status, answer.json()["error_category"]) == (504, "timeout")
    assert seconds < 60
    assert counted["model_requests_total", "openai-chat:hang.deadline", "timeout"] == 1


def _await(there: Callable[[], object]) -> None:
    limit = time.monotonic() + 30
    while not there():
        assert time.monotonic() < limit
        time.sleep(0.01)
