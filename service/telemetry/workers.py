"""Aggregate the metrics of several worker processes, so that a scrape gets the same from each of them.

Counters and histograms are added, including those of dead workers; gauges are aggregated as the catalog says, over
living workers only. `process_*` is separate for each process, by a label `worker`.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import InfoMetricFamily
from prometheus_client.metrics_core import Metric as Exposed
from prometheus_client.registry import Collector
from prometheus_client.utils import (
    floatToGoString,  # pyright: ignore[reportUnknownVariableType] -- its argument is not typed
)

from service.telemetry import catalog
from service.telemetry.catalog_model import Metric
from service.telemetry.mmap_metrics import (
    CELL_BYTES,
    HEADER_BYTES,
    SIZES,
    Counter,
    Histogram,
    HistogramSnapshot,
    MmapMetrics,
    read_histogram,
)

SUPERVISOR = "supervisor"
"""Name of the process that runs the workers; its files also hold the totals of dead workers."""
_LOCK = ".lock"
"""Begins with a dot, so that it is not read as a metrics file."""

Labels = tuple[str, ...]
Key = tuple[str, Labels]
T = TypeVar("T")
SPECS = {spec.name: spec for spec in (*catalog.METRICS, *catalog.GC_METRICS) if spec.kind != "info"}
_KEYS = msgspec.json.Decoder(tuple[str, tuple[str, ...]])


class _File:
    """Read one file of a process, and remember where its series are."""

    def __init__(self, path: Path) -> None:
        self.worker, self.pid = path.name.split(".")[:2]
        with path.open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._raw = mapped
        self.numbers, self.integers = mapped.cast("d"), mapped.cast("Q")
        self._read = HEADER_BYTES
        self._series: list[tuple[Key, int]] = []

    def series(self) -> list[tuple[Key, int]]:
        """Return every series with the index of its first cell."""
        used = self.integers[0]
        while self._read < used:
            size, length = SIZES.unpack_from(self._raw, self._read)
            start = self._read + SIZES.size
            key = _KEYS.decode(self._raw[start : start + length])
            self._series.append((key, (start + length + -length % CELL_BYTES) // CELL_BYTES))
            self._read += size
        return self._series


class Totals:
    """Add up the numbers of several files."""

    def __init__(self) -> None:
        self.numbers: dict[Key, float] = {}
        self.histograms: dict[Key, HistogramSnapshot] = {}

    def take(self, file: _File) -> None:
        """Add one file."""
        for key, at in file.series():
            spec = SPECS.get(key[0])
            if spec is None:
                continue
            if spec.kind == "histogram":
                self._observe(key, read_histogram(file.numbers, file.integers, at, spec))
            else:
                self._number(key, file.numbers[at], spec)

    def _number(self, key: Key, value: float, spec: Metric) -> None:
        found = self.numbers.get(key)
        if found is None:
            self.numbers[key] = value
        elif spec.kind == "counter" or spec.across == "sum":
            self.numbers[key] = found + value
        else:
            self.numbers[key] = max(found, value) if spec.across == "max" else min(found, value)

    def _observe(self, key: Key, snapshot: HistogramSnapshot) -> None:
        found = self.histograms.get(key)
        if found is None:
            self.histograms[key] = snapshot
            return
        found.total += snapshot.total
        found.counts = [ours + theirs for ours, theirs in zip(found.counts, snapshot.counts, strict=True)]
        for bucket, exemplar in snapshot.exemplars.items():
            if bucket not in found.exemplars or exemplar.at > found.exemplars[bucket].at:
                found.exemplars[bucket] = exemplar


class WorkersCollector(Collector):
    """Collect the metrics of all processes that write into `folder`."""

    def __init__(self, folder: Path, *, version: str, environment: str) -> None:
        self._folder = folder
        self._identity = {"version": version, "environment": environment}
        self._files: dict[str, _File] = {}
        self._platform = PlatformCollector(registry=None)
        self._reading = threading.Lock()

    def collect(self) -> Iterable[Exposed]:
        """Yield every family of the catalog and of the client."""
        with self._reading, locked(self._folder, fcntl.LOCK_SH):
            files = self._open()
            totals = Totals()
            for file in files:
                totals.take(file)
        yield from _families(totals)
        yield InfoMetricFamily("application", _help("application_info"), value=self._identity)
        yield from self._platform.collect()
        yield from _processes({file.worker: file.pid for file in files})

    def _open(self) -> list[_File]:
        names = sorted(path.name for path in self._folder.iterdir() if not path.name.startswith("."))
        self._files = {name: self._files.get(name) or _File(self._folder / name) for name in names}
        return list(self._files.values())


class DeadWorkerTotals:
    """Keep the totals of dead workers; only the supervisor has one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = MmapMetrics(folder, SUPERVISOR)
        self._store.open()
        self._counters: dict[Key, Counter] = {}
        self._histograms: dict[Key, Histogram] = {}

    def absorb(self, worker: str, pid: int) -> None:
        """Add a dead process's numbers and delete its files; every reader sees exactly one of them."""
        with locked(self._folder, fcntl.LOCK_EX):
            paths = sorted(self._folder.glob(f"{worker}.{pid}.*"))
            totals = Totals()
            for path in paths:
                totals.take(_File(path))
            self._add(totals)
            for path in paths:
                path.unlink()

    def _add(self, totals: Totals) -> None:
        for key, value in totals.numbers.items():
            spec = SPECS[key[0]]
            if spec.kind == "counter":
                if key not in self._counters:
                    self._counters[key] = self._store.counter(spec, key[1])
                self._counters[key].inc(value)
        for key, snapshot in totals.histograms.items():
            if key not in self._histograms:
                self._histograms[key] = self._store.histogram(SPECS[key[0]], key[1])
            self._histograms[key].merge(snapshot)


