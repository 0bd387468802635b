"""Equal requests on unchanged data have equal results: the second is answered without planning or computing anew.

It is an extraction like any other, with its own id, row and feature table, so that reading, deleting and keeping one
never touches the other; only that it has ended as it begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from msgspec import Struct
from msgspec.structs import replace

from service.concurrency.recent import Recent
from service.features.context import CURRENT
from service.features.errors import FeatureAgentError
from service.features.events import CacheLooked, ExtractionRepeated
from service.features.extract import Accepted, artifact_key
from service.features.model import Extraction, ExtractionRequest, ExtractionResult, Lane
from service.features.ports import Artifacts, Clock, Observer
from service.features.stores import Store


class _Kept(Struct, frozen=True):
    """A result, and the very data that it was computed from."""

    result: ExtractionResult
    dataset_key: str
    lane: Lane


class RepeatExtraction:
    """Remembers in this process what requests came to, and repeats it; for one event loop.

    Two requests are equal when they have the same owner, dataset, sentence to the letter, options and threshold. The
    dataset is known by its file, which each upload has to itself: one that was deleted or uploaded anew has no results.
    Plans, operations, engine and thresholds change with the release only, and so with the process.

    Not repeated, but run: what shall be fresh, and what shall be told to a `callback_url` when it ends. Not remembered:
    what a fallback model planned.
    """

    def __init__(
        self,
        *,
        store: Store,
        artifacts: Artifacts,
        observer: Observer,
        clock: Clock,
        new_id: Callable[[], str],
        entries: int,
        seconds: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember at most `entries` results, each for `seconds` after it came about; 0 seconds remember none."""
        self._store = store
        self._artifacts = artifacts
        self._observer = observer
        self._clock = clock
        self._new_id = new_id
        self._seconds = seconds
        self._results: Recent[_Kept] = Recent(entries, timer)

    async def __call__(self, owner: str, request: ExtractionRequest) -> Extraction | None:
        """A completed extraction; None when there is no such result, or it cannot be repeated for whatever reason."""
        if not self._seconds:
            return None
        key = _key(owner, request)
        kept = None if request.fresh or request.callback_url else self._results.get(key)
        extraction = None if kept is None else await self._repeat(owner, request, kept)
        if kept is not None and extraction is None:
            self._results.drop(key)
        outcome = "hit" if extraction is not None else "bypassed" if request.fresh else "miss"
        self._observer.record(CacheLooked("result", "memory", outcome))
        if extraction is not None:
            self._observer.record(ExtractionRepeated(extraction.id, request.quality_threshold))
        return extraction

    def keep(self, accepted: Accepted, ended: Extraction) -> None:
        """Remember what became of an accepted request, if it is worth it."""
        result = ended.result
        if result is not None and not result.model.fallback and accepted.dataset_key:
            usage = replace(result.model, input_tokens=0, output_tokens=0, cost_usd=0.0, cached=True)
            kept = _Kept(replace(result, model=usage), accepted.dataset_key, ended.lane)
            self._results.put(_key(ended.owner, ended.request), kept, self._seconds)

    async def _repeat(self, owner: str, request: ExtractionRequest, kept: _Kept) -> Extraction | None:
        """File first, then row: what goes wrong between leaves a file that the sweep removes."""
        extraction = self._extraction(owner, request, kept)
        try:
            await self._artifacts.copy(kept.result.artifact_key, artifact_key(extraction))
            stored = await self._store.add_repeated(extraction, kept.dataset_key)
        except (FeatureAgentError, OSError):
            return None  # the long way tells what is wrong, or does without what is away
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
        )
        return replace(extraction, result=replace(kept.result, artifact_key=artifact_key(extraction)))


def _key(owner: str, request: ExtractionRequest) -> Hashable:
    """What makes the result; not by when it is wanted, nor whom it is told."""
    return owner, request.dataset_id, request.feature_description, request.quality_threshold, request.options
