"""Run one attempt at an extraction, from its claim to its end, so that nothing is lost or done twice.

The row in the store decides. An attempt claims it, and every later write names the attempt: if two workers run the same
extraction, only one can write, and the other stops when it notices. An attempt that ends without a result, because its
process died or the database was lost, is claimed again by another worker.
"""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from service.concurrency.commit import commit_with_retry
from service.concurrency.deadline import deadline
from service.concurrency.shielded import run_shielded, stop
from service.features.context import CURRENT, RequestContext
from service.features.errors import DeadlineExceeded, DependencyUnavailable, FeatureAgentError, WorkerLost
from service.features.events import ExtractionFinished, ExtractionStarted
from service.features.extract import Pipeline, artifact_key
from service.features.model import Extraction, ExtractionResult, Failure, Stage
from service.features.ports import Artifacts, Clock, Observer
from service.features.stores import AttemptSuperseded, JobQueue, Store, UnitOfWork
from service.webhooks.deliver import announce

PROGRESS: dict[Stage, tuple[int, int]] = {"profile": (2, 5), "plan": (5, 40), "compute": (40, 85), "assess": (85, 99)}
"""Percent shown at the beginning and the end of each stage."""
MAX_CRASHES = 3
"""Number of workers that may die while running an extraction before it is failed as their likely cause."""
MAX_RETRIES = 5
FIRST_RETRY_SECONDS = 2.0
MAX_RETRY_SECONDS = 300.0
WATCH_SECONDS = 0.5
"""Interval at which a run stores its progress and checks for a cancellation."""
GRACE_SECONDS = 1.0
"""Time after the deadline for the current step to report by itself that it did not end."""

UNEXPECTED = Failure("internal_error", "internal", "The extraction failed for an unexpected reason.", retryable=False)

Ending = Literal["completed", "failed", "cancelled", "retried", "handed_back", "superseded", "gone"]
"""Outcome of an attempt."""


class _Progress(Struct):
    """How far a run has come, reported by its stages and stored by the watch."""

    stage: Stage = "profile"
    share: float = 0.0

    def enter(self, stage: Stage, share: float) -> None:
        self.stage, self.share = stage, share

    @property
    def percent(self) -> int:
        first, last = PROGRESS[self.stage]
        return first + int((last - first) * min(max(self.share, 0.0), 1.0))


