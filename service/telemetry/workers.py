"""The numbers of several worker processes as one: what a scrape gets, whichever process answers it.

Counters and histograms are added, also those of workers that are gone; gauges are put together as the catalog says,
over living workers alone. `process_*` is each process's own, by a label `worker`.
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
from service.telemetry.cells import (
    CELL_BYTES,
    HEADER_BYTES,
    SIZES,
    Cells,
    Counter,
    Histogram,
    Observed,
    read_observed,
)

SUPERVISOR = "supervisor"
"""The process that keeps the workers, and what those that are gone have counted."""
_LOCK = ".lock"
"""A dot: no file of numbers."""

Labels = tuple[str, ...]
Key = tuple[str, Labels]
T = TypeVar("T")
SPECS = {spec.name: spec for spec in (*catalog.METRICS, *catalog.GC_METRICS) if spec.kind != "info"}
_KEYS = msgspec.json.Decoder(tuple[str, tuple[str, ...]])


class _File:
    """One file of a process, mapped for reading; remembers where the series are."""

    def __init__(self, path: Path) -> None:
        self.worker, self.pid = path.name.split(".")[:2]
        with path.open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._raw = mapped
        self.numbers, self.integers = mapped.cast("d"), mapped.cast("Q")
        self._read = HEADER_BYTES
        self._series: list[tuple[Key, int]] = []

    def series(self) -> list[tuple[Key, int]]:
        """Every series, with the place of its first cell."""
        used = self.integers[0]
        while self._read < used:
            size, length = SIZES.unpack_from(self._raw, self._read)
            start = self._read + SIZES.size
            key = _KEYS.decode(self._raw[start : start + length])
            self._series.append((key, (start + length + -length % CELL_BYTES) // CELL_BYTES))
            self._read += size
        return self._series


class Totals:
    """What all files say, put together."""

    def __init__(self) -> None:
        self.numbers: dict[Key, float] = {}
        self.observed: dict[Key, Observed] = {}

    def take(self, file: _File) -> None:
        """Add one file."""
        for key, at in file.series():
            spec = SPECS.get(key[0])
            if spec is None:
                continue
            if spec.kind == "histogram":
                self._observe(key, read_observed(file.numbers, file.integers, at, spec))
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

    def _observe(self, key: Key, observed: Observed) -> None:
        found = self.observed.get(key)
        if found is None:
            self.observed[key] = observed
            return
        found.total += observed.total
        found.counts = [ours + theirs for ours, theirs in zip(found.counts, observed.counts, strict=True)]
        for bucket, shown in observed.exemplars.items():
            if bucket not in found.exemplars or shown.at > found.exemplars[bucket].at:
                found.exemplars[bucket] = shown


class WorkersCollector(Collector):
    """Gives a registry the numbers of all processes that write into `folder`."""

    def __init__(self, folder: Path, *, version: str, environment: str) -> None:
        self._folder = folder
        self._identity = {"version": version, "environment": environment}
        self._files: dict[str, _File] = {}
        self._platform = PlatformCollector(registry=None)
        self._reading = threading.Lock()

    def collect(self) -> Iterable[Exposed]:
        """Every family of the catalog and of the client."""
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


class Retired:
    """Keeps what workers counted that are gone; only the supervisor has one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cells = Cells(folder, SUPERVISOR)
        self._cells.open()
        self._counters: dict[Key, Counter] = {}
        self._histograms: dict[Key, Histogram] = {}

    def take_over(self, worker: str, pid: int) -> None:
        """Add what a process that has ended counted, and drop its files; no reader sees both or neither."""
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
                    self._counters[key] = self._cells.counter(spec, key[1])
                self._counters[key].inc(value)
        for key, observed in totals.observed.items():
            if key not in self._histograms:
                self._histograms[key] = self._cells.histogram(SPECS[key[0]], key[1])
            self._histograms[key].merge(observed)


@contextmanager
def locked(folder: Path, how: int) -> Generator[None]:
    """Hold the folder's lock: shared to read, exclusive to take a worker's files away."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _help(name: str) -> str:
    return next(spec.help for spec in catalog.METRICS if spec.name == name)


def _families(totals: Totals) -> Iterator[Exposed]:
    numbers, observed = _by_metric(totals.numbers), _by_metric(totals.observed)
    for name, spec in SPECS.items():
        names = [label.name for label in spec.labels]
        if spec.kind == "histogram":
            histogram = HistogramMetricFamily(name, spec.help, labels=names, unit=spec.exposed_unit)
            for labels, series in observed.get(name, ()):
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


def _buckets(spec: Metric, series: Observed) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    total = 0.0
    for bucket, bound in enumerate((*spec.buckets, math.inf)):
        total += series.counts[bucket]
        shown = series.exemplars.get(bucket)
        written = floatToGoString(bound)
        if shown is None:
            buckets.append((written, total))
        else:
            labels = {"trace_id": f"{shown.trace_id:032x}", "span_id": f"{shown.span_id:016x}"}
            buckets.append((written, total, Exemplar(labels, shown.value, shown.at)))
    return buckets


def _processes(pids: Mapping[str, str]) -> Iterable[Exposed]:
    families: dict[str, Exposed] = {}
    for worker, pid in pids.items():
        for family in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():
            known = families.setdefault(family.name, Exposed(family.name, family.documentation, family.type))
            for sample in family.samples:
                known.add_sample(sample.name, {"worker": worker}, sample.value)
    return families.values()
