"""Run the housekeeping every hour, beside a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import Self

from service.extractions.retention import Housekeeping
from service.features.errors import FeatureAgentError

INTERVAL_SECONDS = 3600.0
FIRST_DELAY_SECONDS = (30.0, 300.0)
"""Random range after the start, so that processes that start together do not run it together."""

_LOG = logging.getLogger(__name__)


class Housekeeper:
    """Run the housekeeping while the `async with` block lasts; a lock in the database lets one process run it."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        self._housekeeping = housekeeping
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="housekeeping")
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        await asyncio.sleep(random.uniform(*FIRST_DELAY_SECONDS))  # noqa: S311 -- not for cryptography
        while True:
            await self.keep_house()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def keep_house(self) -> None:
        """Run the housekeeping once. Errors are logged: the next hour is another try."""
        try:
            removed = await self._housekeeping()
        except FeatureAgentError as error:
            _LOG.warning("housekeeping put off: %s", error.message)
        except Exception:  # noqa: BLE001 -- one bad hour must not end the housekeeping
            _LOG.exception("housekeeping failed")
        else:
            if removed is not None:
                _LOG.info(
                    "housekeeping removed %d extractions, %d versions of datasets, %d idempotency keys, %d artifacts",
                    removed.extractions,
                    removed.dataset_versions,
                    removed.idempotency_keys,
                    removed.artifacts,
                )
