"""The stand-in for a model: its latencies are those of its file, and real clients take its answers for a provider's."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from loadtest.errors import BadInput
from loadtest.measure.selector import parse_exposition
from loadtest.model_stub.latency import METRIC, Latency, from_metrics, load_latency, names
from loadtest.model_stub.plans import CLOSING, OPENING, TOOL, completion, plan_for
from loadtest.model_stub.process import running_stub
from service.features.model import FeaturePlan

QUICK = {"source": "for tests", "quantiles": [[0, 0.001], [1, 0.002]]}


# -- latencies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_draws_match_the_quantiles(name: str) -> None:
    """Of many draws each quantile's share is below its seconds, and none is outside of the distribution."""
    latency = load_latency(name)
    chance = random.Random(1)  # noqa: S311 - delays are no secret
    drawn = sorted(latency.draw(chance) for _ in range(20_000))
    assert latency.quantiles[0][1] <= drawn[0]
    assert drawn[-1] <= latency.quantiles[-1][1]
    for share, seconds in latency.quantiles:
        below = sum(1 for one in drawn if one <= seconds) / len(drawn)
        assert below == pytest.approx(share, abs=0.03)


def test_draws_between_quantiles_are_even() -> None:
    """Half-way between two shares is half-way between their seconds."""

    class Half(random.Random):
        def random(self) -> float:
            return 0.5

    assert Latency("x", ((0, 1), (1, 3))).draw(Half()) == 2
    assert Latency("x", ((0, 1), (0.5, 2), (1, 100))).draw(Half()) == 2
    assert Latency("x", ((0, 4), (1, 4))).draw(Half()) == 4


def test_a_distribution_says_where_it_is_from() -> None:
    """The committed distributions state their source, and whether it was recorded or assumed."""
    assert "typical-llm" in names()
    assert all(re.match("recorded|assumed", load_latency(name).source) for name in names())


@pytest.mark.parametrize(
    "quantiles",
    [
        *([], [[0, 1]], [[0.1, 1], [1, 2]], [[0, 1], [0.9, 2]], [[0, 2], [1, 1]], [[0, 1], [0.5, 2], [0.5, 3], [1, 4]]),
        *(
            [[0, 1], [0.9, 2], [0.5, 3], [1, 4]],
            [[0, -1], [1, 1]],
            [[0, 1], [1, 1000]],
            [[0, "x"], [1, 1]],
            3,
            [[0], [1]],
        ),
    ],
)
def test_what_is_no_distribution(tmp_path: Path, quantiles: Any) -> None:
    """Quantiles that do not rise from 0 to 1 are bad input that names the file."""
    path = tmp_path / "latency.json"
    path.write_text(json.dumps({"source": "x", "quantiles": quantiles}))
    with pytest.raises(BadInput, match=f"^model: {path}: "):
        load_latency(str(path))


def test_an_unknown_distribution() -> None:
    """A name that is none, and no file, is bad input that lists the names."""
    with pytest.raises(BadInput, match=r"model: no-such: take builtin, .*typical-llm"):
        load_latency("no-such")


def scrape(*buckets: tuple[str, str, float]) -> str:
    """A histogram of answers: (model, bound, count)."""
    return "".join(f'{METRIC}_bucket{{model="{model}",le="{bound}"}} {count}\n' for model, bound, count in buckets)


def recorded(text: str) -> tuple[tuple[float, float], ...]:
    """The distribution of the model `m`, which must be one that can be written and read."""
    latency = from_metrics(parse_exposition(text, [METRIC]), "m", "recorded")
    return msgspec.json.decode(msgspec.json.encode(latency), type=Latency).quantiles


def test_a_distribution_is_recorded() -> None:
    """A histogram's bounds become quantiles; other models and empty buckets are left out."""
    found = recorded(
        scrape(("m", "0.5", 0), ("m", "1.0", 5), ("m", "2.0", 5), ("m", "4.0", 20), ("m", "+Inf", 20), ("n", "1.0", 99))
    )
    assert found == ((0, 0), (0.25, 1), (1, 4))


def test_answers_beyond_the_last_bound() -> None:
    """What took longer than the last bound lasts up to twice as long, but no longer than a file may say."""
    assert recorded(scrape(("m", "1.0", 5), ("m", "8.0", 5), ("m", "+Inf", 10))) == ((0, 0), (0.5, 1), (1, 16))
    assert recorded(scrape(("m", "8.0", 0), ("m", "+Inf", 10))) == ((0, 0), (1, 16))
    assert recorded(scrape(("m", "500.0", 0), ("m", "+Inf", 10))) == ((0, 0), (1, 600))


def test_buckets_of_several_series_add_up() -> None:
    """Series of one model that differ in another label are one distribution."""
    text = "".join(
        f'{METRIC}_bucket{{model="m",status="{status}",le="{bound}"}} {count}\n'
        for status, bound, count in (("a", "2", 3), ("a", "+Inf", 3), ("b", "1", 0), ("b", "2", 0), ("b", "+Inf", 1))
    )
    assert recorded(text) == ((0, 0), (0.75, 2), (1, 4))


