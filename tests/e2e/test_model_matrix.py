"""Everything that a model provider can do to its caller, over real HTTP, in both of OpenAI's wire formats.

For each trouble: what the client is answered, what the provider is asked, what the metrics, spans and log lines say of
it, and that no key, cell, prompt or word of the provider's is in any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from service.agents import retrying
from service.planning.breaker import SPREAD_SECONDS
from service.settings import BUILTIN_MODEL, Settings
from service.telemetry.catalog import BREAKER_STATES
from tests.e2e.model_evidence import DATASET, SENTENCE, Evidence, Stand, moved
from tests.e2e.model_rows import ERRORS, RELAYS, ROWS, STATUSES, Relay, Row
from tools.testbed.model_scenarios import CELL, SCENARIOS, SECRET
from tools.testbed.model_server import ModelServer

WIRES = ("openai-chat", "openai")
PATHS = {"openai-chat": "chat", "openai": "responses"}


@pytest.fixture(scope="module")
def stand(make_settings: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A provider, a database and a dataset for services that come and go."""
    with ModelServer() as provider:
        yield Stand(make_settings, provider, tmp_path_factory.mktemp("matrix"))


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that hardly wait: how long they do is not what is tested here."""
    monkeypatch.setattr(retrying, "WAIT_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retrying, "WAIT_JITTER_SECONDS", 0.01)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.scenario)
def test_trouble(stand: Stand, row: Row, wire: str) -> None:
    """A model's trouble has its one answer, its numbers, its trace and its log lines, and gives nothing away."""
    name = f"{row.scenario}.{wire}"
    evidence = stand.ask(f"{wire}:{name}", model_timeout_seconds=row.seconds)

    require_answer(evidence, row, f"{wire}:{name}")
    require_requests(evidence, row, wire)
    require_metrics(evidence, row, f"{wire}:{name}")
    require_spans(evidence, row, name)
    require_lines(evidence, row, f"{wire}:{name}")
    quoted = {"body"} if row.told else set[str]()
    assert [leak for leak in evidence.leaks() if leak[0] not in quoted] == []


def require_answer(evidence: Evidence, row: Row, model: str) -> None:
    """Status, code, words and Retry-After."""
    answer = evidence.answer
    assert answer.status == STATUSES[row.code], answer.body
    if not row.code:
        planned = answer.data["model"]
        tokens = (100 * row.answered, 20 * row.answered)
        assert (planned["name"], planned["fallback"]) == (model, False)
        assert (planned["input_tokens"], planned["output_tokens"]) == tokens
        assert planned["cost_usd"] is None
        return
    problem = answer.json()
    assert problem["error_code"] == row.code
    assert problem["detail"].startswith(f"The model {model} ")
    assert row.words in problem["detail"]
    assert row.retry_after is not None
    least, most = row.retry_after
    assert least <= int(answer.headers["retry-after"]) <= most
    assert problem["retry_after"] == int(answer.headers["retry-after"])


def require_requests(evidence: Evidence, row: Row, wire: str) -> None:
    """As many as expected, each with the key and the client's words, on the path of its format."""
    assert len(evidence.asked) == len(row.attempts)
    for asked in evidence.asked:
        assert asked.wire == PATHS[wire]
        assert asked.headers["authorization"] == f"Bearer {SECRET}"
        assert SENTENCE in str(asked.body)
        assert CELL in str(asked.body)


