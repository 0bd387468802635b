from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import stamina
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY
from pydantic_ai import RunContext, Tool
from pydantic_ai.exceptions import ModelAuthenticationError, ModelServerError

from service.agents import retrying
from service.agents.builtin.model import BuiltinPlanner
from service.agents.fallback import FallbackPlanner
from service.agents.http_client import MAX_ANSWER_BYTES
from service.agents.planner import MAX_TOOL_CALLS, AgentPlanner
from service.agents.retrying import FAIR_SECONDS, MAX_RETRY_AFTER_WAIT_SECONDS, WAIT_JITTER_SECONDS, RetryPolicy
from service.agents.run import PlanningRun
from service.concurrency.deadline import deadline
from service.features.errors import DeadlineExceeded, ModelOutputInvalid, ModelTimeout, ModelUnavailable
from service.features.events import ModelFellBack, ModelRetried
from service.planning.breaker import SPREAD_SECONDS, Breaker, CircuitOpen
from service.planning.circuit import BreakerPolicy
from tests.integration.openai_stub import Reply, openai_stub
from tests.integration.test_planner import (
    CANARY,
    GOOD,
    NAME,
    UNKNOWN_COLUMN,
    ModelRecorder,
    Traced,
    request,
    stub_model,
)

GOOD_REPLY = Reply(arguments=GOOD)
DEEP = "[" * 100_000 + "]" * 100_000


class CountingBreaker:
    """A breaker that admits every call and keeps what is reported."""

    def __init__(self) -> None:
        self.state = "closed"
        self.retry_after: float | None = None
        self.reports: list[tuple[str, float | None]] = []

    def require_not_open(self) -> None:
        """It never is."""

    async def admit(self) -> CountingBreaker:
        """Pass; it is its own permit."""
        return self

    async def succeeded(self) -> None:
        """Note it."""
        self.reports.append(("succeeded", None))

    async def failed(self, retry_after: float | None = None) -> None:
        """Note it, after a moment in which a cancellation could lose it."""
        await asyncio.sleep(0)
        self.reports.append(("failed", retry_after))

    async def released(self) -> None:
        """Note it, after a moment in which a cancellation could lose it."""
        await asyncio.sleep(0)
        self.reports.append(("released", None))


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """The present."""
        return self.seconds


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Repeated requests follow without a wait."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
def recorder() -> ModelRecorder:
    """An observer."""
    return ModelRecorder()


@pytest.fixture
def traced() -> Traced:
    """A tracer provider."""
    return Traced()


@pytest.fixture
def breaker() -> CountingBreaker:
    """A breaker that never opens."""
    return CountingBreaker()


async def propose(planner: Any, sentence: str = "clicks per user") -> Any:
    """One planning run with the model's connections open."""
    async with planner:
        return await planner.propose(request(sentence))


def attempts(traced: Traced) -> list[ReadableSpan]:
    """The spans of single requests, in their order."""
    return [span for span in traced.spans if span.name == "model.attempt"]


def reasons(recorder: ModelRecorder) -> list[str]:
    """Why requests were repeated."""
    return [event.reason for event in recorder.events if isinstance(event, ModelRetried)]


