"""How long the garbage collector stops everything, told by the collector itself."""

from __future__ import annotations

import gc
from collections import deque
from time import perf_counter

from opentelemetry import trace

from service.telemetry.exemplars import exemplar_by_id
from service.telemetry.metrics import Metrics

_MOST_UNTOLD = 10_000


class GarbageWatch:
    """Notes each pause, and tells the metrics when it is asked to.

    A collection begins anywhere, also while this thread holds a metric's lock; so the note is one `append`, and the
    histogram moves later. The span that is open then is the one that was held up.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._generations = [metrics.histogram("gc_pause_seconds").child(str(number)) for number in range(3)]
        self._untold: deque[tuple[int, float, dict[str, str] | None]] = deque(maxlen=_MOST_UNTOLD)
        self._started = 0.0

    def start(self) -> None:
        """Listen to the collector from now on."""
        gc.callbacks.append(self._note)

    def stop(self) -> None:
        """Listen no more, and tell the rest."""
        gc.callbacks.remove(self._note)
        self.tell()

    def tell(self) -> None:
        """Move the metrics by what was noted since the last call."""
        while self._untold:
            generation, seconds, exemplar = self._untold.popleft()
            self._generations[generation].observe(seconds, exemplar)
        self._metrics.garbage_collected()

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started = perf_counter()
        else:
            seconds = perf_counter() - self._started
            self._untold.append((info["generation"], seconds, exemplar_by_id(trace.get_current_span())))
