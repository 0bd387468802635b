"""Measure how long garbage collections stop the process."""

from __future__ import annotations

import gc
from collections import deque
from time import perf_counter

from opentelemetry import trace

from service.telemetry.exemplars import exemplar_by_id
from service.telemetry.metrics import Metrics

_MAX_PENDING = 10_000


class GcPauseMonitor:
    """Record each collection's pause, and update the metrics later.

    A collection can begin while this thread holds a metric's lock, so recording is one `append`; `flush` updates the
    histogram. The exemplar is the span that was open and therefore delayed.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._generations = [metrics.histogram("gc_pause_seconds").child(str(number)) for number in range(3)]
        self._pending: deque[tuple[int, float, dict[str, str] | None]] = deque(maxlen=_MAX_PENDING)
        self._started = 0.0

    def start(self) -> None:
        """Start recording."""
        gc.callbacks.append(self._note)

    def stop(self) -> None:
        """Stop recording, and flush."""
        gc.callbacks.remove(self._note)
        self.flush()

    def flush(self) -> None:
        """Update the metrics by the pauses recorded since the last call."""
        while self._pending:
            generation, seconds, exemplar = self._pending.popleft()
            self._generations[generation].observe(seconds, exemplar)
        self._metrics.garbage_collected()

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started = perf_counter()
        else:
            seconds = perf_counter() - self._started
            self._pending.append((info["generation"], seconds, exemplar_by_id(trace.get_current_span())))
