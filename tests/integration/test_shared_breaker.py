from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.concurrency.optional_dependency import PAUSE_SECONDS
from service.features.events import BreakerChanged
from service.planning import shared_breaker
from service.planning.breaker import Breaker, CircuitOpen, Permit
from service.planning.circuit import BreakerPolicy, Circuit
from service.planning.shared_breaker import COMPARE_AND_SET, KEY_PREFIX, MAX_TRIES, SharedBreaker
from tests.doubles import Recorder
from tests.redis_process import needs_redis, running_redis
from tools.testbed.redis import RedisProcess

LONG_TIMEOUT_SECONDS = 60.0
"""Seconds to wait for Redis where the wait itself is not what is tested: the machine may be busy."""
EPOCH = 1_800_000_000
MODEL = "openai:gpt"
POLICY = BreakerPolicy(
    window_seconds=10.0,
    min_failures=3,
    failures_in_a_row=4,
    open_seconds=4.0,
    max_retry_after_seconds=6.0,
    max_open_seconds=12.0,
    probe_seconds=5.0,
)
"""Short, and in eighths of seconds, which floats hold exactly."""
UNHURRIED = replace(POLICY, window_seconds=3600.0, probe_seconds=3600.0)
"""Where Redis's own clock runs: no test is too slow for it."""


class BreakerRecorder(Recorder):
    """An observer that also lists the states that breakers changed to."""

    @property
    def states(self) -> list[tuple[str, str]]:
        """Return the models whose breakers changed, with the new states."""
        return [(event.model, event.state) for event in self.of(BreakerChanged)]


class Bench:
    """Breakers, and the time that they go by: in Redis too, where a list stands in for its clock."""

    def __init__(self, pool: BlockingConnectionPool | None) -> None:
        self.pool = pool
        self.seconds = 1000.0
        self.notes = BreakerRecorder()

    async def forward(self, seconds: float) -> None:
        """Time passes."""
        self.seconds += seconds
        if self.pool is not None:
            whole = int(self.seconds)
            clock = (EPOCH + whole, round((self.seconds - whole) * 1e6))
            await Redis(connection_pool=self.pool).eval(
                "redis.call('DEL', KEYS[1]); redis.call('RPUSH', KEYS[1], unpack(ARGV))", 1, "test:clock", *clock
            )

    def breaker(self, model: str = MODEL, **options: Any) -> Breaker:
        """One more breaker: over Redis, if there is one, as if of another process."""
        options = {"policy": POLICY, "observer": self.notes, "timer": lambda: self.seconds, **options}
        if self.pool is None:
            return Breaker(model, **options)
        return SharedBreaker(model, self.pool, **{"timeout_seconds": LONG_TIMEOUT_SECONDS, **options})

    def shared(self, **options: Any) -> SharedBreaker:
        """One more breaker, whose inside a test may look at."""
        breaker = self.breaker(**options)
        assert isinstance(breaker, SharedBreaker)
        return breaker

    def local(self, model: str = MODEL) -> Breaker:
        """A breaker of this process alone."""
        return Breaker(model, policy=POLICY, observer=self.notes, timer=lambda: self.seconds)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A redis-server for the tests that leave it running."""
    with running_redis(tmp_path_factory.mktemp("redis")) as process:
        yield process


def connect(server: RedisProcess) -> BlockingConnectionPool:
    """A pool of few connections, without retries of its own."""
    return BlockingConnectionPool(
        host="127.0.0.1",
        port=server.port,
        max_connections=4,
        timeout=LONG_TIMEOUT_SECONDS,
        socket_timeout=LONG_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


@pytest.fixture
async def pool(redis_server: RedisProcess) -> AsyncIterator[BlockingConnectionPool]:
    """A pool to an empty Redis."""
    pool = connect(redis_server)
    await Redis(connection_pool=pool).flushall()
    yield pool
    await pool.aclose()


@pytest.fixture
async def over_redis(pool: BlockingConnectionPool, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench over Redis, whose clock the test holds."""
    held = COMPARE_AND_SET.replace("redis.call('TIME')", "redis.call('LRANGE', 'test:clock', 0, -1)")
    assert held != COMPARE_AND_SET
    monkeypatch.setattr(shared_breaker, "COMPARE_AND_SET", held)
    bench = Bench(pool)
    await bench.forward(0)
    return bench