@pytest.mark.parametrize(
    ("fault", "reason", "status", "error"),
    [
        (Reply(status=500, body={}), "server_error", 500, "ModelServerError"),
        (Reply(status=503, body={}), "server_error", 503, "ModelUnavailableError"),
        (Reply(status=529, body={}), "server_error", 529, "ModelOverloadedError"),
        (Reply(status=429, body={}), "rate_limited", 429, "ModelRateLimitError"),
        (Reply(status=429, body={}, headers={"retry-after": "2"}), "rate_limited", 429, "ModelRateLimitError"),
        (Reply(status=408, body={}), "timeout", 408, "ModelHTTPError"),
        (Reply(wire="reset"), "connection", None, "ModelConnectionError"),
        (Reply(arguments=GOOD, wire="truncated"), "connection", None, "ModelConnectionError"),
    ],
    ids=["500", "503", "529", "429", "429 with a wait", "408", "reset", "truncated"],
)
async def test_passing_fault(
    fault: Reply,
    reason: str,
    status: int | None,
    error: str,
    recorder: ModelRecorder,
    traced: Traced,
    breaker: CountingBreaker,
) -> None:
    """A fault that may pass is repeated once; each attempt has its span, its metric and its report to the breaker."""
    async with openai_stub([fault, GOOD_REPLY]) as stub:
        planner = AgentPlanner(
            stub_model(stub.url), name=NAME, observer=recorder, breaker=breaker, tracer_provider=traced.provider
        )
        proposal = await propose(planner)
    assert proposal.usage.fallback is False
    assert len(stub.requests) == 2
    assert reasons(recorder) == [reason]
    assert [call.status for call in recorder.calls][1:] == ["success"]
    assert [outcome for outcome, _ in breaker.reports] == ["failed", "succeeded"]
    first, second = attempts(traced)
    assert first.kind is second.kind is SpanKind.CLIENT
    assert first.status.status_code is StatusCode.ERROR
    assert dict(first.attributes) == {
        "gen_ai.request.model": "gpt-4o-mini",
        "feature_agent.model": NAME,
        "feature_agent.attempt": 1,
        "error.type": error,
        **({"http.response.status_code": status} if status else {}),
    }
    assert first.events == ()
    assert not first.status.description
    assert dict(second.attributes) == {
        "gen_ai.request.model": "gpt-4o-mini",
        "feature_agent.model": NAME,
        "feature_agent.attempt": 2,
    }
    assert second.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("reply", "words", "outcome"),
    [
        (Reply(status=400, body={}), "HTTP status 400", "released"),
        (Reply(status=404, body={}), "HTTP status 404", "released"),
        (Reply(status=422, body={}), "HTTP status 422", "released"),
        (Reply(status=401, body={}), "credentials", "failed"),
        (Reply(status=403, body={}), "credentials", "failed"),
        (Reply(status=429, body={"error": {"code": "insufficient_quota"}}), "no quota", "failed"),
    ],
)  # fmt: skip
async def test_lasting_fault(
    reply: Reply, words: str, outcome: str, recorder: ModelRecorder, breaker: CountingBreaker
) -> None:
    """A fault that repeating cannot fix costs one request; the breaker counts those that all requests would meet."""
    async with openai_stub([reply]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, breaker=breaker)
        with pytest.raises(ModelUnavailable, match=words):
            await propose(planner)
    assert len(stub.requests) == 1
    assert reasons(recorder) == []
    assert [reported for reported, _ in breaker.reports] == [outcome]


async def test_no_more_than_three_attempts(recorder: ModelRecorder, traced: Traced) -> None:
    """A fault that stays is met three times in all: the SDK repeats nothing by itself."""
    async with openai_stub([Reply(status=503, body={})]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, tracer_provider=traced.provider)
        with pytest.raises(ModelUnavailable):
            await propose(planner)
    assert len(stub.requests) == len(recorder.calls) == 3
    assert reasons(recorder) == ["server_error"] * 2
    assert [span.attributes["feature_agent.attempt"] for span in attempts(traced)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (str(int(MAX_RETRY_AFTER_WAIT_SECONDS) + 1), 11, 11),
        (format_datetime(datetime.now(UTC) + timedelta(minutes=55), usegmt=True), 300, 3_300),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 3_600, 3_600),
        ("9" * 300, 3_600, 3_600),
    ],
    ids=["seconds", "date", "far date", "nonsense"],
)
async def test_long_wait_is_passed_on(asked: str, least: float, most: float, recorder: ModelRecorder) -> None:
    """A provider with a long Retry-After is not called again; the client gets a bounded one."""
    async with openai_stub([Reply(status=429, body={}, headers={"retry-after": asked})]) as stub:
        with pytest.raises(ModelUnavailable) as raised:
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))
    assert len(stub.requests) == 1
    assert raised.value.retry_after is not None
    assert least <= raised.value.retry_after <= most


async def test_wait_beyond_the_deadline(recorder: ModelRecorder) -> None:
    """A wait that the deadline does not leave time for is not begun."""
    async with openai_stub([Reply(status=503, body={}, headers={"retry-after": "9"})]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, timeout=8)
        with pytest.raises(ModelUnavailable) as raised:
            await propose(planner)
    assert len(stub.requests) == 1
    assert raised.value.retry_after == 9


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ModelServerError("m", "x", retry_after=3), 3),
        (ModelServerError("m", "x", retry_after=10), 10),
        (ModelServerError("m", "x", retry_after=10.5), None),
        (ModelAuthenticationError("m", "x", retry_after=3), None),
        (CircuitOpen(3), None),
        (asyncio.CancelledError(), None),
    ],
)
def test_asked_wait(error: BaseException, seconds: float | None) -> None:
    """A provider's wish for a wait of at most ten seconds is kept, with a little on top that spreads callers out."""
    policy = RetryPolicy(Breaker(NAME, observer=ModelRecorder()))
    policy.max_backoff = 0.5
    answer = policy(error)
    if seconds is None:
        assert answer is False
    else:
        assert seconds <= answer <= seconds + WAIT_JITTER_SECONDS


