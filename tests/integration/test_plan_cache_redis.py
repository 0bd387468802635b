from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.concurrency.optional_dependency import PAUSE_SECONDS, WARNING_SECONDS
from service.features.events import CacheLooked
from service.features.model import (
    ColumnProfile,
    Dataset,
    ExtractionOptions,
    FeaturePlan,
    ModelUsage,
    PlannedFeature,
    Profile,
)
from service.features.operations import CountDistinct, Flag, Predicate, Value
from service.features.ports import KeptPlan, PlanRequest, Proposal
from service.planning.plan_cache import CachedPlanner, KeptPlans
from service.planning.plan_key import plan_key
from service.store.plan_cache import KEY_PREFIX, MAX_BYTES, RedisPlans
from tests.doubles import Recorder, Timer
from tests.redis_process import needs_redis
from tools.testbed.redis import RedisProcess

pytestmark = needs_redis

PATIENT = 20.0
"""Seconds to wait for Redis where the wait itself is not what is tested: the machine may be busy."""
MODEL = "openai:first"
KEPT = ModelUsage(MODEL, cached=True)
SECRET = "a cell's content"
PLAN = FeaturePlan(
    "row",
    (
        PlannedFeature("age", "The age.", Value("age")),
        PlannedFeature("adult", "Whether of age.", Flag((Predicate("age", "ge", (18,)),))),
    ),
    steps=(SECRET,),
)


def connect(redis_process: RedisProcess) -> BlockingConnectionPool:
    """A pool of few connections, without retries of its own."""
    return BlockingConnectionPool(
        host="127.0.0.1", port=redis_process.port, max_connections=4, timeout=PATIENT, retry=Retry(NoBackoff(), 0)
    )


@pytest.fixture
async def pool(redis_process: RedisProcess) -> AsyncIterator[BlockingConnectionPool]:
    """A pool of connections to the server."""
    pool = connect(redis_process)
    yield pool
    await pool.aclose()


class CacheRecorder(Recorder):
    """An observer that also tells how the plan cache was found."""

    @property
    def redis(self) -> list[str]:
        """Return the results of looking into Redis, in order."""
        return [event.result for event in self.of(CacheLooked) if event.level == "redis"]


class Model:
    """Counts plannings; each takes a turn of the event loop."""

    def __init__(self) -> None:
        self.calls = 0

    async def propose(self, request: PlanRequest) -> Proposal:
        """Always the same plan."""
        self.calls += 1
        await asyncio.sleep(0)
        return Proposal(PLAN, ModelUsage(MODEL, 120, 30, 0.02))


def ask(owner: str = "ann", **changed: Any) -> PlanRequest:
    """A request of a dataset with the column `age`."""
    age = ColumnProfile("age", 0, "integer", "BIGINT", 0.0, 40)
    dataset = Dataset(
        "people", owner, "text/csv", 10, "k", Profile(100, (age,), "f" * 64), datetime(2026, 3, 1, tzinfo=UTC)
    )
    return PlanRequest(dataset, "The age of each person", ExtractionOptions(), **changed)


def key_of(request: PlanRequest) -> str:
    """The request's key in the caches below."""
    return plan_key(request, models=[MODEL], versions=["1"])


def plans(pool: BlockingConnectionPool, **changed: Any) -> RedisPlans:
    """Plans in that Redis for a minute."""
    return RedisPlans(pool, **({"seconds": 60, "timeout_seconds": PATIENT} | changed))


def cache(model: Model, shared: RedisPlans, watcher: CacheRecorder | None = None) -> CachedPlanner:
    """One process's cache on the shared plans."""
    kept = KeptPlans(shared=shared, seconds=60.0, entries=10, models=[MODEL], versions=["1"], timer=Timer())
    return CachedPlanner(model, kept, watcher or CacheRecorder())


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The store's warnings."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# -------------------------------------------------------------------------------------------------------------- sharing


async def test_two_processes_share_plans(redis_process: RedisProcess) -> None:
    """What one cache planned, another on the same Redis serves without a model, as the same plan."""
    pools, models, watcher = (connect(redis_process), connect(redis_process)), (Model(), Model()), CacheRecorder()
    first = await cache(models[0], plans(pools[0])).propose(ask())
    other = cache(models[1], plans(pools[1]), watcher)
    answers = await asyncio.gather(*(other.propose(ask()) for _ in range(50)))
    assert {answer.usage for answer in answers} == {KEPT}
    assert all(answer.plan == first.plan for answer in answers)
    assert [model.calls for model in models] == [1, 0]
    assert watcher.redis == ["hit"]
    for pool in pools:
        await pool.aclose()


