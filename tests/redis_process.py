"""A redis-server for tests, which are skipped where none is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.testbed import redis
from tools.testbed.redis import REDIS_SERVER, RedisProcess

needs_redis = pytest.mark.skipif(REDIS_SERVER is None, reason="redis-server is not installed")


@contextmanager
def running_redis(folder: Path, password: str | None = None) -> Iterator[RedisProcess]:
    """Run a redis-server in the block; skip the test where none is installed."""
    if REDIS_SERVER is None:
        pytest.skip("redis-server is not installed")
    with redis.running_redis(folder, password) as server:
        yield server
