"""Extractions that are completed as they begin: stored in one statement for all that come at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.trace import Tracer

from service.features.gathering import Gathering
from service.features.model import Extraction
from service.store.lasting import Connect, LastingConnection, StatementSpans
from service.store.payload import encode

MOST_AT_ONCE = 20
"""Results are some kilobytes each."""
STATEMENT = """
INSERT INTO extractions (
    id, owner, dataset_id, request, result, request_id, trace_id, lane, created_at, started_at, finished_at,
    status, progress, patient, cancel_requested, attempt, crashes, retries, version
)
SELECT
    new.id, new.owner, new.dataset_id, new.request::jsonb, new.result::jsonb, new.request_id, new.trace_id, new.lane,
    new.created_at, new.created_at, new.created_at, 'completed', 100, false, false, 0, 0, 0, 0
FROM unnest(
    %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::timestamptz[]
) AS new (id, owner, dataset_id, dataset_key, request, result, request_id, trace_id, lane, created_at)
JOIN datasets ON
    datasets.owner = new.owner AND datasets.id = new.dataset_id AND datasets.artifact_key = new.dataset_key
RETURNING id
"""

Repeated = tuple[Extraction, str]
"""An extraction, and the artifact of the dataset that its result is of."""


class RepeatedExtractions:
    """Writes them, each if its dataset is still the same."""

    def __init__(self, connect: Connect, tracer: Tracer | None) -> None:
        self._connection = LastingConnection(connect)
        self._spans = StatementSpans(tracer, "INSERT", "extractions", STATEMENT)
        self._gathering = Gathering(self._write, most=MOST_AT_ONCE)

    async def add(self, extraction: Extraction, dataset_key: str) -> bool:
        """Whether it is stored: not when its dataset is another. Raises DependencyUnavailable."""
        with self._spans.span():
            return await self._gathering.ask((extraction, dataset_key))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _write(self, repeated: Sequence[Repeated]) -> Sequence[bool]:
        columns = [list(column) for column in zip(*(_row(*item) for item in repeated), strict=True)]
        stored = {row[0] for row in await self._connection.rows(STATEMENT, columns, repeatable=False)}
        return [extraction.id in stored for extraction, _ in repeated]


def _row(extraction: Extraction, dataset_key: str) -> tuple[object, ...]:
    return (
        extraction.id,
        extraction.owner,
        extraction.request.dataset_id,
        dataset_key,
        encode(extraction.request),
        encode(extraction.result),
        extraction.request_id,
        extraction.trace_id,
        extraction.lane,
        extraction.created_at,
    )