async def test_principals_do_not_share_plans(pool: BlockingConnectionPool) -> None:
    """Another principal's equal request finds nothing in Redis."""
    model, watcher = Model(), CacheRecorder()
    planner = cache(model, plans(pool), watcher)
    for owner in ("ann", "bob"):
        await planner.propose(ask(owner))
    assert (model.calls, watcher.redis) == (2, ["miss", "miss"])


async def test_a_fresh_plan_replaces_the_shared_one(pool: BlockingConnectionPool) -> None:
    """A fresh request does not read Redis, and writes to it."""
    shared, watcher = plans(pool), CacheRecorder()
    old = Proposal(FeaturePlan("row", (PlannedFeature("old", "Old.", Value("age")),)), KEPT)
    await shared.put(key_of(ask()), old)
    await cache(Model(), shared, watcher).propose(ask(fresh=True))
    assert watcher.redis == []
    kept = await shared.get(key_of(ask()))
    assert kept is not None
    assert kept.proposal == Proposal(PLAN, KEPT)


async def test_plans_expire_and_say_when(pool: BlockingConnectionPool) -> None:
    """A plan is stored for its seconds under an anonymous key, and read with its remaining time."""
    shared, client = plans(pool, seconds=50), Redis(connection_pool=pool)
    key = key_of(ask())
    await shared.put(key, Proposal(PLAN, KEPT))
    assert await client.keys("*") == [f"{KEY_PREFIX}{key}".encode()]
    assert 0 < await client.pttl(KEY_PREFIX + key) <= 50_000
    kept = await shared.get(key)
    assert kept is not None
    assert 0 < kept.seconds <= 50
    await client.pexpire(KEY_PREFIX + key, 3_000_000)
    longer = await shared.get(key)
    assert longer is not None
    assert longer.seconds == 50, "however long it is kept, it is served no longer than is configured"
    await client.pexpire(KEY_PREFIX + key, 20_000)
    shorter = await shared.get(key)
    assert shorter is not None
    assert 0 < shorter.seconds <= 20
    await client.delete(KEY_PREFIX + key)
    assert await shared.get(key) is None