@pytest.mark.parametrize(("left", "worth"), [(0.4, False), (60, True)])
def test_usual_wait(left: float, worth: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    """The usual wait is taken when the deadline leaves time for it, also when the provider asks for less."""
    policy = RetryPolicy(Breaker(NAME, observer=ModelRecorder()))
    policy.max_backoff = 0.5
    with deadline(left):
        assert policy(ModelServerError("m", "x")) is worth
        assert policy(ModelServerError("m", "x", retry_after=0)) is worth


async def test_open_circuit(recorder: ModelRecorder, traced: Traced) -> None:
    """An open circuit ends the run without a request or a metric, and the health check knows; a probe closes it."""
    clock = Clock()
    policy = BreakerPolicy(min_failures=2, open_seconds=15)
    breaker = Breaker(NAME, observer=recorder, policy=policy, timer=clock)
    async with openai_stub([Reply(status=500, body={}), Reply(status=500, body={}), GOOD_REPLY]) as stub:
        planner = AgentPlanner(
            stub_model(stub.url), name=NAME, observer=recorder, breaker=breaker, tracer_provider=traced.provider
        )
        async with planner:
            await breaker.ping()
            with pytest.raises(ModelUnavailable, match="status 500") as raised:
                await planner.propose(request("clicks"))
            assert raised.value.retry_after == 15
            with pytest.raises(ModelUnavailable, match="left alone") as refused:
                await planner.propose(request("clicks"))
            assert refused.value.retry_after is not None
            assert 15 <= refused.value.retry_after <= 15 + SPREAD_SECONDS
            assert len(stub.requests) == len(recorder.calls) == len(attempts(traced)) == 2
            assert reasons(recorder) == ["server_error"]
            with pytest.raises(ModelUnavailable, match=planner.name) as away:
                await breaker.ping()
            assert away.value.retry_after is not None
            assert 15 <= away.value.retry_after <= 15 + SPREAD_SECONDS
            clock.seconds += 15
            await planner.propose(request("clicks"))
            await breaker.ping()
    assert len(stub.requests) == 3


async def test_cut_off_by_the_run(recorder: ModelRecorder, traced: Traced, breaker: CountingBreaker) -> None:
    """An attempt that the run's time cuts off is the model's failure in metric, span and breaker."""
    async with openai_stub([Reply(hang=True)]) as stub:
        planner = AgentPlanner(
            stub_model(stub.url),
            name=NAME,
            observer=recorder,
            breaker=breaker,
            tracer_provider=traced.provider,
            timeout=1.5,
        )
        with pytest.raises(ModelTimeout, match=r"within 1\.5 seconds"):
            await propose(planner)
    assert [call.status for call in recorder.calls] == ["timeout"]
    assert [outcome for outcome, _ in breaker.reports] == ["failed"]
    # The run and the client that carries the attempt have the same time: either may be the first to say so.
    [error_type] = [span.attributes["error.type"] for span in attempts(traced)]
    assert error_type in {"TimeoutError", "ModelTimeoutError"}


async def test_cut_off_by_the_callers_deadline(recorder: ModelRecorder, breaker: CountingBreaker) -> None:
    """A deadline before the planner's own time bounds the run, and no time at all is not the model's fault."""
    async with openai_stub([Reply(hang=True)]) as stub, AgentPlanner(
        stub_model(stub.url), name=NAME, observer=recorder, breaker=breaker
    ) as planner:  # fmt: skip
        with deadline(1.5), pytest.raises(ModelTimeout, match=r"within 1\.5 seconds"):
            await planner.propose(request("clicks"))
        with deadline(0), pytest.raises(DeadlineExceeded):
            await planner.propose(request("clicks"))
    assert len(stub.requests) == 1
    assert [outcome for outcome, _ in breaker.reports] == ["failed"]


@pytest.mark.parametrize(
    ("error", "seconds", "outcome"),
    [
        (TimeoutError(), FAIR_SECONDS / 2, "released"),
        (TimeoutError(), FAIR_SECONDS, "failed"),
        (ModelServerError("m", "x"), FAIR_SECONDS / 2, "failed"),
    ],
    ids=["hurried", "fair", "answered"],
)
async def test_an_attempt_without_time_blames_no_model(
    error: Exception, seconds: float, outcome: str, breaker: CountingBreaker
) -> None:
    """What was cut off after less time than any model needs, as after a long wait for a place, is no failure of its."""
    await retrying._report(breaker, error, seconds)
    assert breaker.reports == [(outcome, None)]


async def test_cancelled_attempt(recorder: ModelRecorder, traced: Traced, breaker: CountingBreaker) -> None:
    """A caller that goes away says nothing of the model: the permit is given back, no metric moves."""
    async with openai_stub([Reply(hang=True)]) as stub:
        planner = AgentPlanner(
            stub_model(stub.url), name=NAME, observer=recorder, breaker=breaker, tracer_provider=traced.provider
        )
        task = asyncio.ensure_future(propose(planner))
        await stub.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert recorder.events == []
    assert breaker.reports == [("released", None)]
    assert [span.attributes["error.type"] for span in attempts(traced)] == ["CancelledError"]


async def test_slow_drip(recorder: ModelRecorder) -> None:
    """An answer that drips in for ever ends with the request's own time, and is asked for again."""
    async with openai_stub([Reply(arguments=GOOD, wire="drip"), GOOD_REPLY]) as stub:
        proposal = await propose(AgentPlanner(stub_model(stub.url, timeout=2), name=NAME, observer=recorder))
    assert proposal.plan.features
    assert [call.status for call in recorder.calls] == ["timeout", "success"]
    assert reasons(recorder) == ["timeout"]


def completion(**changes: object) -> dict[str, Any]:
    """A chat completion with something wrong."""
    message = {"role": "assistant", "content": "x"}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, **changes}


