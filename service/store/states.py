"""Read the states of extractions, the most frequent query, at the least cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import msgspec
from opentelemetry.trace import Tracer

from service.concurrency.batcher import Batcher
from service.features.errors import ExtractionNotFound
from service.features.model import ExtractionState, Failure
from service.store.dedicated_connection import Connect, DedicatedConnection, StatementSpans
from service.store.payload import storable, unescaped
from service.store.wire import array

STATEMENT = (
    "SELECT id, owner, status, progress, stage, lane, started_at, finished_at, failure::text, version "
    "FROM extractions WHERE id = ANY($1::text[])"
)

_FAILURE = msgspec.json.Decoder(Failure)


class StateReads:
    """Read states, in one statement for all concurrent requests."""

    def __init__(self, connect: Connect, tracer: Tracer | None) -> None:
        self._connection = DedicatedConnection(connect)
        self._spans = StatementSpans(tracer, "SELECT", "extractions", STATEMENT)
        self._batcher = Batcher(self._read)

    async def get(self, owner: str, extraction_id: str) -> ExtractionState:
        """Return the present state. Raises ExtractionNotFound, also for another owner's, and DependencyUnavailable."""
        state = None
        if storable(extraction_id):
            with self._spans.span():
                state = (await self._batcher.submit((extraction_id,))).get(extraction_id)
        if state is None or state.owner != owner:
            raise ExtractionNotFound("You have no such extraction.")
        return state

    async def of_all(self, extraction_ids: Sequence[str]) -> Mapping[str, ExtractionState]:
        """Return the present states, without those that do not exist. Raises DependencyUnavailable."""
        return await self._batcher.submit(tuple(filter(storable, extraction_ids)))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _read(self, requests: Sequence[tuple[str, ...]]) -> Sequence[Mapping[str, ExtractionState]]:
        ids = dict.fromkeys(chain.from_iterable(requests))
        rows = await self._connection.rows(STATEMENT, (array([*ids]),), repeatable=True)
        return [{row[0]: _state(row) for row in rows}] * len(requests)


def _state(row: tuple[Any, ...]) -> ExtractionState:
    extraction_id, owner, status, progress, stage, lane, started_at, finished_at, failure, version = row
    return ExtractionState(
        id=extraction_id,
        owner=owner,
        status=status,
        progress=progress,
        stage=stage,
        lane=lane,
        started_at=_utc(started_at),
        finished_at=_utc(finished_at),
        failure=None if failure is None else _FAILURE.decode(unescaped(failure)),
        version=version,
    )


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)