class RunExtraction:
    """Run accepted extractions, one attempt for each call."""

    def __init__(
        self,
        pipeline: Pipeline[Any],
        *,
        store: Store,
        queue: JobQueue,
        artifacts: Artifacts,
        observer: Observer,
        clock: Clock,
        seconds: float = 900.0,
    ) -> None:
        """`seconds` bounds one attempt, unless its completion date comes first."""
        self._pipeline = pipeline
        self._store = store
        self._queue = queue
        self._artifacts = artifacts
        self._observer = observer
        self._clock = clock
        self._seconds = seconds

    async def __call__(self, extraction_id: str) -> Ending:
        """Claim the extraction and run it until it ends, is handed back, or another attempt takes over.

        A cancelled call hands the extraction back to the queue. Raises DependencyUnavailable when the store is
        unreachable; then the extraction is claimed again later.
        """
        async with self._store.begin() as work:
            claimed = await work.extractions.claim(extraction_id, self._clock.now())
        if claimed is None:
            return "gone"
        token = CURRENT.set(_context(claimed))
        try:
            return await self._attempt(claimed)
        except AttemptSuperseded:
            await self._discard(claimed)
            return "superseded"
        finally:
            CURRENT.reset(token)

    async def _attempt(self, claimed: Extraction) -> Ending:
        self._observer.record(_started(claimed, self._clock.now()))
        try:
            result = await self._run_watched(claimed)
        except AttemptSuperseded:
            raise
        except FeatureAgentError as error:
            return await run_shielded(self._failed(claimed, error))
        except _CancelRequested:
            return await run_shielded(self._end(claimed, "cancelled"))
        except asyncio.CancelledError:
            return await run_shielded(self._hand_back(claimed))
        except Exception:
            await run_shielded(self._end(claimed, "failed", failure=UNEXPECTED))
            raise
        return await run_shielded(self._end(claimed, "completed", result=result))

    async def _run_watched(self, claimed: Extraction) -> ExtractionResult:
        """Run the pipeline within the deadline, while this attempt owns the extraction and it is not cancelled."""
        if claimed.cancel_requested:
            raise _CancelRequested
        seconds = self._seconds_for(claimed)
        progress = _Progress()
        with deadline(seconds):
            running = asyncio.create_task(self._pipeline(claimed, progress.enter), name=f"extraction {claimed.id}")
        limit = asyncio.timeout(seconds + GRACE_SECONDS)
        try:
            async with limit:
                await self._watch(claimed, running, progress)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded("The extraction did not end within the time that it may take.") from error
        finally:
            await stop(running)
        if running.cancelled():
            raise RuntimeError("something within the run cancelled it")
        return running.result()

    async def _watch(self, claimed: Extraction, running: asyncio.Task[ExtractionResult], progress: _Progress) -> None:
        """Watch the task until it ends. Raises AttemptSuperseded, or _CancelRequested when the caller cancelled."""
        stored = claimed
        while True:
            await asyncio.wait({running}, timeout=WATCH_SECONDS)
            if running.done():
                return
            present = replace(claimed, stage=progress.stage, progress=progress.percent)
            try:
                await self._save_and_check(present, changed=present != stored)
            except DependencyUnavailable:
                continue  # the database is unreachable: the work continues, and may outlast the outage
            stored = present

    async def _save_and_check(self, present: Extraction, *, changed: bool) -> None:
        async with self._store.begin(watching=True) as work:
            if changed:
                await work.extractions.save(present)
            row = await work.extractions.find(present.id)
        if row is None or row.attempt != present.attempt or row.status != "processing":
            raise AttemptSuperseded
        if row.cancel_requested:
            raise _CancelRequested

    def _seconds_for(self, claimed: Extraction) -> float:
        """Return the seconds for this attempt. Raises WorkerLost, or DeadlineExceeded past the completion date."""
        if claimed.crashes >= MAX_CRASHES:
            raise WorkerLost(f"The extraction ended {claimed.crashes} workers that ran it, so it is not tried again.")
        if claimed.due_at is None:
            return self._seconds
        left = (claimed.due_at - self._clock.now()).total_seconds()
        if left <= 0:
            raise DeadlineExceeded("The extraction was not done by its completion date.")
        return min(self._seconds, left)

    async def _failed(self, claimed: Extraction, error: FeatureAgentError) -> Ending:
        """Retry later if the error may pass and the caller does not wait for the answer; otherwise fail."""

        async def try_again(work: UnitOfWork) -> bool:
            await work.extractions.save(
                claimed
            )  # locks the row, so that no caller stops waiting before this is decided
            row = await work.extractions.find(claimed.id)
            delay = _pause(claimed.retries, error.retry_after)
            if row is None or not self._may_try_again(row, delay):
                return False
            queued = _queued_again(claimed, retries=row.retries + 1, failure=error.failure())
            await work.extractions.save(queued)
            await self._queue.enqueue(work, queued, delay=delay)
            return True

        if error.retryable and await commit_with_retry(self._store, try_again):
            await self._discard(claimed)
            return "retried"
        return await self._end(claimed, "failed", failure=error.failure())

    def _may_try_again(self, row: Extraction, delay: float) -> bool:
        if not row.detached or row.cancel_requested or row.retries >= MAX_RETRIES:
            return False
        return row.due_at is None or self._clock.now() + timedelta(seconds=delay) < row.due_at

    async def _hand_back(self, claimed: Extraction) -> Ending:
        """Give the extraction to another worker, because this one is stopping."""

        async def give_back(work: UnitOfWork) -> None:
            queued = _queued_again(claimed, retries=claimed.retries, failure=None)
            await work.extractions.save(queued)
            await self._queue.enqueue(work, queued)

        await commit_with_retry(self._store, give_back)
        await self._discard(claimed)
        return "handed_back"

    async def _end(
        self,
        claimed: Extraction,
        status: Literal["completed", "failed", "cancelled"],
        *,
        result: ExtractionResult | None = None,
        failure: Failure | None = None,
    ) -> Ending:
        now = max(self._clock.now(), claimed.started_at or claimed.created_at)  # a clock may have been set back
        ended = replace(
            claimed,
            status=status,
            finished_at=now,
            result=result,
            failure=failure,
            stage=None,
            progress=100,
            stored_bytes=None if result is None else await self._stored_bytes(result.artifact_key),
        )

        async def write(work: UnitOfWork) -> None:
            await work.extractions.save(ended)
            await announce(work, self._queue, ended)

        try:
            await commit_with_retry(self._store, write)
        except AttemptSuperseded:
            if not await commit_with_retry(self._store, lambda work: _is_stored(work, ended)):
                raise
        if status != "completed":
            await self._discard(claimed)
        self._observer.record(_finished(ended, now))
        return status

    async def _stored_bytes(self, key: str) -> int | None:
        """Return the size of a published table; None while the store does not answer: the housekeeping measures it."""
        try:
            return await self._artifacts.size(key)
        except (FeatureAgentError, OSError):
            return None

    async def _discard(self, claimed: Extraction) -> None:
        """Delete what this attempt may have published: no row refers to it. The sweep deletes what is missed here."""
        try:
            await self._artifacts.delete(artifact_key(claimed))
        except (FeatureAgentError, OSError):
            return


class _CancelRequested(Exception):
    """The caller cancelled the extraction."""


async def _is_stored(work: UnitOfWork, ended: Extraction) -> bool:
    """Check whether that end is in the row: after a commit whose answer was lost, a second write is refused."""
    row = await work.extractions.find(ended.id)
    return row is not None and (row.attempt, row.status, row.finished_at) == (
        ended.attempt,
        ended.status,
        ended.finished_at,
    )


def _context(claimed: Extraction) -> RequestContext:
    """Return the context of the request that created it, for logs and traces."""
    return RequestContext(
        claimed.request_id, trace_id=claimed.trace_id, user_id=claimed.owner, extraction_id=claimed.id
    )


def _queued_again(claimed: Extraction, *, retries: int, failure: Failure | None) -> Extraction:
    return replace(claimed, status="queued", stage=None, progress=0, retries=retries, failure=failure)


def _pause(retries: int, asked: float | None) -> float:
    """Return the seconds before the next try: doubling, with a random part, and at least what the failure asks for."""
    own = min(FIRST_RETRY_SECONDS * 2**retries, MAX_RETRY_SECONDS)
    return max(own, asked or 0.0) + own * random.uniform(0.0, 0.25)  # noqa: S311 -- spreads tries out, hides nothing


def _started(claimed: Extraction, now: datetime) -> ExtractionStarted:
    waited = max((now - claimed.created_at).total_seconds(), 0.0) if claimed.attempt == 1 else None
    return ExtractionStarted(claimed.id, claimed.request.quality_threshold, waited, claimed.attempt)


def _finished(ended: Extraction, now: datetime) -> ExtractionFinished:
    seconds = (now - (ended.started_at or now)).total_seconds()
    code = ended.failure.code if ended.failure else None
    return ExtractionFinished(ended.id, ended.request.quality_threshold, ended.status, seconds, code)
