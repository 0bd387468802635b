"""Counts of what the clients saw, stage by stage; of several processes they add up."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from loadtest.results import Requests, Stage
from loadtest.traffic.clients import Ledger
from loadtest.traffic.http import Finished
from loadtest.traffic.shapes import Step

MAX_SENTENCES = 200
"""Different sentences about failures that are kept."""
OTHER_FAILURES = "other failures"


@dataclass
class StageTally:
    """One stage."""

    arrivals: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    lags: Counter[int] = field(default_factory=Counter[int])
    """Milliseconds between being due and being started -> clients."""
    visits: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """End (seconds since the start of the run) and length of each visit."""


class Tally:
    """Everything that the clients of one process report."""

    def __init__(self, stages: int) -> None:
        self.stages = [StageTally() for _ in range(stages)]
        self.requests: dict[tuple[int, str, str, str], Counter[str]] = {}
        self.failures: Counter[str] = Counter()
        self.prepared: Counter[str] = Counter()
        """Requests before the clients came, by method and route."""
        self.ledger = Ledger()

    def record(self, finished: Finished) -> None:
        """Count a request."""
        key = (finished.stage, finished.method, finished.endpoint, finished.status)
        self.requests.setdefault(key, Counter())[three_digits(finished.milliseconds)] += 1
        if finished.failure is not None:
            self.fail(f"{finished.method} {finished.endpoint}: {finished.failure}")

    def fail(self, sentence: str) -> None:
        """Count a failure."""
        known = sentence in self.failures or len(self.failures) < MAX_SENTENCES
        self.failures[sentence if known else OTHER_FAILURES] += 1

    # -- between processes ---------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Give the counts as what msgpack can carry from a worker to its master."""
        return {
            "stages": [
                [s.arrivals, s.started, s.completed, s.failed, list(s.lags.items()), s.visits] for s in self.stages
            ],
            "requests": [[*key, dict(durations)] for key, durations in self.requests.items()],
            "failures": dict(self.failures),
            "prepared": dict(self.prepared),
            "accepted": dict(self.ledger.accepted),
            "unknown": list(self.ledger.unknown),
            "doubled": list(self.ledger.doubled),
        }

    def clear(self) -> None:
        """Begin anew, in place: running clients hold on to the ledger."""
        self.stages = [StageTally() for _ in self.stages]
        self.requests.clear()
        self.failures.clear()
        self.prepared.clear()
        self.ledger.clear()

    def add(self, dumped: dict[str, Any]) -> None:
        """Add the counts of another process."""
        for mine, (arrivals, started, completed, failed, lags, visits) in zip(
            self.stages, dumped["stages"], strict=True
        ):
            mine.arrivals += arrivals
            mine.started += started
            mine.completed += completed
            mine.failed += failed
            mine.lags.update(dict(lags))
            mine.visits += [(end, length) for end, length in visits]
        for *key, durations in dumped["requests"]:
            stage, method, endpoint, status = key
            self.requests.setdefault((stage, method, endpoint, status), Counter()).update(durations)
        for sentence, count in dumped["failures"].items():
            self.failures[sentence] += count
        self.prepared.update(dumped["prepared"])
        for key, extraction_id in dumped["accepted"].items():
            self.ledger.note(key, extraction_id)
        self.ledger.unknown += dumped["unknown"]
        self.ledger.doubled += dumped["doubled"]

    # -- at the end ----------------------------------------------------------------------------------------------

    def results(self, steps: tuple[Step, ...], began: float) -> list[Stage]:
        """Give the stages as records; `began` is the start of the run in seconds since the epoch."""
        ends = [visit_end for stage in self.stages for visit_end, _ in stage.visits]
        ends.sort()
        found: list[Stage] = []
        offset = 0.0
        for index, (step, stage) in enumerate(zip(steps, self.stages, strict=True)):
            found.append(
                Stage(
                    name=step.name,
                    began=began + offset,
                    ended=began + offset + step.seconds,
                    rate=step.mean,
                    arrivals=stage.arrivals,
                    started=stage.started,
                    completed=stage.completed,
                    achieved_rate=_achieved(ends, stage, offset, step.seconds),
                    failed=stage.failed,
                    lag_p50_ms=_quantile(stage.lags, 0.5),
                    lag_p99_ms=_quantile(stage.lags, 0.99),
                    requests=self._requests(index),
                )
            )
            offset += step.seconds
        return found

    def _requests(self, stage: int) -> list[Requests]:
        return [
            Requests(method, endpoint, status, durations.total(), dict(durations))
            for (of, method, endpoint, status), durations in sorted(self.requests.items())
            if of == stage
        ]


def _achieved(ends: list[float], stage: StageTally, began: float, seconds: float) -> float:
    """Give the clients a second that ended while this stage's clients did: its length, shifted by a visit's median.

    Under a load that the service can take that is the rate of arrivals, however long visits last. Under more it is what
    the service gets done.
    """
    if not stage.visits:
        return 0.0
    lengths = sorted(length for _, length in stage.visits)
    shift = lengths[len(lengths) // 2]
    within = bisect.bisect_left(ends, began + shift + seconds) - bisect.bisect_left(ends, began + shift)
    return within / seconds


def _quantile(counts: Counter[int], share: float) -> float:
    if not counts:
        return 0.0
    wanted = math.ceil(share * counts.total())
    for value in sorted(counts):
        wanted -= counts[value]
        if wanted <= 0:
            return float(value)
    raise AssertionError("the counts do not add up")


def three_digits(milliseconds: float) -> str:
    """Write a duration with three significant digits, so that the number of different ones is bounded."""
    return f"{float(f'{max(milliseconds, 0.001):.3g}'):g}"
