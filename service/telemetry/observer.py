"""Implement the domain's observer: update metrics for each event, and log a few of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from service.extractions.own_faults import mark_failed
from service.features.errors import FeatureAgentError
from service.features.events import (
    AuthenticationFailed,
    AuthenticationThrottled,
    BreakerChanged,
    BudgetChecked,
    BudgetWarned,
    CacheLooked,
    ConnectionsMeasured,
    EngineProcessesCounted,
    EngineProcessKilled,
    EngineTurnTaken,
    Event,
    ExtractionFinished,
    ExtractionRepeated,
    ExtractionStarted,
    FeatureAssessed,
    JobAttempted,
    ModelCalled,
    ModelFellBack,
    ModelRetried,
    OutputRetried,
    PlanningAdmitted,
    PlanningLoad,
    QueueMeasured,
    QuotaRefused,
    RateLimitDecided,
    RequestOverShare,
    StageFinished,
    WebhookAttempted,
)
from service.features.model import Stage
from service.telemetry.catalog import BREAKER_STATES, error_codes
from service.telemetry.exemplars import marked_exemplar
from service.telemetry.metrics import Metrics
from service.webhooks.callbacks import shown

_REJECTIONS = frozenset(error_codes(own=False))


class TelemetryObserver:
    """Implement `ports.Observer`."""

    def __init__(self, metrics: Metrics, tracer_provider: TracerProvider, logger: structlog.stdlib.BoundLogger) -> None:
        self._metrics = metrics
        self._tracer = tracer_provider.get_tracer("service.features")
        self._logger = logger
        self._active: set[str] = set()
        self._recorders: dict[type[Any], Callable[[Any], None]] = {
            ExtractionStarted: self._extraction_started,
            ExtractionFinished: self._extraction_finished,
            ExtractionRepeated: self._extraction_repeated,
            StageFinished: self._stage_finished,
            ModelCalled: self._model_called,
            ModelRetried: self._model_retried,
            ModelFellBack: self._model_fell_back,
            BreakerChanged: self._breaker_changed,
            PlanningAdmitted: self._planning_admitted,
            PlanningLoad: self._planning_load,
            CacheLooked: self._cache_looked,
            BudgetChecked: self._budget_checked,
            BudgetWarned: self._budget_warned,
            OutputRetried: self._output_retried,
            FeatureAssessed: self._feature_assessed,
            JobAttempted: self._job_attempted,
            QueueMeasured: self._queue_measured,
            WebhookAttempted: self._webhook_attempted,
            RateLimitDecided: self._rate_limit_decided,
            AuthenticationFailed: self._authentication_failed,
            EngineTurnTaken: self._engine_turn_taken,
            EngineProcessesCounted: self._engine_processes_counted,
            EngineProcessKilled: self._engine_process_killed,
            QuotaRefused: self._quota_refused,
            ConnectionsMeasured: self._connections_measured,
            AuthenticationThrottled: self._authentication_throttled,
            RequestOverShare: self._request_over_share,
        }

    def record(self, event: Event) -> None:
        """Record an event. Never raises: a fault in telemetry is logged and the work continues."""
        try:
            self._recorders[type(event)](event)
        except Exception:
            self._logger.exception("event not recorded", event_type=type(event).__name__)

    @contextmanager
    def stage(self, extraction_id: str, stage: Stage) -> Generator[None]:
        """Surround a stage with a span, and record StageFinished if it succeeds.

        A failed stage marks the span with the error's type only, because messages and stacks may quote data. The span
        has status ERROR only if the failure is the service's own.
        """
        started = time.perf_counter()
        span = self._tracer.start_span(f"extraction.{stage}", attributes={"extraction.id": extraction_id})
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield
            except BaseException as error:
                mark_failed(span, error)
                raise
            self.record(StageFinished(extraction_id, stage, time.perf_counter() - started))

    def _extraction_started(self, event: ExtractionStarted) -> None:
        self._active.add(event.extraction_id)
        self._metrics.gauge("active_extractions").child().set(len(self._active))
        if event.waited is not None:
            self._observe_duration("extraction_start_delay_seconds", seconds=event.waited)
        self._logger.info("extraction started", extraction_id=event.extraction_id, attempt=event.attempt)

    def _extraction_finished(self, event: ExtractionFinished) -> None:
        self._active.discard(event.extraction_id)
        self._metrics.gauge("active_extractions").child().set(len(self._active))
        rejected = event.status == "failed" and event.failure_code in _REJECTIONS
        status = "rejected" if rejected else event.status
        self._metrics.counter("feature_extractions_total").child(status, event.threshold).inc()
        if status == "failed":
            self._metrics.counter("extraction_dead_letters_total").child(
                event.failure_code or FeatureAgentError.code
            ).inc()
        self._observe_duration("feature_extraction_duration_seconds", event.threshold, seconds=event.seconds)
        fields: dict[str, Any] = {"failure_code": event.failure_code} if event.failure_code else {}
        self._logger.log(
            logging.WARNING if status == "failed" else logging.INFO,
            "extraction finished",
            extraction_id=event.extraction_id,
            status=status,
            quality_threshold=event.threshold,
            duration_ms=round(event.seconds * 1000, 3),
            **fields,
        )

    def _extraction_repeated(self, event: ExtractionRepeated) -> None:
        """Count it without a duration, since it did not run; its request's access line has the id."""
        self._metrics.counter("feature_extractions_total").child("completed", event.threshold).inc()

    def _stage_finished(self, event: StageFinished) -> None:
        self._logger.debug(
            "stage finished",
            extraction_id=event.extraction_id,
            stage=event.stage,
            duration_ms=round(event.seconds * 1000, 3),
        )

    def _model_called(self, event: ModelCalled) -> None:
        metrics = self._metrics
        metrics.counter("model_requests_total").child(event.model, event.status).inc()
        self._observe_duration("model_request_duration_seconds", event.model, seconds=event.seconds)
        metrics.counter("model_tokens_total").child(event.model, "input").inc(event.input_tokens)
        metrics.counter("model_tokens_total").child(event.model, "output").inc(event.output_tokens)
        if event.cost_usd is not None:
            metrics.counter("model_cost_usd_total").child(event.model).inc(event.cost_usd)
        elif event.status == "success":
            metrics.counter("model_unpriced_requests_total").child(event.model).inc()
        if event.status != "success":
            self._logger.warning(
                "model call failed",
                model=event.model,
                status=event.status,
                duration_ms=round(event.seconds * 1000, 3),
            )

    def _model_retried(self, event: ModelRetried) -> None:
        self._metrics.counter("model_retries_total").child(event.model, event.reason).inc()

    def _model_fell_back(self, event: ModelFellBack) -> None:
        self._metrics.counter("model_fallbacks_total").child(event.model).inc()
        self._logger.warning(
            "model fell back", model=event.model, fallback_model=event.to, failure_code=event.error_code
        )

    def _breaker_changed(self, event: BreakerChanged) -> None:
        self._metrics.gauge("model_breaker_state").child(event.model).set(BREAKER_STATES[event.state])
        self._metrics.counter("model_breaker_transitions_total").child(event.model, event.state).inc()
        level = logging.INFO if event.state == "closed" else logging.WARNING
        self._logger.log(level, "model breaker changed", model=event.model, state=event.state)

    def _planning_admitted(self, event: PlanningAdmitted) -> None:
        self._metrics.counter("planning_admissions_total").child(event.decision).inc()

    def _planning_load(self, event: PlanningLoad) -> None:
        self._metrics.gauge("planning_requests").child("running").set(event.running)
        self._metrics.gauge("planning_requests").child("waiting").set(event.waiting)

    def _cache_looked(self, event: CacheLooked) -> None:
        self._metrics.counter("cache_requests_total").child(event.cache, event.level, event.result).inc()

    def _budget_checked(self, event: BudgetChecked) -> None:
        self._metrics.counter("budget_decisions_total").child(event.decision).inc()

    def _budget_warned(self, event: BudgetWarned) -> None:
        self._metrics.counter("budget_warnings_total").child(event.unit, event.level).inc()
        self._logger.warning(
            "model budget used up" if event.level == "100" else "model budget nearly used up",
            principal=event.principal,
            unit=event.unit,
            percent=int(event.level),
        )

    def _output_retried(self, event: OutputRetried) -> None:
        self._metrics.counter("agent_output_retries_total").child(event.reason).inc()

    def _feature_assessed(self, event: FeatureAssessed) -> None:
        self._metrics.histogram("feature_quality_score").child().observe(event.score)
        if event.rejected is not None:
            self._metrics.counter("features_rejected_total").child(event.rejected).inc()

    def _job_attempted(self, event: JobAttempted) -> None:
        self._metrics.counter("job_attempts_total").child(event.outcome).inc()
        self._active.discard(event.extraction_id)
        self._metrics.gauge("active_extractions").child().set(len(self._active))

    def _queue_measured(self, event: QueueMeasured) -> None:
        jobs = self._metrics.gauge("extraction_queue_jobs")
        jobs.child("queued").set(event.queued)
        jobs.child("scheduled").set(event.scheduled)
        jobs.child("running").set(event.running)
        self._metrics.gauge("extraction_queue_oldest_seconds").child().set(event.oldest_seconds)
        self._metrics.gauge("extraction_workers").child().set(event.workers)
        self._metrics.gauge("extraction_crashes").child().set(event.crashes)

    def _webhook_attempted(self, event: WebhookAttempted) -> None:
        self._metrics.counter("webhook_deliveries_total").child(event.outcome).inc()
        self._observe_duration("webhook_delivery_duration_seconds", seconds=event.seconds)
        fields: dict[str, Any] = {} if event.status_code is None else {"http_status": event.status_code}
        self._logger.log(
            logging.INFO if event.outcome == "delivered" else logging.WARNING,
            "webhook tried",
            delivery_id=event.delivery_id,
            extraction_id=event.extraction_id,
            address=shown(event.url),
            outcome=event.outcome,
            reason=event.reason,
            duration_ms=round(event.seconds * 1000, 3),
            **fields,
        )

    def _rate_limit_decided(self, event: RateLimitDecided) -> None:
        self._metrics.counter("rate_limit_decisions_total").child(event.decision).inc()

    def _authentication_failed(self, event: AuthenticationFailed) -> None:
        self._metrics.counter("auth_failures_total").child(event.reason).inc()

    def _engine_turn_taken(self, event: EngineTurnTaken) -> None:
        self._metrics.histogram("engine_turn_wait_seconds").child(event.lane).observe(event.seconds)

    def _engine_processes_counted(self, event: EngineProcessesCounted) -> None:
        processes = self._metrics.gauge("engine_processes")
        processes.child("busy").set(event.busy)
        processes.child("idle").set(event.idle)
        processes.child("lost").set(event.lost)

    def _engine_process_killed(self, event: EngineProcessKilled) -> None:
        self._metrics.counter("engine_processes_killed_total").child(event.reason).inc()

    def _quota_refused(self, event: QuotaRefused) -> None:
        self._metrics.counter("quota_refusals_total").child(event.quota).inc()

    def _connections_measured(self, event: ConnectionsMeasured) -> None:
        """Log one line for all that were refused: a line for each would be a flood of its own."""
        self._metrics.gauge("connections_open").child().set(event.open)
        self._metrics.gauge("connections_limit").child().set(event.limit)
        for reason, count in event.refused.items():
            self._metrics.counter("connections_refused_total").child(reason).inc(count)
        if event.refused:
            self._logger.warning(
                "connections refused", refused=sum(event.refused.values()), reasons=sorted(event.refused)
            )

    def _authentication_throttled(self, _: AuthenticationThrottled) -> None:
        self._metrics.counter("authentication_throttled_total").child().inc()

    def _request_over_share(self, event: RequestOverShare) -> None:
        self._metrics.counter("requests_over_share_total").child(event.kind).inc()

    def _observe_duration(self, name: str, *labels: str, seconds: float) -> None:
        """Observe a duration. Its exemplar is always kept: extractions and webhooks have few traces."""
        self._metrics.histogram(name).child(*labels).observe(seconds, marked_exemplar(trace.get_current_span()))