@pytest.fixture(params=["local", pytest.param("redis", marks=needs_redis)])
def bench(request: pytest.FixtureRequest) -> Bench:
    """A bench of each kind."""
    return Bench(None) if request.param == "local" else request.getfixturevalue("over_redis")


async def pass_through(breaker: Breaker, calls: int) -> list[Permit]:
    """As many calls as pass of those that ask at once."""
    answers = await asyncio.gather(*(breaker.admit() for _ in range(calls)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, CircuitOpen)]
    passed = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(refused) + len(passed) == calls, answers
    return passed


async def refusal(breaker: Breaker) -> float:
    """The seconds that a refused caller is to wait."""
    with pytest.raises(CircuitOpen) as refused:
        await breaker.admit()
    return refused.value.retry_after


async def trip(breaker: Breaker, *, retry_after: float | None = None) -> None:
    """Three failures."""
    for permit in [await breaker.admit() for _ in range(3)]:
        await permit.failed(retry_after)
    assert breaker.state == "open"


# ------------------------------------------------------------------ the same of one process alone and of all over Redis


async def test_three_failures_open_for_four_seconds(bench: Bench) -> None:
    """Everything is refused with the time that is left, until it is over."""
    breaker = bench.breaker()
    assert (breaker.state, breaker.retry_after) == ("closed", None)
    await trip(breaker)
    assert await refusal(breaker) == 4.0
    await bench.forward(3.875)
    assert await refusal(breaker) == breaker.retry_after == 0.125
    await bench.forward(0.125)
    await breaker.admit()
    assert breaker.state == "half_open"


async def test_failures_among_enough_successes_do_not_open(bench: Bench) -> None:
    """Half of the calls must fail; released ones are no calls."""
    breaker = bench.breaker()
    for outcome in ("succeeded",) * 4 + ("failed",) * 3 + ("released",) * 9:
        await getattr(await breaker.admit(), outcome)()
    assert breaker.state == "closed"
    await (await breaker.admit()).failed()
    assert breaker.state == "open"


async def test_old_failures_are_forgotten(bench: Bench) -> None:
    """Failures of more than a window ago no longer count; those of just less do."""
    breaker = bench.breaker()
    for _ in range(2):
        await (await breaker.admit()).failed()
    await bench.forward(10)
    await (await breaker.admit()).failed()
    await bench.forward(4.5)
    await (await breaker.admit()).failed()
    assert breaker.state == "closed"
    await bench.forward(4.5)
    await (await breaker.admit()).failed()
    assert breaker.state == "open"


@pytest.mark.parametrize(("asked", "waits"), [(2.0, 4.0), (5.5, 5.5), (3600.0, 6.0), (None, 4.0)])
async def test_what_the_provider_asked_for_is_obeyed(bench: Bench, asked: float | None, waits: float) -> None:
    """Retry-After lengthens the opening, up to the policy's most, and never shortens it."""
    breaker = bench.breaker()
    await trip(breaker, retry_after=asked)
    assert await refusal(breaker) == waits


async def test_one_probe_goes_and_its_success_closes(bench: Bench) -> None:
    """Of a hundred at once one passes; its success lets all pass and forgets the failures before."""
    breaker = bench.breaker()
    await trip(breaker)
    await bench.forward(4)
    (probe,) = await pass_through(breaker, 100)
    assert await pass_through(breaker, 10) == []
    assert await refusal(breaker) == 4.0
    await probe.succeeded()
    assert (breaker.state, breaker.retry_after) == ("closed", None)
    assert len(await pass_through(breaker, 100)) == 100
    for permit in await pass_through(breaker, 2):
        await permit.failed()
    assert breaker.state == "closed"
    assert bench.notes.states == [(MODEL, state) for state in ("open", "half_open", "closed")]