def require_metrics(evidence: Evidence, row: Row, model: str) -> None:
    """Every counter that the trouble concerns, by how much."""
    answered = {"success": row.answered} if row.answered else {}
    assert evidence.moved("model_requests_total", model) == {**row.failed, **answered}
    assert evidence.moved("model_retries_total", model) == row.retried
    assert evidence.moved("agent_output_retries_total") == row.sent_back
    tokens = {"input": 100 * row.answered, "output": 20 * row.answered} if row.answered else {}
    assert evidence.moved("model_tokens_total", model) == tokens
    assert evidence.moved("model_unpriced_requests_total") == ({model: row.answered} if row.answered else {})
    assert evidence.moved("model_cost_usd_total") == {}
    assert evidence.moved("model_fallbacks_total") == {}
    assert evidence.moved("model_request_duration_seconds_count") == {model: len(row.attempts)}
    assert evidence.moved("feature_extractions_total", "medium") == {"failed" if row.code else "completed": 1}
    assert evidence.moved("api_requests_total", "/api/v1/extract-features", "POST") == {str(STATUSES[row.code]): 1}


def require_spans(evidence: Evidence, row: Row, name: str) -> None:
    """One tree: the request, the planning stage, the agent, each of its requests, and each attempt at one."""
    [server] = [span for span in evidence.spans if span.kind is SpanKind.SERVER]
    [plan] = evidence.named("extraction.plan")
    [agent] = evidence.named("invoke_agent planner")
    chats, attempts = evidence.named(f"chat {name}"), evidence.named("model.attempt")
    job, request = "job extract_features", "POST /api/v1/extract-features"
    around = ["invoke_agent planner", "extraction.plan", job, job, request]
    assert server.name == request
    assert evidence.ancestors(plan) == around[2:]
    assert evidence.ancestors(agent) == around[1:]
    assert [evidence.ancestors(chat) for chat in chats] == [around] * row.chats
    assert [evidence.ancestors(attempt) for attempt in attempts] == [[f"chat {name}", *around]] * len(row.attempts)
    for attempt, errors in zip(attempts, row.attempts, strict=True):
        attributes = attempt.attributes or {}
        assert attributes["gen_ai.request.model"] == name
        assert attempt.status.status_code is (StatusCode.ERROR if errors else StatusCode.UNSET)
        assert attributes.get("error.type") in (errors or (None,))
        assert attributes.get("http.response.status_code") == (row.status_code if errors else None)
    assert (plan.attributes or {}).get("error.type") == (ERRORS[row.code] if row.code else None)
    assert (server.attributes or {}).get("error.type") == (str(STATUSES[row.code]) if row.code else None)


def require_lines(evidence: Evidence, row: Row, model: str) -> None:
    """One access line, one end of the extraction, one warning for each failed attempt; nothing unexpected."""
    [access] = [line for line in evidence.lines if line["logger"] == "service.access"]
    assert (access["endpoint"], access["status"]) == ("/api/v1/extract-features", STATUSES[row.code])
    [finished] = [line for line in evidence.lines if line["message"] == "extraction finished"]
    assert finished.get("failure_code", "") == row.code
    failed = [line for line in evidence.lines if line["message"] == "model call failed"]
    statuses = [status for status, times in row.failed.items() for _ in range(times)]
    assert [(line["model"], line["status"], line["level"]) for line in failed] == [
        (model, status, "warning") for status in statuses
    ]
    assert not any("exception" in line for line in evidence.lines)


@pytest.mark.parametrize("relay", RELAYS, ids=lambda relay: f"{relay.primary}-{relay.fallback}-{relay.last_resort}")
def test_relay(stand: Stand, relay: Relay) -> None:
    """When the preferred model cannot plan, the next does; the answer names it and adds up what all of them took."""
    names = {
        "primary": f"openai-chat:{relay.primary}.primary",
        "fallback": f"openai:{relay.fallback}.fallback",
        "builtin": BUILTIN_MODEL,
    }
    settings = {"fallback_model": names["fallback"]} if relay.fallback else {}
    evidence = stand.ask(
        names["primary"], model_last_resort=relay.last_resort, model_timeout_seconds=relay.seconds, **settings
    )

    asked = [request.model.partition(".")[2] for request in evidence.asked]
    assert (asked.count("primary"), asked.count("fallback")) == relay.asked
    assert evidence.moved("model_fallbacks_total") == {names[role]: 1 for role in relay.fell_back}
    require_relayed(evidence, relay, names)
    spent = [evidence.moved("model_tokens_total", names[role]) for role in ("primary", "fallback")]
    assert tuple(sum(each.get(kind, 0) for each in spent) for kind in ("input", "output")) == relay.tokens
    fell_back = [line for line in evidence.lines if line["message"] == "model fell back"]
    assert [line["model"] for line in fell_back] == [names[role] for role in relay.fell_back]
    assert len(evidence.named("invoke_agent planner")) == 1 + len(relay.fell_back)
    # A plan of the built-in planner counts the dataset's own values, and names them.
    quoted = {"body"} if relay.fallback == "unknown-column" or relay.plans == "builtin" else set[str]()
    assert [leak for leak in evidence.leaks() if leak[0] not in quoted] == []