@contextmanager
def locked(folder: Path, how: int) -> Generator[None]:
    """Lock the folder: shared for reading, exclusive for removing a worker's files."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _help(name: str) -> str:
    return next(spec.help for spec in catalog.METRICS if spec.name == name)


def _families(totals: Totals) -> Iterator[Exposed]:
    numbers, histograms = _by_metric(totals.numbers), _by_metric(totals.histograms)
    for name, spec in SPECS.items():
        names = [label.name for label in spec.labels]
        if spec.kind == "histogram":
            histogram = HistogramMetricFamily(name, spec.help, labels=names, unit=spec.exposed_unit)
            for labels, series in histograms.get(name, ()):
                histogram.add_metric(labels, _buckets(spec, series), series.total)
            yield histogram
            continue
        kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
        family = kind(name, spec.help, labels=names, unit=spec.exposed_unit)
        for labels, value in numbers.get(name, ()):
            family.add_metric(labels, value)
        yield family


def _by_metric(found: Mapping[Key, T]) -> dict[str, list[tuple[Labels, T]]]:
    sorted_out: dict[str, list[tuple[Labels, T]]] = {}
    for (name, labels), value in found.items():
        sorted_out.setdefault(name, []).append((labels, value))
    return sorted_out


def _buckets(spec: Metric, snapshot: HistogramSnapshot) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    total = 0.0
    for bucket, bound in enumerate((*spec.buckets, math.inf)):
        total += snapshot.counts[bucket]
        exemplar = snapshot.exemplars.get(bucket)
        written = floatToGoString(bound)
        if exemplar is None:
            buckets.append((written, total))
        else:
            labels = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
            buckets.append((written, total, Exemplar(labels, exemplar.value, exemplar.at)))
    return buckets


def _processes(pids: Mapping[str, str]) -> Iterable[Exposed]:
    families: dict[str, Exposed] = {}
    for worker, pid in pids.items():
        for family in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():
            known = families.setdefault(family.name, Exposed(family.name, family.documentation, family.type))
            for sample in family.samples:
                known.add_sample(sample.name, {"worker": worker}, sample.value)
    return families.values()