async def test_each_failed_probe_opens_for_twice_as_long(bench: Bench) -> None:
    """4, 8, 12, 12 seconds, or what the provider asked for; after a success 4 again."""
    breaker = bench.breaker()
    await trip(breaker)
    for waits in (8.0, 12.0, 12.0):
        await bench.forward(breaker.retry_after or 0)
        await (await breaker.admit()).failed(1.0)
        assert await refusal(breaker) == waits
    await bench.forward(12)
    await (await breaker.admit()).succeeded()
    await trip(breaker)
    await bench.forward(4)
    await (await breaker.admit()).failed(6.0)
    assert await refusal(breaker) == 8.0


async def test_a_released_probe_gives_its_place_to_the_next(bench: Bench) -> None:
    """A probe that says nothing decides nothing, and the next call is the probe."""
    breaker = bench.breaker()
    await trip(breaker)
    await bench.forward(4)
    await (await breaker.admit()).released()
    assert (breaker.state, breaker.retry_after) == ("half_open", 0.0)
    (probe,) = await pass_through(breaker, 20)
    await probe.succeeded()
    assert breaker.state == "closed"


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "released"])
async def test_an_expired_probe_decides_nothing(bench: Bench, outcome: str) -> None:
    """After its lease another goes; the first one's late end changes nothing, before and after that."""
    breaker = bench.breaker()
    await trip(breaker)
    await bench.forward(4)
    lost, late = [await breaker.admit()], list[Permit]()
    await bench.forward(4.875)
    assert await pass_through(breaker, 5) == []
    await bench.forward(0.125)
    await getattr(lost.pop(), outcome)()
    assert (breaker.state, breaker.retry_after) == ("half_open", 0.0)
    late = await pass_through(breaker, 5)
    await bench.forward(5)
    (probe,) = await pass_through(breaker, 5)
    await getattr(late.pop(), outcome)()
    assert (breaker.state, breaker.retry_after) == ("half_open", 5.0)
    assert await pass_through(breaker, 5) == []
    await probe.succeeded()
    assert breaker.state == "closed"


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "released"])
async def test_calls_from_before_the_opening_change_nothing(bench: Bench, outcome: str) -> None:
    """Their ends neither close an open circuit, nor end a probe, nor count once it is closed again, each time anew."""
    breaker = bench.breaker()
    for _ in range(2):
        old = await pass_through(breaker, 20)
        await trip(breaker)
        for permit in old[:5]:
            await getattr(permit, outcome)()
        assert (breaker.state, breaker.retry_after) == ("open", 4.0)
        await bench.forward(4)
        probe = await breaker.admit()
        for permit in old[5:10]:
            await getattr(permit, outcome)()
        assert (breaker.state, breaker.retry_after) == ("half_open", 5.0)
        assert await pass_through(breaker, 5) == []
        await probe.succeeded()
        for permit in old[10:]:
            await getattr(permit, outcome)()
        assert breaker.state == "closed"
        for permit in await pass_through(breaker, 2):
            await permit.failed()
        assert breaker.state == "closed"


async def test_models_do_not_share_a_circuit(bench: Bench) -> None:
    """One model's failures are no other's, however alike or odd their names are."""
    names = ["a", "A", "a:b", "a/b", "{a}", "{a}b", "a b", "a*", "ä", "a%3Ab", "x" * 300]
    breakers = {name: bench.breaker(name) for name in names}
    for name in names:
        assert breakers[name].state == "closed"
        await pass_through(breakers[name], 1)
        await trip(breakers[name])
    assert bench.notes.states == [(name, "open") for name in names]