def test_shares_that_round_to_the_same() -> None:
    """Of millions of answers, shares that differ by less than can be written are one."""
    whole = 9_000_000
    assert recorded(scrape(("m", "1", 3_000_001), ("m", "2", 3_000_002), ("m", "4", whole), ("m", "+Inf", whole)))


def test_no_answers_to_record() -> None:
    """A model without an answer has no distribution."""
    with pytest.raises(BadInput, match="no answer of the model 'm'"):
        recorded(scrape(("n", "1", 3), ("m", "+Inf", 0)))


# -- plans -------------------------------------------------------------------------------------------------------

COLUMNS = [
    {"name": "user_id", "type": "identifier"},
    {"name": "price", "type": "numeric"},
    {"name": "quantity", "type": "integer"},
    {"name": "event", "type": "categorical"},
]


def test_a_plan_is_valid() -> None:
    """The plan is one that the service's own type takes, of the dataset's columns."""
    plan = msgspec.convert(plan_for(COLUMNS), FeaturePlan)
    assert [feature.name for feature in plan.features] == ["row_count", "mean_0", "mean_1"]


def test_columns_are_read_from_the_prompt() -> None:
    """The dataset of the user's prompt is planned for; what a system prompt quotes is not."""
    quoted = f"x {OPENING}{json.dumps({'columns': COLUMNS})}{CLOSING} y"
    other = f"{OPENING}{json.dumps({'columns': []})}{CLOSING}"
    parts = [{"type": "text", "text": "Plan this."}, {"type": "text", "text": quoted}]
    for content in (quoted, parts):
        messages = [{"role": "system", "content": other}, {"role": "user", "content": content}]
        found = completion({"model": "stub", "messages": messages})
        [call] = found["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == TOOL
        assert json.loads(call["function"]["arguments"]) == plan_for(COLUMNS)
        assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"]


@pytest.mark.parametrize("request_body", [{}, {"messages": []}, {"messages": [{"role": "user", "content": None}]}])
def test_a_prompt_without_a_dataset(request_body: dict[str, Any]) -> None:
    """A request without a dataset is answered with a plan all the same."""
    assert completion(request_body)["choices"][0]["finish_reason"] == "tool_calls"


# -- the process -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running stub with short delays."""
    path = tmp_path_factory.mktemp("latency") / "quick.json"
    path.write_text(json.dumps(QUICK))
    with running_stub(str(path)) as settings:
        yield settings


async def test_a_real_client_takes_its_answers(stub: dict[str, str]) -> None:
    """pydantic-ai with OpenAI's own client calls the tool with the plan's arguments, and reads the tokens."""
    received: list[Any] = []

    def propose_plan(grain: str, entity: str, features: list[dict[str, Any]], steps: list[str]) -> str:
        received.append((grain, entity, len(features), steps))
        return "taken"

    provider = OpenAIProvider(base_url=stub["OPENAI_BASE_URL"], api_key=stub["OPENAI_API_KEY"])
    model = OpenAIChatModel(stub["PRIMARY_MODEL"].partition(":")[2], provider=provider)
    agent = Agent(model, output_type=ToolOutput(propose_plan, name=TOOL))
    prompt = f"{OPENING}{json.dumps({'columns': COLUMNS})}{CLOSING}"
    try:
        results = [await agent.run(prompt) for _ in range(3)]
    finally:
        await provider.client.close()
    assert [result.output for result in results] == ["taken"] * 3
    assert received == [("entity", "user_id", 3, ["One row for each entity."])] * 3
    assert results[0].usage.output_tokens > 0


NO_LENGTH = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: x\r\n\r\n"


@pytest.mark.parametrize("content", [b"{", b"GET\r\n\r\n", b"\r\n\r\n", NO_LENGTH])
async def test_what_is_no_request(stub: dict[str, str], content: bytes) -> None:
    """A client that speaks no HTTP is left, and the next one is served."""
    port = int(re.search(r":(\d+)/", stub["OPENAI_BASE_URL"]).group(1))  # type: ignore[union-attr]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    await writer.drain()
    writer.close()
    async with httpx2.AsyncClient() as client:
        address = f"{stub['OPENAI_BASE_URL']}/chat/completions"
        assert (await client.post(address, content=b"{}")).status_code == 200
        assert (await client.get(f"{stub['OPENAI_BASE_URL']}/models")).status_code == 404


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["serve", "--latency", "no-such"], "model: no-such"),
        (["record", "--metrics", "http://127.0.0.1:1/metrics", "--model", "m", "--out", "x"], "cannot be read"),
        (["record", "--metrics", "nonsense", "--model", "m", "--out", "x"], "cannot be read"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: list[str], named: str) -> None:
    """Bad input ends the stub with exit status 2 and one line."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "loadtest.model_stub", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert named in done.stderr