async def test_losing_redis_costs_a_planning_and_no_error(
    redis_process: RedisProcess, pool: BlockingConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Without Redis each request is planned; when it is back, plans are shared again."""
    timer, model, watcher = Timer(), Model(), CacheRecorder()
    shared = plans(pool, timer=timer)

    def forgetful() -> CachedPlanner:
        return cache(model, shared, watcher)

    await forgetful().propose(ask())
    redis_process.kill()
    for _ in range(3):
        assert (await forgetful().propose(ask())).plan == PLAN
    assert (model.calls, watcher.redis) == (4, ["miss"] * 4)
    assert len(warnings_in(caplog)) == 1
    assert "each process keeps plans by itself" in warnings_in(caplog)[0]

    redis_process.start()
    timer.seconds += PAUSE_SECONDS
    for _ in range(2):
        await forgetful().propose(ask())
    assert (model.calls, watcher.redis[4:]) == (5, ["miss", "hit"])


# ------------------------------------------------------------------------------------------------ what others put there


GOOD = msgspec.msgpack.encode(Proposal(PLAN, KEPT))
ARRAY_OF_BILLIONS = b"\xdd\xff\xff\xff\xff"

BAD = {
    "garbage": b"\x00\xff garbage",
    "JSON": msgspec.json.encode(Proposal(PLAN, KEPT)),
    "truncated": GOOD[:-1],
    "half": GOOD[: len(GOOD) // 2],
    "more than a plan": GOOD + b"\x00",
    "another type": msgspec.msgpack.encode(PLAN),
    "unknown operation": GOOD.replace(b"\xa5value", b"\xa5evilx"),
    "bad name": GOOD.replace(b"\xa3age\xab", b"\xa3A;e\xab"),
    "not UTF-8": GOOD.replace(SECRET.encode(), b"\xff" * len(SECRET)),
    "billions of features": GOOD.replace(b"features\x92", b"features" + ARRAY_OF_BILLIONS),
    "billions of values": GOOD.replace(b"values\x91", b"values" + ARRAY_OF_BILLIONS),
    "a deep nest": b"\x83" + GOOD[1:] + b"\xa1x" + b"\x91" * 100_000,
    "too large": b"\x83" + GOOD[1:] + b"\xa1x" + b"\xc6" + (MAX_BYTES).to_bytes(4, "big") + bytes(MAX_BYTES),
}


@pytest.mark.parametrize("content", BAD)
async def test_an_unreadable_plan_is_planned_again(
    content: str, pool: BlockingConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that are no plan are a miss, said once without their content, and are replaced by the new plan."""
    assert BAD[content] != GOOD
    model, watcher, shared = Model(), CacheRecorder(), plans(pool)
    await Redis(connection_pool=pool).set(KEY_PREFIX + key_of(ask()), BAD[content], ex=60)
    assert (await cache(model, shared, watcher).propose(ask())).plan == PLAN
    assert (model.calls, watcher.redis) == (1, ["miss"])
    assert warnings_in(caplog) == ["Redis holds plans that cannot be read; what they are for is planned anew"]
    assert await shared.get(key_of(ask())) is not None


async def test_large_values_are_refused_before_they_are_read(pool: BlockingConnectionPool) -> None:
    """However large a value is, no more than the limit is transferred."""
    key = key_of(ask())
    await Redis(connection_pool=pool).set(KEY_PREFIX + key, GOOD + bytes(64 * MAX_BYTES), ex=60)
    shared = plans(pool)
    value, _ = await shared._read(KEY_PREFIX + key)
    assert isinstance(value, bytes)
    assert len(value) == MAX_BYTES + 1
    assert await shared.get(key) is None


async def test_a_key_of_another_kind_is_no_outage(pool: BlockingConnectionPool) -> None:
    """A list where a plan should be is unreadable, and Redis is asked on."""
    client, shared = Redis(connection_pool=pool), plans(pool)
    await client.rpush(KEY_PREFIX + key_of(ask()), "x")
    await client.expire(KEY_PREFIX + key_of(ask()), 60)
    assert await shared.get(key_of(ask())) is None
    await shared.put("other", Proposal(PLAN, KEPT))
    assert await shared.get("other") is not None


async def test_a_plan_that_never_expires_is_none_of_ours(pool: BlockingConnectionPool) -> None:
    """A value without an end is not served."""
    await Redis(connection_pool=pool).set(KEY_PREFIX + "k", GOOD)
    assert await plans(pool).get("k") is None


async def test_a_tampered_plan_is_validated(pool: BlockingConnectionPool) -> None:
    """A well-formed plan whose columns were changed in Redis is a miss."""
    model, watcher, shared = Model(), CacheRecorder(), plans(pool)
    tampered = GOOD.replace(b"column\xa3age", b"column\xa3pay")
    assert msgspec.msgpack.decode(tampered, type=Proposal).plan != PLAN
    await Redis(connection_pool=pool).set(KEY_PREFIX + key_of(ask()), tampered, ex=60)
    assert (await cache(model, shared, watcher).propose(ask())).plan == PLAN
    assert (model.calls, watcher.redis) == (1, ["miss"])


async def test_unreadable_plans_are_told_of_once_a_minute(
    pool: BlockingConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Many unreadable plans make one line in the log a minute, without what they hold."""
    timer = Timer()
    shared = plans(pool, timer=timer)
    await Redis(connection_pool=pool).set(KEY_PREFIX + "k", SECRET, ex=600)
    for seconds, lines in ((0, 1), (1, 1), (WARNING_SECONDS, 2)):
        timer.seconds += seconds
        assert [await shared.get("k") for _ in range(5)] == [None] * 5
        assert len(warnings_in(caplog)) == lines
    assert SECRET not in caplog.text


async def test_a_plan_that_is_too_large_is_not_stored(pool: BlockingConnectionPool) -> None:
    """A plan over the limit is answered and not kept in Redis."""
    long = tuple("x" * 200 for _ in range(100))
    wide = tuple(
        PlannedFeature(f"f{number}", "Wide.", CountDistinct("age", (Predicate("age", "in", long),)))
        for number in range(20)
    )
    shared = plans(pool)
    await shared.put("k", Proposal(FeaturePlan("entity", wide, entity="age"), KEPT))
    assert await Redis(connection_pool=pool).exists(KEY_PREFIX + "k") == 0
    await shared.put("k", Proposal(FeaturePlan("entity", wide[:5], entity="age"), KEPT))
    assert await shared.get("k") is not None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500, deadline=None)
@given(place=st.integers(0, len(GOOD) - 1), with_=st.binary(max_size=6), over=st.integers(0, 6))
def test_any_damage_is_a_plan_or_nothing(place: int, with_: bytes, over: int) -> None:
    """Bytes put in, taken out or changed anywhere give a plan of the right type or none, and never an error."""
    shared = RedisPlans(BlockingConnectionPool(), seconds=60)
    decoded = shared._decoded(GOOD[:place] + with_ + GOOD[place + over :])
    assert decoded is None or isinstance(decoded, Proposal)


async def test_what_is_written_is_what_is_read(pool: BlockingConnectionPool) -> None:
    """A plan comes back from Redis as it went in."""
    shared = plans(pool)
    await shared.put("k", Proposal(PLAN, KEPT))
    kept = await shared.get("k")
    assert isinstance(kept, KeptPlan)
    assert kept.proposal == Proposal(PLAN, KEPT)