_NAMES = itertools.count()
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["succeeded", "released"]), st.integers(0, 5)),
        st.tuples(st.just("failed"), st.integers(0, 5), st.sampled_from([None, 0.5, 5.0, 60.0])),
        st.tuples(st.just("failed"), st.integers(0, 5), st.none()),
        st.tuples(st.just("pass"), st.integers(0, 48).map(lambda eighths: eighths / 8)),
    ),
    min_size=20,
    max_size=60,
)


@needs_redis
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
async def test_a_shared_circuit_behaves_as_a_local_one(over_redis: Bench, steps: list[tuple[Any, ...]]) -> None:
    """After any course of calls in two processes the circuit in Redis is in the state, and admits, as one in memory."""
    model = f"model-{next(_NAMES)}"
    processes, local = itertools.cycle([over_redis.breaker(model), over_redis.breaker(model)]), over_redis.local(model)
    calls: list[tuple[Permit, Permit]] = []
    for what, number, *asked in steps:
        shared = next(processes)
        if what == "pass":
            await over_redis.forward(number)
        elif what == "admit":
            for _ in range(number):
                one, other = await _ask(shared), await _ask(local)
                if isinstance(one, float) or isinstance(other, float):
                    assert one == other
                else:
                    calls.append((one, other))
        elif calls:
            for permit in calls.pop(number % len(calls)):
                await getattr(permit, what)(*asked)
        await shared.look()
        assert (shared.state, shared.retry_after) == (local.state, local.retry_after)


async def _ask(breaker: Breaker) -> Permit | float:
    try:
        return await breaker.admit()
    except CircuitOpen as refused:
        return refused.retry_after


# ---------------------------------------------------------------------------------------------------- what Redis holds


@needs_redis
async def test_one_process_learns_of_another_s_change(over_redis: Bench) -> None:
    """A change is recorded by the process that made it and, when it next asks, by each of the others: once."""
    one, other = over_redis.breaker(), over_redis.breaker()
    await trip(one)
    assert other.state == "closed"
    for _ in range(3):
        assert await refusal(other) == 4.0
    await over_redis.forward(4)
    await (await one.admit()).succeeded()
    for _ in range(3):
        await other.admit()
    assert (one.state, other.state) == ("closed", "closed")
    seen = [state for _, state in over_redis.notes.states]
    assert seen == ["open", "open", "half_open", "closed", "closed"]


@needs_redis
async def test_a_call_costs_two_round_trips(over_redis: Bench) -> None:
    """One command admits a call and one reports its end, whatever the circuit's state."""
    breaker = over_redis.shared()
    line = Line(breaker)
    await (await breaker.admit()).succeeded()
    assert line.calls == 3  # the first one learns Redis's time and what is stored
    for outcome in ("succeeded", "failed", "released", "failed", "failed"):
        await getattr(await breaker.admit(), outcome)()
    await refusal(breaker)
    assert line.calls == 3 + 11


@needs_redis
async def test_another_process_s_report_costs_one_round_trip_more(over_redis: Bench) -> None:
    """A report after another process's is refused and sent again; admitting a call is not, as it changes nothing."""
    one, other = over_redis.shared(), over_redis.shared()
    for breaker in (one, other):
        await (await breaker.admit()).succeeded()
    line = Line(one)
    for round_trips in (3, 6, 9):
        permit = await one.admit()
        await (await other.admit()).succeeded()
        await permit.succeeded()
        assert line.calls == round_trips


@needs_redis
async def test_the_circuit_is_one_safe_key_that_expires(pool: BlockingConnectionPool) -> None:
    """A model has one key, of harmless characters, that cleans itself up in every state."""
    client, breaker = Redis(connection_pool=pool), Bench(pool).breaker("a {b}\r\n*:ü", policy=UNHURRIED)
    key = KEY_PREFIX + "a%20%7Bb%7D%0D%0A%2A%3A%C3%BC"

    async def kept() -> None:
        assert await client.keys("*") == [key.encode()]
        assert 3600 < await client.ttl(key) <= 2 * 3600  # an hour more than anything that it waits for

    await (await breaker.admit()).succeeded()
    await kept()
    await trip(breaker)
    await kept()


