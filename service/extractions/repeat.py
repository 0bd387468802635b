"""Answer a repeated request on unchanged data with the earlier result, without planning or computing again.

The repeat is an extraction with its own id, row and feature table, so that deleting one never affects the other; it is
completed from the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from cachetools import TTLCache
from msgspec import Struct
from msgspec.structs import replace

from service.features.context import CURRENT
from service.features.errors import FeatureAgentError
from service.features.events import CacheLooked, ExtractionRepeated
from service.features.extract import Accepted, artifact_key
from service.features.model import Extraction, ExtractionRequest, ExtractionResult, Lane
from service.features.ports import Artifacts, Clock, Observer
from service.features.stores import Store


class _Kept(Struct, frozen=True):
    """Hold a result and the data it was computed from."""

    result: ExtractionResult
    dataset_key: str
    lane: Lane
    stored_bytes: int | None
    """Of the feature table, each copy of which counts for its owner."""


class RepeatExtraction:
    """Remember results in this process and repeat them; for one event loop.

    Two requests are equal if they have the same owner, dataset, exact sentence, options and threshold. The dataset is
    identified by its file: one that was deleted or uploaded again has no results. Plans, operations, engine and
    thresholds only change with a release, and so with the process.

    Requests for a fresh result or with a `callback_url` are always run. A fallback model's plan is not remembered.
    """

    def __init__(  # noqa: PLR0913 -- a composition: its parts and its bounds, each by its name
        self,
        *,
        store: Store,
        artifacts: Artifacts,
        observer: Observer,
        clock: Clock,
        new_id: Callable[[], str],
        entries: int,
        seconds: float,
        max_stored_bytes: int = 0,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember at most `entries` results, each for `seconds` after its end; 0 seconds disables it.

        Nothing is repeated for an owner that keeps `max_stored_bytes` (0: no limit): the normal way refuses it.
        """
        self._store = store
        self._artifacts = artifacts
        self._observer = observer
        self._clock = clock
        self._new_id = new_id
        self._seconds = seconds
        self._max_stored_bytes = max_stored_bytes
        self._results: TTLCache[Hashable, _Kept, float] = TTLCache(entries, seconds, timer)

    async def __call__(self, owner: str, request: ExtractionRequest) -> Extraction | None:
        """Return a completed extraction; None without a result, or if it cannot be repeated for any reason."""
        if not self._seconds:
            return None
        key = _key(owner, request)
        kept = None if request.fresh or request.callback_url else self._results.get(key)
        extraction = None if kept is None else await self._repeat(owner, request, kept)
        if kept is not None and extraction is None:
            self._results.pop(key, None)
        outcome = "hit" if extraction is not None else "bypassed" if request.fresh else "miss"
        self._observer.record(CacheLooked("result", "memory", outcome))
        if extraction is not None:
            self._observer.record(ExtractionRepeated(extraction.id, request.quality_threshold))
        return extraction

    def keep(self, accepted: Accepted, ended: Extraction) -> None:
        """Remember an accepted request's result, unless a fallback model planned it."""
        result = ended.result
        if result is not None and not result.model.fallback and accepted.dataset_key:
            usage = replace(result.model, input_tokens=0, output_tokens=0, cost_usd=0.0, cached=True)
            kept = _Kept(replace(result, model=usage), accepted.dataset_key, ended.lane, ended.stored_bytes)
            self._results[_key(ended.owner, ended.request)] = kept

    async def _repeat(self, owner: str, request: ExtractionRequest, kept: _Kept) -> Extraction | None:
        """Copy the file, then add the row: a failure in between leaves a file that the sweep removes."""
        extraction = self._extraction(owner, request, kept)
        try:
            await self._artifacts.copy(kept.result.artifact_key, artifact_key(extraction))
            stored = await self._store.add_repeated(
                extraction, kept.dataset_key, max_stored_bytes=self._max_stored_bytes
            )
        except (FeatureAgentError, OSError):
            return None  # the normal run reports the error, or succeeds without the unreachable store
        if stored:
            return extraction
        await self._artifacts.delete(artifact_key(extraction))
        return None

    def _extraction(self, owner: str, request: ExtractionRequest, kept: _Kept) -> Extraction:
        context, now = CURRENT.get(), self._clock.now()
        extraction = Extraction(
            id=self._new_id(),
            owner=owner,
            request=request,
            status="completed",
            created_at=now,
            progress=100,
            started_at=now,
            finished_at=now,
            request_id=context.request_id if context else "",
            trace_id=context.trace_id if context else "",
            lane=kept.lane,
            stored_bytes=kept.stored_bytes,
        )
        return replace(extraction, result=replace(kept.result, artifact_key=artifact_key(extraction)))


def _key(owner: str, request: ExtractionRequest) -> Hashable:
    """Build the key from everything that determines the result, which excludes completion date and callback."""
    return (
        owner,
        request.dataset_id,
        request.feature_description,
        request.quality_threshold,
        request.options,
        request.tables,
    )
