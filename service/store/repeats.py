"""Store extractions that repeat an earlier result, in one statement for all concurrent ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self

import msgspec
from cachetools import LRUCache
from msgspec import Struct
from msgspec.structs import astuple
from opentelemetry.trace import Tracer

from service.concurrency.batcher import Batcher
from service.features.model import Extraction, ExtractionResult
from service.store.dedicated_connection import Connect, DedicatedConnection, StatementSpans
from service.store.payload import encode

MAX_BATCH_SIZE = 20
"""Results are some kilobytes each."""
MAX_ENCODED = 100
"""Results whose JSON is cached: encoding it takes longer than all the rest of the row."""
STATEMENT = """
INSERT INTO extractions (
    id, owner, dataset_id, request, result, request_id, trace_id, lane, created_at, started_at, finished_at,
    status, progress, patient, cancel_requested, attempt, crashes, retries, version,
    stored_bytes
)
SELECT
    new.id, new.owner, new.dataset_id, new.request, jsonb_set(new.result, '{artifact_key}', to_jsonb(new.artifact_key)),
    new.request_id, new.trace_id, new.lane, new.created_at, new.created_at, new.created_at,
    'completed', 100, false, false, 0, 0, 0, 0, new.stored_bytes
FROM jsonb_to_recordset($1::jsonb) AS new (
    id text, owner text, dataset_id text, dataset_key text, request jsonb, result jsonb, artifact_key text,
    request_id text, trace_id text, lane text, created_at timestamptz, stored_bytes bigint, max_stored_bytes bigint
)
JOIN datasets ON
    datasets.owner = new.owner AND datasets.id = new.dataset_id AND datasets.artifact_key = new.dataset_key
LEFT JOIN storage_usage ON storage_usage.owner = new.owner
WHERE new.max_stored_bytes = 0 OR coalesce(storage_usage.stored_bytes, 0) < new.max_stored_bytes
RETURNING id
"""
"""One JSON parameter for all rows: the driver would escape arrays of texts character by character."""

Repeated = tuple[Extraction, str, int]
"""An extraction, the artifact of the dataset that its result was computed from, and the bytes its owner may keep."""


class RepeatedExtractions:
    """Store them, each if its dataset is unchanged and its owner keeps less than it may."""

    def __init__(self, connect: Connect, tracer: Tracer | None) -> None:
        self._connection = DedicatedConnection(connect)
        self._spans = StatementSpans(tracer, "INSERT", "extractions", STATEMENT)
        self._batcher = Batcher(self._write, max_size=MAX_BATCH_SIZE)
        self._encoded: LRUCache[tuple[int, ...], tuple[ExtractionResult, msgspec.Raw]] = LRUCache(MAX_ENCODED)
        """The JSON of results that are stored again and again, each time for another artifact. Holding the result keeps
        the ids in its key from being used again."""

    async def add(self, extraction: Extraction, dataset_key: str, max_stored_bytes: int) -> bool:
        """Store an extraction; False when its dataset has changed, or its owner keeps `max_stored_bytes` (0: no limit).

        Raises DependencyUnavailable.
        """
        with self._spans.span():
            return await self._batcher.submit((extraction, dataset_key, max_stored_bytes))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _write(self, repeated: Sequence[Repeated]) -> Sequence[bool]:
        rows = [_Row.of(extraction, key, limit, self._encode(extraction.result)) for extraction, key, limit in repeated]
        text = msgspec.json.encode(rows).decode()
        stored = {row[0] for row in await self._connection.rows(STATEMENT, (text,), repeatable=False)}
        return [extraction.id in stored for extraction, _, _ in repeated]

    def _encode(self, result: ExtractionResult | None) -> msgspec.Raw:
        """Return the JSON, with whatever artifact."""
        if result is None:
            return msgspec.Raw(b"null")
        key = _parts(result)
        if key not in self._encoded:
            self._encoded[key] = (result, msgspec.Raw(encode(result)))
        return self._encoded[key][1]


class _Row(Struct, frozen=True):
    """As the statement reads it."""

    id: str
    owner: str
    dataset_id: str
    dataset_key: str
    request: msgspec.Raw
    result: msgspec.Raw
    artifact_key: str
    request_id: str
    trace_id: str
    lane: str
    created_at: datetime
    stored_bytes: int | None
    max_stored_bytes: int

    @classmethod
    def of(cls, extraction: Extraction, dataset_key: str, max_stored_bytes: int, result: msgspec.Raw) -> Self:
        """The row of an extraction, whose result is encoded already."""
        return cls(
            id=extraction.id,
            owner=extraction.owner,
            dataset_id=extraction.request.dataset_id,
            dataset_key=dataset_key,
            request=msgspec.Raw(encode(extraction.request)),
            result=result,
            artifact_key="" if extraction.result is None else extraction.result.artifact_key,
            request_id=extraction.request_id,
            trace_id=extraction.trace_id,
            lane=extraction.lane,
            created_at=extraction.created_at,
            stored_bytes=extraction.stored_bytes,
            max_stored_bytes=max_stored_bytes,
        )


_PARTS = ExtractionResult.__struct_fields__


def _parts(result: ExtractionResult) -> tuple[int, ...]:
    """Return the ids of all that a result consists of, but its artifact: results with equal ones have equal JSON."""
    return tuple([id(part) for name, part in zip(_PARTS, astuple(result), strict=True) if name != "artifact_key"])