@needs_redis
async def test_the_window_in_redis_does_not_grow(over_redis: Bench) -> None:
    """Steps of the window that are over are removed: the value stays small."""
    breaker, client = over_redis.breaker(), Redis(connection_pool=over_redis.pool)
    for _ in range(40):
        for outcome in ("succeeded", "succeeded", "failed"):
            await getattr(await breaker.admit(), outcome)()
        await over_redis.forward(1)
    assert await client.strlen(KEY_PREFIX + MODEL.replace(":", "%3A")) < 1000


@needs_redis
async def test_a_redis_that_forgot_starts_anew(over_redis: Bench) -> None:
    """After a flush the circuit is closed, the script is loaded again, and calls from before count for nothing."""
    breaker, client = over_redis.breaker(), Redis(connection_pool=over_redis.pool)
    old = await pass_through(breaker, 10)
    await trip(breaker)
    await client.flushall()
    await client.script_flush()
    await over_redis.forward(0)
    for permit in old:
        await permit.failed()
    assert breaker.state == "closed"
    assert len(await pass_through(breaker, 10)) == 10
    await trip(breaker)


@needs_redis
async def test_a_clock_that_is_set_back_does_not_close_a_model_for_hours(over_redis: Bench) -> None:
    """When Redis's clock jumps back, a circuit waits no longer than the policy lets it."""
    breaker = over_redis.breaker()
    await trip(breaker)
    await over_redis.forward(-3600)
    await (await breaker.admit()).succeeded()
    assert breaker.state == "closed"
    await (await breaker.admit()).failed()
    await over_redis.forward(-3600)
    for _ in range(2):
        await (await breaker.admit()).failed()
    assert breaker.state == "closed"  # the failure from what is the future now does not count


class Line:
    """Stands between a breaker and its script: holds answers back on their way, when the test says so."""

    def __init__(self, breaker: SharedBreaker) -> None:
        self._script: Callable[..., Awaitable[Any]] = breaker._script
        breaker._script = self
        self.clear = asyncio.Event()
        self.clear.set()
        self.answered = asyncio.Event()
        self.calls = 0

    async def __call__(self, **call: Any) -> Any:
        """Run the script, and answer when the line is clear."""
        self.calls += 1
        answer = await self._script(**call)
        self.answered.set()
        await self.clear.wait()
        return answer

    def hold(self) -> None:
        """Let no answer through."""
        self.clear.clear()
        self.answered.clear()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what must come, as long as it takes."""
    async with asyncio.timeout(LONG_TIMEOUT_SECONDS):
        while not await condition():  # noqa: ASYNC110 - Redis sets no asyncio.Event
            await asyncio.sleep(0.01)


@needs_redis
async def test_a_caller_that_leaves_before_it_is_answered_gives_the_probe_s_place_back(over_redis: Bench) -> None:
    """The place that Redis gave to a cancelled call is free again, long before its lease ends."""
    breaker = over_redis.shared()
    await trip(breaker)
    await over_redis.forward(4)
    line = Line(breaker)
    line.hold()
    caller = asyncio.create_task(breaker.admit())
    await line.answered.wait()
    assert await pass_through(over_redis.breaker(), 5) == []
    line.clear.set()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    async def free() -> bool:
        return bool(await pass_through(over_redis.breaker(), 1))

    await until(free)


@needs_redis
async def test_a_caller_that_is_cancelled_as_it_reports_has_reported(over_redis: Bench) -> None:
    """A probe's result is not lost when its caller is cancelled in the middle of telling it."""
    breaker = over_redis.shared()
    await trip(breaker)
    await over_redis.forward(4)
    probe = await breaker.admit()
    line = Line(breaker)
    line.hold()
    caller = asyncio.create_task(probe.succeeded())
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    line.clear.set()

    async def closed() -> bool:
        return breaker.state == "closed"

    await until(closed)