CUSTOM_CALL = {"id": "1", "type": "custom", "custom": {"name": "a", "input": "b"}}
CUSTOM_CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "tool_calls": [CUSTOM_CALL]}}
UNREADABLE = {
    "html": Reply(raw=b"<html>hi</html>", headers={"content-type": "text/html"}),
    "html as json": Reply(raw=b"<html>hi</html>"),
    "empty": Reply(raw=b""),
    "null": Reply(raw=b"null"),
    "array": Reply(raw=b"[]"),
    "empty object": Reply(raw=b"{}"),
    "not UTF-8": Reply(raw=b'{"a": "\xff\xfe"}'),
    "half of a JSON": Reply(raw=json.dumps(completion()).encode()[:60]),
    "too deep": Reply(raw=DEEP.encode()),
    "too deep inside": Reply(raw=b'{"id": "1", "object": "chat.completion", "choices": ' + DEEP.encode() + b"}"),
    "no choices": Reply(body=completion(choices=[])),
    "a date beyond time": Reply(body=completion(created=10**20)),
    "a call of another kind": Reply(body=completion(choices=[CUSTOM_CHOICE])),
    "an error in a 200": Reply(body={"error": {"message": CANARY, "code": 503}}),
    "a redirection": Reply(status=302, body={}, headers={"location": "/"}),
    "compressed unasked": Reply(raw=gzip.compress(b"{}"), headers={"content-encoding": "gzip"}),
}  # fmt: skip


@pytest.mark.parametrize("reply", UNREADABLE.values(), ids=UNREADABLE)
async def test_unreadable_answer(
    reply: Reply, recorder: ModelRecorder, traced: Traced, breaker: CountingBreaker
) -> None:
    """Whatever else a provider sends, the model is unavailable: no internal error, no repeat, no quote of it."""
    async with openai_stub([reply]) as stub:
        planner = AgentPlanner(
            stub_model(stub.url), name=NAME, observer=recorder, breaker=breaker, tracer_provider=traced.provider
        )
        with pytest.raises(ModelUnavailable, match="gave an answer that cannot be read"):
            await propose(planner)
    assert len(stub.requests) == 1
    assert [call.status for call in recorder.calls] == ["error"]
    assert breaker.reports == [("released", None)]
    assert all(CANARY not in span.to_json() for span in traced.spans)


