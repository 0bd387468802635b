"""Keep metrics in memory-mapped files, one set for each worker process, that any process can read.

Changing a number is one store into mapped memory, so the kernel holds it at once and a killed worker loses nothing. A
file begins with its used length in bytes; records follow:

    size of the record, size of the key (uint32 each) · key (JSON: metric, label values), padded to 8 · cells

A cell has 8 bytes. A counter or gauge has one. A histogram has its sum, a count for each bucket and, if its metric has
exemplars, for each bucket a value, a time, the two halves of a trace id and a span id. A record never moves and is
complete before the used length includes it, so a reader needs no lock against the writer.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from bisect import bisect_left
from pathlib import Path

import msgspec
from msgspec import Struct

from service.telemetry.catalog_model import Metric

HEADER_BYTES = 8
CELL_BYTES = 8
EXEMPLAR_CELLS = 5
"""Value, time, upper and lower half of the trace id, span id."""
SIZES = struct.Struct("=II")
"""Sizes at the beginning of a record."""
_SEGMENT_BYTES = 1 << 20
_HALF = (1 << 64) - 1


def bucket_count(spec: Metric) -> int:
    """Return the number of buckets of a histogram, including +Inf."""
    return len(spec.buckets) + 1


def cell_count(spec: Metric) -> int:
    """Return the number of cells of one series."""
    if spec.kind != "histogram":
        return 1
    return 1 + bucket_count(spec) * (1 + EXEMPLAR_CELLS if spec.exemplars else 1)


class Exemplar(Struct, frozen=True):
    """Hold an exemplar as it is stored."""

    value: float
    at: float
    """Seconds since the epoch."""
    trace_id: int
    span_id: int


class HistogramSnapshot(Struct):
    """Hold a histogram series as it was read."""

    total: float
    counts: list[float]
    exemplars: dict[int, Exemplar]
    """By bucket index."""


class MmapMetrics:
    """Store one process's metrics in files of `folder` that are named after the worker and its process id."""

    def __init__(self, folder: Path, worker: str, *, pid: int | None = None) -> None:
        self._stem = f"{worker}.{os.getpid() if pid is None else pid}"
        self._folder = folder
        self._segments = 0
        self._used = _SEGMENT_BYTES
        self._numbers = memoryview(b"").cast("d")
        self._integers = memoryview(b"").cast("Q")
        self._lock = threading.Lock()

    def open(self) -> None:
        """Create the first file at once, so that readers find the process."""
        with self._lock:
            if not self._segments:
                self._add_segment()

    def counter(self, spec: Metric, labels: tuple[str, ...]) -> Counter:
        """Create a series of a counter."""
        return Counter(*self._allocate(spec, labels), self._lock)

    def gauge(self, spec: Metric, labels: tuple[str, ...]) -> Gauge:
        """Create a series of a gauge."""
        return Gauge(*self._allocate(spec, labels), self._lock)

    def histogram(self, spec: Metric, labels: tuple[str, ...]) -> Histogram:
        """Create a series of a histogram."""
        return Histogram(*self._allocate(spec, labels), self._lock, spec)

    def _allocate(self, spec: Metric, labels: tuple[str, ...]) -> tuple[memoryview[float], memoryview[int], int]:
        key = msgspec.json.encode((spec.name, labels))
        padded = len(key) + -len(key) % CELL_BYTES
        size = SIZES.size + padded + cell_count(spec) * CELL_BYTES
        with self._lock:
            if self._used + size > _SEGMENT_BYTES:
                self._add_segment()
            start = self._used
            raw = self._integers.cast("B")
            SIZES.pack_into(raw, start, size, len(key))
            raw[start + SIZES.size : start + SIZES.size + len(key)] = key
            self._used = start + size
            self._integers[0] = self._used
        return self._numbers, self._integers, (start + SIZES.size + padded) // CELL_BYTES

    def _add_segment(self) -> None:
        name = f"{self._stem}.{self._segments}"
        draft = self._folder / f".{name}"
        self._segments += 1
        with draft.open("xb+") as file:
            file.truncate(_SEGMENT_BYTES)
            mapped = memoryview(mmap.mmap(file.fileno(), _SEGMENT_BYTES))
        self._numbers, self._integers = mapped.cast("d"), mapped.cast("Q")
        self._integers[0] = self._used = HEADER_BYTES
        draft.rename(self._folder / name)