@needs_redis
async def test_a_command_that_is_sent_twice_admits_one_probe(over_redis: Bench) -> None:
    """A command that is repeated after a broken connection finds the probe's place taken by its call, and passes."""
    breaker = over_redis.shared()
    await trip(breaker)
    await over_redis.forward(4)
    script = breaker._script

    async def twice(**call: Any) -> Any:
        await script(**call)
        return await script(**call)

    breaker._script = twice
    probe = await breaker.admit()
    assert (breaker.state, breaker.retry_after) == ("half_open", 5.0)
    assert await pass_through(over_redis.breaker(), 5) == []
    await probe.succeeded()
    assert breaker.state == "closed"


@needs_redis
async def test_a_lost_answer_does_not_hold_the_probe_s_place(over_redis: Bench) -> None:
    """Redis admitted a probe and the answer never came: the place is free as soon as the process is answered again."""
    breaker = over_redis.shared()
    await trip(breaker)
    await over_redis.forward(4)
    script = breaker._script

    async def lost(**call: Any) -> Any:
        await script(**call)
        raise ConnectionError

    breaker._script = lost
    assert await refusal(breaker) == 4.0  # what was open is not closed because Redis is unreachable
    assert await pass_through(over_redis.breaker(), 5) == []
    breaker._script = script
    await over_redis.forward(PAUSE_SECONDS)
    (probe,) = await pass_through(breaker, 5)
    await probe.succeeded()
    assert breaker.state == "closed"


@needs_redis
async def test_calls_that_arrive_during_a_round_trip_share_the_next(over_redis: Bench) -> None:
    """What arrives later is not answered with what was read earlier, and costs one round trip for all."""
    breaker = over_redis.shared()
    await (await breaker.admit()).succeeded()
    line = Line(breaker)
    line.hold()
    slow = asyncio.create_task(breaker.admit())
    await line.answered.wait()
    later = [asyncio.create_task(breaker.admit()) for _ in range(50)]
    await asyncio.sleep(0)
    await trip(over_redis.breaker())
    line.clear.set()
    await slow
    assert {type(answer) for answer in await asyncio.gather(*later, return_exceptions=True)} == {CircuitOpen}
    assert line.calls == 2
    assert breaker.state == "open"


@needs_redis
async def test_processes_whose_clocks_differ_share_one_time(over_redis: Bench) -> None:
    """Redis's clock decides: a process whose own clock is an hour ahead neither probes early nor waits longer."""
    one, ahead = over_redis.breaker(), over_redis.breaker(timer=lambda: over_redis.seconds + 3600.0)
    await trip(ahead)
    assert await refusal(one) == await refusal(ahead) == 4.0
    await over_redis.forward(3.875)
    assert await refusal(ahead) == await refusal(one) == 0.125
    await over_redis.forward(0.125)
    await (await ahead.admit()).succeeded()
    await one.admit()
    assert one.state == ahead.state == "closed"


@needs_redis
async def test_a_time_that_is_not_redis_s_decides_nothing(over_redis: Bench) -> None:
    """A process that was suspended notices that its idea of Redis's time is old, and decides anew by the right one."""
    stopped = over_redis.seconds
    breaker = over_redis.breaker(timer=lambda: stopped)
    await trip(breaker)
    await over_redis.forward(4)  # without this process's clock
    (probe,) = await pass_through(breaker, 5)
    await probe.failed()
    assert await refusal(over_redis.breaker()) == 8.0