@pytest.mark.parametrize("status", [200, 500])
async def test_answer_without_end(status: int, recorder: ModelRecorder) -> None:
    """An answer larger than any plan is not read to its end, and asked for once."""
    size = 64 * MAX_ANSWER_BYTES
    async with openai_stub([Reply(status=status, raw=b" " * size)]) as stub:
        with pytest.raises(ModelUnavailable, match="cannot be read"):
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))
    assert len(stub.requests) == 1
    assert stub.sent < size


async def test_large_answer(recorder: ModelRecorder) -> None:
    """An answer of two megabytes is refused, one just within the bound is read."""
    padded = {**GOOD, "steps": ["x" * 400] * 20}
    whole = Reply(arguments=json.dumps(padded) + " " * (MAX_ANSWER_BYTES - 20_000))
    async with openai_stub([whole]) as stub:
        assert (await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))).plan.features
    async with openai_stub([Reply(arguments=json.dumps(padded) + " " * 2_000_000)]) as stub:
        with pytest.raises(ModelUnavailable, match="cannot be read"):
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(text="I would", finish_reason="length"), "token limit"),
        (Reply(arguments='{"grain": "ent', finish_reason="length"), "token limit"),
        (Reply(text="", finish_reason="content_filter"), "content filter"),
    ],
)
async def test_cut_off_answer(reply: Reply, words: str, recorder: ModelRecorder) -> None:
    """An answer that was cut off or refused is said to be so, and is not sent back to be cut off again."""
    async with openai_stub([reply]) as stub:
        with pytest.raises(ModelOutputInvalid, match=words):
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))
    assert len(stub.requests) == 1
    assert recorder.retries == []


async def test_whole_answer_at_the_limit(recorder: ModelRecorder) -> None:
    """A plan that is whole counts, whatever the provider says of its end."""
    async with openai_stub([Reply(arguments=GOOD, finish_reason="length")]) as stub:
        assert (await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))).plan.features


@pytest.mark.parametrize("arguments", [DEEP, '{"grain": "entity", "features": ' + DEEP + "}", '{"grain": "\\ud800"}'])
async def test_hostile_arguments(arguments: str, recorder: ModelRecorder) -> None:
    """Arguments made to break a parser are a fault of the answer, sent back like any other."""
    async with openai_stub([Reply(arguments=arguments), GOOD_REPLY]) as stub:
        assert (await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))).plan.features
    assert recorder.retries == ["schema"]


async def test_spending_of_a_failed_run(recorder: ModelRecorder) -> None:
    """What a run took is known although it failed in the end, and calls without an answer add nothing."""
    asked = request("clicks")
    rejected = Reply(arguments=UNKNOWN_COLUMN)
    async with openai_stub([rejected, rejected, Reply(status=500)]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder)
        async with planner:
            with pytest.raises(ModelUnavailable):
                await planner.propose(asked)
    spending = asked.spending
    assert (spending.input_tokens, spending.output_tokens, spending.unpriced_calls) == (200, 40, 0)
    assert spending.cost_usd == pytest.approx(sum(call.cost_usd or 0 for call in recorder.calls))
    assert spending.cost_usd > 0


@pytest.mark.filterwarnings("ignore::pydantic_ai.exceptions.UsageLimitUnavailableWarning")
@pytest.mark.filterwarnings("ignore::pydantic_ai.exceptions.UsageExtractionFailedWarning")
@pytest.mark.parametrize("usage", [None, {"prompt_tokens": -5, "completion_tokens": 10**30, "total_tokens": 1}])
async def test_usage_that_cannot_be_known(usage: dict[str, int] | None, recorder: ModelRecorder) -> None:
    """A provider that does not say what a call took, or states nonsense, gives a call without a price."""
    asked = request("clicks")
    async with openai_stub([Reply(arguments=GOOD, usage=usage)]) as stub:
        planner = AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder)
        async with planner:
            proposal = await planner.propose(asked)
    assert proposal.usage.cost_usd is None
    assert asked.spending.unpriced_calls == 1
    assert (asked.spending.input_tokens, asked.spending.output_tokens) == (0, 0)


def look(ctx: RunContext[PlanningRun], column: str) -> str:
    """A tool that says how often the run has been looked at, and for whom it is."""
    del ctx
    return f"nothing is known of {column}"


