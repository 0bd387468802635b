from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.concurrency.optional_dependency import PAUSE_SECONDS
from service.security import limits
from service.security.limits import RateLimitDecision, RateLimiter, open_limiter
from tests.doubles import Timer
from tests.redis_process import needs_redis
from tools.testbed.redis import RedisProcess

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 20.0
"""Seconds a test's limiter waits for Redis where the wait itself is not what is tested: the machine may be busy."""


@pytest.fixture
async def pool(redis_process: RedisProcess) -> AsyncIterator[BlockingConnectionPool]:
    """A pool of few connections to it, without retries of its own."""
    pool = BlockingConnectionPool(
        host="127.0.0.1",
        port=redis_process.port,
        max_connections=4,
        timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    yield pool
    await pool.aclose()


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The wall clock of the in-process count, in seconds since a minute began; set `seconds` to move it."""
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=lambda: 1_800_000_000.0 + clock.seconds))
    return clock


async def spend(limiter: RateLimiter, requests: int, principal: str = "acme") -> list[RateLimitDecision]:
    """The decisions on that many requests, one after the other."""
    return [await limiter.hit(principal) for _ in range(requests)]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The limiter's warnings."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# ------------------------------------------------------------------------------------------------ in the process


async def test_zero_is_no_limit() -> None:
    """With 0 requests a minute configured, everything passes and no number is promised."""
    limiter = open_limiter(0, None)
    assert set(await spend(limiter, 1000)) == {RateLimitDecision(allowed=True, limit=0, remaining=0, reset_seconds=0)}


def test_a_negative_limit_is_refused() -> None:
    """A limit below 0 is a mistake in the settings, said when the limiter is opened."""
    with pytest.raises(ValueError, match="negative"):
        open_limiter(-1, None)


async def test_requests_are_counted_down_to_the_limit(minute: SimpleNamespace) -> None:
    """Each request takes one of what remains; the first one over the limit is refused with the wait for the next."""
    minute.seconds = 20.0
    decisions = await spend(open_limiter(3, None), 5)
    assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
    assert [decision.remaining for decision in decisions] == [2, 1, 0, 0, 0]
    assert {decision.reset_seconds for decision in decisions} <= {40, 41}  # 40 s, give or take a float's last digit
    assert not any(decision.degraded for decision in decisions)


async def test_the_wait_from_a_minute_s_first_instant_is_the_whole_minute(minute: SimpleNamespace) -> None:
    """A limit spent as the minute begins is free again when the minute is over, not at once."""
    assert [decision.reset_seconds for decision in await spend(open_limiter(1, None), 2)] == [60, 60]


async def test_principals_do_not_share_a_limit(minute: SimpleNamespace) -> None:
    """One principal's requests take nothing from another's, whatever their names look like."""
    limiter = open_limiter(1, None)
    for name in ("acme", "acme/-1", "{acme}", "a c m e", "*"):
        assert [decision.allowed for decision in await spend(limiter, 2, name)] == [True, False]


async def test_the_window_slides_over_the_turn_of_the_minute(minute: SimpleNamespace) -> None:
    """What was spent in the last minute weighs on this one by as much of it as lies within the last 60 seconds."""
    limiter = open_limiter(10, None)
    minute.seconds = 59.0
    assert all(decision.allowed for decision in await spend(limiter, 10))
    minute.seconds = 60.0
    assert await limiter.hit("acme") == RateLimitDecision(allowed=False, limit=10, remaining=0, reset_seconds=1)
    minute.seconds = 90.0  # half of the last minute is left: five of its ten still count
    assert [decision.allowed for decision in await spend(limiter, 6)] == [True] * 5 + [False]
    minute.seconds = 240.0
    assert [decision.remaining for decision in await spend(limiter, 2)] == [9, 8]


async def test_waiting_as_told_is_enough(minute: SimpleNamespace) -> None:
    """After a refusal, one request passes once its `reset_seconds` are over, in this minute or at its turn."""
    limiter = open_limiter(7, None)
    minute.seconds = 13.0
    for _ in range(30):
        decision = await limiter.hit("acme")
        if not decision.allowed:
            assert decision.reset_seconds >= 1
            minute.seconds += decision.reset_seconds + 0.001
            assert (await limiter.hit("acme")).allowed


# ---------------------------------------------------------------------------------------------------- over Redis

_OTHER_PROCESS = """
import asyncio, json, sys
from redis.asyncio import BlockingConnectionPool
from service.security.limits import open_limiter

async def main():
    pool = BlockingConnectionPool(host="127.0.0.1", port=int(sys.argv[1]), max_connections=8, timeout=20)
    limiter = open_limiter(50, pool, timeout_seconds=20)
    print("ready", flush=True)
    sys.stdin.readline()
    decisions = await asyncio.gather(*(limiter.hit("acme") for _ in range(150)))
    print(json.dumps([sum(d.allowed for d in decisions), sum(d.degraded for d in decisions)]))
    await pool.aclose()

asyncio.run(main())
"""


@needs_redis
def test_two_processes_share_one_limit_exactly(redis_process: RedisProcess) -> None:
    """Of 300 requests at once through two processes, a limit of 50 lets exactly 50 pass."""
    command = [sys.executable, "-c", _OTHER_PROCESS, str(redis_process.port)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        counted = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [degraded for _, degraded in counted] == [0, 0]
    assert sum(allowed for allowed, _ in counted) == 50


@needs_redis
async def test_redis_counts_as_the_process_does(pool: BlockingConnectionPool) -> None:
    """Over Redis, too, remaining counts down and the refusal names a wait within the minute."""
    limiter = open_limiter(3, pool, timeout_seconds=TIMEOUT_SECONDS)
    decisions = await spend(limiter, 4)
    assert [(decision.allowed, decision.remaining) for decision in decisions] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    assert all(1 <= decision.reset_seconds <= 60 for decision in decisions)
    assert not any(decision.degraded for decision in decisions)


@needs_redis
async def test_the_wait_over_redis_is_the_rest_of_the_window(pool: BlockingConnectionPool) -> None:
    """When last minute's requests still weigh, the wait is until the next of them no longer does."""
    client = Redis(connection_pool=pool)
    key = f"{limits.KEY_PREFIX}:{{acme}}"
    await client.set(f"{key}/-1", 4, px=50_000)
    await client.set(key, 1, px=110_000)
    decision = await open_limiter(4, pool, timeout_seconds=TIMEOUT_SECONDS).hit("acme")
    assert (decision.allowed, decision.remaining) == (False, 0)
    assert 1 <= decision.reset_seconds <= 5  # 4 · 50/60 = 3.3 weigh; below 3 after 5 of the 50 seconds


@needs_redis
async def test_keys_in_redis_expire(pool: BlockingConnectionPool) -> None:
    """The counters of a principal without requests expire in Redis."""
    await open_limiter(3, pool, timeout_seconds=TIMEOUT_SECONDS).hit("acme")
    client = Redis(connection_pool=pool)
    found = await client.keys("*")
    assert found
    assert all(0 < left <= 120 for left in [await client.ttl(key) for key in found])


@needs_redis
async def test_counts_locally_without_redis_and_recovers(
    redis_process: RedisProcess, pool: BlockingConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Without Redis no request fails: the process counts alone, warns once, and later counts in Redis again."""
    caplog.set_level(logging.INFO, "service.security.limits")
    timer = Timer()
    limiter = open_limiter(5, pool, timeout_seconds=TIMEOUT_SECONDS, timer=timer)
    assert [decision.degraded for decision in await spend(limiter, 2)] == [False, False]

    redis_process.kill()
    away = await spend(limiter, 8)
    assert all(decision.degraded for decision in away)
    assert sum(decision.allowed for decision in away) in {5, 6}  # six when the minute turns in between
    assert len(warnings_in(caplog)) == 1
    assert "ConnectionError" in warnings_in(caplog)[0]

    redis_process.start()
    assert (await limiter.hit("acme")).degraded, "Redis is not asked again before the pause is over"
    timer.seconds += PAUSE_SECONDS
    back = await spend(limiter, 3)
    assert [(decision.allowed, decision.remaining, decision.degraded) for decision in back] == [
        (True, 4, False),
        (True, 3, False),
        (True, 2, False),
    ]
    assert caplog.records[-1].getMessage().startswith("Redis answers again")


@needs_redis
async def test_a_redis_that_hangs_is_not_waited_for(
    redis_process: RedisProcess, pool: BlockingConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that never answers costs the timeout once, not at each request; its late responses are ignored."""
    timer = Timer()
    other = open_limiter(50, pool, timeout_seconds=TIMEOUT_SECONDS, timer=timer)
    assert not (await other.hit("acme")).degraded
    limiter = open_limiter(50, pool, timeout_seconds=0.2, timer=timer)
    redis_process.suspend()
    try:
        stalled = await asyncio.gather(*(limiter.hit("acme") for _ in range(20)))
    finally:
        redis_process.resume()
    assert all(decision.allowed and decision.degraded for decision in stalled)
    assert len(warnings_in(caplog)) == 1

    decision = await other.hit("acme")
    assert decision.allowed
    assert not decision.degraded
    assert 50 - 22 <= decision.remaining <= 50 - 2  # the first and this one, and as many of the twenty as arrived late


class Flaky:
    """A shared window that yields before it answers, and fails on command; counts its calls."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.asked = 0

    async def hits(self, principal_ids: Sequence[str]) -> Sequence[RateLimitDecision]:
        """Fail, or allow."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        return [RateLimitDecision(allowed=True, limit=9, remaining=8, reset_seconds=1)] * len(principal_ids)


async def test_one_request_a_second_tries_redis_again_and_one_warning_a_minute_tells(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In two minutes of outage at eight requests a second, Redis is asked once a second and warned of three times."""
    shared, timer = Flaky(), Timer()
    limiter = limits.FallbackRateLimiter(
        shared, open_limiter(10_000, None), limits.redis_for_limits(timeout_seconds=TIMEOUT_SECONDS, timer=timer)
    )
    shared.fault = RedisError("away")
    for _ in range(8 * 121):
        assert (await limiter.hit("acme")).degraded
        timer.seconds += 0.125
    assert shared.asked == 121
    assert len(warnings_in(caplog)) == 3


async def test_only_one_request_probes_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    """When the pause is over, a burst asks Redis once."""
    shared, timer = Flaky(), Timer()
    limiter = limits.FallbackRateLimiter(
        shared, open_limiter(10_000, None), limits.redis_for_limits(timeout_seconds=TIMEOUT_SECONDS, timer=timer)
    )
    shared.fault = ConnectionResetError("away")
    await limiter.hit("acme")
    timer.seconds += PAUSE_SECONDS
    shared.fault, shared.asked = None, 0
    assert not (await limiter.hit("acme")).degraded
    shared.fault = TimeoutError("away")
    await limiter.hit("acme")
    timer.seconds += PAUSE_SECONDS
    shared.asked = 0
    await asyncio.gather(*(limiter.hit("acme") for _ in range(20)))
    assert shared.asked == 1
    assert len(warnings_in(caplog)) == 1


async def test_the_timeout_holds_when_the_client_ignores_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    """The timeout holds even when the client swallows its cancellation, and its later error is not reported."""
    released = asyncio.Event()
    ended = asyncio.Event()

    class Uncancellable:
        """A shared window that swallows a cancellation, and fails once it is released."""

        async def hits(self, principal_ids: Sequence[str]) -> Sequence[RateLimitDecision]:
            """Wait, whatever happens."""
            try:
                await released.wait()
            except asyncio.CancelledError:
                await released.wait()
            ended.set()
            raise RedisError("too late")

    limiter = limits.FallbackRateLimiter(
        Uncancellable(), open_limiter(5, None), limits.redis_for_limits(timeout_seconds=0.01, timer=Timer())
    )
    assert (await limiter.hit("acme")).degraded
    released.set()
    await ended.wait()
    await asyncio.sleep(0)
    assert len(warnings_in(caplog)) == 1
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_a_cancelled_request_does_not_affect_others(caplog: pytest.LogCaptureFixture) -> None:
    """In a batch of requests, a cancelled one changes nothing for the others, and is no outage."""
    asked, released = asyncio.Event(), asyncio.Event()

    class Slow:
        """A shared window that answers once it is released."""

        async def hits(self, principal_ids: Sequence[str]) -> Sequence[RateLimitDecision]:
            """Wait."""
            asked.set()
            await released.wait()
            return [RateLimitDecision(allowed=True, limit=9, remaining=8, reset_seconds=1)] * len(principal_ids)

    limiter = limits.FallbackRateLimiter(
        Slow(), open_limiter(5, None), limits.redis_for_limits(timeout_seconds=TIMEOUT_SECONDS, timer=Timer())
    )
    leaving, staying = (asyncio.create_task(limiter.hit("acme")) for _ in range(2))
    await asked.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    released.set()
    assert not (await staying).degraded
    assert not warnings_in(caplog)


@needs_redis
async def test_requests_that_arrive_together_are_decided_in_order_and_exactly(
    redis_process: RedisProcess, pool: BlockingConnectionPool
) -> None:
    """Sixty requests of two principals at once take few round trips, and each principal gets exactly its limit."""
    limiter = open_limiter(20, pool, timeout_seconds=TIMEOUT_SECONDS)
    await limiter.hit("warm")
    client = Redis(connection_pool=pool)
    before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    decisions = await asyncio.gather(*(limiter.hit(("acme", "bolt")[index % 2]) for index in range(60)))
    calls = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] - before
    assert calls == 1
    for first in (0, 1):
        own = decisions[first::2]
        assert [decision.remaining for decision in own] == [*range(19, -1, -1), *[0] * 10]
        assert [decision.allowed for decision in own] == [True] * 20 + [False] * 10


async def test_a_programming_error_is_not_taken_for_an_outage() -> None:
    """Only faults of Redis and of the network degrade; anything else is raised."""
    shared = Flaky()
    shared.fault = KeyError("mistake")
    limiter = limits.FallbackRateLimiter(
        shared, open_limiter(5, None), limits.redis_for_limits(timeout_seconds=TIMEOUT_SECONDS, timer=Timer())
    )
    with pytest.raises(KeyError):
        await limiter.hit("acme")