@needs_redis
async def test_a_circuit_that_always_changes_is_given_up(over_redis: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """When other processes are faster each time, the process decides alone for a moment, and raises nothing."""
    breaker, tries = over_redis.shared(), 0
    permit = await breaker.admit()
    script = breaker._script

    async def overtaken(**call: Any) -> Any:
        nonlocal tries
        tries += 1
        call["args"][0] = b"what another process has replaced"
        return await script(**call)

    breaker._script = overtaken
    await permit.failed()
    assert tries == MAX_TRIES
    await breaker.admit()
    assert len(warnings_in(caplog)) == 1


@needs_redis
async def test_no_count_of_many_processes_is_lost(over_redis: Bench) -> None:
    """Calls of five processes that end at the same time are all counted, however often they interfere."""
    breakers = [over_redis.shared() for _ in range(5)]
    ends = [("succeeded", await breaker.admit()) for breaker in breakers for _ in range(6)]
    ends += [("released", await breaker.admit()) for breaker in breakers for _ in range(2)]
    await asyncio.gather(*(getattr(permit, outcome)() for outcome, permit in ends))
    await breakers[0].look()
    stored = msgspec.json.decode(breakers[0]._stored, type=Circuit)
    assert sum(bucket.succeeded for bucket in stored.window) == 30


# -------------------------------------------------------------------------------------------------------- without Redis


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The breaker's warnings."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@needs_redis
async def test_losing_redis_leaves_each_process_its_own_breaker(
    redis_process: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """A killed Redis costs no call and no error: the process decides alone, warns once, and returns in time."""
    bench = Bench(connect(redis_process))
    assert bench.pool is not None
    breaker = bench.breaker(policy=UNHURRIED)
    across = await pass_through(breaker, 4)
    redis_process.kill()

    for permit in across[:2]:
        await permit.failed()  # admitted by Redis, reported to the process
    assert breaker.state == "closed"
    await (await breaker.admit()).failed()
    assert breaker.state == "open"
    await across[2].succeeded()
    assert await refusal(breaker) == 4.0
    assert len(warnings_in(caplog)) == 1
    assert "by itself" in warnings_in(caplog)[0]
    bench.seconds += 4
    (alone,) = await pass_through(breaker, 50)
    assert breaker.state == "half_open"

    redis_process.start()
    bench.seconds += PAUSE_SECONDS
    assert len(await pass_through(breaker, 1)) == 1
    assert breaker.state == "closed"  # as Redis, which lost everything, says
    await across[3].failed()
    assert breaker.state == "closed"
    await trip(breaker)
    await alone.succeeded()
    assert breaker.state == "open"  # what the process admitted alone says nothing of the shared circuit
    assert len(warnings_in(caplog)) == 1
    await bench.pool.aclose()


@needs_redis
async def test_what_a_process_thought_alone_ends_with_the_outage(redis_process: RedisProcess) -> None:
    """A circuit that a process opened alone is not open again in the next outage, once Redis knew better in between."""
    bench = Bench(connect(redis_process))
    assert bench.pool is not None
    breaker = bench.breaker(policy=UNHURRIED)
    redis_process.kill()
    await trip(breaker)
    redis_process.start()
    bench.seconds += PAUSE_SECONDS
    await breaker.admit()
    redis_process.kill()
    assert len(await pass_through(breaker, 5)) == 5
    assert breaker.state == "closed"
    await bench.pool.aclose()


@needs_redis
async def test_a_redis_that_hangs_is_not_waited_for(
    redis_process: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that never answers holds up neither the admission of calls nor the report of their ends."""
    bench = Bench(connect(redis_process))
    assert bench.pool is not None
    breaker = bench.breaker(policy=UNHURRIED, timeout_seconds=0.2)
    patient = bench.breaker(policy=UNHURRIED)
    (permit,) = await pass_through(patient, 1)
    redis_process.suspend()
    try:
        passed = await pass_through(breaker, 20)
        for one in passed:
            await one.failed()
        assert breaker.state == "open"
        assert await refusal(breaker) == 4.0
    finally:
        redis_process.resume()
    assert len(passed) == 20
    assert len(warnings_in(caplog)) == 1
    await permit.succeeded()
    assert patient.state == "closed"
    await bench.pool.aclose()