async def test_tools(recorder: ModelRecorder) -> None:
    """The model may call the tools it is given before it answers; no call of a tool counts as a rejected answer."""
    seen: list[object] = []

    def rehearsal_of(ctx: RunContext[PlanningRun]) -> str:
        """A tool that looks for the rehearsal."""
        seen.append(ctx.deps.rehearsal)
        return "seen"

    rehearsal: Any = object()
    replies = [Reply(tool="look", arguments={"column": "price"}), Reply(tool="rehearsal_of", arguments={}), GOOD_REPLY]
    async with openai_stub(replies) as stub:
        tools: Sequence[Tool[PlanningRun]] = [Tool(look), Tool(rehearsal_of)]
        planner = AgentPlanner(
            stub_model(stub.url), name=NAME, observer=recorder, tools=tools, rehearsal=rehearsal, retries=0
        )
        proposal = await propose(planner)
    assert proposal.usage.input_tokens == 300
    assert recorder.retries == []
    assert seen == [rehearsal]
    assert {tool["function"]["name"] for tool in stub.requests[0]["tools"]} == {
        "propose_plan", "report_impossible", "look", "rehearsal_of",
    }  # fmt: skip


async def test_tools_without_end(recorder: ModelRecorder) -> None:
    """A model that never stops calling tools is given up."""
    async with openai_stub([Reply(tool="look", arguments={"column": "price"})]) as stub:
        with pytest.raises(ModelOutputInvalid):
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder, tools=[Tool(look)]))
    assert len(stub.requests) == MAX_TOOL_CALLS + 1


async def test_unknown_tool(recorder: ModelRecorder) -> None:
    """The model learns that a tool does not exist and may then answer; it counts by a reason of its own."""
    async with openai_stub([Reply(tool="drop_table", arguments={}), GOOD_REPLY]) as stub:
        assert (await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))).plan.features
    assert recorder.retries == ["unknown_tool"]


async def test_unknown_tools_without_end(recorder: ModelRecorder) -> None:
    """A model that calls nothing else is given up, and the error says what was wrong."""
    async with openai_stub([Reply(tool="drop_table", arguments={})]) as stub:
        with pytest.raises(ModelOutputInvalid) as raised:
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))
    assert [error.message for error in raised.value.errors] == ["The answer called a tool that does not exist."]
    assert recorder.retries == ["unknown_tool"] * len(stub.requests)


async def test_fallback_to_another_model(recorder: ModelRecorder, traced: Traced) -> None:
    """When a model fails the next one plans, in the same trace; usage sums what all of them took."""
    async with (
        openai_stub([Reply(arguments=UNKNOWN_COLUMN), Reply(status=401)]) as first,
        openai_stub([GOOD_REPLY]) as second,
    ):
        planners = [
            AgentPlanner(stub_model(stub.url), name=name, observer=recorder, tracer_provider=traced.provider)
            for name, stub in (("openai-chat:first", first), (NAME, second))
        ]
        proposal = await propose(FallbackPlanner(planners, observer=recorder, timeout=60))
    assert (proposal.usage.name, proposal.usage.fallback) == (NAME, True)
    assert (proposal.usage.input_tokens, proposal.usage.output_tokens) == (200, 40)
    fell = [event for event in recorder.events if isinstance(event, ModelFellBack)]
    assert fell == [ModelFellBack("openai-chat:first", NAME, "model_unavailable")]


async def test_fallback_from_a_hanging_model(recorder: ModelRecorder) -> None:
    """A model that hangs leaves the last resort time to plan."""
    async with openai_stub([Reply(hang=True)]) as stub:
        planners = [
            AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder),
            AgentPlanner(BuiltinPlanner(), name="builtin:planner", observer=recorder),
        ]
        proposal = await propose(FallbackPlanner(planners, observer=recorder, timeout=5))
    assert (proposal.usage.name, proposal.usage.fallback) == ("builtin:planner", True)
    assert [(call.model, call.status) for call in recorder.calls] == [(NAME, "timeout"), ("builtin:planner", "success")]


async def test_no_metrics_or_lines_of_stamina(recorder: ModelRecorder, caplog: pytest.LogCaptureFixture) -> None:
    """Repeated requests leave the client library's global registry and the log as they were."""
    before = set(REGISTRY._names_to_collectors)
    async with openai_stub([Reply(status=500)]) as stub:
        with suppress(ModelUnavailable):
            await propose(AgentPlanner(stub_model(stub.url), name=NAME, observer=recorder))
    assert reasons(recorder) == ["server_error"] * 2
    assert set(REGISTRY._names_to_collectors) == before
    assert stamina.instrumentation.get_on_retry_hooks() == ()
    assert not [record for record in caplog.records if "stamina" in record.name]
