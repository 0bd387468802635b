"""`feature-agent` with one fault built in, that a load test has to find; FAULT names it, and `none` is the service."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

from service.features.extract import AcceptExtraction
from service.resources import jobs
from service.security.authenticator import Authenticator
from service.store.unit_of_work import SqlUnitOfWork
from service.telemetry.http import HttpObserver
from service.telemetry.http_transaction import HttpTransaction

DELAY_SECONDS = 0.3
LEAKED_BYTES = 2**20
LOST_SECONDS = 3.0
ERROR_EACH, LOST_EACH, DOUBLED_EACH, UNCOUNTED_EACH = 40, 3, 3, 10


def _before_authentication(fault: Callable[[], Awaitable[None]]) -> None:
    """Have every request with a key meet the fault first."""
    authenticate = Authenticator.authenticate

    async def faulty(self: Authenticator, credential: str | None) -> Any:
        await fault()
        return await authenticate(self, credential)

    Authenticator.authenticate = faulty  # type: ignore[method-assign]


def delay() -> None:
    """Take 300 ms longer for every request."""

    async def fault() -> None:
        await asyncio.sleep(DELAY_SECONDS)

    _before_authentication(fault)


def errors() -> None:
    """Answer 500 to more than 2 of 100 requests."""
    numbers = itertools.count(1)

    async def fault() -> None:
        if next(numbers) % ERROR_EACH == 0:
            raise RuntimeError("a fault of this build")

    _before_authentication(fault)


def leak() -> None:
    """Keep a MiB of every request."""
    kept: list[bytes] = []

    async def fault() -> None:
        kept.append(os.urandom(LEAKED_BYTES))

    _before_authentication(fault)


class Forgetful(AcceptExtraction):
    """Accepts extractions, and removes some of them when their clients know of them."""

    _numbers = itertools.count(1)
    _removals: ClassVar[set[asyncio.Task[None]]] = set()

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Accept, and forget every third that has an Idempotency-Key."""
        accepted = await super().__call__(*arguments, **options)
        if options.get("claim") is not None and next(self._numbers) % LOST_EACH == 0:
            self._removals.add(asyncio.create_task(self._remove(accepted.extraction.id)))
        return accepted

    async def _remove(self, extraction_id: str) -> None:
        await asyncio.sleep(LOST_SECONDS)
        async with self._store.begin() as work:
            connection = cast("SqlUnitOfWork", work).connection
            for table, column in (("idempotency_keys", "extraction_id"), ("extractions", "id")):
                statement = f"DELETE FROM {table} WHERE {column} = %(id)s"  # noqa: S608 - the names are these
                await connection.exec_driver_sql(statement, {"id": extraction_id})


def lost() -> None:
    """Remove extractions that were accepted."""
    jobs.AcceptExtraction = Forgetful  # type: ignore[misc]


class Zealous(AcceptExtraction):
    """Makes some extractions twice."""

    _numbers = itertools.count(1)

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Accept, and with some keys once more without the key."""
        if options.get("claim") is not None and next(self._numbers) % DOUBLED_EACH == 0:
            await super().__call__(*arguments, **{**options, "claim": None})
        return await super().__call__(*arguments, **options)


def doubled() -> None:
    """Make extractions twice for one Idempotency-Key."""
    jobs.AcceptExtraction = Zealous  # type: ignore[misc]


def miscount() -> None:
    """Leave every tenth request out of api_requests_total."""
    count, numbers = HttpObserver._count, itertools.count(1)

    def faulty(self: HttpObserver, exchange: HttpTransaction) -> None:
        if next(numbers) % UNCOUNTED_EACH:
            count(self, exchange)

    HttpObserver._count = faulty  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault for fault in (delay, errors, leak, lost, doubled, miscount)
}


def main() -> int:
    """Join the control groups that JOIN names, build the fault in, and start the service."""
    for procs in filter(None, os.environ.get("JOIN", "").split(os.pathsep)):
        with open(procs, "w", encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel's
            file.write(str(os.getpid()))
    if fault := os.environ.get("FAULT"):
        FAULTS[fault]()
    from service.__main__ import main as serve

    return int(serve(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