@pytest.mark.parametrize("wire", WIRES)
def test_a_known_price_is_counted(stand: Stand, wire: str) -> None:
    """The cost of a model with a public price is in the answer and in the metric, and no request counts as unpriced."""
    stand.provider.assign("gpt-4o-mini", SCENARIOS["faulty-then-good"])
    evidence = stand.ask(f"{wire}:gpt-4o-mini")

    planned = evidence.answer.data["model"]
    assert (planned["input_tokens"], planned["output_tokens"]) == (300, 60)
    # OpenAI's list price, in US dollars a token.
    assert planned["cost_usd"] == pytest.approx(300 * 0.15e-6 + 60 * 0.60e-6)
    assert evidence.moved("model_cost_usd_total") == {f"{wire}:gpt-4o-mini": pytest.approx(planned["cost_usd"])}
    assert evidence.moved("model_unpriced_requests_total") == {}


def test_a_failing_model_is_left_alone(stand: Stand) -> None:
    """The fifth failure opens the circuit: no request is sent any more, clients are told when, and health says so."""
    name = "status-500.circuit"
    with stand.service(f"openai-chat:{name}") as service:
        answers = [service.client.extract(DATASET, f"Mean price per user, number {number}") for number in range(3)]
        health = service.client.get("/health").json()
        metrics = moved(service.runtime.telemetry.metrics.registry)

    assert len(stand.provider.requests(name)) == 5
    assert [answer.json()["error_code"] for answer in answers] == ["model_unavailable"] * 3
    for answer in answers[:2]:
        assert "answered with HTTP status 500" in answer.json()["detail"]
    assert "failed lately" in answers[2].json()["detail"]
    assert "extraction_id" not in answers[2].json(), "something was stored for what could not be planned"
    for answer in answers[1:]:
        assert 1 <= int(answer.headers["retry-after"]) <= 15 + SPREAD_SECONDS
    assert metrics["model_breaker_state", f"openai-chat:{name}"] == BREAKER_STATES["open"]
    assert metrics["model_breaker_transitions_total", f"openai-chat:{name}", "open"] == 1
    assert health["status"] == "degraded"


def require_relayed(evidence: Evidence, relay: Relay, names: dict[str, str]) -> None:
    """The answer of whoever planned, or the last one's excuse with the soonest time to come back."""
    answer = evidence.answer
    assert answer.status == STATUSES[relay.code], answer.body
    outcome = "failed" if relay.code else "completed"
    assert evidence.moved("feature_extractions_total", "medium") == {outcome: 1}
    if not relay.code:
        model = answer.data["model"]
        assert (model["name"], model["fallback"]) == (names[relay.plans], relay.plans != "primary")
        own = evidence.moved("model_tokens_total", BUILTIN_MODEL)
        spent = [int(relay.tokens[0] + own.get("input", 0)), int(relay.tokens[1] + own.get("output", 0))]
        assert [model["input_tokens"], model["output_tokens"]] == spent
        assert bool(own) is (relay.plans == "builtin")
        return
    assert answer.json()["error_code"] == relay.code
    assert relay.retry_after is not None
    least, most = relay.retry_after
    assert least <= int(answer.headers["retry-after"]) <= most
