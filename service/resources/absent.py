"""The dependencies that a process starts without: Redis and the artifact store."""

from __future__ import annotations

import structlog

from service.resources.storage import Storage, artifacts_address
from service.store.failures import DependencyUnusable
from service.store.reach import reach_artifacts, reach_redis

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


async def warn_of_absent_dependencies(storage: Storage) -> None:
    """Log a warning for each of them that cannot be reached; the process works without it until it can."""
    checks = [reach_artifacts(storage.artifacts, artifacts_address(storage.settings))]
    if storage.redis_pool is not None:
        checks.append(reach_redis(storage.redis_pool))
    for check in checks:
        try:
            await check
        except DependencyUnusable as error:
            _LOGGER.warning("started without a dependency: %s", error)