class _Series:
    """Hold one series; a lock makes adding thread-safe, as in the Prometheus client."""

    def __init__(self, numbers: memoryview[float], integers: memoryview[int], at: int, lock: threading.Lock) -> None:
        self._numbers = numbers
        self._integers = integers
        self._at = at
        self._lock = lock


class Counter(_Series):
    """A counter series."""

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002 -- the client's signature
        """Add the amount. Raises ValueError if it is negative."""
        if amount < 0:
            raise ValueError("Counters can only be incremented by non-negative amounts.")
        with self._lock:
            self._numbers[self._at] += amount


class Gauge(_Series):
    """A gauge series."""

    def set(self, value: float) -> None:
        """Set the value."""
        self._numbers[self._at] = float(value)

    def inc(self, amount: float = 1) -> None:
        """Add the amount."""
        with self._lock:
            self._numbers[self._at] += amount

    def dec(self, amount: float = 1) -> None:
        """Subtract the amount."""
        self.inc(-amount)


class Histogram(_Series):
    """A histogram series with buckets that are not cumulative."""

    def __init__(
        self, numbers: memoryview[float], integers: memoryview[int], at: int, lock: threading.Lock, spec: Metric
    ) -> None:
        super().__init__(numbers, integers, at, lock)
        self._bounds = spec.buckets
        self._exemplars = at + 1 + bucket_count(spec) if spec.exemplars else None

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count one observation; `exemplar` has `trace_id` and `span_id` in hexadecimal."""
        bucket = bisect_left(self._bounds, amount)
        with self._lock:
            self._numbers[self._at] += amount
            self._numbers[self._at + 1 + bucket] += 1
            if exemplar is not None and self._exemplars is not None:
                self._store_exemplar(self._exemplars + bucket * EXEMPLAR_CELLS, amount, exemplar)

    def merge(self, snapshot: HistogramSnapshot) -> None:
        """Add another process's observations, and its exemplars where they are newer."""
        with self._lock:
            self._numbers[self._at] += snapshot.total
            for bucket, count in enumerate(snapshot.counts):
                self._numbers[self._at + 1 + bucket] += count
            for bucket, exemplar in snapshot.exemplars.items():
                at = (self._exemplars or 0) + bucket * EXEMPLAR_CELLS
                if exemplar.at > self._numbers[at + 1]:
                    self._write_exemplar(at, exemplar)

    def _store_exemplar(self, at: int, amount: float, exemplar: dict[str, str]) -> None:
        trace_id, span_id = int(exemplar["trace_id"], 16), int(exemplar["span_id"], 16)
        self._write_exemplar(at, Exemplar(amount, time.time(), trace_id, span_id))

    def _write_exemplar(self, at: int, exemplar: Exemplar) -> None:
        self._numbers[at + 1] = 0.0  # readers skip an exemplar without a time
        self._numbers[at] = exemplar.value
        self._integers[at + 2] = exemplar.trace_id >> 64
        self._integers[at + 3] = exemplar.trace_id & _HALF
        self._integers[at + 4] = exemplar.span_id
        self._numbers[at + 1] = exemplar.at


def read_histogram(numbers: memoryview[float], integers: memoryview[int], at: int, spec: Metric) -> HistogramSnapshot:
    """Read the histogram whose cells begin at `at`; an exemplar that is being written is left out."""
    buckets = bucket_count(spec)
    snapshot = HistogramSnapshot(numbers[at], list(numbers[at + 1 : at + 1 + buckets]), {})
    if spec.exemplars:
        first = at + 1 + buckets
        for bucket in range(buckets):
            exemplar = _read_exemplar(numbers, integers, first + bucket * EXEMPLAR_CELLS)
            if exemplar is not None:
                snapshot.exemplars[bucket] = exemplar
    return snapshot


def _read_exemplar(numbers: memoryview[float], integers: memoryview[int], at: int) -> Exemplar | None:
    written = numbers[at + 1]
    if not written:
        return None
    exemplar = Exemplar(numbers[at], written, integers[at + 2] << 64 | integers[at + 3], integers[at + 4])
    return exemplar if numbers[at + 1] == written else None
